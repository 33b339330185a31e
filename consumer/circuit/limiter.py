"""How many calls may be under way at once? As many as still bring Keycloak further, and no more.

A limit is held until enough calls were seen at it, then another is tried, and the one that serves better stays. What is
compared is the time that calls take, kind by kind: with n calls under way that take t each, n/t are served a second
(Little's law), so a limit a quarter higher is worth it if calls do not become a quarter slower. A password reset that
takes a hundred times an update's time is compared with password resets, and says nothing about updates.

A call that is turned away cuts the limit at once. docs/decisions/0031 has the reasons, and what was measured.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from consumer.frozen import quick_dataclass

__all__ = ["Call", "Ending", "LimitPolicy", "Limiter", "Why"]

_FEWEST = 8
"""Calls of a kind in a window below which their mean says nothing."""
_NOTHING_ADDED = 0.02


class Why(Enum):
    """Why the limit last changed. The values are for people."""

    START = "as at the start"
    MORE_SERVED = "more calls at once serve more"
    AS_GOOD = "fewer at once serve as many"
    TOO_SLOW = "calls take far longer than at best"
    TURNED_AWAY = "Keycloak turned calls away"
    NO_ANSWER = "Keycloak left calls without an answer"


class Ending(Enum):
    """How a call ended, as far as the limit is concerned."""

    SERVED = "served"
    """It did what was asked; its time can be compared."""
    ANSWERED = "answered"
    """Something else came back; how long that takes says nothing about others."""
    TURNED_AWAY = "turned away"
    TIMED_OUT = "timed out"
    FAILED = "failed"
    """In a way that has nothing to do with how many are under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitPolicy:
    """How the limit is found. Spans are seconds.

    Attributes:
        ceiling: the limit never exceeds it.
        floor: nor does it fall below this, or the ceiling. Two, so that one call that hangs does not stop everybody.
        start: the limit before anything is known.
        round_trips: a limit is judged by so many calls for each that may be under way,
        fewest: and by no fewer than these,
        shortest: and over no shorter span.
        worth: an added call must bring this share of what those before it bring.
        slow: calls that take so many times their best are a reason not to add more, if other instances do the same,
        too_slow: and from so many times on, a reason to take some away.
        rest: after a trial that did not pay the limit rests so long; twice as long after each further one,
        longest_rest: up to this.
        cut_memory: so long after calls were turned away the limit stays below where that happened.
        memory: the best time of a kind is forgotten over this span.
        stale: what was measured longer ago is measured again before it is compared, unless it took long itself.
    """

    ceiling: int = 16
    floor: int = 2
    start: int = 4
    round_trips: int = 20
    fewest: int = 100
    shortest: float = 0.5
    worth: float = 0.2
    slow: float = 3.0
    too_slow: float = 5.0
    rest: float = 5.0
    longest_rest: float = 30.0
    cut_memory: float = 60.0
    memory: float = 1800.0
    stale: float = 30.0

    @property
    def lowest(self) -> int:
        """The floor, or the ceiling if that is lower."""
        return min(self.floor, self.ceiling)


@quick_dataclass(frozen=True, slots=True)
class Call:
    """A call under way.

    Attributes:
        began: seconds, by the caller's clock.
        under_way: calls under way at its beginning, itself among them.
        window: the window in which it began.
        answers: how many answers had come before it began.
    """

    began: float
    under_way: int
    window: int
    answers: int


@dataclass(slots=True)
class _Window:
    """Calls that began at one limit and while it was used."""

    began: float
    ended: float = 0.0
    calls: int = 0
    under_way: int = 0
    seconds: dict[Hashable, tuple[int, float]] = field(default_factory=dict)

    def add(self, kind: Hashable, call: Call, now: float) -> None:
        calls, seconds = self.seconds.get(kind, (0, 0.0))
        self.seconds[kind] = calls + 1, seconds + now - call.began
        self.calls += 1
        self.under_way += call.under_way

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

    def is_stale(self, now: float, stale: float) -> bool:
        """Whether this was too long ago to be compared; what took long to measure keeps longer."""
        return now - self.ended > max(stale, 3.0 * (self.ended - self.began))

    def stretch(self, before: _Window) -> float | None:
        """How many times as long calls take as in a window before; None if too little is alike."""
        least = {kind: mean for kind, _, mean in before.means()}
        alike = sum(calls * mean for kind, calls, mean in self.means() if kind in least)
        if 2.0 * alike < sum(seconds for _, seconds in self.seconds.values()):
            return None
        return self.times(least)


class Limiter:
    """The limit of one instance. Time comes from the caller: seconds that never go back.

    Attributes:
        instances: how many call the same Keycloak, this one among them. Users are spread evenly, so the others are
            taken to have as many calls under way: what is added here is that much less of the whole.
    """

    def __init__(self, policy: LimitPolicy) -> None:
        """Begin with the policy's first limit."""
        self.instances = 1
        self._policy = policy
        self._standing = max(policy.lowest, min(policy.start, policy.ceiling))
        self._limit = self._standing
        self._why, self._changed_at = Why.START, float("-inf")
        self._under_way = 0
        self._answers = 0
        self._number = 0
        self._window = _Window(began=float("-inf"))
        self._before: _Window | None = None
        self._pressed: _Window | None = None
        self._best: dict[Hashable, float] = {}
        self._rest = policy.rest
        self._rests_until = float("-inf")
        self._rested_at: float | None = None
        self._cut_at = self._cut_below_until = float("-inf")
        self._cut_below = policy.ceiling

    @property
    def limit(self) -> int:
        """How many calls may be under way now; for the length of a trial a little more or less than `standing`."""
        return self._limit

    @property
    def standing(self) -> int:
        """The limit that has proved itself."""
        return self._standing

    @property
    def ceiling(self) -> int:
        """What the limit never exceeds."""
        return self._policy.ceiling

    @property
    def why(self) -> Why:
        """Why `standing` last changed."""
        return self._why

    @property
    def changed_at(self) -> float:
        """When it did; minus infinity if never."""
        return self._changed_at

    def begin(self, now: float) -> Call:
        """A call leaves."""
        self._under_way += 1
        return Call(now, self._under_way, self._number, self._answers)

    def gone(self) -> None:
        """A call is not under way any more."""
        self._under_way -= 1

    def learn(self, call: Call, kind: Hashable, ending: Ending, now: float) -> bool:
        """A call of a kind ended just now.

        Returns:
            Whether that cut the limit.
        """
        match ending:
            case Ending.TURNED_AWAY:
                return self._cut(call, Why.TURNED_AWAY, now)
            # While others are answered, a call that is not has a trouble of its own.
            case Ending.TIMED_OUT if self._answers - call.answers < 2 * self._limit:
                return self._cut(call, Why.NO_ANSWER, now)
            case Ending.TIMED_OUT | Ending.FAILED:
                return False
        self._answers += 1
        # Only what began at this limit, and while it was used, says something about it.
        if ending is Ending.SERVED and call.window == self._number and call.under_way >= 0.6 * self._limit:
            self._window.add(kind, call, now)
            if self._window.calls % self._limit == 0 and self._is_enough(now):
                self._window.ended = now
                self._judge(self._window, now)
        return False

    def _is_enough(self, now: float) -> bool:
        """Whether the window says something. That calls take far too long is seen sooner than what is the better of two."""
        policy, window = self._policy, self._window
        if now - window.began < policy.shortest:
            return False
        if window.calls >= max(policy.fewest, policy.round_trips * self._limit):
            return True
        if window.calls < max(policy.fewest, policy.round_trips * self._limit) / 4:
            return False
        times = window.times(self._best)
        return times is not None and times > policy.too_slow

    def _judge(self, window: _Window, now: float) -> None:
        before, self._before = self._before, window
        times = self._remember(window, before)
        if times is not None and times > self._policy.too_slow and self._standing > self._policy.lowest:
            self._pressed = window
            self._change(max(self._policy.lowest, int(0.7 * self._standing)), Why.TOO_SLOW, now)
        elif self._limit == self._standing:
            self._stand(times, now)
        else:
            self._end_trial(before, window, times, now)
        self._begin_window(now)

    def _end_trial(self, before: _Window | None, tried: _Window, times: float | None, now: float) -> None:
        """Enough was seen of another limit: which of the two serves better?"""
        more = self._limit > self._standing
        worth = None
        if before is not None and not before.is_stale(now, self._policy.stale):
            worth = self._is_worth(before, tried) if more else self._is_worth(tried, before)
        if worth is None:
            # Other kinds of calls, or another time: what stands is measured again.
            self._before, self._limit = None, self._standing
        elif more and worth:
            self._change(self._limit, Why.MORE_SERVED, now)
            self._try_more(times, now)
        elif more:
            # Are all that there are worth it?
            self._before = before
            self._try_fewer(times, now)
        elif worth:
            self._before = before
            self._take_rest(times, now)
        else:
            self._change(self._limit, Why.AS_GOOD, now)
            self._try_fewer(times, now)

    def _stand(self, times: float | None, now: float) -> None:
        """Enough was seen of the limit that stands: what next?"""
        if times is not None and self._rested_at is not None and not 0.67 < times / self._rested_at < 1.5:
            # Things have changed: no need to wait until it shows by itself.
            self._rests_until = now
        if now < self._rests_until:
            self._rested_at = self._rested_at or times
        else:
            self._try_more(times, now)

    def _try_more(self, times: float | None, now: float) -> None:
        policy = self._policy
        most = policy.ceiling
        if now < self._cut_below_until:
            most = min(most, self._cut_below)
        more = min(most, self._standing + max(1, self._standing // 4))
        # Alone, a trial tells whether more is worth it. With others about, it tells that only in part.
        crowded = self.instances > 1 and times is not None and times >= policy.slow
        if more > self._standing and not crowded:
            self._limit = more
        else:
            self._try_fewer(times, now)

    def _try_fewer(self, times: float | None, now: float) -> None:
        fewer = max(self._policy.lowest, self._standing - max(1, self._standing // 5))
        if fewer < self._standing:
            self._limit = fewer
        else:
            self._take_rest(times, now)

    def _take_rest(self, times: float | None, now: float) -> None:
        slow = times is not None and times >= self._policy.slow
        self._limit = self._standing
        self._rests_until, self._rested_at = now + (self._policy.rest if slow else self._rest), None
        self._rest = min(2.0 * self._rest, self._policy.longest_rest)

    def _is_worth(self, low: _Window, high: _Window) -> bool | None:
        """Whether the added calls bring enough; None if the two cannot be compared."""
        stretch = high.stretch(low)
        if stretch is None:
            return None
        added = (high.at_once / low.at_once - 1.0) / self.instances
        gained = (1.0 + added) / stretch - 1.0
        # Where a higher limit adds no calls, it is our own work that takes the time.
        return added > _NOTHING_ADDED / self.instances and gained >= self._policy.worth * added

    def _remember(self, window: _Window, before: _Window | None) -> float | None:
        """Keep the best time of each kind; how many times it calls take now."""
        since = window.ended - (window.began if before is None else before.ended)
        for kind, _, mean in window.means():
            best = self._best.get(kind, mean)
            self._best[kind] = best + max(0.0, mean - best) * min(1.0, since / self._policy.memory)
            if mean < best:
                self._best[kind] = mean
        if self._pressed is not None:
            stretch, self._pressed = window.stretch(self._pressed), None
            if stretch is not None and stretch > 0.9:
                # Fewer at once are no faster: it is not for their number that calls take so long.
                self._forget(1.5)
        times = window.times(self._best)
        most = self.instances * window.at_once
        if times is not None and times > most:
            # A call waits for those under way, at the worst for all of them; what takes longer than that is no waiting.
            self._forget(times / most)
            return most
        return times

    def _forget(self, times: float) -> None:
        """What was the best time cannot be had any more: so many times that is."""
        self._best = {kind: times * least for kind, least in self._best.items()}

    def _cut(self, call: Call, why: Why, now: float) -> bool:
        # Once a round trip: what began before the last cut was turned away for what was too much then.
        if call.began < self._cut_at:
            return False
        policy = self._policy
        self._cut_at = now
        self._cut_below, self._cut_below_until = max(policy.lowest, self._limit - 1), now + policy.cut_memory
        before = self._standing
        self._change(max(policy.lowest, self._limit // 2), why, now)
        self._limit, self._before, self._pressed = self._standing, None, None
        self._rests_until, self._rested_at = now + policy.rest, None
        self._begin_window(now)
        return self._standing < before

    def _change(self, limit: int, why: Why, now: float) -> None:
        self._rest = self._policy.rest
        if limit != self._standing:
            self._standing = self._limit = limit
            self._why, self._changed_at = why, now

    def _begin_window(self, now: float) -> None:
        self._number += 1
        self._window = _Window(began=now)
