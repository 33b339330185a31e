"""What a user must look like after a sequence of accepted events. Written apart from the product's own fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.fake_keycloak import User

__all__ = ["Accepted", "ExpectedUser", "differences"]

_PLAIN = ("first_name", "last_name", "email_verified", "enabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One event that was delivered."""

    event_id: str
    kind: str
    data: Mapping[str, Any]
    password: str | None


@dataclass(slots=True)
class ExpectedUser:
    """One user, as events make them. `exists` is False before the first create."""

    exists: bool = False
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    email_verified: bool = False
    enabled: bool = True
    attributes: dict[str, list[str]] = field(default_factory=dict)
    password: str | None = None
    password_event: str | None = None
    disabled_by_delete: bool = False
    required_actions: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    realm_roles: set[str] = field(default_factory=set)

    @classmethod
    def after(cls, events: Iterable[Accepted]) -> ExpectedUser:
        """Apply events in their order."""
        user = cls()
        for event in events:
            user = user._with(event)
        return user

    def _with(self, event: Accepted) -> ExpectedUser:
        user = self
        match event.kind:
            case "user_delete" if event.data.get("mode") == "disable":
                user.enabled = False
                # A disable that finds nobody leaves nobody.
                user.disabled_by_delete = user.exists
                return user if user.exists else ExpectedUser()
            case "user_delete":
                return ExpectedUser()
            case "user_create":
                if not user.exists:
                    user = ExpectedUser(exists=True)
                if user.disabled_by_delete:
                    user.enabled, user.disabled_by_delete = True, False
        user._write(event)
        return user

    def _write(self, event: Accepted) -> None:
        data = event.data
        for name in _PLAIN:
            if name in data:
                setattr(self, name, data[name])
        if "enabled" in data:
            self.disabled_by_delete = False
        if "email" in data:
            self.email = data["email"].lower()
        if "name" in data:
            self.first_name, _, last = data["name"].rpartition(" ")
            self.last_name = last or None
        self._write_attributes(event)
        for cleared in data.get("clear", ()):
            if not cleared.startswith("attributes."):
                setattr(self, cleared, None)
        for name, has in (("groups", self.groups), ("realm_roles", self.realm_roles)):
            has |= set(data.get(name, {}).get("add", ()))
            has -= set(data.get(name, {}).get("remove", ()))
        self._write_password(event)

    def _write_attributes(self, event: Accepted) -> None:
        data = event.data
        if event.kind == "shop_badge":
            self.attributes["badge"] = [data["badge"]]
        if data.get("attributes_mode") == "replace":
            self.attributes = {}
        self.attributes |= {name: list(values) for name, values in data.get("attributes", {}).items()}
        for cleared in data.get("clear", ()):
            if cleared.startswith("attributes."):
                self.attributes.pop(cleared.removeprefix("attributes."), None)

    def _write_password(self, event: Accepted) -> None:
        data = event.data
        if "required_actions" in data:
            self.required_actions = set(data["required_actions"])
        if event.password is not None:
            self.password, self.password_event = event.password, event.event_id
            if event.kind == "password_change" or "required_actions" not in data:
                self.required_actions -= {"UPDATE_PASSWORD"}
            if data.get("temporary"):
                self.required_actions |= {"UPDATE_PASSWORD"}


def differences(expected: ExpectedUser, found: User | None) -> list[str]:
    """In what the fake Keycloak's user is not as expected."""
    if not expected.exists or found is None:
        return [] if expected.exists == (found is not None) else [f"exists: {found is not None}"]
    pairs = {
        "email": (expected.email, found.email),
        "first_name": (expected.first_name, found.first_name),
        "last_name": (expected.last_name, found.last_name),
        "email_verified": (expected.email_verified, found.email_verified),
        "enabled": (expected.enabled, found.enabled),
        "attributes": (expected.attributes, found.attributes),
        "password": (expected.password, found.password),
        "required_actions": (expected.required_actions, set(found.required_actions)),
        "groups": (expected.groups, found.groups),
        "realm_roles": (expected.realm_roles, found.realm_roles),
    }
    return [f"{name}: {got!r} instead of {want!r}" for name, (want, got) in pairs.items() if want != got]
