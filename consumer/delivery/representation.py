"""From an event's data to Keycloak's user representation.

Keycloak's rules that stand behind this (research on the Admin API, 3.1 and 3.2): a user created without `enabled` is
disabled; there is no `name`; a PUT without `attributes` leaves what it does not hold as Keycloak has just read it, and writes that
too: two at once lose one another's fields; a PUT with `attributes` clears every profile field and attribute that it does
not hold; an empty text clears a field, null leaves it; `enabled: true` lifts a lockout, so it is sent only when it is
meant; `requiredActions` replaces those there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumer.delivery.opened import credential_of
from consumer.delivery.profile_rules import is_keycloaks_own

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

_ATTRIBUTE = "attributes."
UPDATE_PASSWORD = "UPDATE_PASSWORD"  # noqa: S105 - an alias, not a password.
"""Keycloak's alias of the required action that demands a new password at the next login."""

_PROFILE_FIELDS = ("username", "email", "firstName", "lastName")
"""What a PUT with `attributes` clears unless it holds it."""


def written_out(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say in one way what an event may say in several.

    What `clear` names becomes an empty text, or an attribute without values. The action UPDATE_PASSWORD becomes
    `temporary`, which is what a temporary password asks for as well: the later of the two decides. What is written out
    already stays as it is.
    """
    if "clear" not in data and "required_actions" not in data:
        return data
    said = {name: value for name, value in data.items() if name != "clear"}
    for name in data.get("clear") or ():
        if name.startswith(_ATTRIBUTE):
            said["attributes"] = {**said.get("attributes", {}), name.removeprefix(_ATTRIBUTE): []}
        else:
            said[name] = ""
    if "required_actions" in data:
        actions = data["required_actions"]
        said["required_actions"] = [alias for alias in actions if alias != UPDATE_PASSWORD]
        said["temporary"] = UPDATE_PASSWORD in actions or bool(data.get("temporary"))
    return said


def split_name(name: str) -> tuple[str, str]:
    """Split a full name at its last space into first and last name; a single word is a first name."""
    first, _, last = " ".join(name.split()).rpartition(" ")
    return (first, last) if first else (last, "")


def named_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that the data names, attributes left out, as Keycloak calls them.

    Here and below, the data is an event's, `written_out`.
    """
    fields = {theirs: data[ours] for ours, theirs in _FIELDS.items() if ours in data}
    if "name" in data:
        fields["firstName"], fields["lastName"] = split_name(data["name"])
    if "required_actions" in data:
        temporary = [UPDATE_PASSWORD] if data.get("temporary") else []
        fields["requiredActions"] = [*data["required_actions"], *temporary]
    return fields


def is_written(data: Mapping[str, Any], field: str) -> bool:
    """Whether the data writes a field of the user's profile, by Keycloak's name of it."""
    if field in _PROFILE_FIELDS:
        return field in named_fields(data)
    return _replaces(data) or field in (data.get("attributes") or {})


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
    elif data.get("temporary"):
        # The temporary password was not kept; that another one is asked for still holds.
        user.setdefault("requiredActions", [UPDATE_PASSWORD])
    return user


def needs_merge(data: Mapping[str, Any]) -> bool:
    """Whether the user must be read first, because the update writes attributes."""
    return bool(data.get("attributes")) or _replaces(data)


def merged_user(existing: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the representation that writes what the data names and keeps everything else.

    Other attributes go if the data replaces them all; the profile's own fields stay all the same, and so does what
    Keycloak keeps for itself in attributes that the data does not name.

    Args:
        existing: The user as Keycloak has it, attributes included.
        data: The event's data, which writes attributes.
    """
    kept = {field: existing[field] for field in _PROFILE_FIELDS if existing.get(field) is not None}
    others = existing.get("attributes") or {}
    if _replaces(data):
        others = {name: values for name, values in others.items() if is_keycloaks_own(name)}
    attributes = {**others, **(data.get("attributes") or {})}
    return {**kept, **named_fields(data), "attributes": attributes}


def _replaces(data: Mapping[str, Any]) -> bool:
    return data.get("attributes_mode") == "replace"
