"""Groups whose names hold slashes, on real servers, in both spellings of Keycloak."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest

from compose.native.artifacts import KEYCLOAK_VERSION
from compose.native.keycloak import ADMIN, lone_keycloak
from compose.native.stack import Stack
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.outcome import DeadLetter, Delivered, Outcome, Reason, Retry
from consumer.delivery.passwords import KeyRing
from tests.integration.delivery.conftest import LOGIN_CLIENT, Observer, Person, Workbench

CLIENT = "groups"
GROUPS = [
    {"name": "a", "subGroups": [{"name": "b"}]},
    {"name": "a/b", "subGroups": [{"name": "c"}]},
    {"name": "org", "subGroups": [{"name": "team", "subGroups": [{"name": "x"}]}, {"name": "team/x"}]},
    {"name": "t~", "subGroups": [{"name": "x"}]},
    {"name": "t/x"},
    {"name": "Staff", "subGroups": [{"name": "dev_ops"}, {"name": "dev ops "}, {"name": "50% off/on"}]},
    {
        "name": "bosses/all",
        "clientRoles": {"realm-management": ["manage-realm"]},
        "subGroups": [{"name": "below"}],
    },
]


@asynccontextmanager
async def somebody_of(observer: Observer, keys: KeyRing) -> AsyncIterator[Person]:
    """A user of a realm with these groups."""
    name = f"paths-{uuid4().hex[:8]}"
    body = {
        "realm": name,
        "enabled": True,
        "groups": GROUPS,
        "clients": [{"clientId": CLIENT, "secret": CLIENT, "serviceAccountsEnabled": True}],
        "users": [
            {
                "username": f"service-account-{CLIENT}",
                "enabled": True,
                "serviceAccountClientId": CLIENT,
                "clientRoles": {"realm-management": ["manage-users"]},
            }
        ],
    }
    created = await observer.call("POST", "", body)
    assert created.status_code == 201, created.text
    keycloak = Keycloak(
        url=observer.endpoints.keycloak_url, realms=[name], client_id=CLIENT, client_secret=CLIENT
    )
    try:
        delivery = Delivery(keycloak=keycloak, keys=keys)
        person = Workbench(name, LOGIN_CLIENT, keys, keycloak, delivery, observer).person()
        await person.apply("user_create")
        yield person
    finally:
        await keycloak.aclose()
        await observer.call("DELETE", f"/{name}")


@pytest.fixture(scope="module")
async def somebody(observer: Observer, keys: KeyRing) -> AsyncIterator[Person]:
    async with somebody_of(observer, keys) as person:
        yield person


@pytest.fixture(scope="module")
async def somebody_of_escaped_slashes(stack: Stack, keys: KeyRing) -> AsyncIterator[Person]:
    """The same, on a server that shows a slash in a name as `~/`."""
    option = "--spi-group--jpa--escape-slashes-in-group-path=true"
    with lone_keycloak(KEYCLOAK_VERSION, options=[option]) as keycloak:
        endpoints = replace(
            stack.endpoints,
            keycloak_url=keycloak.url,
            keycloak_admin_username=ADMIN,
            keycloak_admin_password=keycloak.instance.state.secrets["keycloak_admin_password"],
        )
        async with (
            httpx.AsyncClient(base_url=keycloak.url, timeout=30, trust_env=False) as http,
            somebody_of(Observer(endpoints, http), keys) as person,
        ):
            yield person


async def move(person: Person, side: str, path: str) -> Outcome:
    return await person.deliver(person.change("user_update", {"groups": {side: [path]}}))


async def names(person: Person) -> set[str]:
    """Of the groups that the user is in."""
    user = await person.there()
    found = await person.workbench.observer.call("GET", f"/{person.realm}/users/{user['id']}/groups")
    return {group["name"] for group in found.json()}


async def joins_and_leaves(person: Person, path: str, name: str) -> None:
    joined = await move(person, "add", path)
    assert isinstance(joined, Delivered), (path, joined)
    assert await names(person) == {name}
    left = await move(person, "remove", path)
    assert isinstance(left, Delivered), (path, left)
    assert await names(person) == set()


async def is_refused(person: Person, path: str, reason: Reason) -> None:
    outcome = await move(person, "add", path)
    assert isinstance(outcome, DeadLetter | Retry), (path, outcome)
    assert outcome.reason is reason, (path, outcome)
    assert await names(person) == set()


PLAIN = {
    "/a": "a",
    "/org/team": "team",
    "/Staff/dev_ops": "dev_ops",
    "/Staff/dev ops ": "dev ops ",
    "/t~": "t~",
}
MISSING = ["/staff", "/Staff/dev ops", "/Staff/devxops", "/Staff/50% on", "/none", "/a/none", "/none/b"]


async def test_as_keycloak_shows_them_by_default(somebody: Person) -> None:
    for path, name in {
        **PLAIN,
        "/a/b/c": "c",
        "/t/x": "t/x",
        "/t~/x": "x",
        "/Staff/50% off/on": "50% off/on",
    }.items():
        await joins_and_leaves(somebody, path, name)
    for path in ("/a/b", "/org/team/x"):
        await is_refused(somebody, path, Reason.GROUP_AMBIGUOUS)
    for path in (*MISSING, "/a~/b", "/org/team~/x"):
        await is_refused(somebody, path, Reason.GROUP_MISSING)
    for path in ("/bosses/all", "/bosses/all/below"):
        await is_refused(somebody, path, Reason.GRANT_REFUSED)


@pytest.mark.long
async def test_as_keycloak_shows_them_with_escaped_slashes(somebody_of_escaped_slashes: Person) -> None:
    person = somebody_of_escaped_slashes
    paths = {
        "/a/b": "b",
        "/a~/b": "a/b",
        "/a~/b/c": "c",
        "/org/team/x": "x",
        "/org/team~/x": "team/x",
        "/Staff/50% off~/on": "50% off/on",
    }
    for path, name in {**PLAIN, **paths}.items():
        await joins_and_leaves(person, path, name)
    # The group t/x, and x in the group t~.
    await is_refused(person, "/t~/x", Reason.GROUP_AMBIGUOUS)
    for path in (*MISSING, "/t/x", "/a/b/c"):
        await is_refused(person, path, Reason.GROUP_MISSING)
    for path in ("/bosses~/all", "/bosses~/all/below"):
        await is_refused(person, path, Reason.GRANT_REFUSED)
