"""Realms in which usernames change: no two lanes write one user, and nobody becomes somebody else, on a real Keycloak."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from consumer.cli.exit_codes import ExitCode
from consumer.cli.run_checks import naming_check
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.known_user import KnownUser
from consumer.delivery.late_effects import LateEffects
from consumer.delivery.outcome import DeadLetter, Delivered, Outcome, Reason, Retry
from consumer.delivery.passwords import KeyRing
from tests.integration.delivery.conftest import (
    LOGIN_CLIENT,
    OWN_REALM_CLIENT,
    OWN_REALM_SECRET,
    Observer,
    Person,
    Workbench,
)
from tests.integration.support.keycloak_proxy import Call, KeycloakProxy
from tests.integration.support.ruled_realm import RuledRealm, ruled_realm

OLD, NEW = "the first password", "the second password"


@pytest.fixture
async def realm(observer: Observer) -> AsyncIterator[RuledRealm]:
    """A realm whose users are renamed as a test says; its client has `manage-users` alone."""
    async with ruled_realm(observer) as made:
        yield made


async def rename_by(realm: RuledRealm, *, address: bool = False, hand: bool = False) -> None:
    flags = {"registrationEmailAsUsername": address, "editUsernameAllowed": hand}
    changed = await realm.observer.call("PUT", f"/{realm.name}", flags)
    assert changed.status_code == 204, changed.text


@asynccontextmanager
async def serving(realm: RuledRealm, keys: KeyRing, url: str | None = None) -> AsyncIterator[Workbench]:
    """A new process: it knows nothing of the realm yet."""
    keycloak = Keycloak(
        url=url or realm.observer.endpoints.keycloak_url,
        realms=[realm.name],
        client_id=OWN_REALM_CLIENT,
        client_secret=OWN_REALM_SECRET,
    )
    try:
        delivery = Delivery(keycloak=keycloak, keys=keys)
        yield Workbench(realm.name, LOGIN_CLIENT, keys, keycloak, delivery, realm.observer)
    finally:
        await keycloak.aclose()


def called(bench: Workbench, name: str) -> Person:
    return Person(bench.realm, name, bench)


class Lane:
    """What the drain keeps of one name: the id that its deliveries left, and what they wrote."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.user_id: str | None = None
        self.data: dict[str, Any] = {}

    def known(self) -> KnownUser | None:
        if self.user_id is None:
            return None
        return KnownUser(
            realm=self.person.realm,
            username_key=self.person.username,
            exists=True,
            data=self.data,
            credential=None,
            credential_event_id="",
            user_id=self.user_id,
        )

    async def say(self, kind: str, password: str | None = None, **data: Any) -> Outcome:
        change = self.person.change(kind, data, password=password, user_id=self.user_id, known=self.known())
        outcome = await self.person.deliver(change)
        if isinstance(outcome, Delivered):
            self.user_id = outcome.user_id
            self.data |= data
        return outcome


def a_name() -> str:
    return f"p-{uuid4().hex[:10]}"


async def all_users(realm: RuledRealm) -> dict[str, dict[str, Any]]:
    found = (await realm.observer.call("GET", f"/{realm.name}/users", max="100")).json()
    return {user["id"]: user for user in found}


def is_renamed(outcome: Outcome) -> bool:
    return isinstance(outcome, Retry) and outcome.reason is Reason.RENAMED


def would_rename(outcome: Outcome) -> bool:
    return isinstance(outcome, DeadLetter) and outcome.reason is Reason.WOULD_RENAME


class TestAddressesAreUsernames:
    async def test_who_is_called_by_their_address_is_served_as_anywhere(
        self, realm: RuledRealm, keys: KeyRing
    ) -> None:
        await rename_by(realm, address=True)
        async with serving(realm, keys) as bench:
            address = f"{a_name()}@example.org"
            lane = Lane(called(bench, address))

            outcomes = [
                await lane.say("user_create", OLD, email=address, first_name="Ada"),
                await lane.say("user_update", last_name="Lovelace", attributes={"team": ["blue"]}),
                await lane.say("user_update", email=address.title()),
                await lane.say("password_change", NEW),
                await lane.say("user_create", email=address),
                await lane.say("user_delete", mode="disable"),
            ]

            assert [type(outcome) for outcome in outcomes] == [Delivered] * 6, outcomes
            (user,) = (await all_users(realm)).values()
            assert (user["username"], user["enabled"], user["lastName"]) == (address, False, "Lovelace")
            assert isinstance(await lane.say("user_delete"), Delivered)
            assert await all_users(realm) == {}

    async def test_a_write_that_would_rename_is_refused_before_anything_is_written(
        self, realm: RuledRealm, keys: KeyRing
    ) -> None:
        await rename_by(realm, address=True)
        async with serving(realm, keys) as bench:
            address = f"{a_name()}@example.org"
            lane = Lane(called(bench, address))
            assert isinstance(await lane.say("user_create", email=address), Delivered)
            before = await all_users(realm)

            for data in (
                {"email": f"{a_name()}@example.org"},
                {"email": f"{a_name()}@example.org", "attributes": {"team": ["blue"]}},
            ):
                for kind in ("user_update", "user_create"):
                    assert would_rename(await lane.say(kind, **data))
            other = Lane(called(bench, a_name()))
            assert would_rename(await other.say("user_create", email=f"{a_name()}@example.org"))

            assert await all_users(realm) == before

    async def test_a_user_from_before_keeps_the_name_and_what_renames_nobody_goes_on(
        self, realm: RuledRealm, keys: KeyRing
    ) -> None:
        name = a_name()
        async with serving(realm, keys) as bench:
            lane = Lane(called(bench, name))
            data = {"email": f"{name}@example.org", "first_name": "Ada", "last_name": "L"}
            assert isinstance(await lane.say("user_create", OLD, **data), Delivered)
        await rename_by(realm, address=True)
        async with serving(realm, keys) as bench:
            lane.person = called(bench, name)
            assert would_rename(await lane.say("user_update", first_name="Bea"))
            assert isinstance(await lane.say("password_change", NEW), Delivered)
            assert await lane.person.logs_in(NEW)
            assert await realm.sessions(name) == 1
            # The leaver cannot be barred without a new name, and is logged out at least.
            assert would_rename(await lane.say("user_delete", mode="disable", end_sessions=True))
            assert await realm.sessions(name) == 0
            assert await lane.person.logs_in(NEW), "the name is the one it was"

            # Without the id, nothing tells that the user who is shown by an address is the one of this name.
            assert is_renamed(await Lane(lane.person).say("password_change", OLD))
            assert isinstance(await lane.say("user_delete"), Delivered)
            assert await all_users(realm) == {}

    async def test_a_freed_name_is_somebody_new(self, realm: RuledRealm, keys: KeyRing) -> None:
        await rename_by(realm, address=True)
        async with serving(realm, keys) as bench:
            first = f"{a_name()}@example.org"
            lane = Lane(called(bench, first))
            await lane.say("user_create", OLD, email=first, first_name="Ada")
            ada = lane.user_id
            moved = f"{a_name()}@example.org"
            changed = await realm.observer.call("PUT", f"/{realm.name}/users/{ada}", {"email": moved})
            assert changed.status_code == 204
            before = (await all_users(realm))[str(ada)]

            assert is_renamed(await lane.say("user_update", first_name="Eve"))
            assert is_renamed(await lane.say("password_change", NEW))
            assert is_renamed(await lane.say("user_delete"))
            # By the new name, the person is found.
            renamed = Lane(called(bench, moved))
            assert isinstance(await renamed.say("user_update", last_name="L"), Delivered)
            assert renamed.user_id == ada

            outcome = await lane.say("user_create", NEW, email=first)

            assert isinstance(outcome, Delivered), outcome
            assert (outcome.reason, outcome.anew) == (Reason.CREATED, True)
            users = await all_users(realm)
            assert users.pop(str(ada)) == {**before, "lastName": "L"}
            ((new_id, new),) = users.items()
            assert (new_id, new["username"], new.get("firstName")) == (outcome.user_id, first, None)

    async def test_where_nothing_tells_a_rename_is_noticed_by_the_name_read_back(
        self, realm: RuledRealm, keys: KeyRing, proxy: KeycloakProxy
    ) -> None:
        """As if a version of Keycloak showed neither the realm's flags nor the fields' metadata."""
        await rename_by(realm, address=True)

        def hide(call: Call) -> tuple[int, str] | None:
            if call.path == f"/admin/realms/{realm.name}":
                return 200, f'{{"realm":"{realm.name}"}}'
            if "userProfileMetadata" in call.text and proxied.user_id:
                return 200, f'{{"id":"{proxied.user_id}","username":"{proxied.person.username}"}}'
            return None

        proxy.answer = hide
        async with serving(realm, keys, proxy.url) as bench:
            address = f"{a_name()}@example.org"
            proxied = Lane(called(bench, address))
            assert isinstance(await proxied.say("user_create", email=address), Delivered)
            assert isinstance(await proxied.say("user_update", first_name="Ada"), Delivered)

            outcome = await proxied.say("user_update", email=f"{a_name()}@example.org")

            assert is_renamed(outcome)
            assert isinstance(outcome, Retry)
            assert outcome.failure.partial
            # And from then on it is left alone.
            before = await all_users(realm)
            for kind in ("user_update", "user_delete"):
                assert is_renamed(await proxied.say(kind))
            assert await all_users(realm) == before


class TestNamesMayBeEdited:
    async def test_who_was_renamed_is_left_alone_and_so_is_who_has_taken_the_name(
        self, realm: RuledRealm, keys: KeyRing
    ) -> None:
        await rename_by(realm, hand=True)
        async with serving(realm, keys) as bench:
            lane = Lane(called(bench, a_name()))
            await lane.say("user_create", OLD, first_name="Ada")
            user, name = f"/{realm.name}/users/{lane.user_id}", lane.person.username
            assert isinstance(await lane.say("user_update", email=f"{name}@example.org"), Delivered)
            await realm.observer.call("PUT", user, {"username": a_name()})

            say: list[tuple[str, str | None, dict[str, Any]]] = [
                ("user_update", None, {"first_name": "Eve"}),
                ("user_update", None, {"attributes": {"team": ["red"]}}),
                ("password_change", NEW, {}),
                ("user_delete", None, {"mode": "disable"}),
                ("user_delete", None, {}),
            ]
            before = await all_users(realm)
            for kind, password, data in say:
                assert is_renamed(await lane.say(kind, password, **data)), kind
            heal = lane.known()
            assert heal is not None
            assert is_renamed(await bench.delivery.heal(heal, LateEffects(), lambda: None))
            assert await all_users(realm) == before

            taken = await realm.observer.call(
                "POST", f"/{realm.name}/users", {"username": name, "enabled": True}
            )
            assert taken.status_code == 201
            before = await all_users(realm)
            for kind, password, data in [*say, ("user_create", NEW, {"first_name": "Eve"})]:
                assert is_renamed(await lane.say(kind, password, **data)), kind
            assert await all_users(realm) == before

    async def test_who_is_called_so_again_is_served_again(self, realm: RuledRealm, keys: KeyRing) -> None:
        await rename_by(realm, hand=True)
        async with serving(realm, keys) as bench:
            lane = Lane(called(bench, a_name()))
            await lane.say("user_create")
            user = f"/{realm.name}/users/{lane.user_id}"
            await realm.observer.call("PUT", user, {"username": a_name()})
            assert is_renamed(await lane.say("user_update", first_name="Ada"))

            await realm.observer.call("PUT", user, {"username": lane.person.username})

            assert isinstance(await lane.say("user_update", first_name="Ada"), Delivered)


async def test_the_checks_say_how_usernames_change(realm: RuledRealm, keys: KeyRing) -> None:
    said = []
    for address, hand in ((False, False), (True, False), (False, True)):
        await rename_by(realm, address=address, hand=hand)
        async with serving(realm, keys) as bench:
            check = await naming_check(bench.keycloak, realm.name)
            said.append((check.found, check.hint is not None))
            assert check.code is ExitCode.HEALTHY

    # With `manage-users` alone a realm does not show whether names may be edited; a delivery finds that out by its user.
    edited = ("not made from e-mail addresses; whether they may be edited is not shown", False)
    assert said == [edited, ("made from e-mail addresses", True), edited]


async def test_where_names_are_for_ever_the_id_goes_without_a_search(
    realm: RuledRealm, keys: KeyRing, proxy: KeycloakProxy
) -> None:
    async with serving(realm, keys, proxy.url) as bench:
        lane = Lane(called(bench, a_name()))
        await lane.say("user_create")
        await lane.say("user_update", first_name="Ada")
        proxy.calls.clear()

        for n in range(3):
            assert isinstance(await lane.say("user_update", email=f"{a_name()}-{n}@example.org"), Delivered)

        assert [call.method for call in proxy.calls] == ["PUT"] * 3
