"""Users whom Keycloak has locked after wrong passwords: what our changes leave of that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.outcome import Delivered, Reason
from consumer.delivery.passwords import KeyRing
from tests.integration.delivery.conftest import (
    LOGIN_CLIENT,
    OWN_REALM_CLIENT,
    OWN_REALM_SECRET,
    Observer,
    Person,
    Workbench,
)
from tests.integration.delivery.test_prehashed_passwords import NAMES
from tests.integration.support.ruled_realm import ruled_realm

PASSWORD, NEW = "the first password", "the second password"
LOCKED = {"disabledReason": ["permanentLockout"]}


@pytest.fixture
async def locked(observer: Observer, keys: KeyRing) -> AsyncIterator[Person]:
    """Somebody with the attribute n whom Keycloak has locked for good."""
    async with ruled_realm(observer) as realm:
        guarded = {
            "bruteForceProtected": True,
            "permanentLockout": True,
            "maxTemporaryLockouts": 0,
            "failureFactor": 2,
        }
        assert (await observer.call("PUT", f"/{realm.name}", guarded)).is_success
        keycloak = Keycloak(
            url=observer.endpoints.keycloak_url,
            realms=[realm.name],
            client_id=OWN_REALM_CLIENT,
            client_secret=OWN_REALM_SECRET,
        )
        try:
            delivery = Delivery(keycloak=keycloak, keys=keys)
            person = Workbench(realm.name, LOGIN_CLIENT, keys, keycloak, delivery, observer).person()
            fields = {"email": person.email, **NAMES, "attributes": {"n": ["1"]}}
            await person.apply("user_create", fields, password=PASSWORD)
            for _ in range(20):
                if not (await person.there())["enabled"]:
                    break
                assert not await person.logs_in("wrong")
            assert (await person.there())["attributes"] == {"n": ["1"], **LOCKED}
            yield person
        finally:
            await keycloak.aclose()


async def test_a_new_password_does_not_lift_the_lockout_and_enabled_does(locked: Person) -> None:
    await locked.apply("password_change", password=NEW)
    assert not await locked.logs_in(NEW)

    await locked.apply("user_update", {"enabled": True})

    assert await locked.logs_in(NEW)
    assert (await locked.there())["attributes"] == {"n": ["1"]}


@pytest.mark.parametrize("mode", ["merge", "replace"])
async def test_attributes_are_written_and_the_user_stays_locked(locked: Person, mode: str) -> None:
    data = {"attributes": {"n": ["2"]}, "attributes_mode": mode}

    await locked.apply("user_update", data)

    there = await locked.there()
    assert not there["enabled"]
    assert there["attributes"] == {"n": ["2"], **LOCKED}
    # Were the answer lost, it would be found to be applied.
    change = replace(locked.change("user_update", data), maybe_applied_since=datetime.now(UTC))
    found = await locked.workbench.delivery.read_back(change, lambda: None)
    assert isinstance(found, Delivered)
    assert found.reason is Reason.ALREADY_APPLIED
