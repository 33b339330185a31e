"""What deliveries build on that the simulation's Keycloak does not have: doors, scopes, profiles, imports, rights.

One function a rule, as in the other cases, for real servers alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from consumer.delivery.answer import Answer, Operation
from consumer.delivery.classify import classify_answer
from consumer.delivery.outcome import Reason
from tests.conformance.case import DONE, a_name, a_password, made, seen
from tests.conformance.keycloak import CLIENT, POWERLESS, SECRET, USERS_ONLY, RealRealm, Told

RealCase = Callable[[RealRealm], Awaitable[None]]

CASES: list[RealCase] = []

SCOPE = "a-scope-of-its-own"


def case(function: RealCase) -> RealCase:
    CASES.append(function)
    return function


def reason_of(operation: Operation, told: Told) -> Reason:
    answer = Answer(status=told.status, body=told.body, content_type=told.content_type)
    return classify_answer(operation, answer, datetime.now(UTC)).reason


# At the door


@case
async def who_may_not_come_in_is_told_why(realm: RealRealm) -> None:
    """Wrong secrets, unknown clients and realms, wrong paths, refused tokens and missing rights each have words of their own."""
    token, find = Operation.TOKEN, Operation.FIND
    powerless = (await realm.ask_token(POWERLESS, SECRET)).json()["access_token"]
    met = [
        (token, await realm.ask_token(CLIENT, "wrong"), Reason.CREDENTIALS_REFUSED),
        (token, await realm.ask_token("nobody", SECRET), Reason.CREDENTIALS_REFUSED),
        (token, await realm.ask_token(CLIENT, SECRET, realm="no-such-realm"), Reason.REALM_MISSING),
        (token, await realm.ask_token(CLIENT, SECRET, prefix="/auth"), Reason.WRONG_PATH),
        (find, await realm.ask_as(None), Reason.TOKEN_REFUSED),
        (find, await realm.ask_as("Bearer nonsense"), Reason.TOKEN_REFUSED),
        (find, await realm.ask_as(f"Bearer {powerless}"), Reason.FORBIDDEN),
        (find, await realm.ask_elsewhere("/no-such-realm/users"), Reason.REALM_MISSING),
    ]

    assert [reason_of(operation, told) for operation, told, _ in met] == [reason for *_, reason in met]
    # As the simulation says it (tests/simulation/keycloak_link.py).
    assert met[6][1].short == (403, b'{"error":"HTTP 403 Forbidden"}')
    assert {told.content_type for _, told, _ in met} == {"application/json"}


@case
async def a_disabled_realm_gives_no_token(realm: RealRealm) -> None:
    await realm.administer("PUT", f"/{realm.name}", {"enabled": False})
    try:
        refused = await realm.ask_token(CLIENT, SECRET)
    finally:
        await realm.administer("PUT", f"/{realm.name}", {"enabled": True})

    assert reason_of(Operation.TOKEN, refused) is Reason.REALM_DISABLED


@case
async def an_id_that_nobody_can_have_is_not_found(realm: RealRealm) -> None:
    """So that a control call can ask for one."""
    answer = await realm.ask("GET", "/users/kcsync-nobody")

    assert answer.short == (404, b'{"error":"User not found"}')


# Scopes of tokens


@asynccontextmanager
async def a_scope(realm: RealRealm) -> AsyncIterator[str]:
    scope = await realm.make_scope(SCOPE)
    try:
        yield scope
    finally:
        await realm.administer("DELETE", f"/{realm.name}/client-scopes/{scope}")


async def scope_of_token(realm: RealRealm, **form: str) -> bool:
    """Whether the token's answer names the scope."""
    answer = await realm.ask_token(CLIENT, SECRET, **form)
    assert answer.status == 200, answer
    return SCOPE in answer.json()["scope"].split()


@case
async def a_scope_that_the_client_was_not_given_is_refused(realm: RealRealm) -> None:
    """Asked for by `scope=`: 400 `invalid_scope`, whether or not the realm has it."""
    for _ in range(2):
        refused = await realm.ask_token(CLIENT, SECRET, scope=SCOPE)
        assert (refused.status, refused.json()["error"]) == (400, "invalid_scope")
        if SCOPE not in await realm.scopes_supported():
            await realm.make_scope(SCOPE)
    (scope,) = [
        each
        for each in await realm.administer("GET", f"/{realm.name}/client-scopes")
        if each["name"] == SCOPE
    ]
    await realm.administer("DELETE", f"/{realm.name}/client-scopes/{scope['id']}")


@case
async def the_public_document_names_the_scopes_of_the_realm(realm: RealRealm) -> None:
    before = await realm.scopes_supported()
    async with a_scope(realm):
        assert sorted(await realm.scopes_supported()) == sorted([*before, SCOPE])


@case
async def an_optional_scope_is_in_a_token_that_asks_for_it(realm: RealRealm) -> None:
    async with a_scope(realm) as scope:
        await realm.assign_scope(scope, "optional")
        assert not await scope_of_token(realm)
        assert await scope_of_token(realm, scope=SCOPE)


@case
async def a_default_scope_is_in_every_token(realm: RealRealm) -> None:
    async with a_scope(realm) as scope:
        await realm.assign_scope(scope, "default")
        assert await scope_of_token(realm)
        assert await scope_of_token(realm, scope=SCOPE)


# The user profile


@asynccontextmanager
async def declared(realm: RealRealm, attribute: dict[str, Any]) -> AsyncIterator[None]:
    """Have an attribute declared in the realm's user profile."""
    path = f"/{realm.name}/users/profile"
    before = await realm.administer("GET", path)
    await realm.administer("PUT", path, {**before, "attributes": [*before["attributes"], attribute]})
    try:
        yield
    finally:
        await realm.administer("PUT", path, before)


@case
async def the_profile_says_what_becomes_of_undeclared_attributes(realm: RealRealm) -> None:
    assert (await realm.ask("GET", "/users/profile")).json()["unmanagedAttributePolicy"] == "ADMIN_EDIT"


@case
async def a_stored_profile_that_breaks_the_realms_keeps_every_update_out(realm: RealRealm) -> None:
    """Also one that only disables the user; ending sessions, a password in clear and a delete work all the same."""
    user = await made(realm)
    missing = {"name": "phone", "required": {}, "permissions": {"view": ["admin"], "edit": ["admin"]}}
    async with declared(realm, missing):
        for body in ({}, {"enabled": False}, {"firstName": "Bea"}):
            refused = await realm.ask("PUT", user, body)
            assert (refused.status, refused.json()["field"]) == (400, "phone")
            assert refused.json()["errorMessage"] == "error-user-attribute-required"
        assert (await realm.ask("POST", f"{user}/logout", {})).short == DONE
        password = await realm.ask("PUT", f"{user}/reset-password", a_password("long-enough-1"))
        assert password.short == DONE
        assert (await realm.ask("DELETE", user)).short == DONE


@case
async def a_create_drops_what_an_update_refuses(realm: RealRealm) -> None:
    """An attribute that administrators may not edit."""
    locked = {"name": "locked", "permissions": {"view": ["admin"], "edit": []}}
    async with declared(realm, locked):
        user = await made(realm, attributes={"locked": ["x"]})
        assert "attributes" not in await seen(realm, user)
        refused = await realm.ask("PUT", user, {"attributes": {"locked": ["x"]}})
        assert (refused.status, refused.json()["errorMessage"]) == (400, "error-user-attribute-read-only")


@case
async def locale_is_dropped_where_the_realm_has_one_language(realm: RealRealm) -> None:
    user = await made(realm, attributes={"locale": ["de"], "team": ["red"]})

    assert (await seen(realm, user))["attributes"] == {"team": ["red"]}


@case
async def names_that_keycloak_keeps_for_itself_are_refused(realm: RealRealm) -> None:
    user = await made(realm)
    for name in ("LDAP_ID", "createTimestamp", "LDAP_ENTRY_DN"):
        refused = await realm.ask("PUT", user, {"attributes": {name: ["x"]}})
        assert reason_of(Operation.UPDATE, refused) is Reason.ATTRIBUTE_READ_ONLY


@case
async def text_beyond_the_basic_plane_is_not_stored(realm: RealRealm) -> None:
    """On MariaDB: 500 to a create, 400 without an explanation to an update."""
    text = "\N{CJK UNIFIED IDEOGRAPH-20BB7}"
    created = await realm.ask("POST", "/users", {"username": a_name(), "lastName": text})
    user = await made(realm, lastName="A")
    updated = await realm.ask("PUT", user, {"lastName": text})

    assert created.status == 500
    assert reason_of(Operation.UPDATE, updated) is Reason.UNEXPLAINED_REFUSAL
    assert (await seen(realm, user))["lastName"] == "A"


# Sessions


@case
async def barring_a_user_ends_no_session(realm: RealRealm) -> None:
    """So that ending them is a request of its own."""
    name = a_name()
    user = await made(
        realm,
        username=name,
        email=f"{name}@example.org",
        firstName="A",
        lastName="B",
        credentials=[a_password("long-enough-1")],
    )
    assert await realm.logs_in(name, "long-enough-1")

    assert (await realm.ask("PUT", user, {"enabled": False})).short == DONE

    assert len((await realm.ask("GET", f"{user}/sessions")).json()) == 1


# Many users in one call


async def imported(realm: RealRealm, *users: dict[str, Any]) -> tuple[int, Any]:
    answer = await realm.as_admin(
        "POST", f"/{realm.name}/partialImport", {"ifResourceExists": "SKIP", "users": list(users)}
    )
    return answer.status_code, answer.json()


@case
async def an_import_says_who_was_added_and_who_was_there(realm: RealRealm) -> None:
    there, new = a_name(), a_name()
    await made(realm, username=there)

    status, body = await imported(realm, {"username": there}, {"username": new})

    assert status == 200
    found = {each["resourceName"]: (each["action"], each["resourceType"]) for each in body["results"]}
    assert found == {there: ("SKIPPED", "USER"), new: ("ADDED", "USER")}
    (added,) = [each["id"] for each in body["results"] if each["action"] == "ADDED"]
    assert (await seen(realm, f"/users/{added}"))["username"] == new


@case
async def an_import_with_one_bad_row_imports_nobody(realm: RealRealm) -> None:
    good, address = a_name(), f"{a_name()}@example.org"
    bad = [{"username": a_name(), "email": address} for _ in range(2)]

    status, _ = await imported(realm, {"username": good}, *bad)

    assert status in {400, 409, 500}
    assert (await realm.ask("GET", "/users", username=good, exact="true")).json() == []


@case
async def an_import_gives_a_user_no_default_role(realm: RealRealm) -> None:
    """A create does: the import is given what the realm would have added."""
    _, body = await imported(realm, {"username": a_name()})
    (each,) = body["results"]
    user = await made(realm)

    async def defaults(of: str) -> int:
        roles = (await realm.ask("GET", f"{of}/role-mappings/realm")).json()
        return sum(role["name"].startswith("default-roles-") for role in roles)

    assert (await defaults(f"/users/{each['id']}"), await defaults(user)) == (0, 1)


# Rights


@case
async def manage_users_is_enough_for_users_and_their_profile(realm: RealRealm) -> None:
    token = (await realm.ask_token(USERS_ONLY, SECRET)).json()["access_token"]
    bearer = f"Bearer {token}"

    created = await realm.ask_as(bearer, method="POST", body={"username": a_name()})
    profile = await realm.ask_as(bearer, "/users/profile")

    assert created.status == 201
    assert "unmanagedAttributePolicy" in profile.json()


@case
async def manage_users_alone_reads_no_roles_and_no_required_actions(realm: RealRealm) -> None:
    token = (await realm.ask_token(USERS_ONLY, SECRET)).json()["access_token"]
    bearer = f"Bearer {token}"

    for path in ("/roles/gold", "/authentication/required-actions", "/clients"):
        assert (await realm.ask_as(bearer, path)).status == 403


@case
async def manage_users_alone_does_not_read_who_holds_which_role(realm: RealRealm) -> None:
    """`role-mappings` of anybody is an empty object."""
    token = (await realm.ask_token(USERS_ONLY, SECRET)).json()["access_token"]

    mappings = await realm.ask_as(f"Bearer {token}", f"{await made(realm)}/role-mappings")

    assert mappings.json() == {}
