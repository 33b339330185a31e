"""Who may manage a realm, as a real Keycloak shows it to our client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from consumer.cli.checks import Check
from consumer.cli.exit_codes import ExitCode
from consumer.cli.run_checks import roles_check
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.outcome import DeadLetter, Defer, Delivered, Outcome, Reason
from consumer.delivery.passwords import KeyRing
from consumer.from_settings import open_keycloak
from tests.integration.delivery.conftest import Observer, Person, Workbench
from tests.unit.settings.test_settings import load

SECRET = "own-secret"


@asynccontextmanager
async def realm_with_roles(observer: Observer, roles: list[str]) -> AsyncIterator[str]:
    """A realm with one user of each kind, and a client that has these roles."""
    realm = f"roles-{uuid4().hex[:8]}"
    management = "realm-management"
    body = {
        "realm": realm,
        "enabled": True,
        "roles": {
            "realm": [
                {"name": "boss", "composite": True, "composites": {"client": {management: ["view-users"]}}}
            ]
        },
        "groups": [{"name": "admins", "clientRoles": {management: ["manage-realm"]}}],
        "clients": [
            {
                "clientId": "own-service",
                "secret": SECRET,
                "serviceAccountsEnabled": True,
                "standardFlowEnabled": False,
            }
        ],
        "users": [
            {
                "username": "service-account-own-service",
                "enabled": True,
                "serviceAccountClientId": "own-service",
                "clientRoles": {management: roles},
            },
            {"username": "plain", "enabled": True},
            {"username": "direct", "enabled": True, "clientRoles": {management: ["manage-users"]}},
            {"username": "by-role", "enabled": True, "realmRoles": ["boss"]},
            {"username": "by-group", "enabled": True, "groups": ["/admins"]},
        ],
    }
    created = await observer.call("POST", "", body)
    assert created.status_code == 201, created.text
    try:
        yield realm
    finally:
        await observer.call("DELETE", f"/{realm}")


async def deliver(observer: Observer, keys: KeyRing, realm: str, username: str, kind: str) -> Outcome:
    keycloak = Keycloak(
        url=observer.endpoints.keycloak_url,
        realms=[realm],
        client_id="own-service",
        client_secret=SECRET,
        protect_role_holders=True,
    )
    try:
        delivery = Delivery(keycloak=keycloak, keys=keys)
        bench = Workbench(realm, "login", keys, keycloak, delivery, observer)
        data = {"email": f"{username}@example.org"} if kind == "user_update" else {}
        return await delivery.deliver(Person(realm, username, bench).change(kind, data), lambda: None)
    finally:
        await keycloak.aclose()


@pytest.mark.parametrize("kind", ["user_update", "user_delete"])
async def test_role_holders_are_not_touched_however_they_hold_their_role(
    observer: Observer, keys: KeyRing, kind: str
) -> None:
    async with realm_with_roles(observer, ["manage-users", "view-clients"]) as realm:
        outcomes = {
            username: await deliver(observer, keys, realm, username, kind)
            for username in ("direct", "by-role", "by-group", "service-account-own-service", "plain")
        }
        left = {
            username
            for username in outcomes
            if (user := await observer.user(realm, username)) is not None and "email" not in user
        }

    plain = outcomes.pop("plain")
    assert isinstance(plain, Delivered), plain
    assert {(type(each), each.reason) for each in outcomes.values()} == {(DeadLetter, Reason.USER_PROTECTED)}
    assert left == outcomes.keys()


@pytest.mark.parametrize("roles", [["manage-users"], ["manage-users", "query-clients"]])
async def test_without_the_right_to_look_changes_wait(
    observer: Observer, keys: KeyRing, roles: list[str]
) -> None:
    async with realm_with_roles(observer, roles) as realm:
        outcome = await deliver(observer, keys, realm, "direct", "user_delete")
        left = await observer.user(realm, "direct")

    assert isinstance(outcome, Defer), outcome
    assert outcome.reason is Reason.ROLES_UNREADABLE
    assert left is not None


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (["manage-users", "view-clients"], None),
        (["manage-users"], Reason.FORBIDDEN),
        (["manage-users", "query-clients"], Reason.FORBIDDEN),
    ],
    ids=["may", "may not", "may only query"],
)
async def test_whether_roles_can_be_read_is_known_beforehand(
    observer: Observer, roles: list[str], expected: Reason | None
) -> None:
    async with realm_with_roles(observer, roles) as realm:
        settings = load(
            keycloak_url=observer.endpoints.keycloak_url,
            keycloak_realms=realm,
            keycloak_client_id="own-service",
            keycloak_client_secret=SECRET,
            protect_role_holders="on",
        )
        keycloak = open_keycloak(settings)
        try:
            trouble = await keycloak.roles_trouble(realm)
            check = await roles_check(keycloak, realm)
        finally:
            await keycloak.aclose()

    assert (trouble and trouble.reason) == expected
    if expected is None:
        assert check == Check(f"Roles readable ({realm})", "True")
    else:
        assert check.code is ExitCode.DEGRADED
        assert check.hint is not None
        assert "give the client the role view-clients" in check.hint
