"""Users who come from a directory, on a real Keycloak with a real LDAP server.

Each outage asks two questions: what becomes of the directory's own users, and who else stood still.
"""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import pbkdf2_hmac
from typing import TYPE_CHECKING, Any

import pytest

from consumer.delivery.known_user import KnownUser
from consumer.delivery.late_effects import LateEffects
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Delivered, Outcome, Reason, Retry
from tests.integration.delivery.test_prehashed_passwords import hashed
from tests.integration.support.directory import PASSWORD
from tests.integration.support.waiting import until

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import Federate, Federation, Person


def waits(outcome: Outcome, reason: Reason = Reason.DIRECTORY_UNAVAILABLE, *, saying: str = "") -> bool:
    """Whether it waits for the federation, and blames neither Keycloak nor the user."""
    assert isinstance(outcome, Defer), outcome
    assert outcome.failure.blame is Blame.FEDERATION, outcome
    return outcome.reason is reason and saying in outcome.failure.detail


async def deliver(person: Person, kind: str, data: dict[str, Any] | None = None, **given: Any) -> Outcome:
    return await person.deliver(person.change(kind, data, **given))


async def keycloak_is_well(federation: Federation) -> bool:
    """The control call of this realm, which decides for all of them."""
    return (await federation.workbench.keycloak.control_call(federation.workbench.realm)).ok


async def imported(federation: Federation, name: str) -> dict[str, Any]:
    user = await federation.person(name).seen()
    assert user is not None
    assert user["federationLink"] == federation.component
    return user


class TestADirectoryThatIsAway:
    async def test_an_unseen_user_is_not_a_missing_one(self, federate: Federate) -> None:
        """Of people whom Keycloak has never imported, it says that there are none."""
        federation = await federate()
        local = federation.workbench.person()
        await local.apply("user_create")
        bob, eve, nobody = (federation.person(name) for name in ("bob", "eve", "nobody"))

        async with federation.directory.away():
            assert waits(await deliver(bob, "user_update", {"first_name": "Robert"}))
            assert waits(await deliver(eve, "user_delete"))
            assert waits(await deliver(nobody, "user_update", {"first_name": "Nobody"}))
            assert waits(await deliver(bob, "user_create", {"email": "bob@directory.example.org"}))
            assert await keycloak_is_well(federation)
            assert (await local.apply("user_update", {"first_name": "Served"})).reason is Reason.UPDATED

        assert (await bob.apply("user_update", {"first_name": "Robert"})).reason is Reason.UPDATED
        assert (await eve.apply("user_delete")).reason is Reason.DELETED
        assert await eve.seen() is None
        # Nobody took the name meanwhile: it is the directory's person.
        assert (await bob.apply("user_create", {"enabled": True})).reason is Reason.CONVERGED
        assert (await bob.there())["federationLink"] == federation.component
        outcome = await deliver(nobody, "user_update", {"first_name": "Nobody"})
        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.USER_MISSING

    @pytest.mark.long
    @pytest.mark.parametrize("told", ["by a probe", "by nobody"])
    async def test_its_imported_users_wait_and_nobody_else_does(self, federate: Federate, told: str) -> None:
        federation = await federate(probe=told == "by a probe")
        local = federation.workbench.person()
        await local.apply("user_create")
        ann, cid = federation.person("ann"), federation.person("cid")
        user_id = (await imported(federation, "ann"))["id"]
        await imported(federation, "cid")

        async with federation.directory.away():
            for data in ({"first_name": "Anna"}, {"enabled": False}, {"attributes": {"dept": ["x"]}}):
                outcome = await deliver(ann, "user_update", data, user_id=user_id)
                assert waits(outcome, saying="user federation dir")
            assert waits(await deliver(ann, "password_change", password="New-password-1", user_id=user_id))
            assert waits(await deliver(cid, "password_change", password="New-password-1"))
            assert waits(await deliver(ann, "user_update", {"groups": {"add": ["/staff"]}}, user_id=user_id))
            assert waits(await deliver(cid, "user_delete"))
            assert await keycloak_is_well(federation)
            assert (await local.apply("user_update", {"first_name": "Served"})).reason is Reason.UPDATED
            assert (await local.apply("password_change", password="Local-password-1")).user_id is not None

        assert (await ann.apply("user_update", {"first_name": "Anna"})).reason is Reason.UPDATED
        await ann.apply("password_change", password="New-password-1")
        assert await ann.logs_in("New-password-1")

    @pytest.mark.long
    async def test_what_it_shows_of_its_users_is_not_believed(self, federate: Federate) -> None:
        """Everybody is shown as disabled: a barring in doubt has not taken effect by that."""
        federation = await federate()
        user_id = (await imported(federation, "ann"))["id"]
        ann = federation.person("ann")
        change = ann.change(
            "user_update", {"enabled": False}, user_id=user_id, maybe_applied_since=datetime.now(UTC)
        )
        delivery = federation.workbench.delivery

        async with federation.directory.away():
            shown = await ann.there()
            assert shown["enabled"] is False
            assert waits(await delivery.read_back(change, lambda: None))

        assert isinstance(await delivery.read_back(change, lambda: None), DeadLetter)
        assert (await ann.there())["enabled"] is True


@pytest.mark.long
class TestADirectoryThatTakesNoChanges:
    async def test_is_not_keycloaks_fault(self, federate: Federate) -> None:
        """As one whose account for Keycloak may only read."""
        federation = await federate()
        await imported(federation, "ann")
        federation.directory.stop()
        federation.directory.writable = False
        await federation.directory.start()

        refused = [
            await deliver(federation.person("ann"), "password_change", password="New-password-1"),
            await deliver(federation.person("bob"), "user_update", {"first_name": "Robert"}),
            await deliver(federation.person("cid"), "user_delete"),
        ]

        for outcome in refused:
            assert isinstance(outcome, Retry), outcome
            assert outcome.reason is Reason.DIRECTORY_REFUSED, outcome
            assert outcome.failure.blame is not Blame.KEYCLOAK
            assert "uid=" not in outcome.failure.detail


@pytest.mark.long
class TestADirectoryThatHangs:
    async def test_stops_creates_and_its_own_users_and_nothing_else(self, federate: Federate) -> None:
        federation = await federate(probe=False)
        local, fresh = federation.workbench.person(), federation.workbench.person()
        local_id = (await local.apply("user_create")).user_id
        ann_id = (await imported(federation, "ann"))["id"]
        ann = federation.person("ann")

        with federation.directory.frozen():
            assert waits(await deliver(fresh, "user_create"))
            assert waits(await deliver(fresh, "user_create"))
            assert waits(await deliver(ann, "user_update", {"first_name": "Anna"}, user_id=ann_id))
            assert await keycloak_is_well(federation)
            served = await deliver(local, "user_update", {"first_name": "Served"}, user_id=local_id)
            assert isinstance(served, Delivered)
            # An address is looked for in the directory, and Keycloak says no more than that it could not.
            outcome = await deliver(local, "user_update", {"email": local.email}, user_id=local_id)
            assert waits(outcome)

        async def goes_on() -> bool:
            return isinstance(await deliver(fresh, "user_create"), Delivered)

        await until(goes_on, what="a create after the directory is back")
        assert (await ann.apply("user_update", {"first_name": "Anna"})).reason is Reason.UPDATED

    async def test_that_a_probe_looks_at_keeps_the_unseen_waiting(self, federate: Federate) -> None:
        federation = await federate()

        with federation.directory.frozen():
            assert waits(await deliver(federation.person("bob"), "user_delete"))
            assert await keycloak_is_well(federation)

        assert (await federation.person("bob").apply("user_delete")).reason is Reason.DELETED


@pytest.mark.long
class TestAReadOnlyFederation:
    async def test_takes_some_fields_and_says_which(self, federate: Federate) -> None:
        federation = await federate("READ_ONLY")
        ann = federation.person("ann")

        refused = await deliver(ann, "user_update", {"first_name": "Anna"})

        assert isinstance(refused, DeadLetter)
        assert refused.reason in {Reason.USER_READ_ONLY, Reason.ATTRIBUTE_READ_ONLY}
        for refused in (
            await deliver(ann, "user_update", {"attributes": {"dept": ["x"]}}),
            await deliver(ann, "password_change", password="New-password-1"),
        ):
            assert isinstance(refused, DeadLetter)
            assert refused.reason is Reason.USER_READ_ONLY
            assert "groups and roles can be changed" in refused.failure.detail
        changes: list[dict[str, Any]] = [
            {"enabled": False},
            {"enabled": True},
            {"email_verified": True},
            {"required_actions": ["VERIFY_EMAIL"]},
            {"groups": {"add": ["/staff"]}},
        ]
        for data in changes:
            assert (await ann.apply("user_update", data)).reason is Reason.UPDATED

    @pytest.mark.parametrize("mode", ["READ_ONLY", "UNSYNCED"])
    async def test_brings_back_who_is_deleted_and_that_is_said(self, federate: Federate, mode: str) -> None:
        federation = await federate(mode)
        await imported(federation, "ann")

        outcome = await deliver(federation.person("ann"), "user_delete")

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.BACK_FROM_DIRECTORY
        assert await federation.person("ann").seen() is not None
        disabled = await deliver(federation.person("ann"), "user_delete", {"mode": "disable"})
        assert isinstance(disabled, Delivered)
        assert not await federation.person("ann").logs_in(PASSWORD)

    async def test_a_delete_waits_for_the_directory(self, federate: Federate) -> None:
        """Keycloak says 204 while it is away, and has the user again when it is back."""
        federation = await federate("READ_ONLY")
        user_id = (await imported(federation, "ann"))["id"]

        async with federation.directory.away():
            assert waits(await deliver(federation.person("ann"), "user_delete", user_id=user_id))


@pytest.mark.long
class TestADisabledFederation:
    async def test_keeps_its_users_waiting_and_is_named(self, federate: Federate) -> None:
        federation = await federate(probe=False)
        user_id = (await imported(federation, "ann"))["id"]
        ann, local = federation.person("ann"), federation.workbench.person()
        await local.apply("user_create")

        await federation.enable(on=False)
        for kind, data, password in (
            ("user_update", {"enabled": True}, None),
            ("user_update", {"first_name": "Anna"}, None),
            ("password_change", None, "New-password-1"),
            ("user_delete", None, None),
        ):
            outcome = await deliver(ann, kind, data, password=password, user_id=user_id)
            assert waits(outcome, Reason.FEDERATION_DISABLED, saying="user federation dir is disabled")
        assert (await local.apply("user_update", {"first_name": "Served"})).reason is Reason.UPDATED

        await federation.enable(on=True)
        assert (await ann.apply("user_update", {"first_name": "Anna"})).reason is Reason.UPDATED

    async def test_attributes_that_it_hides_are_not_dropped(self, federate: Federate) -> None:
        federation = await federate(probe=False)
        before = await imported(federation, "ann")

        await federation.enable(on=False)
        data = {"attributes": {"dept": ["x"]}}
        assert waits(await deliver(federation.person("ann"), "user_update", data), Reason.FEDERATION_DISABLED)
        await federation.enable(on=True)

        after = await imported(federation, "ann")
        assert after["attributes"]["LDAP_ID"] == before["attributes"]["LDAP_ID"]


@pytest.mark.long
class TestAFederationThatDoesNotImport:
    async def test_has_ids_of_its_own_form(self, federate: Federate) -> None:
        federation = await federate(imports=False)
        jdoe = federation.person("JDoe")

        delivered = await jdoe.apply("user_update", {"first_name": "John"})

        assert delivered.user_id == f"f:{federation.component}:JDoe"
        again = await deliver(jdoe, "user_update", {"last_name": "Doe"}, user_id=delivered.user_id)
        assert isinstance(again, Delivered)
        assert (await jdoe.there())["lastName"] == "Doe"

    @pytest.mark.parametrize("told", ["by a probe", "by nobody"])
    async def test_whom_it_cannot_show_is_not_created_again(self, federate: Federate, told: str) -> None:
        federation = await federate(imports=False, probe=told == "by a probe")
        jdoe = federation.person("JDoe")
        user_id = (await jdoe.apply("user_update", {"first_name": "John"})).user_id
        known = KnownUser(
            realm=federation.workbench.realm,
            username_key="jdoe",
            exists=True,
            data={"first_name": "John"},
            credential=None,
            credential_event_id="",
            user_id=user_id,
        )
        update = jdoe.change("user_update", {"last_name": "Doe"}, user_id=user_id, known=known)

        async with federation.directory.away():
            assert waits(await jdoe.deliver(update))
            assert waits(await deliver(jdoe, "user_delete", user_id=user_id))
        await federation.enable(on=False)
        assert waits(await jdoe.deliver(update))
        assert waits(await deliver(jdoe, "user_delete", user_id=user_id))
        assert await jdoe.seen() is None

        await federation.enable(on=True)
        assert isinstance(await jdoe.deliver(update), Delivered)
        assert (await jdoe.there())["id"] == user_id

    async def test_what_keycloak_does_not_keep_for_its_users_is_not_keycloaks_fault(
        self, federate: Federate
    ) -> None:
        federation = await federate(imports=False)
        jdoe = federation.person("JDoe")

        refused = [
            await deliver(jdoe, "user_update", {"groups": {"add": ["/staff"]}}),
            await deliver(jdoe, "password_change", {"temporary": True}, password="New-password-1"),
            await deliver(jdoe, "user_update", {"required_actions": ["VERIFY_EMAIL"]}),
        ]

        for outcome in refused:
            assert isinstance(outcome, Retry | DeadLetter), outcome
            assert outcome.reason in {Reason.DIRECTORY_REFUSED, Reason.USER_READ_ONLY}, outcome
            assert outcome.failure.blame in {Blame.USER, Blame.UNCLEAR}

    async def test_two_of_one_name_are_not_guessed_between(self, federate: Federate) -> None:
        federation = await federate(imports=False)
        jdoe = federation.person("JDoe")
        async with federation.directory.away():
            path = f"/{federation.workbench.realm}/users"
            double = await federation.workbench.observer.call("POST", path, {"username": "jdoe"})
            assert double.status_code == 201

        assert waits(await deliver(jdoe, "user_update", {"first_name": "John"}), Reason.TWO_USERS)

        await federation.workbench.observer.call(
            "DELETE", f"{path}/{double.headers['Location'].rpartition('/')[2]}"
        )
        assert (await jdoe.apply("user_update", {"first_name": "John"})).reason is Reason.UPDATED

    async def test_creates_people_in_the_directory(self, federate: Federate) -> None:
        """The new id, with the name in it, is taken from the answer."""
        federation = await federate(imports=False, syncRegistrations="true")
        person = federation.person("New.Person")

        created = await person.apply("user_create", {"first_name": "New", "last_name": "Person"})

        assert created.user_id == f"f:{federation.component}:new.person"
        again = await deliver(person, "user_update", {"first_name": "Newer"}, user_id=created.user_id)
        assert isinstance(again, Delivered)


@pytest.mark.long
class TestPasswords:
    async def test_a_hash_is_refused_and_the_directorys_password_goes_on(self, federate: Federate) -> None:
        federation = await federate()
        ann = federation.person("ann")

        outcome = await ann.deliver(await hashed(ann, "password_change", "Hashed-password-1"))

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.HASH_NOT_FOR_DIRECTORY
        assert await ann.logs_in(PASSWORD)

    @pytest.mark.parametrize("mode", ["WRITABLE", "UNSYNCED"])
    async def test_a_hash_of_before_does_not_outlive_a_new_password(
        self, federate: Federate, mode: str
    ) -> None:
        """Keycloak looks at the password it keeps itself, and not at the one that went into the directory."""
        federation = await federate(mode)
        ann = federation.person("ann")
        user = await imported(federation, "ann")
        path = f"/{federation.workbench.realm}/users/{user['id']}"
        await federation.workbench.observer.call("PUT", path, {"credentials": [pbkdf2("Earlier-hash-1")]})
        assert await ann.logs_in("Earlier-hash-1")

        await ann.apply("password_change", password="New-password-1")

        assert await ann.logs_in("New-password-1")
        assert not await ann.logs_in("Earlier-hash-1")


def pbkdf2(password: str) -> dict[str, str]:
    """A password as an administrator imports its hash."""
    salt = b"sixteen bytes of"
    value = b64encode(pbkdf2_hmac("sha256", password.encode(), salt, 1000, 64)).decode()
    return {
        "type": "password",
        "credentialData": json.dumps({"hashIterations": 1000, "algorithm": "pbkdf2-sha256"}),
        "secretData": json.dumps({"value": value, "salt": b64encode(salt).decode()}),
    }


@pytest.mark.long
async def test_a_person_who_leaves_the_directory_is_gone(federate: Federate) -> None:
    """They are not made again as a user of Keycloak's own, with the password they had; a new create does that."""
    federation = await federate()
    ann = federation.person("ann")
    seen = await ann.apply("user_update", {"first_name": "Anna"})
    assert seen.federation == federation.component
    user_id = seen.user_id
    known = KnownUser(
        realm=federation.workbench.realm,
        username_key="ann",
        exists=True,
        data={"first_name": "Anna"},
        credential=None,
        credential_event_id="",
        user_id=user_id,
        federation=seen.federation,
    )

    federation.directory.stop()
    federation.directory.people = ("bob", "probe")
    await federation.directory.start()

    for data in ({"last_name": "Ohm"}, {"attributes": {"dept": ["x"]}}):
        outcome = await deliver(ann, "user_update", data, user_id=user_id, known=known)
        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.USER_MISSING
    healed = await federation.workbench.delivery.heal(known, LateEffects(), lambda: None)
    assert isinstance(healed, Delivered)
    assert healed.reason is Reason.LEFT_AS_FOUND
    assert await ann.seen() is None
    created = await deliver(ann, "user_create", {"last_name": "Ohm"}, user_id=user_id, known=known)
    assert isinstance(created, Delivered)
    assert "federationLink" not in await ann.there()
    await ann.apply("user_delete")
    assert (await ann.apply("user_delete")).reason is Reason.ALREADY_ABSENT
