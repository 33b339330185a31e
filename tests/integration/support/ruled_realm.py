"""A realm of a test's own, whose user profile the test changes while users are there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.integration.delivery.conftest import LOGIN_CLIENT, OWN_REALM_CLIENT, OWN_REALM_SECRET, Observer

__all__ = ["RuledRealm", "ruled_realm"]

ADMIN_ONLY = {"view": ["admin"], "edit": ["admin"]}


@dataclass(frozen=True, slots=True)
class RuledRealm:
    """A realm with a service client and a login client.

    Attributes:
        observer: changes it.
        name: of the realm.
        profile: its user profile as it was made.
    """

    observer: Observer
    name: str
    profile: Mapping[str, Any]

    async def rule(self, *attributes: Mapping[str, Any]) -> None:
        """Declare these attributes beside Keycloak's own, and no others."""
        body = {
            **self.profile,
            "attributes": [
                *self.profile["attributes"],
                *({"permissions": ADMIN_ONLY, **each} for each in attributes),
            ],
            "unmanagedAttributePolicy": "ADMIN_EDIT",
        }
        changed = await self.observer.call("PUT", f"/{self.name}/users/profile", body)
        assert changed.status_code == 200, changed.text

    async def sessions(self, username: str) -> int:
        """How many sessions a user has."""
        user = await self.observer.user(self.name, username)
        assert user is not None
        return len((await self.observer.call("GET", f"/{self.name}/users/{user['id']}/sessions")).json())

    async def logs_in(self, username: str, password: str) -> bool:
        """Whether a user of this password may log in; it begins a session."""
        return await self.observer.can_log_in(self.name, LOGIN_CLIENT, username, password)


@asynccontextmanager
async def ruled_realm(observer: Observer) -> AsyncIterator[RuledRealm]:
    """Make a realm that keeps attributes, and delete it at the end."""
    name = f"ruled-{uuid4().hex[:8]}"
    body = {
        "realm": name,
        "enabled": True,
        "clients": [
            {
                "clientId": OWN_REALM_CLIENT,
                "secret": OWN_REALM_SECRET,
                "serviceAccountsEnabled": True,
                "standardFlowEnabled": False,
            },
            {
                "clientId": LOGIN_CLIENT,
                "publicClient": True,
                "standardFlowEnabled": False,
                "directAccessGrantsEnabled": True,
            },
        ],
        "users": [
            {
                "username": f"service-account-{OWN_REALM_CLIENT}",
                "enabled": True,
                "serviceAccountClientId": OWN_REALM_CLIENT,
                "clientRoles": {"realm-management": ["manage-users"]},
            }
        ],
    }
    made = await observer.call("POST", "", body)
    assert made.status_code == 201, made.text
    try:
        profile = (await observer.call("GET", f"/{name}/users/profile")).json()
        realm = RuledRealm(observer, name, profile)
        await realm.rule()
        yield realm
    finally:
        await observer.call("DELETE", f"/{name}")
