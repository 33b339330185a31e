"""A Keycloak that does what it is told, in order, and keeps its diary: what the proof must be content with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from compose.demo.observed import AdminEvent, Login, LoginTrial, Profile
from producer_lib import PasswordChange, UserChange, UserCreate, UserDelete, UserUpdate

_NAMES = {
    "email": "email",
    "email_verified": "emailVerified",
    "first_name": "firstName",
    "last_name": "lastName",
    "enabled": "enabled",
}


@dataclass
class IdealKeycloak:
    """Users by name as Keycloak would hold them, and the diary."""

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    events: list[AdminEvent] = field(default_factory=list)

    def told(self, changes: Iterable[UserChange]) -> IdealKeycloak:
        for change in changes:
            self._apply(change)
        return self

    @property
    def profiles(self) -> list[Profile]:
        return [
            Profile(
                user_id=user["id"],
                username=name,
                email=user.get("email"),
                email_verified=user.get("emailVerified", False),
                first_name=user.get("firstName"),
                last_name=user.get("lastName"),
                enabled=user["enabled"],
                attributes={key: frozenset(values) for key, values in user["attributes"].items()},
            )
            for name, user in self.users.items()
        ]

    def log_in(self, username: str, password: str) -> Login:
        return Login.ACCEPTED if self.passwords.get(username) == password else Login.WRONG_PASSWORD

    def trial(self, username: str, current: str, former: str) -> LoginTrial:
        return LoginTrial(
            username=username, current=self.log_in(username, current), former=self.log_in(username, former)
        )

    def _apply(self, change: UserChange) -> None:
        name = change.username.lower()
        match change:
            case UserCreate():
                user: dict[str, Any] = {"id": f"id-{len(self.events)}", "enabled": True, "attributes": {}}
                self.users[name] = user
                self._write(user, change)
                self._note("CREATE", user["id"], {"username": name, **user})
                if isinstance(change.password, str):
                    self.passwords[name] = change.password
            case UserUpdate():
                user = self.users[name]
                self._write(user, change)
                named = {
                    _NAMES[key]: getattr(change, key) for key in _NAMES if getattr(change, key) is not None
                }
                # As the consumer does it: all attributes go along as soon as one is named.
                whole = {"attributes": dict(user["attributes"])} if change.attributes else {}
                self._note("UPDATE", user["id"], named | whole)
            case PasswordChange(password=str(password)):
                self.passwords[name] = password
                self._note("ACTION", self.users[name]["id"], None)
            case UserDelete():
                self._note("DELETE", self.users.pop(name)["id"], None)
                self.passwords.pop(name, None)

    @staticmethod
    def _write(user: dict[str, Any], change: UserCreate | UserUpdate) -> None:
        for ours, theirs in _NAMES.items():
            if (value := getattr(change, ours)) is not None:
                user[theirs] = value
        user["attributes"] = user["attributes"] | {
            key: list(values) for key, values in (change.attributes or {}).items()
        }

    def _note(self, operation: str, user_id: str, written: dict[str, Any] | None) -> None:
        # Several in a millisecond, as in life.
        time = 1_000 + len(self.events) // 3
        self.events.append(AdminEvent(time=time, operation=operation, user_id=user_id, written=written))
