from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.errors import CallFailed
from consumer.delivery.known_user import KnownUser
from consumer.delivery.late_effects import LateEffects
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Delivered, Failure, Outcome, Reason, Retry
from consumer.delivery.passwords import KeyRing, generate_key
from consumer.delivery.protection import RoleWatch, is_protected_name, needs_look
from tests.unit.delivery.scripted_keycloak import USERS, Script, scripted

CLIENTS = "/admin/realms/shop/clients"
ROLES = f"GET {USERS}/0b5c/role-mappings/clients/77/composite"
DELETE = f"DELETE {USERS}/0b5c"
UPDATE = f"PUT {USERS}/0b5c"


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    generate_key(tmp_path, "k1")
    return KeyRing.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "protected"),
    [
        ("service-account-kcsync", True),
        ("root", True),
        ("service-accountant", False),
        ("alice", False),
        ("my-service-account-x", False),
    ],
)
def test_service_accounts_and_the_list_are_protected(name: str, protected: bool) -> None:  # noqa: FBT001 - the expected answer
    assert is_protected_name(name, frozenset({"root"})) is protected


@pytest.mark.parametrize(
    ("representation", "looked_at"),
    [
        ({"enabled": False}, True),
        ({"email": "a@example.org"}, True),
        ({"credentials": []}, True),
        ({"enabled": True}, False),
        ({"firstName": "A", "lastName": "B"}, False),
    ],
)
def test_only_what_bars_a_user_or_changes_a_login_is_looked_at(
    representation: Mapping[str, Any],
    looked_at: bool,  # noqa: FBT001 - the expected answer
) -> None:
    assert needs_look(representation) is looked_at


class Roles:
    """Keycloak's answer about roles, counted."""

    def __init__(self, answer: bool | CallFailed) -> None:  # noqa: FBT001 - what the test says
        self.answer = answer
        self.asked = 0
        self.now = 0.0

    async def look(self, user_id: str) -> bool:
        self.asked += 1
        if isinstance(self.answer, CallFailed):
            raise self.answer
        return self.answer

    def watch(self, most: int = 10) -> RoleWatch:
        return RoleWatch(self.look, clock=lambda: self.now, most=most)


class TestTheWatch:
    async def test_remembers_for_a_while(self) -> None:
        roles = Roles(answer=False)
        watch = roles.watch()
        for now in (0.0, 299.0, 300.0):
            roles.now = now
            await watch.check("a")

        assert roles.asked == 2

    async def test_refuses_holders_each_time(self) -> None:
        roles = Roles(answer=True)
        watch = roles.watch()
        for _ in range(2):
            with pytest.raises(CallFailed) as caught:
                await watch.check("a")
            assert caught.value.outcome.reason is Reason.USER_PROTECTED

        assert roles.asked == 1

    async def test_remembers_so_many_and_no_more(self) -> None:
        roles = Roles(answer=False)
        watch = roles.watch(most=2)
        for user in ("a", "b", "c", "b", "a"):
            await watch.check(user)

        assert roles.asked == 4

    async def test_fails_closed_and_charges_nobody_when_it_may_not_look(self) -> None:
        failure = Failure(blame=Blame.CONFIGURATION, status=403, detail="roles read: HTTP 403")
        roles = Roles(CallFailed(Defer(reason=Reason.FORBIDDEN, failure=failure)))
        with pytest.raises(CallFailed) as caught:
            await roles.watch().check("a")

        outcome = caught.value.outcome
        assert isinstance(outcome, Defer)
        assert (outcome.reason, outcome.failure.blame) == (Reason.ROLES_UNREADABLE, Blame.LOCAL)
        assert "view-clients" in outcome.failure.detail

    async def test_lets_an_outage_be_an_outage_and_asks_again(self) -> None:
        lost = CallFailed(Retry(reason=Reason.TIMEOUT, failure=Failure(blame=Blame.KEYCLOAK)))
        roles = Roles(lost)
        watch = roles.watch()
        for _ in range(2):
            with pytest.raises(CallFailed) as caught:
                await watch.check("a")
            assert caught.value is lost

        assert roles.asked == 2


def change(kind: str, username: str = "alice", **data: Any) -> Change:
    return Change(
        event_id="e-1",
        kind=kind,
        realm="shop",
        username=username,
        username_key=username,
        data=data,
        credential=None,
        credential_event_id="e-1",
        known=None,
        user_id="0b5c",
        maybe_applied_since=None,
    )


async def deliver(script: Script, keys: KeyRing, what: Change, **settings: Any) -> Outcome:
    async with scripted(script, **settings) as (keycloak, _):
        delivery = Delivery(keycloak=keycloak, keys=keys, protected_users=frozenset({"root"}))
        return await delivery.deliver(what, lambda: None)


class TestDelivery:
    @pytest.mark.parametrize("kind", ["user_create", "user_update", "user_delete", "password_change"])
    @pytest.mark.parametrize("name", ["root", "service-account-kcsync"])
    async def test_asks_nothing_about_a_protected_name(self, keys: KeyRing, kind: str, name: str) -> None:
        script = Script()

        outcome = await deliver(script, keys, change(kind, name))

        assert isinstance(outcome, DeadLetter)
        # No call was made, so it says nothing about Keycloak.
        assert (outcome.reason, outcome.failure.blame) == (Reason.USER_PROTECTED, Blame.LOCAL)
        assert script.calls == []

    async def test_heals_no_protected_name(self, keys: KeyRing) -> None:
        known = KnownUser(
            realm="shop",
            username_key="root",
            exists=True,
            data={},
            credential=None,
            credential_event_id="",
            user_id="0b5c",
        )
        script = Script()
        async with scripted(script) as (keycloak, _):
            delivery = Delivery(keycloak=keycloak, keys=keys, protected_users=frozenset({"root"}))
            outcome = await delivery.heal(known, LateEffects(), lambda: None)

        assert outcome.reason is Reason.USER_PROTECTED
        assert script.calls == []

    async def test_of_a_role_holder_writes_nothing(self, keys: KeyRing) -> None:
        script = Script().on(f"GET {CLIENTS}", 200, [{"id": "77"}]).on(ROLES, 200, [{"name": "manage-users"}])

        outcome = await deliver(script, keys, change("user_delete"), protect_role_holders=True)

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.USER_PROTECTED
        assert script.calls == [f"GET {CLIENTS}", ROLES]

    async def test_of_anybody_else_goes_on(self, keys: KeyRing) -> None:
        script = Script().on(f"GET {CLIENTS}", 200, [{"id": "77"}]).on(ROLES, 200, []).on(DELETE, 204)

        outcome = await deliver(script, keys, change("user_delete"), protect_role_holders=True)

        assert isinstance(outcome, Delivered)
        assert script.calls == [f"GET {CLIENTS}", ROLES, DELETE]

    async def test_of_a_harmless_update_looks_at_nothing(self, keys: KeyRing) -> None:
        script = Script().on(UPDATE, 204)

        outcome = await deliver(
            script, keys, change("user_update", first_name="A"), protect_role_holders=True
        )

        assert isinstance(outcome, Delivered)
        assert script.calls == [UPDATE]

    async def test_waits_where_roles_may_not_be_read(self, keys: KeyRing) -> None:
        script = Script().on(f"GET {CLIENTS}", 403, {"error": "HTTP 403 Forbidden"})

        outcome = await deliver(script, keys, change("user_delete"), protect_role_holders=True)

        assert isinstance(outcome, Defer)
        assert outcome.reason is Reason.ROLES_UNREADABLE
