"""The calls of this instance: how many may be under way, and how many may begin in a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

import structlog

from consumer.circuit.bucket import Bucket
from consumer.circuit.limit_policy import LimitPolicy
from consumer.circuit.limiter import Call, Ending, Limiter
from consumer.outbox.rows import LimitNote

__all__ = ["CallLimit"]

_log = structlog.get_logger(__name__)


class CallLimit:
    """Watches the calls, and says whether one more may begin."""

    def __init__(
        self,
        policy: LimitPolicy,
        *,
        per_second: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to watch.

        Args:
            policy: how the limit is found.
            per_second: calls that all instances together may begin in a second; None: as many as they can.
            clock: seconds that never go back.
        """
        self._limiter = Limiter(policy)
        self._per_second = per_second
        self._clock = clock
        self._bucket = Bucket(clock())
        self._paid = 0

    @property
    def at_once(self) -> int:
        """How many may be under way now."""
        return self._limiter.limit

    @property
    def ceiling(self) -> int:
        """How many may ever be under way."""
        return self._limiter.ceiling

    @property
    def instances(self) -> int:
        """How many share Keycloak and the rate, this one among them."""
        return self._limiter.instances

    @instances.setter
    def instances(self, alive: int) -> None:
        self._limiter.instances = alive

    @property
    def per_second(self) -> float | None:
        """How many of this instance may begin in a second; None: as many as it can."""
        return None if self._per_second is None else self._per_second / self.instances

    def wait(self) -> float:
        """Seconds until one more may begin."""
        rate = self.per_second
        return 0.0 if rate is None else self._bucket.wait(self._clock(), rate)

    def pay(self) -> None:
        """A lane's turn begins: its first call is paid for. Further calls of it are paid for as they leave.

        So nobody waits in the middle of a turn, where the lease goes by; those who come after wait longer.
        """
        if self._per_second is not None:
            self._bucket.take()
            self._paid += 1

    def turns_left(self, under_way: int) -> None:
        """So many turns are under way now: what others paid without a call is not kept."""
        self._paid = min(self._paid, under_way)

    def begin(self) -> Call:
        """A call leaves."""
        if self._paid:
            self._paid -= 1
        elif self._per_second is not None:
            self._bucket.take()
        return self._limiter.begin(self._clock())

    def gone(self) -> None:
        """A call is not under way any more."""
        self._limiter.gone()

    def learn(self, call: Call, kind: Hashable, ending: Ending) -> None:
        """A call of a kind ended just now."""
        if self._limiter.learn(call, kind, ending, self._clock()):
            _log.warning("fewer calls at once", limit=self._limiter.standing, reason=self._limiter.why.value)

    def note(self) -> LimitNote:
        """How it stands, for people."""
        limiter = self._limiter
        ago = self._clock() - limiter.changed_at
        return LimitNote(
            limit=limiter.standing,
            ceiling=limiter.ceiling,
            per_second=self.per_second,
            why=limiter.why.value,
            changed_ago=ago if ago < float("inf") else None,
        )
