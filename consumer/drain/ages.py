"""How old has an entry grown while it could have been delivered? By a clock that stands still in an outage. Pure.

What counts is the time from an entry's first call on, as the head of its lane: calls and the waits between them, while
the circuit let calls through and the entry's realm was not at fault. Between two calls the time is remembered here
alone, so that a crash or a take-over loses one wait, and never adds one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

__all__ = ["Ages"]

_LONGEST_TICK = 30.0
"""Seconds that pass between two ticks at most: a process that was stopped for longer saw nothing of Keycloak."""
_MOST_REMEMBERED = 100_000


@dataclass(slots=True)
class Ages:
    """What this process has seen of Keycloak's reachable time, and when it called which entry last."""

    _ticked: float | None = None
    _reachable: float = 0.0
    _at_fault: dict[str, float] = field(default_factory=dict)
    _called: dict[int, tuple[int, float]] = field(default_factory=dict)

    def tick(self, now: float, *, reachable: bool, at_fault: Collection[str]) -> None:
        """Count the time since the last tick.

        Args:
            now: seconds of a clock that never goes back.
            reachable: whether calls are let through.
            at_fault: realms that cannot be worked in although Keycloak is there.
        """
        passed = 0.0 if self._ticked is None else min(now - self._ticked, _LONGEST_TICK)
        self._ticked = now
        if not reachable:
            return
        self._reachable += passed
        for realm in at_fault:
            self._at_fault[realm] = self._at_fault.get(realm, 0.0) + passed

    def reading(self, realm: str) -> float:
        """Seconds that this realm could be worked in, so far."""
        return self._reachable - self._at_fault.get(realm, 0.0)

    def since_last_call(self, entry_id: int, token: int, reading: float) -> float:
        """Seconds that count since this entry's last call; 0 if that was not made here, under this token."""
        known_token, called = self._called.get(entry_id, (None, 0.0))
        return reading - called if known_token == token else 0.0

    def called(self, entry_id: int, token: int, reading: float) -> None:
        """A call of this entry began at that reading; the oldest are forgotten when there are too many."""
        self._called.pop(entry_id, None)
        self._called[entry_id] = (token, reading)
        if len(self._called) > _MOST_REMEMBERED:
            del self._called[next(iter(self._called))]

    def forget(self, entry_id: int) -> None:
        """The entry waits for nobody's call any more."""
        self._called.pop(entry_id, None)
