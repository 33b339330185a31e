"""What a user must look like after a sequence of accepted events. Written apart from the product's own fold.

Fields are named one by one: each attribute (`attributes.a`), group (`groups./staff`), realm role (`realm_roles.author`)
and required action (`required_actions.VERIFY_EMAIL`) stands for itself, and so does the `password`. A value that is not
there is None: a membership and an action are True or None, the values of an attribute are a tuple.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.simulation.fake_keycloak import ACTIONS, User

__all__ = [
    "ATTRIBUTE",
    "EVERY_ATTRIBUTE",
    "UPDATE_PASSWORD",
    "Accepted",
    "ExpectedUser",
    "differences",
    "fields_of",
    "said_by",
]

ATTRIBUTE: Final = "attributes."
EVERY_ATTRIBUTE: Final = "attributes"
"""Stands for every attribute that is not named, where an event replaces them all."""

_PLAIN: Final = ("first_name", "last_name", "email_verified", "enabled")
UPDATE_PASSWORD: Final = "required_actions.UPDATE_PASSWORD"
_OF_A_NEW_USER: Final = {"enabled": True, "email_verified": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One event that was delivered."""

    event_id: str
    kind: str
    data: Mapping[str, Any]
    password: str | None


@dataclass(slots=True)
class ExpectedUser:
    """One user, as events make them.

    Attributes:
        exists: False before the first create, and after a delete.
        emptied: a delete was accepted: what no event has named since is known not to be there.
        fields: what events have named since then.
        password_event: the event whose password is the last.
        disabled_by_delete: a delete that only disables has come last.
    """

    exists: bool = False
    emptied: bool = False
    fields: dict[str, Any] = field(default_factory=dict)
    password_event: str | None = None
    disabled_by_delete: bool = False

    def value(self, name: str) -> Any:
        """What a field must be."""
        return self.fields.get(name, _OF_A_NEW_USER.get(name))

    def knows(self, name: str) -> bool:
        """Whether an accepted event has said something of a field, and not only the default of a new user."""
        every_attribute = name.startswith(ATTRIBUTE) and EVERY_ATTRIBUTE in self.fields
        return name in self.fields or every_attribute or self.emptied

    def take(self, event: Accepted, *, found: bool) -> None:
        """Apply the next event, delivered when there was such a user in Keycloak, or none."""
        mode = event.data.get("mode", "delete")
        if event.kind == "user_delete" and (mode == "delete" or not found):
            # A disable that finds nobody leaves nobody.
            self.forget()
            return
        self.exists = True
        said = said_by(event.kind, event.data, password=event.password)
        if event.kind == "user_create" and self.disabled_by_delete:
            said.setdefault("enabled", True)
        if "enabled" in said:
            self.disabled_by_delete = event.kind == "user_delete"
        if EVERY_ATTRIBUTE in said:
            self.fields = {
                name: value for name, value in self.fields.items() if not name.startswith(ATTRIBUTE)
            }
        self.fields |= said
        if event.password is not None:
            self.password_event = event.event_id

    def forget(self) -> None:
        """The user is gone, and all that was known of them."""
        self.exists, self.emptied, self.fields = False, True, {}
        self.password_event, self.disabled_by_delete = None, False


def said_by(kind: str, data: Mapping[str, Any], *, password: str | None) -> dict[str, Any]:
    """The fields that an event writes, with their values; it may be written out already."""
    if kind == "user_delete":
        return {"enabled": False} if data.get("mode") == "disable" else {}
    said: dict[str, Any] = {name: data[name] for name in _PLAIN if name in data}
    if "email" in data:
        said["email"] = data["email"].lower()
    if "name" in data:
        said["first_name"], _, said["last_name"] = data["name"].rpartition(" ")
    if kind == "shop_badge":
        said["attributes.badge"] = (data["badge"],)
    if data.get("attributes_mode") == "replace":
        said[EVERY_ATTRIBUTE] = None
    for name, values in data.get("attributes", {}).items():
        said[ATTRIBUTE + name] = tuple(values)
    said |= dict.fromkeys(data.get("clear", ()))
    for several in ("groups", "realm_roles"):
        for side, has in (("add", True), ("remove", None)):
            said |= {f"{several}.{name}": has for name in data.get(several, {}).get(side, ())}
    said |= _required(kind, data, password)
    if password is not None:
        said["password"] = password
    return {name: None if value in ("", ()) else value for name, value in said.items()}


def _required(kind: str, data: Mapping[str, Any], password: str | None) -> dict[str, Any]:
    required: dict[str, Any] = {}
    if "required_actions" in data:
        required = {
            f"required_actions.{action}": action in data["required_actions"] or None for action in ACTIONS
        }
        if data.get("temporary"):
            required[UPDATE_PASSWORD] = True
    elif "temporary" in data or password is not None:
        required[UPDATE_PASSWORD] = data.get("temporary") or None
    if kind == "password_change":
        required[UPDATE_PASSWORD] = data.get("temporary") or None
    return required


def fields_of(user: User) -> dict[str, Any]:
    """The fields of the fake Keycloak's user; what is not there is not in it."""
    found: dict[str, Any] = {
        "email": user.email,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email_verified": user.email_verified,
        "enabled": user.enabled,
        "password": user.password,
    }
    found = {name: value for name, value in found.items() if value is not None}
    found |= {ATTRIBUTE + name: tuple(values) for name, values in user.attributes.items()}
    found |= dict.fromkeys([f"required_actions.{action}" for action in user.required_actions], True)
    found |= dict.fromkeys([f"groups.{path}" for path in user.groups], True)
    return found | dict.fromkeys([f"realm_roles.{name}" for name in user.realm_roles], True)


def differences(expected: ExpectedUser, found: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """In what a user who should be there and is there is not as expected: per field what is wanted, and what is there."""
    names = (expected.fields.keys() - {EVERY_ATTRIBUTE}) | found.keys() | _OF_A_NEW_USER.keys()
    return {
        name: (want, got)
        for name in sorted(names)
        if (want := expected.value(name)) != (got := found.get(name))
    }
