"""What Keycloak's Admin API does with users, as far as consumer/delivery builds on it: one function a rule.

Each holds for the real server in every version tested, and for the fake one of the simulation.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tests.conformance.case import DONE, Case, a_name, a_password, made, seen
from tests.conformance.keycloak import Realm, Told

CASES: list[Case] = []

TOO_SHORT = (
    b'{"error":"invalidPasswordMinLengthMessage","error_description":"Invalid password: minimum length 8."}'
)
OF_THE_HISTORY = (
    b'{"error":"invalidPasswordHistoryMessage",'
    b'"error_description":"Invalid password: must not be equal to any of last 3 passwords."}'
)

NOT_FOUND = (404, b'{"error":"User not found"}')
UNRECOGNISED = 'Invalid json representation for UserRepresentation. Unrecognized field "name" at line '


def case(function: Case) -> Case:
    CASES.append(function)
    return function


async def refused(realm: Realm, fields: dict[str, Any], status: int, body: bytes) -> None:
    """Nothing of a create that is refused is left."""
    name = fields.get("username", a_name())
    answer = await realm.ask("POST", "/users", {"username": name, "enabled": True, **fields})

    assert answer.short == (status, body)
    assert answer.content_type == "application/json"
    if isinstance(name, str):
        assert (await realm.ask("GET", "/users", username=name, exact="true")).json() == []


# Create


@case
async def create_says_where_the_user_is(realm: Realm) -> None:
    answer = await realm.ask("POST", "/users", {"username": a_name()})

    assert (answer.short, answer.content_type) == ((201, b""), None)
    assert answer.location is not None
    before, _, user_id = answer.location.rpartition("/")
    assert before.endswith(f"/admin/realms/{realm.name}/users")
    assert (await realm.ask("GET", f"/users/{user_id}")).json()["id"] == user_id


@case
async def create_does_not_take_an_id_from_us(realm: Realm) -> None:
    ours = str(uuid4())
    answer = await realm.ask("POST", "/users", {"username": a_name(), "id": ours})

    assert answer.status == 201
    assert answer.location is not None
    assert not answer.location.endswith(ours)


@case
async def create_stores_names_and_addresses_in_lower_case(realm: Realm) -> None:
    name = a_name()
    user = await made(realm, username=name.upper(), email=f"{name.upper()}@Example.ORG")

    shown = await seen(realm, user)
    assert (shown["username"], shown["email"]) == (name, f"{name}@example.org")


@case
async def create_without_enabled_makes_a_disabled_user(realm: Realm) -> None:
    answer = await realm.ask("POST", "/users", {"username": a_name()})

    assert answer.location is not None
    shown = await seen(realm, "/users/" + answer.location.rpartition("/")[2])
    assert shown["enabled"] is False
    assert shown["emailVerified"] is False
    assert shown["requiredActions"] == []
    assert not shown.keys() & {"email", "firstName", "lastName", "attributes"}


@case
async def create_of_a_name_that_is_there_is_a_conflict(realm: Realm) -> None:
    name = a_name()
    await made(realm, username=name)

    for again in (name, name.upper()):
        answer = await realm.ask("POST", "/users", {"username": again})
        assert answer.short == (409, b'{"errorMessage":"User exists with same username"}')
        assert answer.content_type == "application/json"


@case
async def create_with_somebodys_address_is_a_conflict(realm: Realm) -> None:
    address = f"{a_name()}@example.org"
    await made(realm, email=address)

    for again in (address, address.upper()):
        answer = await realm.ask("POST", "/users", {"username": a_name(), "email": again})
        assert answer.short == (409, b'{"errorMessage":"User exists with same email"}')


@case
async def create_repeated_word_for_word_complains_about_the_address(realm: Realm) -> None:
    name = a_name()
    whole = {"username": name, "email": f"{name}@example.org"}
    await made(realm, **whole)

    answer = await realm.ask("POST", "/users", whole)
    assert answer.short == (409, b'{"errorMessage":"User exists with same email"}')


SAME_EMAIL = (409, b'{"errorMessage":"User exists with same email"}')
SAME_NAME = (409, b'{"errorMessage":"User exists with same username"}')
SAME_EITHER = (409, b'{"errorMessage":"User exists with same username or email"}')
DUPLICATE = (409, b'{"error":"conflict","error_description":"Duplicate resource error"}')


@case
async def a_name_may_be_nobodys_address_nor_an_address_a_name(realm: Realm) -> None:
    named, addressed = f"{a_name()}@example.org", f"{a_name()}@example.org"
    await made(realm, username=named)
    await made(realm, email=addressed)
    other = await made(realm)

    for body, answered in (
        ({"username": addressed}, SAME_NAME),
        ({"username": a_name(), "email": named}, SAME_EMAIL),
        ({"username": addressed, "email": named}, SAME_EMAIL),
    ):
        assert (await realm.ask("POST", "/users", body)).short == answered
    assert (await realm.ask("PUT", other, {"email": named})).short == SAME_EMAIL
    own = await made(realm, username=f"own-{named}", email=f"own-{named}")
    assert (await realm.ask("PUT", own, {"email": f"own-{named}"})).short == DONE


@case
async def what_differs_in_accents_is_the_same(realm: Realm) -> None:
    """Where Keycloak's database compares texts without them, as MariaDB does."""
    name = a_name()
    # In the domain: before the @, a realm that sends mail takes no accents.
    user = await made(realm, username=f"{name}-jose", email=f"{name}@jose.example.org")
    other = await made(realm)
    accented, address = f"{name}-jos\u00e9", f"{name}@jos\u00e9.example.org"

    assert (await realm.ask("POST", "/users", {"username": accented})).short == SAME_EITHER
    answer = await realm.ask("POST", "/users", {"username": a_name(), "email": address})
    # Keycloak 26.4 tells it otherwise than 26.7.
    assert answer.short in {DUPLICATE, SAME_EITHER}, answer
    assert (await realm.ask("PUT", other, {"email": address})).short == SAME_EITHER
    for query in ({"username": accented}, {"email": address}):
        found = (await realm.ask("GET", "/users", exact="true", briefRepresentation="true", **query)).json()
        assert [f"/users/{each['id']}" for each in found] == [user]


@case
async def create_without_a_name_is_refused(realm: Realm) -> None:
    for body in ({}, {"username": ""}, {"username": " "}):
        answer = await realm.ask("POST", "/users", body)
        assert answer.short == (400, b'{"errorMessage":"User name is missing"}')


@case
async def create_refuses_a_broken_address(realm: Realm) -> None:
    body = b'{"field":"email","errorMessage":"error-invalid-email","params":["email","nobody"]}'
    await refused(realm, {"email": "nobody"}, 400, body)


@case
async def create_refuses_a_name_that_is_too_short(realm: Realm) -> None:
    body = b'{"field":"username","errorMessage":"error-invalid-length","params":["username",3,255]}'
    await refused(realm, {"username": "al"}, 400, body)


@case
async def create_refuses_forbidden_characters(realm: Realm) -> None:
    name = f"<{a_name()}>"
    body = b'{"field":"username","errorMessage":"error-username-invalid-character","params":["username"]}'
    await refused(realm, {"username": name}, 400, body)


@case
async def create_refuses_several_things_at_once(realm: Realm) -> None:
    body = (
        b'{"errors":['
        b'{"field":"username","errorMessage":"error-invalid-length","params":["username",3,255]},'
        b'{"field":"email","errorMessage":"error-invalid-email","params":["email","nobody"]}]}'
    )
    await refused(realm, {"username": "al", "email": "nobody"}, 400, body)


@case
async def create_refuses_a_field_that_keycloak_does_not_know(realm: Realm) -> None:
    answer = await realm.ask("POST", "/users", {"username": a_name(), "name": "Alice"})

    assert answer.status == 400
    assert answer.json()["error"].startswith(UNRECOGNISED)


@case
async def create_refuses_what_is_no_json(realm: Realm) -> None:
    answer = await realm.ask("POST", "/users", b'{"username":')

    body = b'{"error":"invalid_request","error_description":"Cannot parse the JSON"}'
    assert answer.short == (400, body)


@case
async def create_takes_a_password_along(realm: Realm) -> None:
    credential = {"type": "password", "value": "long-enough-1", "temporary": True}
    user = await made(realm, credentials=[credential])

    assert (await seen(realm, user))["requiredActions"] == ["UPDATE_PASSWORD"]
    assert len((await realm.ask("GET", f"{user}/credentials")).json()) == 1


@case
async def create_with_a_weak_password_leaves_nothing(realm: Realm) -> None:
    credential = {"type": "password", "value": "short", "temporary": False}
    await refused(realm, {"credentials": [credential]}, 400, TOO_SHORT)


# Look


@case
async def search_is_exact_whatever_the_case(realm: Realm) -> None:
    name = a_name()
    user = await made(realm, username=name, firstName="A")
    await made(realm, username=name + "-more")

    for asked in (name, name.upper()):
        answer = await realm.ask(
            "GET", "/users", username=asked, exact="true", briefRepresentation="true", max="2"
        )
        (found,) = answer.json()
        assert answer.status == 200
        assert answer.content_type is not None
        assert answer.content_type.startswith("application/json")
        assert (f"/users/{found['id']}", found["username"], found["firstName"]) == (user, name, "A")
        assert "attributes" not in found


@case
async def search_for_nobody_finds_nobody(realm: Realm) -> None:
    answer = await realm.ask("GET", "/users", username="<nobody at all>", exact="true")

    assert answer.short == (200, b"[]")


@case
async def search_without_exact_finds_parts(realm: Realm) -> None:
    name = a_name()
    await made(realm, username=name + "-a")
    await made(realm, username=name + "-b")

    found = (await realm.ask("GET", "/users", username=name)).json()
    assert sorted(each["username"] for each in found) == [name + "-a", name + "-b"]
    assert len((await realm.ask("GET", "/users", username=name, max="1")).json()) == 1


@case
async def search_by_address_is_exact_whatever_the_case(realm: Realm) -> None:
    name = a_name()
    await made(realm, username=name, email=f"{name}@example.org")

    for address, holders in ((f"{name.upper()}@Example.org", [name]), (f"{name}@example", [])):
        answer = await realm.ask(
            "GET", "/users", email=address, exact="true", briefRepresentation="true", max="1"
        )
        assert [each["username"] for each in answer.json()] == holders


@case
async def read_shows_the_whole_user(realm: Realm) -> None:
    name = a_name()
    user = await made(
        realm,
        username=name,
        email=f"{name}@example.org",
        emailVerified=True,
        firstName="Alice",
        lastName="Smith",
        attributes={"team": ["blue"]},
        requiredActions=["VERIFY_EMAIL"],
    )

    assert await seen(realm, user) == {
        "username": name,
        "email": f"{name}@example.org",
        "emailVerified": True,
        "firstName": "Alice",
        "lastName": "Smith",
        "enabled": True,
        "attributes": {"team": ["blue"]},
        "requiredActions": ["VERIFY_EMAIL"],
    }


@case
async def nobody_is_not_found_anywhere(realm: Realm) -> None:
    user = f"/users/{uuid4()}"
    answers: list[Told] = [
        await realm.ask("GET", user),
        await realm.ask("PUT", user, {"firstName": "B"}),
        await realm.ask("DELETE", user),
        await realm.ask("GET", f"{user}/credentials"),
        await realm.ask(
            "PUT",
            f"{user}/reset-password",
            {"type": "password", "value": "long-enough-1", "temporary": False},
        ),
    ]

    assert [answer.short for answer in answers] == [NOT_FOUND] * 5
    assert {answer.content_type for answer in answers} == {"application/json"}


@case
async def an_unknown_realm_is_not_found(realm: Realm) -> None:
    for path in ("/no-such-realm/users", f"/no-such-realm/users/{uuid4()}"):
        answer = await realm.ask_elsewhere(path)
        assert answer.short == (404, b'{"error":"Realm not found."}')


@case
async def what_there_is_not_is_not_found(realm: Realm) -> None:
    user = await made(realm)

    assert (await realm.ask("GET", f"{user}/nothing")).short == (404, b'{"error":"HTTP 404 Not Found"}')
    assert (await realm.ask("PATCH", user, {})).short == (405, b'{"error":"HTTP 405 Method Not Allowed"}')


# Update


async def whole(realm: Realm) -> tuple[str, dict[str, Any]]:
    name = a_name()
    fields = {
        "username": name,
        "email": f"{name}@example.org",
        "firstName": "Alice",
        "lastName": "Smith",
        "attributes": {"team": ["blue"], "floor": ["3"]},
    }
    user = await made(realm, **fields)
    return user, await seen(realm, user)


@case
async def update_keeps_what_it_does_not_name(realm: Realm) -> None:
    user, before = await whole(realm)

    answer = await realm.ask("PUT", user, {"firstName": "Bea"})

    assert (answer.short, answer.content_type) == (DONE, None)
    assert await seen(realm, user) == {**before, "firstName": "Bea"}


@case
async def update_with_attributes_clears_the_rest_of_the_profile(realm: Realm) -> None:
    user, before = await whole(realm)

    assert (await realm.ask("PUT", user, {"attributes": {"team": ["red"]}})).short == DONE

    after = await seen(realm, user)
    assert after["attributes"] == {"team": ["red"]}
    assert not after.keys() & {"email", "firstName", "lastName"}
    assert (after["username"], after["enabled"]) == (before["username"], True)


@case
async def update_with_no_attributes_at_all_clears_the_rest_too(realm: Realm) -> None:
    user, _ = await whole(realm)

    assert (await realm.ask("PUT", user, {"attributes": {}})).short == DONE

    assert not (await seen(realm, user)).keys() & {"email", "firstName", "lastName", "attributes"}


@case
async def update_with_null_changes_nothing(realm: Realm) -> None:
    user, before = await whole(realm)
    nothing = dict.fromkeys(
        ("email", "firstName", "lastName", "enabled", "emailVerified", "attributes", "requiredActions")
    )

    assert (await realm.ask("PUT", user, nothing)).short == DONE

    assert await seen(realm, user) == before


@case
async def update_with_empty_text_clears(realm: Realm) -> None:
    user, before = await whole(realm)

    assert (await realm.ask("PUT", user, {"email": "", "firstName": ""})).short == DONE

    kept = {name: value for name, value in before.items() if name not in {"email", "firstName"}}
    assert await seen(realm, user) == kept


@case
async def update_of_an_address_leaves_it_verified(realm: Realm) -> None:
    user = await made(realm, email=f"{a_name()}@example.org", emailVerified=True)

    assert (await realm.ask("PUT", user, {"email": f"{a_name()}@example.org"})).short == DONE

    assert (await seen(realm, user))["emailVerified"] is True


@case
async def update_to_somebodys_address_is_a_conflict(realm: Realm) -> None:
    address = f"{a_name()}@example.org"
    await made(realm, email=address)
    user, before = await whole(realm)

    answer = await realm.ask("PUT", user, {"email": address, "firstName": "Bea"})

    assert answer.short == (409, b'{"errorMessage":"User exists with same email"}')
    assert answer.content_type == "application/json"
    assert await seen(realm, user) == before


@case
async def update_refuses_a_broken_address(realm: Realm) -> None:
    user, before = await whole(realm)

    answer = await realm.ask("PUT", user, {"email": "nobody"})

    body = b'{"field":"email","errorMessage":"error-invalid-email","params":["email","nobody"]}'
    assert answer.short == (400, body)
    assert await seen(realm, user) == before


@case
async def update_refuses_a_rename(realm: Realm) -> None:
    user, before = await whole(realm)

    answer = await realm.ask("PUT", user, {"username": a_name()})

    body = b'{"field":"username","errorMessage":"error-user-attribute-read-only","params":["username"]}'
    assert answer.short == (400, body)
    assert await seen(realm, user) == before


@case
async def update_takes_the_same_name_in_any_case(realm: Realm) -> None:
    user, before = await whole(realm)

    for name in (before["username"], before["username"].upper()):
        assert (await realm.ask("PUT", user, {"username": name})).short == DONE

    assert await seen(realm, user) == before


@case
async def update_refuses_a_field_that_keycloak_does_not_know(realm: Realm) -> None:
    user, _ = await whole(realm)

    answer = await realm.ask("PUT", user, {"name": "Alice"})

    assert answer.status == 400
    assert answer.json()["error"].startswith(UNRECOGNISED)


@case
async def update_drops_required_actions_that_there_are_not(realm: Realm) -> None:
    user = await made(realm)

    assert (await realm.ask("PUT", user, {"requiredActions": ["VERIFY_EMAIL", "NOT_THERE"]})).short == DONE

    assert (await seen(realm, user))["requiredActions"] == ["VERIFY_EMAIL"]


@case
async def update_replaces_required_actions(realm: Realm) -> None:
    user = await made(realm, requiredActions=["VERIFY_EMAIL"])

    assert (await realm.ask("PUT", user, {"requiredActions": ["UPDATE_PROFILE"]})).short == DONE
    assert (await seen(realm, user))["requiredActions"] == ["UPDATE_PROFILE"]

    assert (await realm.ask("PUT", user, {"requiredActions": []})).short == DONE
    assert (await seen(realm, user))["requiredActions"] == []


# Passwords


@case
async def a_password_is_dated(realm: Realm) -> None:
    user = await made(realm)
    assert (await realm.ask("GET", f"{user}/credentials")).short == (200, b"[]")
    dates: list[int] = []
    for number in range(5):
        answer = await realm.ask("PUT", f"{user}/reset-password", a_password(f"long-enough-{number}"))
        assert (answer.short, answer.content_type) == (DONE, None)
        present, *former = (await realm.ask("GET", f"{user}/credentials")).json()
        # With the present one they are the three of the policy.
        assert present["type"] == "password"
        assert [each["type"] for each in former] == ["password-history"] * min(number, 2)
        assert {each["createdDate"] for each in former} == set(dates[-2:])
        dates.append(present["createdDate"])

    assert dates == sorted(set(dates))


@case
async def a_temporary_password_asks_for_another_and_a_lasting_one_does_not(realm: Realm) -> None:
    user = await made(realm)

    await realm.ask("PUT", f"{user}/reset-password", a_password("long-enough-1", temporary=True))
    assert (await seen(realm, user))["requiredActions"] == ["UPDATE_PASSWORD"]

    await realm.ask("PUT", f"{user}/reset-password", a_password("long-enough-2"))
    assert (await seen(realm, user))["requiredActions"] == []


@case
async def a_weak_password_is_refused(realm: Realm) -> None:
    user = await made(realm)

    answer = await realm.ask("PUT", f"{user}/reset-password", a_password("short"))

    assert answer.short == (400, TOO_SHORT)
    assert answer.content_type == "application/json"
    assert (await realm.ask("GET", f"{user}/credentials")).json() == []


@case
async def a_password_of_the_history_is_refused(realm: Realm) -> None:
    user = await made(realm)
    for number in range(4):
        answer = await realm.ask("PUT", f"{user}/reset-password", a_password(f"long-enough-{number}"))
        assert answer.short == DONE

    for number in (3, 2, 1):
        answer = await realm.ask("PUT", f"{user}/reset-password", a_password(f"long-enough-{number}"))
        assert answer.short == (400, OF_THE_HISTORY)
    answer = await realm.ask("PUT", f"{user}/reset-password", a_password("long-enough-0"))
    assert answer.short == DONE


@case
async def no_password_is_refused(realm: Realm) -> None:
    user = await made(realm)

    missing = await realm.ask("PUT", f"{user}/reset-password", a_password(None))
    blank = await realm.ask("PUT", f"{user}/reset-password", a_password(" "))

    assert missing.short == (400, b'{"error":"No password provided"}')
    assert blank.short == (400, b'{"error":"Empty password not allowed"}')


# Delete


@case
async def a_deleted_user_is_gone(realm: Realm) -> None:
    name = a_name()
    user = await made(realm, username=name)

    answer = await realm.ask("DELETE", user)

    assert (answer.short, answer.content_type) == (DONE, None)
    assert (await realm.ask("DELETE", user)).short == NOT_FOUND
    assert (await realm.ask("GET", user)).short == NOT_FOUND
    assert (await realm.ask("GET", "/users", username=name, exact="true")).short == (200, b"[]")


@case
async def who_comes_again_has_another_id(realm: Realm) -> None:
    name = a_name()
    first = await made(realm, username=name, email=f"{name}@example.org")
    await realm.ask("DELETE", first)

    assert await made(realm, username=name, email=f"{name}@example.org") != first


# What the realm keeps


@case
async def the_profile_says_what_is_declared_and_what_becomes_of_the_rest(realm: Realm) -> None:
    answer = await realm.ask("GET", "/users/profile")

    shown = answer.json()
    assert shown["unmanagedAttributePolicy"] == "ADMIN_EDIT"
    editors = {each["name"]: each["permissions"]["edit"] for each in shown["attributes"]}
    assert editors.keys() >= {"username", "email", "firstName", "lastName"}
    assert all("admin" in each for each in editors.values())
