"""How usernames change in Keycloak: one function a rule."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.conformance.case import DONE, Case, a_name, a_password, made, seen
from tests.conformance.keycloak import Realm

CASES: list[Case] = []


def case(function: Case) -> Case:
    CASES.append(function)
    return function


@asynccontextmanager
async def renaming(realm: Realm, *, address: bool = False, hand: bool = False) -> AsyncIterator[None]:
    await realm.rename_by(address=address, hand=hand)
    try:
        yield
    finally:
        await realm.rename_by()


async def named(realm: Realm, user: str) -> str:
    return str((await seen(realm, user))["username"])


async def found(realm: Realm, name: str) -> list[tuple[str, str]]:
    """Path and shown name of those whom an exact search gives."""
    answer = await realm.ask("GET", "/users", username=name, exact="true", briefRepresentation="true")
    return [(f"/users/{each['id']}", each["username"]) for each in answer.json()]


async def told_by(realm: Realm, user: str) -> dict[str, Any]:
    """What a user's metadata tell of the name."""
    answer = await realm.ask("GET", user, userProfileMetadata="true")
    (name,) = (
        each for each in answer.json()["userProfileMetadata"]["attributes"] if each["name"] == "username"
    )
    return {what: name[what] for what in ("required", "readOnly")}


@case
async def who_may_rename_is_told_by_the_metadata_of_any_user(realm: Realm) -> None:
    user = await made(realm)
    for address, hand, told in (
        (False, False, {"required": True, "readOnly": True}),
        (False, True, {"required": True, "readOnly": False}),
        (True, False, {"required": False, "readOnly": True}),
        (True, True, {"required": False, "readOnly": True}),
    ):
        async with renaming(realm, address=address, hand=hand):
            assert await told_by(realm, user) == told
            assert (await realm.ask("GET", "")).json()["registrationEmailAsUsername"] is address


@case
async def where_addresses_are_names_a_create_makes_the_name_of_the_address(realm: Realm) -> None:
    name = a_name()
    async with renaming(realm, address=True):
        user = await made(realm, username=name, email=f"{name.upper()}@example.org")
        without = await realm.ask("POST", "/users", {"username": a_name()})

        assert await found(realm, name) == []
        assert await found(realm, f"{name}@example.org") == [(user, f"{name}@example.org")]
        body = b'{"field":"email","errorMessage":"error-user-attribute-required","params":["email"]}'
        assert without.short == (400, body)


@case
async def where_addresses_are_names_any_update_renames_a_user_from_before(realm: Realm) -> None:
    """Who is shown by the address before, and found by the name they have."""
    name = a_name()
    user = await made(realm, username=name, email=f"{name}@example.org")
    async with renaming(realm, address=True):
        assert await named(realm, user) == f"{name}@example.org"
        assert await found(realm, name) == [(user, f"{name}@example.org")]
        assert await found(realm, f"{name}@example.org") == []

        assert (await realm.ask("PUT", f"{user}/reset-password", a_password("long-enough-1"))).short == DONE
        assert (await realm.ask("POST", f"{user}/logout", {})).short == DONE
        assert await found(realm, name) == [(user, f"{name}@example.org")]

        assert (await realm.ask("PUT", user, {"firstName": "Bea"})).short == DONE
        assert await found(realm, name) == []
        assert await found(realm, f"{name}@example.org") == [(user, f"{name}@example.org")]
    assert await named(realm, user) == f"{name}@example.org"


@case
async def where_addresses_are_names_a_new_address_renames(realm: Realm) -> None:
    name = a_name()
    async with renaming(realm, address=True):
        user = await made(realm, username=f"{name}@example.org", email=f"{name}@example.org")

        assert (await realm.ask("PUT", user, {"email": f"{name}-2@example.org"})).short == DONE
        assert await named(realm, user) == f"{name}-2@example.org"
        cleared = await realm.ask("PUT", user, {"email": ""})
        assert cleared.short == (400, b'{"errorMessage":"User name is missing"}')
        again = await realm.ask("POST", "/users", {"username": name, "email": f"{name}@example.org"})
        assert again.status == 201


@case
async def where_names_may_be_edited_an_update_renames_and_an_address_does_not(realm: Realm) -> None:
    name = a_name()
    user = await made(realm, username=name)
    async with renaming(realm, hand=True):
        assert (await realm.ask("PUT", user, {"email": f"{name}@example.org"})).short == DONE
        assert await named(realm, user) == name
        assert (await realm.ask("PUT", user, {"username": f"{name}-2"})).short == DONE
        assert await named(realm, user) == f"{name}-2"
