"""What Keycloak's users have been through: per field who changed it last, and when who was there and had which address."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tests.simulation.expected import fields_of
from tests.simulation.fake_keycloak import FakeKeycloak, Request
from tests.simulation.our_calls import OurCall

__all__ = ["Change", "Hand", "History", "subject_of"]

T = TypeVar("T")

EXISTS: Final = "exists"
"""Stands among the fields for the user's being there."""

_SUBJECT = re.compile(r"/users/([^/]+)")


@dataclass(frozen=True, slots=True)
class Hand:
    """Whoever changes users. `call` is None for somebody else than us."""

    name: str
    call: OurCall | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One field of one user, changed.

    Attributes:
        name: The field's.
        at: Simulated seconds.
        last: The change before it, of the same field of the same user.
    """

    user_id: str
    name: str
    before: Any
    after: Any
    at: float
    by: Hand
    last: Change | None = field(repr=False)

    @property
    def by_others(self) -> bool:
        """Whether it was somebody else than us."""
        return self.by.call is None


@dataclass(slots=True)
class _Span:
    """From when to when something was so, and of whom."""

    who: str
    since: float
    until: float = math.inf


@dataclass(slots=True)
class History:
    """Sees every change of a user at the moment when it takes effect.

    Attributes:
        clock: Simulated seconds.
        on_change: Told of the changes that one request, or one person, has made at once.
    """

    fake: FakeKeycloak
    clock: Callable[[], float]
    on_change: Callable[[list[Change]], None]
    _last: dict[tuple[str, str], Change] = field(default_factory=dict)
    _touched: dict[str, float] = field(default_factory=dict)
    _by_others: defaultdict[tuple[str, str], set[Any]] = field(default_factory=lambda: defaultdict(set))
    _there: defaultdict[tuple[str, str], list[_Span]] = field(default_factory=lambda: defaultdict(list))
    _addresses: defaultdict[tuple[str, str], list[_Span]] = field(default_factory=lambda: defaultdict(list))

    def record(self, by: Hand, realm: str, user_id: str | None, act: Callable[[], T]) -> T:
        """Do something to one user of a realm, or to nobody yet, and write down what has changed."""
        users = self.fake.users[realm]
        known = {*users} if user_id is None else set()
        before = fields_of(users[user_id]) if user_id in users else None
        name = users[user_id].username if user_id in users else ""
        done = act()
        if user_id is None:
            user_id = next((each for each in users if each not in known), "")
        after = fields_of(users[user_id]) if user_id in users else None
        if before != after:
            self._touched[user_id] = self.clock()
            self._note(by, realm, name or users[user_id].username, user_id, before, after)
        return done

    def last(self, user_id: str, name: str) -> Change:
        """The last change of a field: the making of the user if there was none since."""
        return self._last.get((user_id, name)) or self.made(user_id)

    def before(self, change: Change) -> Change:
        """The change before, of the same field: the making of the user if there was none."""
        return change.last or self.made(change.user_id)

    def made(self, user_id: str) -> Change:
        """How the user came to be."""
        change = self._last[user_id, EXISTS]
        while not change.after and change.last is not None:
            change = change.last
        return change

    def others_set(self, user_id: str, name: str, value: Any) -> bool:
        """Whether somebody else has ever given a field of this user this value, or none when they made the user."""
        return value in self._by_others[user_id, name] or (value is None and self.made(user_id).by_others)

    def changed_since(self, user_id: str, since: float) -> bool:
        """Whether anything about a user has changed from then until now."""
        return self._touched.get(user_id, -math.inf) >= since

    def was_absent(self, realm: str, name: str, since: float) -> bool:
        """Whether there was no user of this name at some time from then until now."""
        return not any(span.since <= since and span.until == math.inf for span in self._there[realm, name])

    def was_there(self, realm: str, name: str, since: float) -> bool:
        """Whether there was a user of this name at some time from then until now."""
        return any(span.until >= since for span in self._there[realm, name])

    def others_had(self, realm: str, email: str, name: str, since: float) -> bool:
        """Whether somebody of another name had this address at some time from then until now."""
        return any(span.until >= since and span.who != name for span in self._addresses[realm, email])

    def gone(self, realm: str, name: str, *, before: Change | None = None) -> Change | None:
        """How the last user of this name went, before a new one was made; None if nobody has."""
        for span in reversed(self._there[realm, name]):
            if span.until < math.inf and (before is None or span.who != before.user_id):
                return self._last[span.who, EXISTS]
        return None

    def _note(
        self,
        by: Hand,
        realm: str,
        name: str,
        user_id: str,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
    ) -> None:
        now = self.clock()
        pairs: dict[str, tuple[Any, Any]] = {EXISTS: (before is not None or None, after is not None or None)}
        pairs |= {
            each: ((before or {}).get(each), (after or {}).get(each))
            for each in sorted({*(before or ()), *(after or ())})
        }
        changes = []
        for each, (was, is_now) in pairs.items():
            if was == is_now:
                continue
            change = Change(user_id, each, was, is_now, now, by, self._last.get((user_id, each)))
            self._last[user_id, each] = change
            changes.append(change)
            if change.by_others:
                self._by_others[user_id, each].add(is_now)
        self._span(self._there[realm, name], user_id, *pairs[EXISTS])
        if "email" in pairs:
            was, is_now = pairs["email"]
            if was != is_now:
                self._span(self._addresses[realm, was], name, was, None)
                self._span(self._addresses[realm, is_now], name, None, is_now)
        self.on_change(changes)

    def _span(self, spans: list[_Span], who: str, was: Any, is_now: Any) -> None:
        if was and not is_now:
            for span in spans:
                if span.who == who and span.until == math.inf:
                    span.until = self.clock()
        elif is_now and not was:
            spans.append(_Span(who, self.clock()))


def subject_of(request: Request) -> str | None:
    """Keycloak's id of the user whom a request is about; None if it names none."""
    found = _SUBJECT.search(request.path)
    return None if found is None else found[1]
