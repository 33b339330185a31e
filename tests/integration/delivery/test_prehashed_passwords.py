"""Passwords that the producer hashed, on a real Keycloak."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.delivery.change import Change
from consumer.delivery.known_user import KnownUser
from consumer.delivery.late_effects import LateEffects, LatePassword
from consumer.delivery.outcome import Delivered, Reason
from producer_lib import PasswordChange, PrehashedPassword, SealingKey
from producer_lib._passwords import as_password
from tests.integration.delivery.conftest import Person

OLD = "first password 1"
NEW = "zweites Pässwort ✓ 2"
NAMES = {"first_name": "Ada", "last_name": "Lovelace"}
"""With an address, what Keycloak's profile asks of whoever logs in."""


async def hashed(
    person: Person, kind: str, password: str, data: dict[str, Any] | None = None, *, temporary: bool = False
) -> Change:
    """A change as `Person.change` makes it, with a password that was hashed."""
    change = person.change(kind, {**(data or {}), **({"temporary": True} if temporary else {})})
    event = PasswordChange(
        username=person.username, password=await PrehashedPassword.of(password), event_id=change.event_id
    )
    (text,) = person.workbench.keys.public_keys().values()
    key = SealingKey.from_text(text)
    said = as_password(event, key=key, realm=person.realm, username_key=change.username_key)
    assert said is not None
    return replace(change, credential=said["prehashed"])


def known(person: Person, change: Change, **data: Any) -> KnownUser:
    return KnownUser(
        realm=person.realm,
        username_key=change.username_key,
        exists=True,
        data=data,
        credential=change.credential,
        credential_event_id=change.event_id,
        user_id=None,
    )


async def password_credentials(person: Person) -> list[dict[str, Any]]:
    user_id = (await person.there())["id"]
    answer = await person.workbench.observer.call("GET", f"/{person.realm}/users/{user_id}/credentials")
    return [each for each in answer.json() if each["type"] == "password"]


async def test_a_user_is_created_with_one(person: Person) -> None:
    outcome = await person.deliver(await hashed(person, "user_create", NEW, {"email": person.email, **NAMES}))

    assert isinstance(outcome, Delivered)
    assert outcome.reason is Reason.CREATED
    assert await person.logs_in(NEW)
    assert not await person.logs_in(OLD)


@pytest.mark.parametrize("numbers", [{}, {"memory": 19456, "iterations": 2, "parallelism": 2}])
async def test_one_replaces_the_password_before_and_nothing_else(
    person: Person, numbers: dict[str, int]
) -> None:
    await person.apply(
        "user_create", {**NAMES, "email": person.email, "attributes": {"team": ["blue"]}}, password=OLD
    )
    before = await person.there()
    change = await hashed(person, "password_change", NEW)
    if numbers:
        event = PasswordChange(
            username=person.username,
            password=await PrehashedPassword.of(NEW, **numbers),
            event_id=change.event_id,
        )
        (text,) = person.workbench.keys.public_keys().values()
        said = as_password(
            event, key=SealingKey.from_text(text), realm=person.realm, username_key=change.username_key
        )
        assert said is not None
        change = replace(change, credential=said["prehashed"])

    outcome = await person.deliver(change)

    assert isinstance(outcome, Delivered)
    assert outcome.reason is Reason.PASSWORD_SET
    assert await person.logs_in(NEW)
    assert not await person.logs_in(OLD)
    assert await person.there() == before


async def test_applied_twice_it_leaves_what_it_left_once(strict_person: Person) -> None:
    """Under a history policy, which refuses a password in clear the second time."""
    await strict_person.apply("user_create", password=OLD)
    change = await hashed(strict_person, "password_change", NEW)

    outcomes = [await strict_person.deliver(change) for _ in range(3)]

    assert [outcome.reason for outcome in outcomes] == [Reason.PASSWORD_SET] * 3
    assert len(await password_credentials(strict_person)) == 1


async def test_password_policies_are_not_asked(strict_person: Person) -> None:
    """As the documentation says: here eight characters, and none of the last three."""
    await strict_person.apply("user_create", password=OLD)

    outcome = await strict_person.deliver(await hashed(strict_person, "password_change", "short"))
    again = await strict_person.deliver(await hashed(strict_person, "password_change", OLD))

    assert isinstance(outcome, Delivered)
    assert isinstance(again, Delivered)


async def test_a_temporary_one_asks_for_another_and_a_permanent_one_ends_that(person: Person) -> None:
    await person.apply("user_create", {**NAMES, "email": person.email}, password=OLD)

    temporary = await hashed(person, "password_change", NEW, temporary=True)
    await person.deliver(temporary)
    asked = (await person.there())["requiredActions"]
    left = known(person, temporary, temporary=True)
    permanent = replace(await hashed(person, "password_change", OLD), known=lambda: left)
    await person.deliver(permanent)

    assert asked == ["UPDATE_PASSWORD"]
    assert (await person.there())["requiredActions"] == []
    assert await person.logs_in(OLD)


async def test_a_temporary_one_of_a_new_user_asks_for_another(person: Person) -> None:
    await person.deliver(await hashed(person, "user_create", NEW, temporary=True))

    assert (await person.there())["requiredActions"] == ["UPDATE_PASSWORD"]


async def test_what_an_administrator_asks_for_stays(person: Person) -> None:
    await person.apply("user_create", password=OLD)
    user_id = (await person.there())["id"]
    body = {"requiredActions": ["UPDATE_PROFILE", "UPDATE_PASSWORD"]}
    await person.workbench.observer.call("PUT", f"/{person.realm}/users/{user_id}", body)

    change = await hashed(person, "password_change", NEW)
    await person.deliver(replace(change, known=lambda: known(person, change, temporary=False)))

    assert sorted((await person.there())["requiredActions"]) == ["UPDATE_PASSWORD", "UPDATE_PROFILE"]


async def test_a_heal_sets_it_again_past_the_history(strict_person: Person) -> None:
    await strict_person.apply("user_create", password=OLD)
    change = await hashed(strict_person, "password_change", NEW)
    await strict_person.deliver(change)

    now = datetime.now(UTC)
    late = LateEffects(
        passwords=(LatePassword("an older event", now - timedelta(minutes=1), now + timedelta(minutes=1)),)
    )
    healed = await strict_person.workbench.delivery.heal(known(strict_person, change), late, lambda: None)

    assert isinstance(healed, Delivered)
    assert healed.reason is Reason.HEALED


async def test_a_user_whom_keycloak_lost_gets_it_again(person: Person) -> None:
    change = await hashed(person, "user_create", NEW)
    await person.deliver(change)
    user_id = (await person.there())["id"]
    await person.workbench.observer.call("DELETE", f"/{person.realm}/users/{user_id}")

    update = replace(
        person.change("user_update", {"first_name": "Ada"}),
        known=lambda: known(person, change, enabled=True, email=person.email, **NAMES),
    )
    outcome = await person.deliver(update)

    assert isinstance(outcome, Delivered)
    assert await person.logs_in(NEW)
