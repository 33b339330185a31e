"""Where a realm, and a user of it, is in Keycloak's Admin API."""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["RealmAddress"]


class RealmAddress:
    """Addresses of one realm, percent-encoded.

    Args:
        keycloak_url: Keycloak's base URL, ending in "/".
        realm: The realm.

    Attributes:
        realm: The realm's name.
        admin: Of the realm itself.
        users: Of all its users.
    """

    def __init__(self, keycloak_url: str, realm: str) -> None:
        self.realm = realm
        self.admin = f"{keycloak_url}admin/realms/{quote(realm, safe='')}"
        self.users = f"{self.admin}/users"

    def user(self, user_id: str) -> str:
        """Of one user, by Keycloak's id."""
        return f"{self.users}/{quote(user_id, safe='')}"
