"""A Keycloak as queueing theory has it, with so many servers, and callers who always have more work."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from consumer.circuit.limiter import Ending, Limiter


@dataclass(slots=True)
class Model:
    """Servers that become slower for all when more is asked of them than they can do.

    Attributes:
        servers: how many calls are served at once.
        seconds: the mean time of a call of each kind.
        thrash: by how much of itself a call becomes longer for each call that waits, per server.
        mix: how often each kind is asked for, in relation to the others.
        turns_away: calls beyond so many at once are turned away at the door; None: never.
        busy: calls of others that are always under way.
        alone: what share of a call is served to one at a time, so that each further call brings less than the one before.
        gusts: by how much the machine is now faster and now slower, for about a second at a time: the standard deviation
            of its speed's logarithm.
    """

    servers: int
    seconds: dict[str, float] = field(default_factory=lambda: {"update": 0.01})
    thrash: float = 0.0
    mix: dict[str, float] = field(default_factory=lambda: {"update": 1.0})
    turns_away: int | None = None
    busy: int = 0
    alone: float = 0.0
    gusts: float = 0.0
    _gust: float = 0.0
    _blew_at: float = 0.0

    def time_of(self, kind: str, under_way: int, rng: random.Random, now: float) -> float:
        """How long a call takes that finds so many under way now, itself among them."""
        all_of_them = under_way + self.busy
        waiting = max(0, all_of_them - self.servers)
        mean = (
            self.seconds[kind]
            * max(1.0, all_of_them / self.servers)
            * (1.0 + self.thrash * waiting / self.servers)
            * (1.0 + self.alone * (under_way - 1))
            * math.exp(self._blow(rng, now))
        )
        return mean * rng.gammavariate(2.0, 0.5)

    def _blow(self, rng: random.Random, now: float) -> float:
        if self.gusts:
            kept = math.exp(self._blew_at - now)
            self._gust = kept * self._gust + math.sqrt(1.0 - kept**2) * rng.gauss(0.0, self.gusts)
            self._blew_at = now
        return self._gust

    def rate(self, limit: int) -> float:
        """What is served with so many at once, in calls' own seconds a second."""
        waiting = max(0, limit - self.servers)
        return (
            min(limit, self.servers)
            / (1.0 + self.thrash * waiting / self.servers)
            / (1.0 + self.alone * (limit - 1))
        )

    def best(self, ceiling: int) -> float:
        """The most that any limit up to the ceiling serves."""
        return max(self.rate(limit) for limit in range(1, ceiling + 1))


@dataclass(slots=True)
class Run:
    """Callers that use a limit fully.

    Attributes:
        changes: each limit that stood, with when it began to.
        most: the most calls under way at once.
        turned_away: when calls were turned away.
    """

    model: Model
    limiter: Limiter
    seed: int = 0
    demand: int = 10_000
    now: float = 0.0
    changes: list[tuple[float, int]] = field(default_factory=list)
    turned_away: list[float] = field(default_factory=list)

    def stood(self) -> dict[int, float]:
        """Each limit of `changes`, with how many seconds it stood."""
        ends = [at for at, _ in self.changes[1:]] + [self.now]
        spans: dict[int, float] = {}
        for (began, limit), ended in zip(self.changes, ends, strict=True):
            spans[limit] = spans.get(limit, 0.0) + ended - began
        return spans

    def go(self, seconds: float, ahead: Callable[[], None] = lambda: None) -> float:
        """Call for so long; what was served a second, in calls' own seconds."""
        rng = random.Random(self.seed)
        self.seed += 1
        ending: list[tuple[float, int, object, str, bool]] = []
        began, number, served = self.now, 0, 0.0
        while self.now - began < seconds:
            ahead()
            while len(ending) < min(self.limiter.limit, self.demand):
                kind = rng.choices(list(self.model.mix), list(self.model.mix.values()))[0]
                call = self.limiter.begin(self.now)
                refused = self.model.turns_away is not None and len(ending) >= self.model.turns_away
                takes = 0.001 if refused else self.model.time_of(kind, len(ending) + 1, rng, self.now)
                number += 1
                heapq.heappush(ending, (self.now + takes, number, call, kind, refused))
            self.now, _, call, kind, refused = heapq.heappop(ending)  # type: ignore[assignment]
            self.limiter.gone()
            self.limiter.learn(call, kind, Ending.TURNED_AWAY if refused else Ending.SERVED, self.now)
            if refused:
                self.turned_away.append(self.now)
            else:
                served += self.model.seconds[kind]
            if not self.changes or self.changes[-1][1] != self.limiter.standing:
                self.changes.append((self.now, self.limiter.standing))
        for _ in ending:
            self.limiter.gone()
        return served / (self.now - began)
