"""From an event's data to Keycloak's user representation.

Keycloak's rules that stand behind this (research on the Admin API, 3.1 and 3.2): a user created without `enabled` is
disabled; there is no `name`; a PUT without `attributes` writes only what it holds; a PUT with `attributes` clears
every profile field that it does not hold; `enabled: true` lifts a lockout, so it is sent only when it is meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumer.delivery.opened import credential_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.delivery.opened import Password

_FIELDS = {
    "email": "email",
    "email_verified": "emailVerified",
    "first_name": "firstName",
    "last_name": "lastName",
    "enabled": "enabled",
}

_PROFILE_FIELDS = ("username", "email", "firstName", "lastName")
"""What a PUT with `attributes` clears unless it holds it."""


def split_name(name: str) -> tuple[str, str]:
    """Split a full name at its last space into first and last name; a single word is a first name."""
    first, _, last = " ".join(name.split()).rpartition(" ")
    return (first, last) if first else (last, "")


def named_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that the data names, attributes left out, as Keycloak calls them."""
    fields = {theirs: data[ours] for ours, theirs in _FIELDS.items() if ours in data}
    if "name" in data:
        fields["firstName"], fields["lastName"] = split_name(data["name"])
    return fields


def new_user(username_key: str, data: Mapping[str, Any], password: Password | None) -> dict[str, Any]:
    """Return the representation that creates a user.

    Args:
        username_key: The username as Keycloak will store it.
        data: The event's data; `temporary` in it is about the password.
        password: The password, or None for a user without one.
    """
    user: dict[str, Any] = {"username": username_key, "enabled": True, **named_fields(data)}
    if data.get("attributes"):
        user["attributes"] = dict(data["attributes"])
    if password is not None:
        temporary = bool(data.get("temporary", False))
        user["credentials"] = [credential_of(password, temporary=temporary)]
    return user


def needs_merge(data: Mapping[str, Any]) -> bool:
    """Whether the user must be read first, because the update names attributes."""
    return bool(data.get("attributes"))


def merged_user(existing: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the representation that writes what the data names and keeps everything else.

    Args:
        existing: The user as Keycloak has it, attributes included.
        data: The event's data, which names attributes.
    """
    kept = {field: existing[field] for field in _PROFILE_FIELDS if existing.get(field) is not None}
    attributes = {**(existing.get("attributes") or {}), **data["attributes"]}
    return {**kept, **named_fields(data), "attributes": attributes}
