"""Users whose stored profile breaks a rule that their realm got later: whose fault a refusal is, and what is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from consumer.delivery.advice import ADVICE
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.known_user import KnownUser
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Delivered, Outcome, Reason
from consumer.delivery.passwords import KeyRing
from consumer.delivery.representation import written_out
from tests.integration.delivery.conftest import (
    LOGIN_CLIENT,
    OWN_REALM_CLIENT,
    OWN_REALM_SECRET,
    Observer,
    Person,
    Workbench,
)
from tests.integration.delivery.test_prehashed_passwords import NAMES, hashed
from tests.integration.support.ruled_realm import RuledRealm, ruled_realm

PASSWORD, NEW = "the first password", "the second password"

REQUIRED = {"name": "phone", "required": {}}
PATTERN = {
    "name": "city",
    "validations": {"pattern": {"pattern": "^[a-z]+$", "error-message": "Small letters"}},
}
SHORTER = {"name": "city", "validations": {"length": {"min": 1, "max": 3}}}
OPTIONS = {"name": "city", "validations": {"options": {"options": ["x", "y"]}}}


@pytest.fixture(scope="module")
async def realm(observer: Observer) -> AsyncIterator[RuledRealm]:
    async with ruled_realm(observer) as made:
        yield made


@pytest.fixture
async def person(observer: Observer, keys: KeyRing, realm: RuledRealm) -> AsyncIterator[Person]:
    """Somebody with an address, attributes, a password and a session, in a realm without further rules."""
    keycloak = Keycloak(
        url=observer.endpoints.keycloak_url,
        realms=[realm.name],
        client_id=OWN_REALM_CLIENT,
        client_secret=OWN_REALM_SECRET,
    )
    try:
        delivery = Delivery(keycloak=keycloak, keys=keys)
        someone = Workbench(realm.name, LOGIN_CLIENT, keys, keycloak, delivery, observer).person()
        await realm.rule()
        await someone.apply(
            "user_create",
            {"email": someone.email, **NAMES, "attributes": {"city": ["Old Town"], "n": ["1"]}},
            password=PASSWORD,
        )
        assert await someone.logs_in(PASSWORD)
        yield someone
    finally:
        await keycloak.aclose()


async def say(person: Person, kind: str, data: dict[str, Any], **more: Any) -> Outcome:
    return await person.deliver(person.change(kind, dict(written_out(data)), **more))


def assert_spared(outcome: Outcome, *fields: str) -> None:
    """It waits, is charged to nobody, and says whose fault what is."""
    assert isinstance(outcome, Defer), outcome
    assert outcome.reason is Reason.PROFILE_BROKEN
    assert outcome.failure.blame is Blame.USER
    assert not outcome.failure.ambiguous
    assert not outcome.failure.partial
    assert sorted(outcome.failure.fields) == sorted(fields)
    assert all(field in outcome.failure.detail for field in fields)
    assert "stored profile" in outcome.failure.detail


@pytest.mark.parametrize(
    ("rules", "fields"),
    [
        pytest.param((REQUIRED,), ("phone",), id="newly required"),
        pytest.param((PATTERN,), ("city",), id="a pattern in the realm's own words"),
        pytest.param((SHORTER,), ("city",), id="shorter"),
        pytest.param((OPTIONS,), ("city",), id="other options"),
        pytest.param((REQUIRED, PATTERN), ("city", "phone"), id="two at once"),
    ],
)
async def test_a_leaver_is_logged_out_and_barred_when_the_realm_is_repaired(
    realm: RuledRealm, person: Person, rules: tuple[dict[str, Any], ...], fields: tuple[str, ...]
) -> None:
    await realm.rule(*rules)
    username = person.username.lower()

    first = await say(person, "user_delete", {"mode": "disable", "end_sessions": True})

    assert_spared(first, *fields)
    assert await realm.sessions(username) == 0
    # They may log in again before it can be done; the next try logs them out again.
    await realm.rule()
    assert await person.logs_in(PASSWORD)
    await realm.rule(*rules)
    change = person.change("user_delete", {"mode": "disable", "end_sessions": True})
    again = await person.deliver(replace(change, last_reason=first.reason))
    assert_spared(again, *fields)
    assert await realm.sessions(username) == 0

    await realm.rule()
    assert isinstance(await say(person, "user_delete", {"mode": "disable", "end_sessions": True}), Delivered)
    assert not (await person.there())["enabled"]
    assert not await person.logs_in(PASSWORD)


@pytest.mark.parametrize(
    "data",
    [
        {"enabled": False, "end_sessions": True},
        {"email": "other@example.org", "end_sessions": True},
        {"first_name": "Augusta", "end_sessions": True},
        {"attributes": {"n": ["2"]}, "end_sessions": True},
        {"clear": ["email"], "end_sessions": True},
        {"required_actions": ["VERIFY_EMAIL"], "end_sessions": True},
    ],
    ids=lambda data: next(iter(data)),
)
async def test_what_an_event_does_not_write_is_not_its_fault(
    realm: RuledRealm, person: Person, data: dict[str, Any]
) -> None:
    await realm.rule(REQUIRED)

    assert_spared(await say(person, "user_update", data), "phone")

    assert await realm.sessions(person.username.lower()) == 0
    await realm.rule()
    assert isinstance(await say(person, "user_update", data), Delivered)


async def test_whoever_is_no_leaver_is_logged_out_once(realm: RuledRealm, person: Person) -> None:
    await realm.rule(REQUIRED)
    change = person.change("user_update", {"first_name": "Augusta", "end_sessions": True})

    assert_spared(await person.deliver(replace(change, last_reason=Reason.PROFILE_BROKEN)), "phone")

    assert await realm.sessions(person.username.lower()) == 1


async def test_a_hash_waits_and_a_password_in_clear_does_not(realm: RuledRealm, person: Person) -> None:
    await realm.rule(REQUIRED)

    assert_spared(
        await person.deliver(await hashed(person, "password_change", NEW, {"end_sessions": True})), "phone"
    )
    assert await realm.sessions(person.username.lower()) == 0

    assert isinstance(await say(person, "password_change", {}, password=NEW), Delivered)
    await realm.rule()
    assert await person.logs_in(NEW)


async def test_a_delete_is_done(realm: RuledRealm, person: Person) -> None:
    await realm.rule(REQUIRED, PATTERN)

    assert (await person.apply("user_delete", {"end_sessions": True})).reason is Reason.DELETED


@pytest.mark.parametrize(
    ("kind", "data", "fields"),
    [
        pytest.param("user_update", {"attributes": {"city": ["X Y"]}}, ("city",), id="what it writes"),
        pytest.param(
            "user_update",
            {"attributes": {"n": ["2"]}, "attributes_mode": "replace"},
            ("phone",),
            id="replaces",
        ),
        pytest.param("user_create", {"attributes": {"city": ["X Y"]}}, ("city", "phone"), id="of a create"),
    ],
)
async def test_what_an_event_writes_is_invalid_at_the_first_call(
    realm: RuledRealm, person: Person, kind: str, data: dict[str, Any], fields: tuple[str, ...]
) -> None:
    await realm.rule(PATTERN, REQUIRED)
    whose = person if kind == "user_update" else person.workbench.person()

    outcome = await say(whose, kind, data)

    assert isinstance(outcome, DeadLetter), outcome
    assert outcome.reason is Reason.INVALID_DATA
    assert set(fields) <= set(outcome.failure.fields)


async def test_a_create_without_a_field_that_the_realm_demands_is_invalid(
    realm: RuledRealm, person: Person
) -> None:
    await realm.rule(REQUIRED)

    outcome = await say(person.workbench.person(), "user_create", {"first_name": "Ada"})

    assert isinstance(outcome, DeadLetter)
    assert (outcome.reason, outcome.failure.fields) == (Reason.INVALID_DATA, ("phone",))


async def test_a_lost_user_whose_last_state_breaks_a_rule_waits(realm: RuledRealm, person: Person) -> None:
    """What our own deliveries left is no fault of the event that finds them gone."""
    await realm.rule(PATTERN)
    known = KnownUser(
        realm=realm.name,
        username_key=person.username.lower(),
        exists=True,
        data={"attributes": {"city": ["Old Town"]}},
        credential=None,
        credential_event_id="",
        user_id=None,
    )
    await person.apply("user_delete")

    assert_spared(await say(person, "user_update", {"first_name": "Augusta"}, known=known), "city")


def test_the_reason_says_what_to_do() -> None:
    assert "User profile" in ADVICE[Reason.PROFILE_BROKEN].remedy
