"""What goes wrong, and how often: rates for each exchange, and outages that are on or off."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import Enum, auto
from typing import TypeVar

__all__ = ["CallFate", "DatabaseFate", "Outage", "Weather"]


class DatabaseFate(Enum):
    """What becomes of one transaction."""

    DONE = auto()
    AWAY = auto()
    """Refused: nothing was done, and the caller knows."""
    CUT = auto()
    """The connection went at COMMIT, and nothing was done."""
    LOST = auto()
    """The connection went at COMMIT, and all was done."""
    LATE = auto()
    """The connection went at COMMIT, and all is done a while after the caller was told; its rows are locked until then."""


class CallFate(Enum):
    """What becomes of one request to Keycloak."""

    ANSWERED = auto()
    REFUSED = auto()
    DROPPED = auto()
    """Never arrives; nobody answers."""
    LOST_BEFORE = auto()
    """The connection goes before the request has arrived."""
    LOST_AFTER = auto()
    """It takes effect, and the connection goes."""
    SILENT_AFTER = auto()
    """It takes effect, and no answer ever comes."""
    LATE = auto()
    """It takes effect after its caller has given up."""
    LOST_LATE = auto()
    """The connection goes, and it takes effect a while later."""
    FROZEN = auto()
    """A node that stands still has received it: it takes effect when that node goes on."""
    ERROR = auto()
    ERROR_AFTER = auto()
    UNAVAILABLE = auto()
    UNAVAILABLE_AFTER = auto()
    """A proxy says 503 without a `Retry-After`, and Keycloak has done it."""
    THROTTLED = auto()


class Outage(Enum):
    """How Keycloak fails everybody at once."""

    REFUSES = CallFate.REFUSED
    HANGS = CallFate.DROPPED
    ERRORS = CallFate.ERROR
    UNAVAILABLE = CallFate.UNAVAILABLE
    THROTTLES = CallFate.THROTTLED


Fate = TypeVar("Fate", CallFate, DatabaseFate)

_CALLS = {
    "refused": CallFate.REFUSED,
    "dropped": CallFate.DROPPED,
    "lost_before": CallFate.LOST_BEFORE,
    "lost_after": CallFate.LOST_AFTER,
    "silent_after": CallFate.SILENT_AFTER,
    "late_effect": CallFate.LATE,
    "error": CallFate.ERROR,
    "error_after": CallFate.ERROR_AFTER,
    "unavailable": CallFate.UNAVAILABLE,
    "unavailable_after": CallFate.UNAVAILABLE_AFTER,
    "throttled": CallFate.THROTTLED,
    "lost_late": CallFate.LOST_LATE,
    "frozen": CallFate.FROZEN,
}
_TRANSACTIONS = {
    "database_cut": DatabaseFate.CUT,
    "database_lost": DatabaseFate.LOST,
    "database_late": DatabaseFate.LATE,
}
_STAYS = frozenset({"server_limit", "clock_ahead"})
_APART = _STAYS | {"lost_late", "frozen"}
_HIGHEST = {"database_late": 0.1, "late_effect": 0.05, "late_insert": 0.6, "strikes": 0.03}


@dataclass(slots=True, kw_only=True)
class Weather:
    """Rates from 0 to 1 for each exchange, and what is out now.

    Attributes:
        late_insert: how often the entries of a batch become visible only a while after their ids were given.
        slow_call: how often Keycloak takes nearly as long as it may.
        kafka: how often an exchange with Kafka fails.
        strikes: how often a process is stopped at a moment that matters; faults at random times seldom meet one.
        lost_late: drawn apart, as is what follows.
        frozen: how many requests go to a node of Keycloak that stands still now.
        freezes_every: seconds from one time to the next when a node stands still; None: none ever does.
        clock_ahead: seconds by which Keycloak's clock is ahead of everybody else's.
        server_limit: seconds after the end of a call until which its requests may take effect inside Keycloak; only what a
            node holds that stands still takes effect later.
        cursed: users all of whose calls fail with a 500, for ever.
    """

    refused: float = 0.0
    dropped: float = 0.0
    lost_before: float = 0.0
    lost_after: float = 0.0
    silent_after: float = 0.0
    late_effect: float = 0.0
    error: float = 0.0
    error_after: float = 0.0
    unavailable: float = 0.0
    unavailable_after: float = 0.0
    throttled: float = 0.0
    slow_call: float = 0.0
    database_cut: float = 0.0
    database_lost: float = 0.0
    database_late: float = 0.0
    slow_database: float = 0.0
    late_insert: float = 0.0
    kafka: float = 0.0
    strikes: float = 0.0
    lost_late: float = 0.0
    frozen: float = 0.0
    clock_ahead: float = 0.0
    server_limit: float = 10.0
    freezes_every: float | None = None
    database_away: bool = False
    kafka_away: bool = False
    outage: Outage | None = None
    forbidden: set[str] = field(default_factory=set)
    cursed: set[str] = field(default_factory=set)

    @classmethod
    def drawn(cls, rng: random.Random) -> Weather:
        """Some of the faults, each at a rate of its own: a few at a time meet situations that all at once never do."""
        weather = cls()
        for each in fields(cls):
            if each.type != "float" or each.name in _APART or rng.random() < 0.55:
                continue
            setattr(weather, each.name, rng.uniform(0.01, _HIGHEST.get(each.name, 0.2)))
        # A database that loses every fifth answer never gets to the interesting part.
        weather.database_cut *= 0.3
        weather.database_lost *= 0.3
        weather.kafka *= 0.05
        return weather

    def draw_apart(self, rng: random.Random) -> None:
        """Draw what is only in worlds where kcsync is not the only writer; in half of them much is in doubt."""
        if rng.random() < 0.5:
            self.late_effect = max(self.late_effect, rng.uniform(0.02, 0.15))
            self.lost_late = rng.uniform(0.02, 0.15)
            self.silent_after = max(self.silent_after, rng.uniform(0.0, 0.1))
        self.freezes_every = rng.choice([None, None, 8.0, 20.0])
        self.clock_ahead = rng.choice([0.0, rng.uniform(-5.0, 5.0)])

    @property
    def lateness(self) -> tuple[float, float, float]:
        """How often a request takes effect late, or nobody is told that it has."""
        return self.late_effect, self.lost_late, self.silent_after

    @lateness.setter
    def lateness(self, rates: tuple[float, float, float]) -> None:
        self.late_effect, self.lost_late, self.silent_after = rates

    def clear_up(self) -> None:
        """All faults end; who is cursed stays so."""
        for each in fields(self):
            if each.type == "float" and each.name not in _STAYS:
                setattr(self, each.name, 0.0)
        self.database_away = self.kafka_away = False
        self.outage = None
        self.forbidden.clear()

    def fate_of_call(self, rng: random.Random) -> CallFate:
        """Draw what becomes of a request."""
        if self.outage is not None:
            return self.outage.value
        return _drawn(rng, ((getattr(self, name), fate) for name, fate in _CALLS.items()), CallFate.ANSWERED)

    def fate_of_transaction(self, rng: random.Random) -> DatabaseFate:
        """Draw what becomes of a transaction."""
        if self.database_away:
            return DatabaseFate.AWAY
        rates = ((getattr(self, name), fate) for name, fate in _TRANSACTIONS.items())
        return _drawn(rng, rates, DatabaseFate.DONE)

    def database_latency(self, rng: random.Random) -> float:
        """Seconds one way."""
        return rng.uniform(0.2, 3.0) if rng.random() < self.slow_database * 0.2 else rng.uniform(0.0005, 0.01)

    def call_latency(self, rng: random.Random, timeout: float) -> float:
        """Seconds one way, less than half the timeout."""
        if rng.random() < self.slow_call:
            return rng.uniform(0.3, 0.49) * timeout
        return rng.uniform(0.002, 0.05) if rng.random() < 0.7 else rng.uniform(0.05, 0.2) * timeout


def _drawn(rng: random.Random, rates: Iterable[tuple[float, Fate]], otherwise: Fate) -> Fate:
    point = rng.random()
    for rate, fate in rates:
        if point < rate:
            return fate
        point -= rate
    return otherwise
