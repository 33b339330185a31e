"""What Keycloak does with groups, realm roles, hashed passwords and sessions of users: one function a rule."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from consumer.delivery.opened import Hashed, credential_of
from producer_lib import PrehashedPassword
from tests.conformance.case import DONE, Case, a_name, a_password, made, seen
from tests.conformance.keycloak import CHILD, COMPOSITE, GROUP, MANAGERS, ROLE, WARDS, Realm, Told

CASES: list[Case] = []

NO_GROUP = (404, b'{"error":"Group not found"}')
NO_ROLE = (404, b'{"error":"Role not found"}')


def case(function: Case) -> Case:
    CASES.append(function)
    return function


# Groups


async def group_of(realm: Realm, path: str) -> dict[str, Any]:
    """What of a group is looked at."""
    answer = await realm.ask("GET", f"/group-by-path{path.replace(' ', '%20')}")
    assert answer.status == 200, answer
    shown = answer.json()
    return {name: shown.get(name) for name in ("id", "name", "path", "parentId", "realmRoles", "clientRoles")}


async def groups_of(realm: Realm, user: str) -> list[str]:
    answer = await realm.ask("GET", f"{user}/groups")
    assert answer.status == 200, answer
    return sorted(each["path"] for each in answer.json())


@case
async def a_group_is_found_by_its_path(realm: Realm) -> None:
    group, child = await group_of(realm, GROUP), await group_of(realm, CHILD)

    assert (group["path"], f"/{group['name']}", group["parentId"]) == (GROUP, GROUP, None)
    assert (group["realmRoles"], group["clientRoles"]) == ([], {})
    assert (child["path"], child["parentId"]) == (CHILD, group["id"])
    assert child["name"] == CHILD.rpartition("/")[2]


@case
async def a_group_shows_what_it_gives_of_the_realms_management(realm: Realm) -> None:
    assert (await group_of(realm, MANAGERS))["clientRoles"] == {"realm-management": ["manage-realm"]}


@case
async def a_group_is_found_whatever_the_case_and_says_how_it_is_written(realm: Realm) -> None:
    """Where Keycloak's database compares texts without their case, as MariaDB does."""
    answer = await realm.ask("GET", f"/group-by-path{GROUP.upper()}")

    assert (answer.status, answer.json()["path"]) == (200, GROUP)


@case
async def a_path_that_there_is_not_is_not_found(realm: Realm) -> None:
    for path in ("/nobody", f"{GROUP}/nobody", f"{CHILD}x".replace(" ", "%20")):
        answer = await realm.ask("GET", f"/group-by-path{path}")
        assert answer.short == (404, b'{"error":"Group path does not exist"}')
        assert answer.content_type == "application/json"


@case
async def a_path_leads_to_the_first_group_that_is_met(realm: Realm) -> None:
    """Of two groups that have it; and to none where the first name that is met has no such child."""
    assert (await group_of(realm, f"{WARDS}/east/1"))["name"] == "1"

    beyond = await realm.ask("GET", "/group-by-path/wards/north/day")
    assert beyond.short == (404, b'{"error":"Group path does not exist"}')


async def found(realm: Realm, part: str, **query: str) -> dict[str, dict[str, Any]]:
    """Groups of a list, by their names; each with its parent, and with what a path shows of its roles."""
    answer = await realm.ask("GET", part, briefRepresentation="false", first="0", max="100", **query)
    assert answer.status == 200, answer
    assert all(each["realmRoles"] == [] for each in answer.json())
    names = ("id", "path", "parentId", "clientRoles")
    return {each["name"]: {name: each.get(name) for name in names} for each in answer.json()}


@case
async def groups_are_found_by_a_part_of_their_names_wherever_they_are(realm: Realm) -> None:
    by_slash = await found(realm, "/groups", search="/", populateHierarchy="false")
    by_text = await found(realm, "/groups", search="st/1", populateHierarchy="false")
    managers = await found(realm, "/groups", search="anager", populateHierarchy="false")

    wards = (await group_of(realm, WARDS))["id"]
    assert {name: (each["path"], each["parentId"]) for name, each in by_slash.items()} == {
        "east/1": ("/wards/east/1", wards),
        "wards/north": ("/wards/north", None),
    }
    assert by_text == {"east/1": by_slash["east/1"]}
    assert managers["managers"]["clientRoles"] == {"realm-management": ["manage-realm"]}
    one = await realm.ask("GET", "/groups", search="/", populateHierarchy="false", max="1")
    assert len(one.json()) == 1


@case
async def children_are_found_by_their_name_and_by_more(realm: Realm) -> None:
    """Even an exact search takes % and _ for any text and letter."""
    wards = f"/groups/{(await group_of(realm, WARDS))['id']}/children"

    for asked, names in (("east", {"east"}), ("east/1", {"east/1"}), ("EAST", {"east"}), ("ast", set[str]())):
        assert (await found(realm, wards, search=asked, exact="true")).keys() == names
    assert (await found(realm, wards, search="e_st", exact="true")).keys() == {"e_st", "east"}
    assert (await found(realm, wards, search="e%1", exact="true")).keys() == {"east/1"}


@case
async def joining_and_leaving_may_be_repeated(realm: Realm) -> None:
    user = await made(realm)
    group, child = (await group_of(realm, GROUP))["id"], (await group_of(realm, CHILD))["id"]
    for joined in (group, group, child):
        answer = await realm.ask("PUT", f"{user}/groups/{joined}", {})
        assert (answer.short, answer.content_type) == (DONE, None)
    assert await groups_of(realm, user) == sorted([GROUP, CHILD])

    for _ in range(2):
        assert (await realm.ask("DELETE", f"{user}/groups/{group}")).short == DONE
        assert await groups_of(realm, user) == [CHILD]


@case
async def a_group_that_there_is_not_can_be_neither_joined_nor_left(realm: Realm) -> None:
    user = await made(realm)

    for method in ("PUT", "DELETE"):
        answer = await realm.ask(method, f"{user}/groups/{uuid4()}")
        assert answer.short == NO_GROUP
    assert (await realm.ask("GET", f"{user}/groups")).short == (200, b"[]")


@case
async def an_update_leaves_groups_and_roles_alone(realm: Realm) -> None:
    user = await made(realm)
    await realm.ask("PUT", f"{user}/groups/{(await group_of(realm, GROUP))['id']}", {})
    await realm.ask("POST", f"{user}/role-mappings/realm", [await role_of(realm, ROLE)])

    assert (await realm.ask("PUT", user, {"attributes": {"team": ["red"]}})).short == DONE

    assert await groups_of(realm, user) == [GROUP]
    assert ROLE in await roles_of(realm, user)


# Realm roles


async def role_of(realm: Realm, name: str) -> dict[str, Any]:
    """A role as it is named in a mapping."""
    answer = await realm.ask("GET", f"/roles/{name}")
    assert answer.status == 200, answer
    shown = answer.json()
    return {"id": shown["id"], "name": shown["name"]}


async def roles_of(realm: Realm, user: str) -> set[str]:
    """Those of a user beside what every user has."""
    answer = await realm.ask("GET", f"{user}/role-mappings/realm")
    assert answer.status == 200, answer
    return {each["name"] for each in answer.json() if not each["name"].startswith("default-roles-")}


@case
async def a_role_says_whether_it_is_composite(realm: Realm) -> None:
    for name, composite in ((ROLE, False), (COMPOSITE, True)):
        shown = (await realm.ask("GET", f"/roles/{name}")).json()
        assert (shown["name"], shown["composite"]) == (name, composite)


@case
async def a_role_that_there_is_not_is_not_found(realm: Realm) -> None:
    answer = await realm.ask("GET", f"/roles/{a_name()}")

    assert answer.short == (404, b'{"error":"Could not find role"}')
    assert answer.content_type == "application/json"


@case
async def granting_and_revoking_may_be_repeated(realm: Realm) -> None:
    user = await made(realm)
    role = await role_of(realm, ROLE)
    for method, held in (("POST", {ROLE}), ("DELETE", set[str]())):
        for _ in range(2):
            answer = await realm.ask(method, f"{user}/role-mappings/realm", [role])
            assert (answer.short, answer.content_type) == (DONE, None)
            assert await roles_of(realm, user) == held


@case
async def a_role_that_there_is_not_can_be_neither_granted_nor_revoked(realm: Realm) -> None:
    user = await made(realm)
    right = await role_of(realm, ROLE)

    for wrong in ({"id": str(uuid4()), "name": a_name()}, {"id": right["id"], "name": a_name()}):
        for method in ("POST", "DELETE"):
            answer = await realm.ask(method, f"{user}/role-mappings/realm", [wrong])
            assert answer.short == NO_ROLE
    assert await roles_of(realm, user) == set()


@case
async def nobody_has_groups_or_roles(realm: Realm) -> None:
    user = f"/users/{uuid4()}"
    group, role = await group_of(realm, GROUP), await role_of(realm, ROLE)
    answers: list[Told] = [
        await realm.ask("GET", f"{user}/groups"),
        await realm.ask("PUT", f"{user}/groups/{group['id']}", {}),
        await realm.ask("GET", f"{user}/role-mappings/realm"),
        await realm.ask("POST", f"{user}/role-mappings/realm", [role]),
        await realm.ask("POST", f"{user}/logout", {}),
        await realm.ask("GET", f"{user}/sessions"),
    ]

    assert [answer.short for answer in answers] == [(404, b'{"error":"User not found"}')] * 6


@case
async def the_realm_says_which_actions_it_may_require(realm: Realm) -> None:
    answer = await realm.ask("GET", "/authentication/required-actions")

    assert answer.status == 200
    known = {each["alias"] for each in answer.json()}
    assert known >= {"CONFIGURE_TOTP", "UPDATE_PASSWORD", "UPDATE_PROFILE", "VERIFY_EMAIL"}
    assert "NOT_THERE" not in known


# Passwords that were hashed by somebody else


FIRST, SECOND = "hashed elsewhere 1", "hashed elsewhere 2"
CHEAP = {"memory": 8192, "iterations": 1}


async def hashed(password: str, *, temporary: bool = False) -> dict[str, Any]:
    """As consumer/delivery hands it over."""
    return credential_of(Hashed(await PrehashedPassword.of(password, **CHEAP)), temporary=temporary)


async def somebody(realm: Realm, **fields: Any) -> tuple[str, str]:
    """Path and name of a user who has all that Keycloak asks of one who logs in."""
    name = a_name()
    profile = {"email": f"{name}@example.org", "firstName": "Ada", "lastName": "Lovelace"}
    return await made(realm, username=name, **profile, **fields), name


async def credentials_of(realm: Realm, user: str) -> list[str]:
    return [each["type"] for each in (await realm.ask("GET", f"{user}/credentials")).json()]


@case
async def create_takes_a_hash_along(realm: Realm) -> None:
    user, name = await somebody(realm, credentials=[await hashed(FIRST)])

    assert await credentials_of(realm, user) == ["password"]
    assert await realm.logs_in(name, FIRST)
    assert not await realm.logs_in(name, SECOND)


@case
async def a_hash_replaces_the_password_and_nothing_else(realm: Realm) -> None:
    user, name = await somebody(realm, credentials=[a_password(FIRST)])
    before = await seen(realm, user)
    date = (await realm.ask("GET", f"{user}/credentials")).json()[0]["createdDate"]
    credential = await hashed(SECOND)

    # The history is not asked, but filled: each time with what was the password until then.
    for number in range(1, 4):
        assert (await realm.ask("PUT", user, {"credentials": [credential]})).short == DONE
        assert await credentials_of(realm, user) == ["password", *["password-history"] * min(number, 2)]

    assert (await realm.ask("GET", f"{user}/credentials")).json()[0]["createdDate"] >= date
    assert await seen(realm, user) == before
    assert await realm.logs_in(name, SECOND)
    assert not await realm.logs_in(name, FIRST)


@case
async def a_temporary_hash_asks_for_another_password_and_a_lasting_one_takes_nothing_back(
    realm: Realm,
) -> None:
    user, _ = await somebody(realm)
    temporary, lasting = await hashed(FIRST, temporary=True), await hashed(SECOND)

    assert (await realm.ask("PUT", user, {"credentials": [temporary]})).short == DONE
    assert (await seen(realm, user))["requiredActions"] == ["UPDATE_PASSWORD"]
    assert (await realm.ask("PUT", user, {"credentials": [lasting]})).short == DONE
    assert (await seen(realm, user))["requiredActions"] == ["UPDATE_PASSWORD"]
    put = await realm.ask("PUT", user, {"credentials": [lasting], "requiredActions": []})
    assert put.short == DONE
    assert (await seen(realm, user))["requiredActions"] == []


@case
async def a_password_in_clear_may_follow_a_hash_of_the_same(realm: Realm) -> None:
    user, name = await somebody(realm, credentials=[await hashed(FIRST)])

    again = await realm.ask("PUT", f"{user}/reset-password", a_password(FIRST))
    other = await realm.ask("PUT", f"{user}/reset-password", a_password(SECOND))

    # The history compares hashes of every kind with what is asked for.
    assert again.status == 400
    assert again.json()["error"] == "invalidPasswordHistoryMessage"
    assert other.short == DONE
    assert await realm.logs_in(name, SECOND)


# Sessions


@case
async def sessions_end_with_a_logout_by_us(realm: Realm) -> None:
    user, name = await somebody(realm, credentials=[a_password(FIRST)])
    assert (await realm.ask("GET", f"{user}/sessions")).short == (200, b"[]")
    for _ in range(2):
        assert await realm.logs_in(name, FIRST)

    begun = (await realm.ask("GET", f"{user}/sessions")).json()
    assert len({each["id"] for each in begun}) == 2
    assert all(isinstance(each["start"], int) for each in begun)

    for _ in range(2):
        assert (await realm.ask("POST", f"{user}/logout", {})).short == DONE
        assert (await realm.ask("GET", f"{user}/sessions")).short == (200, b"[]")


@case
async def sessions_outlive_an_update_and_a_password(realm: Realm) -> None:
    """So that ending them is a request of its own."""
    user, name = await somebody(realm, credentials=[a_password(FIRST)])
    assert await realm.logs_in(name, FIRST)

    assert (await realm.ask("PUT", user, {"firstName": "Bea"})).short == DONE
    assert (await realm.ask("PUT", f"{user}/reset-password", a_password(SECOND))).short == DONE

    assert len((await realm.ask("GET", f"{user}/sessions")).json()) == 1
