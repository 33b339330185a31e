"""What Keycloak does when users change something about themselves, and when others bar or delete them: one function a rule.

The guesses behind the simulation's other writers (tests/simulation/others.py).
"""

from __future__ import annotations

from typing import Any

from tests.conformance.case import DONE, Case, a_name, a_password, made, seen
from tests.conformance.keycloak import OWN, Realm

CASES: list[Case] = []

GIVEN, CHOSEN = "given by others 1", "chosen by oneself 2"


def case(function: Case) -> Case:
    CASES.append(function)
    return function


async def somebody(realm: Realm, **fields: Any) -> tuple[str, str]:
    """Path and name of a user with a password who has all that Keycloak asks of one who logs in."""
    name = a_name()
    profile = {"email": f"{name}@example.org", "firstName": "Ada", "lastName": "Lovelace"}
    password = [a_password(GIVEN)]
    return await made(realm, username=name, credentials=password, **profile, **fields), name


async def password_date(realm: Realm, user: str) -> int:
    """When the password was set, by Keycloak's clock."""
    credentials = (await realm.ask("GET", f"{user}/credentials")).json()
    (date,) = [each["createdDate"] for each in credentials if each["type"] == "password"]
    assert isinstance(date, int)
    return date


@case
async def a_password_of_ones_own_has_a_date_of_its_own(realm: Realm) -> None:
    user, name = await somebody(realm)
    before, profile = await password_date(realm, user), await seen(realm, user)

    await realm.choose_password(name, GIVEN, CHOSEN)

    assert await realm.logs_in(name, CHOSEN)
    assert not await realm.logs_in(name, GIVEN)
    assert await password_date(realm, user) > before
    assert await seen(realm, user) == profile


@case
async def a_password_of_ones_own_is_asked_for_after_all_else_and_then_no_longer(realm: Realm) -> None:
    user, name = await somebody(realm, requiredActions=["UPDATE_PASSWORD", "UPDATE_PROFILE"])

    await realm.choose_password(name, GIVEN, CHOSEN)
    assert (await seen(realm, user))["requiredActions"] == ["UPDATE_PASSWORD", "UPDATE_PROFILE"]
    await realm.do_what_is_required(name, GIVEN, "UPDATE_PROFILE")
    assert (await seen(realm, user))["requiredActions"] == ["UPDATE_PASSWORD"]
    await realm.choose_password(name, GIVEN, CHOSEN)

    assert (await seen(realm, user))["requiredActions"] == []
    assert await realm.logs_in(name, CHOSEN)


@case
async def who_is_barred_changes_nothing(realm: Realm) -> None:
    user, name = await somebody(realm)
    assert (await realm.ask("PUT", user, {"enabled": False})).short == DONE
    before = await password_date(realm, user)

    await realm.choose_password(name, GIVEN, CHOSEN)

    assert not await realm.logs_in(name, GIVEN)
    assert await password_date(realm, user) == before
    assert (await realm.ask("PUT", user, {"enabled": True})).short == DONE
    assert await realm.logs_in(name, GIVEN)


@case
async def barring_leaves_everything_else(realm: Realm) -> None:
    user, _ = await somebody(realm, requiredActions=["UPDATE_PROFILE"], attributes={"team": ["red"]})
    before, date = await seen(realm, user), await password_date(realm, user)

    assert (await realm.ask("PUT", user, {"enabled": False})).short == DONE

    assert await seen(realm, user) == {**before, "enabled": False}
    assert await password_date(realm, user) == date


@case
async def what_was_required_is_required_no_longer_once_it_is_done(realm: Realm) -> None:
    user, name = await somebody(realm, requiredActions=["UPDATE_PROFILE", "VERIFY_EMAIL"])
    before = await seen(realm, user)

    await realm.do_what_is_required(name, GIVEN, "UPDATE_PROFILE")

    assert await seen(realm, user) == {**before, "requiredActions": ["VERIFY_EMAIL"]}


@case
async def an_address_is_confirmed_by_its_link_whether_that_was_required_or_not(realm: Realm) -> None:
    for required, left in ((["VERIFY_EMAIL", "UPDATE_PASSWORD"], ["UPDATE_PASSWORD"]), ([], [])):
        user, name = await somebody(realm, requiredActions=required)
        before = await seen(realm, user)

        await realm.confirm_address(name, GIVEN)

        assert await seen(realm, user) == {**before, "emailVerified": True, "requiredActions": left}


@case
async def a_name_of_ones_own_changes_nothing_else(realm: Realm) -> None:
    user, name = await somebody(realm, emailVerified=True, attributes={"team": ["red"]})
    before, date = await seen(realm, user), await password_date(realm, user)

    await realm.edit_profile(name, GIVEN, first_name="Bea")

    assert await seen(realm, user) == {**before, "firstName": "Bea"}
    assert await password_date(realm, user) == date


@case
async def an_attribute_of_ones_own_changes_nothing_else(realm: Realm) -> None:
    user, name = await somebody(realm, attributes={"team": ["red"]})
    before = await seen(realm, user)

    await realm.edit_profile(name, GIVEN, **{OWN: "bee"})
    assert await seen(realm, user) == {**before, "attributes": {"team": ["red"], OWN: ["bee"]}}

    await realm.edit_profile(name, GIVEN, **{OWN: ""})
    assert await seen(realm, user) == before


@case
async def a_user_says_when_they_were_made_and_keeps_to_it(realm: Realm) -> None:
    first, name = await somebody(realm)
    second, _ = await somebody(realm)
    made_at = (await realm.ask("GET", first)).json()["createdTimestamp"]

    assert (await realm.ask("GET", second)).json()["createdTimestamp"] > made_at
    assert (await realm.ask("PUT", first, {"firstName": "Bea", "createdTimestamp": 5})).short == DONE
    assert (await realm.ask("GET", first)).json()["createdTimestamp"] == made_at
    (found,) = (await realm.ask("GET", "/users", username=name, exact="true")).json()
    assert found["createdTimestamp"] == made_at


@case
async def who_makes_a_user_may_say_when_that_was(realm: Realm) -> None:
    user, _ = await somebody(realm, createdTimestamp=5)

    assert (await realm.ask("GET", user)).json()["createdTimestamp"] == 5
