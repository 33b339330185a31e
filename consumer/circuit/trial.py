"""Which of two limits of calls serves better? Both are used in turns, and the trial goes on until that is clear."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from math import sqrt
from statistics import fmean, stdev

from consumer.circuit.limit_policy import LimitPolicy

__all__ = ["Seen", "Trial"]

_FEWEST = 8
"""Calls of a kind below which their mean says nothing."""
_NOTHING_ADDED = 0.02
_CLEAR = 2.0
"""What is found is clear when it is so many times its standard error."""


@dataclass(slots=True)
class Seen:
    """Calls that were served while a limit was used."""

    calls: int = 0
    under_way: int = 0
    seconds: dict[Hashable, tuple[int, float]] = field(default_factory=dict)

    def add(self, kind: Hashable, *, under_way: int, seconds: float) -> None:
        """One of a kind was served in so many seconds, with so many under way when it began, itself among them."""
        self._add(kind, 1, seconds)
        self.calls += 1
        self.under_way += under_way

    def add_all(self, others: Seen) -> None:
        """So were others."""
        for kind, (calls, seconds) in others.seconds.items():
            self._add(kind, calls, seconds)
        self.calls += others.calls
        self.under_way += others.under_way

    def _add(self, kind: Hashable, calls: int, seconds: float) -> None:
        calls_before, seconds_before = self.seconds.get(kind, (0, 0.0))
        self.seconds[kind] = calls_before + calls, seconds_before + seconds

    @property
    def at_once(self) -> float:
        """Calls under way, in the mean."""
        return self.under_way / self.calls

    def means(self) -> Iterable[tuple[Hashable, int, float]]:
        """Kinds with how many calls were seen and their mean time, as far as it says something."""
        return (
            (kind, calls, max(seconds / calls, 1e-9))
            for kind, (calls, seconds) in self.seconds.items()
            if calls >= _FEWEST
        )

    def times(self, best: dict[Hashable, float]) -> float | None:
        """How many times their best calls took, weighted by the time spent on each kind; None if no kind is known."""
        known = [(calls, mean, best[kind]) for kind, calls, mean in self.means() if kind in best]
        taken = sum(calls * mean for calls, mean, _ in known)
        return taken / sum(calls * least for calls, _, least in known) if known else None

    def stretch(self, before: Seen) -> float | None:
        """How many times as long calls take as those seen before; None if too little is alike."""
        least = {kind: mean for kind, _, mean in before.means()}
        alike = sum(calls * mean for kind, calls, mean in self.means() if kind in least)
        if 2.0 * alike < sum(seconds for _, seconds in self.seconds.values()):
            return None
        return self.times(least)


@dataclass(slots=True)
class Trial:
    """Turns of a rival, each followed by one of the limit that stands.

    What makes a machine faster or slower from one second to the next meets both turns of a pair alike.

    Attributes:
        policy: how much is seen, and what an added call must bring.
        standing: the limit that stands.
        rival: the other.
        began: when the first turn did, in seconds.
        tried: what was seen of the rival,
        stood: and of what stands.
    """

    policy: LimitPolicy
    standing: int
    rival: int
    began: float
    tried: Seen = field(default_factory=Seen)
    stood: Seen = field(default_factory=Seen)
    _instances: int = 1
    _pairs: int = 0
    _margins: list[float] = field(default_factory=list)
    _turn_before: Seen | None = None

    @property
    def limit(self) -> int:
        """Whose turn it is."""
        return self.rival if self._turn_before is None else self.standing

    @property
    def is_about_more(self) -> bool:
        """Whether the rival is the higher of the two."""
        return self.rival > self.standing

    def add(self, turn: Seen, *, instances: int) -> None:
        """This was seen in the turn that is over; `instances` make as many calls as we do."""
        tried = self._turn_before
        if tried is None:
            self._turn_before = turn
            self.tried.add_all(turn)
            return
        self._turn_before = None
        self.stood.add_all(turn)
        self._pairs += 1
        self._instances = instances
        margin = self._margin(tried, turn)
        if margin is not None:
            self._margins.append(margin)

    def is_over(self, now: float) -> bool:
        """Whether enough was seen."""
        if self._turn_before is not None or self._pairs < self.policy.turns:
            return False
        return now - self.began >= self.policy.longest_trial or self._is_clear()

    @property
    def more_is_worth_it(self) -> bool | None:
        """Whether the added calls of the higher limit bring enough; None if that cannot be said: other kinds in each."""
        if self._margins:
            return fmean(self._margins) >= 0.0
        # So many kinds that a turn has too few of each; all turns together may have enough.
        margin = self._margin(self.tried, self.stood)
        return None if margin is None else margin >= 0.0

    def _is_clear(self) -> bool:
        margins = self._margins
        if len(margins) < 2:
            return False
        return abs(fmean(margins)) >= _CLEAR * stdev(margins) / sqrt(len(margins))

    def _margin(self, tried: Seen, stood: Seen) -> float | None:
        """By how much more is served than the added calls must bring, as a share; None if the two cannot be compared."""
        low, high = (stood, tried) if self.is_about_more else (tried, stood)
        worth = self.policy.worth
        stretch = high.stretch(low)
        if stretch is None:
            return None
        added = high.at_once / low.at_once - 1.0
        if added <= _NOTHING_ADDED:
            # It is our own work that takes the time.
            return -worth
        # That much less of the whole where others have as many under way.
        added /= self._instances
        return (1.0 + added) / stretch - 1.0 - worth * added
