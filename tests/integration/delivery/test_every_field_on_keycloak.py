"""Every field that an event can name, on a real Keycloak: once, and once more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from consumer.cli.exit_codes import ExitCode
from consumer.cli.run_checks import attributes_check, grants_check
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.known_user import KnownUser
from consumer.delivery.late_effects import LateEffects
from consumer.delivery.outcome import DeadLetter, Defer, Delivered, Outcome, Reason, Retry
from consumer.delivery.passwords import KeyRing
from consumer.delivery.representation import written_out
from tests.integration.delivery.conftest import LOGIN_CLIENT, Observer, Person, Workbench

MANAGEMENT = "realm-management"
CLIENTS = {
    "may-read": ["manage-users", "view-realm"],
    "may-not": ["manage-users"],
}
OLD, NEW = "the first password", "the second password"


@pytest.fixture(scope="session")
async def realm(observer: Observer) -> AsyncIterator[str]:
    """A realm with groups, roles, and a client that may read roles beside one that may not."""
    name = f"fields-{uuid4().hex[:8]}"
    body = {
        "realm": name,
        "enabled": True,
        "roles": {
            "realm": [
                {"name": "gold"},
                {"name": "sil/ver x"},
                {"name": "boss", "composite": True, "composites": {"client": {MANAGEMENT: ["manage-realm"]}}},
            ]
        },
        "groups": [
            {"name": "staff", "subGroups": [{"name": "dev ops"}, {"name": "a/b"}]},
            {"name": "golden", "realmRoles": ["gold"]},
            {"name": "bosses", "realmRoles": ["boss"]},
            {
                "name": "admins",
                "clientRoles": {MANAGEMENT: ["manage-realm"]},
                "subGroups": [{"name": "below"}],
            },
        ],
        "clients": [
            {"clientId": LOGIN_CLIENT, "publicClient": True, "directAccessGrantsEnabled": True},
            *({"clientId": client, "secret": client, "serviceAccountsEnabled": True} for client in CLIENTS),
        ],
        "users": [
            {
                "username": f"service-account-{client}",
                "enabled": True,
                "serviceAccountClientId": client,
                "clientRoles": {MANAGEMENT: roles},
            }
            for client, roles in CLIENTS.items()
        ],
    }
    created = await observer.call("POST", "", body)
    assert created.status_code == 201, created.text
    profile = (await observer.call("GET", f"/{name}/users/profile")).json()
    changed = await observer.call(
        "PUT", f"/{name}/users/profile", {**profile, "unmanagedAttributePolicy": "ADMIN_EDIT"}
    )
    assert changed.status_code == 200, changed.text
    yield name
    await observer.call("DELETE", f"/{name}")


@asynccontextmanager
async def bench_of(observer: Observer, keys: KeyRing, realm: str, client: str) -> AsyncIterator[Workbench]:
    keycloak = Keycloak(
        url=observer.endpoints.keycloak_url, realms=[realm], client_id=client, client_secret=client
    )
    try:
        delivery = Delivery(keycloak=keycloak, keys=keys)
        yield Workbench(realm, LOGIN_CLIENT, keys, keycloak, delivery, observer)
    finally:
        await keycloak.aclose()


@pytest.fixture
async def somebody(observer: Observer, keys: KeyRing, realm: str) -> AsyncIterator[Person]:
    """A user of that realm who does not exist yet, served by a client that may read roles."""
    async with bench_of(observer, keys, realm, "may-read") as bench:
        yield bench.person()


@pytest.fixture
async def served_by_less(observer: Observer, keys: KeyRing, realm: str) -> AsyncIterator[Person]:
    """The same, served by a client with `manage-users` alone."""
    async with bench_of(observer, keys, realm, "may-not") as bench:
        yield bench.person()


async def say(person: Person, kind: str, data: dict[str, Any], password: str | None = None) -> Outcome:
    return await person.deliver(person.change(kind, dict(written_out(data)), password=password))


async def twice(person: Person, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """Apply a change two times; the user afterwards, who is the same after both."""
    seen = []
    for _ in range(2):
        outcome = await say(person, kind, data)
        assert isinstance(outcome, Delivered), outcome
        seen.append(await whole(person))
    assert seen[0] == seen[1]
    return seen[0]


async def whole(person: Person) -> dict[str, Any]:
    """The user with groups and roles; the default role left out."""
    user = await person.there()
    call = person.workbench.observer.call
    groups = (await call("GET", f"/{person.realm}/users/{user['id']}/groups")).json()
    roles = (await call("GET", f"/{person.realm}/users/{user['id']}/role-mappings/realm")).json()
    return user | {
        "groups": sorted(group["path"] for group in groups),
        "realmRoles": sorted(role["name"] for role in roles if not role["name"].startswith("default-roles-")),
        "requiredActions": sorted(user["requiredActions"]),
    }


def profile_of(person: Person) -> dict[str, Any]:
    return {
        "email": person.email,
        "email_verified": True,
        "first_name": "Alice",
        "last_name": "Smith",
        "attributes": {"team": ["blue"], "city": ["Rome"]},
    }


class TestAttributes:
    @pytest.mark.parametrize("kind", ["user_update", "user_create"])
    async def test_are_replaced_and_the_profile_stays(self, somebody: Person, kind: str) -> None:
        await say(somebody, "user_create", profile_of(somebody))

        user = await twice(somebody, kind, {"attributes": {"team": ["red"]}, "attributes_mode": "replace"})

        assert user["attributes"] == {"team": ["red"]}
        assert (user["email"], user["firstName"], user["lastName"], user["emailVerified"]) == (
            somebody.email,
            "Alice",
            "Smith",
            True,
        )

    async def test_are_all_taken_away(self, somebody: Person) -> None:
        await say(somebody, "user_create", profile_of(somebody))

        user = await twice(somebody, "user_update", {"attributes": {}, "attributes_mode": "replace"})

        assert user["attributes"] == {}
        assert user["email"] == somebody.email


class TestClear:
    @pytest.mark.parametrize(
        ("field", "theirs"), [("email", "email"), ("first_name", "firstName"), ("last_name", "lastName")]
    )
    async def test_empties_a_field_and_no_other(self, somebody: Person, field: str, theirs: str) -> None:
        await say(somebody, "user_create", profile_of(somebody))
        before = await whole(somebody)

        user = await twice(somebody, "user_update", {"clear": [field]})

        assert user == {name: value for name, value in before.items() if name != theirs}

    async def test_empties_attributes_beside_fields(self, somebody: Person) -> None:
        await say(somebody, "user_create", profile_of(somebody))

        user = await twice(
            somebody,
            "user_update",
            {"clear": ["attributes.team", "email", "attributes.none"], "attributes": {"seq": ["1"]}},
        )

        assert user["attributes"] == {"city": ["Rome"], "seq": ["1"]}
        assert "email" not in user
        assert user["firstName"] == "Alice"

    async def test_on_a_new_user_is_what_they_have_anyway(self, somebody: Person) -> None:
        outcome = await say(somebody, "user_create", {"first_name": "A", "clear": ["email", "attributes.x"]})

        assert isinstance(outcome, Delivered), outcome
        assert outcome.reason is Reason.CREATED
        assert "email" not in await somebody.there()


class TestRequiredActions:
    async def test_replace_those_there_are(self, served_by_less: Person) -> None:
        person = served_by_less
        await say(person, "user_create", {"required_actions": ["UPDATE_PROFILE", "UPDATE_PASSWORD"]})

        user = await twice(person, "user_update", {"required_actions": ["VERIFY_EMAIL", "UPDATE_PASSWORD"]})
        none = await twice(person, "user_update", {"required_actions": []})

        assert user["requiredActions"] == ["UPDATE_PASSWORD", "VERIFY_EMAIL"]
        assert none["requiredActions"] == []

    @pytest.mark.parametrize("actions", [["VERIFY_EMAIL"], ["UPDATE_PASSWORD", "VERIFY_EMAIL"]])
    async def test_stand_beside_the_password_of_a_create(
        self, served_by_less: Person, actions: list[str]
    ) -> None:
        person, data = served_by_less, {"required_actions": actions}

        await say(person, "user_create", data, OLD)
        created = await whole(person)
        await say(person, "user_create", data, NEW)
        met = await whole(person)

        assert created["requiredActions"] == met["requiredActions"] == actions

    async def test_a_temporary_password_adds_its_own(self, served_by_less: Person) -> None:
        person = served_by_less
        await say(person, "user_create", {"required_actions": ["VERIFY_EMAIL"]})

        await say(person, "password_change", {"temporary": True}, OLD)
        temporary = await whole(person)
        await say(person, "password_change", {}, NEW)

        assert temporary["requiredActions"] == ["UPDATE_PASSWORD", "VERIFY_EMAIL"]
        assert (await whole(person))["requiredActions"] == ["VERIFY_EMAIL"]

    async def test_an_alias_the_realm_does_not_have_is_refused_before_anything_is_written(
        self, somebody: Person
    ) -> None:
        await say(somebody, "user_create", {"first_name": "A"})
        before = await whole(somebody)

        known = await say(somebody, "user_update", {"required_actions": ["webauthn-register"]})
        unknown = await say(somebody, "user_update", {"first_name": "B", "required_actions": ["NOT_THERE"]})

        assert isinstance(known, Delivered), known
        assert isinstance(unknown, Retry)
        assert unknown.reason is Reason.REQUIRED_ACTION_MISSING
        assert await whole(somebody) == before | {"requiredActions": ["webauthn-register"]}


class TestGroupsAndRoles:
    async def test_are_joined_and_left_by_path(self, served_by_less: Person) -> None:
        person = served_by_less
        await say(person, "user_create", {"groups": {"add": ["/staff", "/staff/dev ops"]}})
        created = await whole(person)

        user = await twice(
            person, "user_update", {"groups": {"add": ["/staff/a/b"], "remove": ["/staff", "/none"]}}
        )

        assert created["groups"] == ["/staff", "/staff/dev ops"]
        assert user["groups"] == ["/staff/a/b", "/staff/dev ops"]

    async def test_are_granted_and_revoked_by_name(self, somebody: Person) -> None:
        await say(somebody, "user_create", {"realm_roles": {"add": ["gold"]}, "groups": {"add": ["/golden"]}})
        created = await whole(somebody)

        user = await twice(
            somebody, "user_update", {"realm_roles": {"add": ["sil/ver x"], "remove": ["gold", "none"]}}
        )

        assert (created["realmRoles"], created["groups"]) == (["gold"], ["/golden"])
        assert user["realmRoles"] == ["sil/ver x"]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            ({"groups": {"add": ["/none"]}}, Reason.GROUP_MISSING),
            ({"groups": {"add": ["/STAFF"]}}, Reason.GROUP_MISSING),
            ({"groups": {"add": ["/staff "]}}, Reason.GROUP_MISSING),
            ({"realm_roles": {"add": ["none"]}}, Reason.ROLE_MISSING),
            ({"realm_roles": {"add": ["GOLD"]}}, Reason.ROLE_MISSING),
        ],
        ids=str,
    )
    async def test_that_do_not_exist_refuse_the_event_before_anything_is_written(
        self, somebody: Person, data: dict[str, Any], reason: Reason
    ) -> None:
        await say(somebody, "user_create", {"first_name": "A"})
        before = await whole(somebody)

        outcome = await say(somebody, "user_update", {"first_name": "B", **data})

        assert isinstance(outcome, Retry), outcome
        assert outcome.reason is reason
        assert await whole(somebody) == before

    @pytest.mark.parametrize(
        "data",
        [
            {"groups": {"add": ["/admins"]}},
            {"groups": {"add": ["/admins/below"]}},
            {"groups": {"remove": ["/bosses"]}},
            {"realm_roles": {"add": ["boss"]}},
        ],
        ids=str,
    )
    async def test_with_rights_over_the_realm_are_not_given(
        self, somebody: Person, data: dict[str, Any]
    ) -> None:
        await say(somebody, "user_create", {"first_name": "A"})
        before = await whole(somebody)

        outcome = await say(somebody, "user_update", {"first_name": "B", **data})

        assert isinstance(outcome, DeadLetter), outcome
        assert outcome.reason is Reason.GRANT_REFUSED
        assert await whole(somebody) == before

    @pytest.mark.parametrize(
        "data", [{"realm_roles": {"add": ["gold"]}}, {"groups": {"add": ["/golden"]}}], ids=str
    )
    async def test_wait_while_roles_cannot_be_read(
        self, served_by_less: Person, data: dict[str, Any]
    ) -> None:
        await say(served_by_less, "user_create", {})

        outcome = await say(served_by_less, "user_update", data)

        assert isinstance(outcome, Defer), outcome
        assert outcome.reason is Reason.ROLES_UNREADABLE
        assert "view-realm" in outcome.failure.detail

    async def test_whose_id_was_forgotten_by_keycloak_are_looked_up_again(
        self, somebody: Person, observer: Observer, realm: str
    ) -> None:
        name = f"short-{uuid4().hex[:8]}"
        await observer.call("POST", f"/{realm}/groups", {"name": name})
        await say(somebody, "user_create", {"groups": {"add": [f"/{name}"]}})
        found = (await observer.call("GET", f"/{realm}/group-by-path/{name}")).json()
        await observer.call("DELETE", f"/{realm}/groups/{found['id']}")
        await observer.call("POST", f"/{realm}/groups", {"name": name})

        user = await twice(somebody, "user_update", {"groups": {"add": [f"/{name}"]}})

        assert user["groups"] == [f"/{name}"]

    async def test_come_back_with_a_user_who_was_lost(self, somebody: Person) -> None:
        data = {"groups": {"add": ["/staff"], "remove": ["/golden"]}, "realm_roles": {"add": ["gold"]}}
        known = KnownUser(
            realm=somebody.realm,
            username_key=somebody.username.lower(),
            exists=True,
            data={**data, "email": "", "attributes": {"a": [], "b": ["1"]}, "attributes_mode": "replace"},
            credential=None,
            credential_event_id="",
            user_id=None,
        )

        restored = await somebody.workbench.delivery.heal(known, LateEffects(), lambda: None)

        assert restored.reason is Reason.RESTORED
        user = await whole(somebody)
        assert (user["groups"], user["realmRoles"], user["attributes"]) == (
            ["/staff"],
            ["gold"],
            {"b": ["1"]},
        )


class TestWhatIsKnownBeforehand:
    @pytest.mark.parametrize(
        ("client", "found"), [("may-read", "True"), ("may-not", "False: roles_unreadable")]
    )
    async def test_whether_roles_can_be_granted(
        self, observer: Observer, keys: KeyRing, realm: str, client: str, found: str
    ) -> None:
        async with bench_of(observer, keys, realm, client) as bench:
            check = await grants_check(bench.keycloak, realm)

        assert (check.found, check.code) == (found, ExitCode.HEALTHY)
        assert (check.hint is None) == (client == "may-read")

    async def test_whether_undeclared_attributes_are_kept(
        self, workbench: Workbench, served_by_less: Person, strict_workbench: Workbench
    ) -> None:
        """Read with `manage-users` alone, and true: the strict realm says nothing of them, and drops them."""
        kept = await attributes_check(served_by_less.workbench.keycloak, served_by_less.realm)
        dropped = await attributes_check(strict_workbench.keycloak, strict_workbench.realm)
        person = strict_workbench.person()
        await say(person, "user_create", {"attributes": {"team": ["blue"]}})

        assert (kept.found, kept.hint) == ("ADMIN_EDIT", None)
        assert (dropped.found, dropped.code) == ("dropped", ExitCode.HEALTHY)
        assert dropped.hint is not None
        assert "unmanagedAttributePolicy" in dropped.hint
        assert (await person.there())["attributes"] == {}

    async def test_what_cannot_be_read_is_said(self, workbench: Workbench) -> None:
        check = await attributes_check(workbench.keycloak, "nowhere")

        assert check.found == "unknown"
        assert check.hint is not None
        assert "cannot be read" in check.hint


class TestReadingBack:
    async def test_sees_every_part(self, somebody: Person) -> None:
        data = {
            "attributes": {"team": ["red", "blue"]},
            "attributes_mode": "replace",
            "required_actions": ["VERIFY_EMAIL", "UPDATE_PASSWORD"],
            "groups": {"add": ["/staff"], "remove": ["/golden"]},
            "realm_roles": {"add": ["gold"], "remove": ["sil/ver x"]},
            "enabled": False,
            "end_sessions": True,
        }
        delivery, since = somebody.workbench.delivery, datetime.now(UTC)
        await say(somebody, "user_create", profile_of(somebody), OLD)
        change = somebody.change("user_update", dict(written_out(data)), maybe_applied_since=since)
        before = await delivery.read_back(change, lambda: None)
        await somebody.deliver(change)

        after = await delivery.read_back(change, lambda: None)
        await say(somebody, "user_update", {"groups": {"remove": ["/staff"]}})
        undone = await delivery.read_back(change, lambda: None)

        assert isinstance(after, Delivered), after
        assert (before.reason, undone.reason) == (Reason.NOT_APPLIED, Reason.NOT_APPLIED)

    async def test_sees_a_session_that_is_older_than_the_call(self, served_by_less: Person) -> None:
        person = served_by_less
        await say(person, "user_create", {**profile_of(person)}, OLD)
        assert await person.logs_in(OLD)
        data = {"enabled": True, "end_sessions": True}
        later = person.change(
            "user_update", data, maybe_applied_since=datetime.now(UTC) + timedelta(minutes=1)
        )
        earlier = replace(later, maybe_applied_since=datetime.now(UTC) - timedelta(minutes=1))

        delivery = person.workbench.delivery
        assert (await delivery.read_back(later, lambda: None)).reason is Reason.NOT_APPLIED
        assert isinstance(await delivery.read_back(earlier, lambda: None), Delivered)


class TestSessions:
    @pytest.mark.parametrize(
        ("kind", "data", "password"),
        [
            ("password_change", {"end_sessions": True}, NEW),
            ("user_update", {"enabled": False, "end_sessions": True}, None),
            ("user_delete", {"mode": "disable", "end_sessions": True}, None),
        ],
    )
    async def test_end_with_the_change_that_asks_for_it(
        self, served_by_less: Person, kind: str, data: dict[str, Any], password: str | None
    ) -> None:
        person = served_by_less
        await say(person, "user_create", {**profile_of(person)}, OLD)
        assert await person.logs_in(OLD)
        user_id = (await person.there())["id"]
        sessions = f"/{person.realm}/users/{user_id}/sessions"
        assert len((await person.workbench.observer.call("GET", sessions)).json()) == 1

        for _ in range(2):
            outcome = await say(person, kind, data, password)
            assert isinstance(outcome, Delivered), outcome
            assert (await person.workbench.observer.call("GET", sessions)).json() == []

    async def test_end_before_a_delete(self, served_by_less: Person) -> None:
        person = served_by_less
        await say(person, "user_create", {**profile_of(person)}, OLD)
        assert await person.logs_in(OLD)

        outcomes = [await say(person, "user_delete", {"end_sessions": True}) for _ in range(2)]

        assert [outcome.reason for outcome in outcomes] == [Reason.DELETED, Reason.ALREADY_ABSENT]
