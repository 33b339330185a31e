"""The vectors of the username key, held against what a real Keycloak stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from compose.native.stack import Stack
from tests.integration.delivery.conftest import Observer

VECTORS = orjson.loads(
    (Path(__file__).parents[3] / "schemas" / "username_keys.json").read_bytes(),
)


@pytest.fixture
async def realm(observer: Observer, stack: Stack) -> Any:
    """A realm of its own: these names must meet no other test's."""
    name = f"names-{uuid4().hex[:8]}"
    created = await observer.call("POST", "", {"realm": name, "enabled": True})
    assert created.status_code == 201, created.text
    # Keycloak's default profile refuses names outside Latin; a realm may lift that, and then the key must be right.
    profile = (await observer.call("GET", f"/{name}/users/profile")).json()
    for attribute in profile["attributes"]:
        if attribute["name"] == "username":
            attribute["validations"] = {"length": {"min": 3, "max": 255}}
    allowed = await observer.call("PUT", f"/{name}/users/profile", profile)
    assert allowed.status_code == 200, allowed.text
    yield name
    await observer.call("DELETE", f"/{name}")


@pytest.mark.long
async def test_keycloak_stores_every_username_as_the_vectors_say(observer: Observer, realm: str) -> None:
    stored = {}
    for vector in VECTORS["keys"]:
        created = await observer.call("POST", f"/{realm}/users", {"username": vector["username"]})
        if created.status_code == 500:
            # Keycloak's columns in MariaDB hold the basic plane only.
            assert any(ord(character) > 0xFFFF for character in vector["username"]), created.text
            continue
        assert created.status_code == 201, (ascii(vector["username"]), created.text)
        user = created.headers["location"].partition("/admin/realms")[2]
        stored[vector["username"]] = (await observer.call("GET", user)).json()["username"]
        # Away again: MariaDB's collation would take names for the same that Keycloak tells apart.
        await observer.call("DELETE", user)

    assert stored == {v["username"]: v["key"] for v in VECTORS["keys"] if v["username"] in stored}
    assert len(stored) >= 30
