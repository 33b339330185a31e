"""What Keycloak answers with a yes and does not keep, on a real server: it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from consumer.cli.run_checks import attributes_check
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
from tests.integration.support.ruled_realm import RuledRealm, ruled_realm

MINE = {"name": "mine", "permissions": {"view": ["admin", "user"], "edit": ["user"]}}


@pytest.fixture
async def realm(observer: Observer) -> AsyncIterator[RuledRealm]:
    async with ruled_realm(observer) as made:
        await made.rule(MINE)
        yield made


@pytest.fixture
async def person(realm: RuledRealm, keys: KeyRing) -> AsyncIterator[Person]:
    keycloak = Keycloak(
        url=realm.observer.endpoints.keycloak_url,
        realms=[realm.name],
        client_id=OWN_REALM_CLIENT,
        client_secret=OWN_REALM_SECRET,
    )
    try:
        delivery = Delivery(keycloak=keycloak, keys=keys)
        yield Workbench(realm.name, LOGIN_CLIENT, keys, keycloak, delivery, realm.observer).person()
    finally:
        await keycloak.aclose()


def attributes(*names: str) -> dict[str, dict[str, list[str]]]:
    return {"attributes": {name: ["1"] for name in names}}


async def test_what_was_dropped_is_told_and_everything_else_is_applied(person: Person) -> None:
    created = await person.apply("user_create", {"first_name": "Ada", **attributes("locale", "mine", "team")})
    updated = await person.apply(
        "user_update", {"last_name": "L", **attributes("terms_and_conditions", "locale", "floor")}
    )

    assert created.dropped.keys() == {"locale", "mine"}
    assert updated.dropped.keys() == {"locale", "terms_and_conditions"}
    user = await person.there()
    assert (user["firstName"], user["lastName"]) == ("Ada", "L")
    assert user["attributes"] == {"team": ["1"], "floor": ["1"]}
    # The same, read back: what cannot be there is not missed.
    change = person.change("user_update", {"last_name": "L", **attributes("locale", "floor")})
    found = await person.workbench.delivery.read_back(change, lambda: None)
    assert isinstance(found, Delivered), found
    assert found.reason is Reason.ALREADY_APPLIED


async def test_what_the_realm_keeps_is_not_called_dropped(realm: RuledRealm, person: Person) -> None:
    switched = await realm.observer.call(
        "PUT", f"/{realm.name}", {"internationalizationEnabled": True, "supportedLocales": ["de", "en"]}
    )
    assert switched.status_code == 204

    done = await person.apply("user_create", attributes("locale", "team"))

    assert done.dropped == {}
    assert (await person.there())["attributes"] == {"locale": ["1"], "team": ["1"]}


async def test_the_check_names_what_administrators_may_not_edit(person: Person) -> None:
    check = await attributes_check(person.workbench.keycloak, person.realm)

    assert check.found == "ADMIN_EDIT"
    assert check.hint is not None
    assert "not edit mine" in check.hint


async def test_a_replacement_leaves_what_keycloak_keeps_for_itself(person: Person) -> None:
    await person.apply("user_create", attributes("saml.persistent.name.id.for.sp", "team"))

    replacing = {**attributes("floor"), "attributes_mode": "replace"}
    await person.apply("user_update", replacing)

    kept = {"saml.persistent.name.id.for.sp": ["1"], "floor": ["1"]}
    assert (await person.there())["attributes"] == kept
