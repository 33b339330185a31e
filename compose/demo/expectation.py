"""What Keycloak must hold in the end: an account of what the demo published, kept apart from kcsync's own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from compose.demo.story import SEQUENCE
from producer_lib import PasswordChange, UserChange, UserCreate, UserDelete, UserUpdate, username_key

_FIELDS: Final = ("email", "email_verified", "first_name", "last_name", "enabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One user, after everything published so far.

    Attributes:
        username: As Keycloak writes it.
        lives: How often the user was created.
        exists: Whether the user is there now.
        email: The e-mail address; like the next fields only of the present life.
        email_verified: Whether it is trusted.
        first_name: First name.
        last_name: Last name.
        enabled: Whether the user may log in.
        attributes: Values by name, in no order.
        passwords: All passwords of the present life, the one in force last.
        sequences: The running numbers that were written, in order, in all lives.
    """

    username: str
    lives: int = 0
    exists: bool = False
    email: str | None = None
    email_verified: bool = False
    first_name: str | None = None
    last_name: str | None = None
    enabled: bool = True
    attributes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    passwords: tuple[str, ...] = field(default=(), repr=False)
    sequences: tuple[int, ...] = ()

    def after(self, change: UserChange) -> Expected:
        """Give the user as this change leaves them."""
        match change:
            case UserCreate():
                fresh = Expected(
                    username=self.username,
                    lives=self.lives + 1,
                    exists=True,
                    passwords=(change.password,) if isinstance(change.password, str) else (),
                    sequences=self.sequences,
                )
                return fresh._with(change)
            case UserUpdate():
                return self._with(change)
            case PasswordChange():
                assert isinstance(change.password, str)
                return replace(self, passwords=(*self.passwords, change.password))
            case UserDelete():
                return Expected(
                    username=self.username,
                    lives=self.lives,
                    sequences=self.sequences,
                )
            case _:
                raise TypeError(f"the demo publishes no {type(change).__name__}")

    def _with(self, change: UserCreate | UserUpdate) -> Expected:
        named = {name: value for name in _FIELDS if (value := getattr(change, name)) is not None}
        written = {name: frozenset(values) for name, values in (change.attributes or {}).items()}
        numbers = tuple(int(number) for number in written.get(SEQUENCE, ()))
        return replace(
            self,
            **named,
            attributes={**self.attributes, **written},
            sequences=self.sequences + numbers,
        )


class Expectation:
    """Every user of the demo, as they must be once everything published has arrived."""

    def __init__(self, changes: Iterable[UserChange] = ()) -> None:
        self._users: dict[str, Expected] = {}
        for change in changes:
            self.published(change)

    def published(self, change: UserChange) -> None:
        """Take one change into account; Kafka has confirmed it."""
        key = username_key(change.username)
        # Put in anew, so that those changed last stand last.
        self._users[key] = self._users.pop(key, Expected(username=key)).after(change)

    @property
    def users(self) -> Mapping[str, Expected]:
        """All users by their name in Keycloak, those changed last at the end."""
        return self._users

    @property
    def alive(self) -> tuple[Expected, ...]:
        """Those who must be there."""
        return tuple(user for user in self._users.values() if user.exists)

    @property
    def gone(self) -> tuple[Expected, ...]:
        """Those who must not."""
        return tuple(user for user in self._users.values() if not user.exists)

    def with_new_password(self, most: int) -> tuple[Expected, ...]:
        """Those whose password can be tried: it changed, and they may log in.

        Args:
            most: at most so many, those who were changed last: they have been through the outage.
        """
        changed = [user for user in self.alive if user.enabled and len(user.passwords) > 1]
        return tuple(changed[-most:])
