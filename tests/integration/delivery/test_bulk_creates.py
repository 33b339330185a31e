"""Many creates in one call come to the same as each by itself, on the real Keycloak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from consumer.delivery import together as rounds
from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.errors import GoesAlone
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.outcome import Delivered, Outcome, Reason
from consumer.delivery.passwords import KeyRing
from consumer.delivery.together import together
from consumer.delivery.transport import KeycloakSender, Response
from tests.integration.delivery.conftest import Observer, Person, Workbench

SECRET = "bulk-secret"


@dataclass(slots=True)
class Load:
    """Deliveries that run together, and the requests they made."""

    bench: Workbench
    paths: list[str]

    def person(self) -> Person:
        return self.bench.person()

    async def create(self, people: Sequence[Person], **data: Any) -> list[Outcome]:
        changes = [person.change("user_create", {"email": person.email, **data}) for person in people]
        return await self.deliver(changes)

    async def deliver(self, changes: Sequence[Change]) -> list[Outcome]:
        """As the drain does: those who cannot go with the others go by themselves afterwards."""
        outcomes: dict[str, Outcome] = {}
        alone: list[Change] = []

        async def one(change: Change) -> None:
            try:
                outcomes[change.event_id] = await self.bench.delivery.deliver(change, lambda: None)
            except GoesAlone:
                alone.append(change)

        async with asyncio.timeout(60):
            await together([partial(one, change) for change in changes])
            await asyncio.gather(*map(one, alone))
        return [outcomes[change.event_id] for change in changes]

    def count(self, ending: str) -> int:
        return sum(path.endswith(ending) for path in self.paths)


def service(client: str, *roles: str) -> dict[str, Any]:
    return {
        "username": f"service-account-{client}",
        "enabled": True,
        "serviceAccountClientId": client,
        "clientRoles": {"realm-management": list(roles)},
    }


@pytest.fixture(scope="module")
async def giving_realm(observer: Observer) -> AsyncIterator[str]:
    """A realm that gives new users a role, a group and something to do."""
    realm = f"giving-{uuid4().hex[:8]}"
    client = {"secret": SECRET, "serviceAccountsEnabled": True, "standardFlowEnabled": False}
    created = await observer.call(
        "POST",
        "",
        {
            "realm": realm,
            "enabled": True,
            "groups": [{"name": "everybody"}],
            "defaultGroups": ["/everybody"],
            "clients": [{"clientId": "loader", **client}, {"clientId": "modest", **client}],
            "users": [
                service("loader", "manage-users", "manage-realm"),
                service("modest", "manage-users"),
            ],
        },
    )
    assert created.status_code == 201, created.text
    action = (await observer.call("GET", f"/{realm}/authentication/required-actions/UPDATE_PROFILE")).json()
    put = await observer.call(
        "PUT",
        f"/{realm}/authentication/required-actions/UPDATE_PROFILE",
        {**action, "enabled": True, "defaultAction": True},
    )
    assert put.status_code == 204, put.text
    yield realm
    await observer.call("DELETE", f"/{realm}")


@pytest.fixture(params=["loader"])
async def load(
    request: pytest.FixtureRequest,
    observer: Observer,
    keys: KeyRing,
    giving_realm: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Load]:
    paths: list[str] = []
    send = KeycloakSender.request

    async def noted(self: KeycloakSender, method: str, url: str, **given: Any) -> Response:
        paths.append(f"{method} {url}")
        return await send(self, method, url, **given)

    monkeypatch.setattr(KeycloakSender, "request", noted)
    keycloak = Keycloak(
        url=observer.endpoints.keycloak_url,
        realms=[giving_realm],
        client_id=request.param,
        client_secret=SECRET,
        bulk_creates=True,
    )
    yield Load(
        Workbench(giving_realm, "", keys, keycloak, Delivery(keycloak=keycloak, keys=keys), observer), paths
    )
    await keycloak.aclose()


async def everything_of(load: Load, person: Person) -> dict[str, Any]:
    """All that Keycloak shows of a user, but for what is their own."""
    user = await person.there()
    of_user = f"/{person.realm}/users/{user['id']}"
    for own in ("id", "username", "email", "createdTimestamp"):
        assert user.pop(own)
    roles = (await load.bench.observer.call("GET", f"{of_user}/role-mappings/realm")).json()
    groups = (await load.bench.observer.call("GET", f"{of_user}/groups")).json()
    return {
        **user,
        "roles": sorted(role["name"] for role in roles),
        "groups": sorted(group["path"] for group in groups),
    }


NAMES = {"first_name": "Zoë", "last_name": "O'Neil-Smith", "email_verified": True}


async def test_users_of_one_call_are_as_users_who_were_created_one_by_one(load: Load) -> None:
    people = [load.person() for _ in range(9)]
    alone = load.person()
    await alone.apply("user_create", {"email": alone.email, **NAMES})
    load.paths.clear()

    outcomes = await load.create(people, **NAMES)

    assert [outcome.reason for outcome in outcomes] == [Reason.CREATED] * 9
    assert load.count("/partialImport") == 1
    assert load.count("/users") == 0
    expected = await everything_of(load, alone)
    assert expected["groups"] == ["/everybody"]
    assert expected["requiredActions"] == ["UPDATE_PROFILE"]
    for person, outcome in zip(people, outcomes, strict=True):
        assert isinstance(outcome, Delivered)
        assert outcome.user_id == (await person.there())["id"]
        assert await everything_of(load, person) == expected


async def test_one_who_is_there_is_converged_and_keeps_the_rest(load: Load) -> None:
    there, *others = [load.person() for _ in range(6)]
    first = await there.apply("user_create", {"email": there.email, "last_name": "Before"})

    outcomes = await load.create([there, *others], first_name="Ada")

    assert [outcome.reason for outcome in outcomes] == [Reason.CONVERGED] + [Reason.CREATED] * 5
    user = await there.there()
    assert (user["id"], user["firstName"], user["lastName"]) == (first.user_id, "Ada", "Before")


async def test_somebody_elses_email_spoils_nobody_elses_create(load: Load) -> None:
    owner = load.person()
    await owner.apply("user_create", {"email": owner.email})
    people = [load.person() for _ in range(12)]
    thief = people[7]
    changes = [
        person.change("user_create", {"email": owner.email if person is thief else person.email})
        for person in people
    ]

    outcomes = await load.deliver(changes)

    assert [outcome.reason for outcome in outcomes] == [
        Reason.EMAIL_IN_USE if person is thief else Reason.CREATED for person in people
    ]
    assert await thief.seen() is None
    assert (await owner.there())["email"] == owner.email
    # Halved until two halves are few: the other six went in one call. One is the owner's own.
    assert sum(path.startswith("POST") and path.endswith("/users") for path in load.paths) <= 1 + 6


async def test_the_same_new_email_twice_is_one_users(load: Load) -> None:
    people = [load.person() for _ in range(5)]
    email = people[0].email

    rivals = [person.change("user_create", {"email": email}) for person in people[:2]]
    outcomes = await load.deliver(
        [*rivals, *(person.change("user_create", {"email": person.email}) for person in people[2:])]
    )
    judged = outcomes[:2]
    # Two in the very same moment fail each other in Keycloak's database, and it does not say of what.
    async with asyncio.timeout(60):
        while any(outcome.reason is Reason.CONFLICT for outcome in judged):
            judged = await load.deliver(rivals)

    assert [outcome.reason for outcome in judged].count(Reason.EMAIL_IN_USE) == 1
    assert [isinstance(outcome, Delivered) for outcome in judged].count(True) == 1
    assert sorted([await person.seen() is not None for person in people[:2]]) == [False, True]
    assert [outcome.reason for outcome in outcomes[2:]] == [Reason.CREATED] * 3


async def test_what_the_profile_might_refuse_goes_by_itself_and_is_judged(load: Load) -> None:
    people = [load.person() for _ in range(6)]
    changes = [person.change("user_create", {"email": person.email}) for person in people[:5]]
    changes.append(people[5].change("user_create", {"email": "a@[1.2.3.4", "first_name": "<script>"}))

    outcomes = await load.deliver(changes)

    assert [outcome.reason for outcome in outcomes] == [Reason.CREATED] * 5 + [Reason.INVALID_DATA]
    assert await people[5].seen() is None


@pytest.mark.parametrize("load", ["modest"], indirect=True)
async def test_without_the_right_users_are_created_one_by_one(load: Load) -> None:
    people = [load.person() for _ in range(rounds.WORTH_IT + 1)]

    outcomes = await load.create(people)

    assert [outcome.reason for outcome in outcomes] == [Reason.CREATED] * len(people)
    assert load.count("/partialImport") == 0
