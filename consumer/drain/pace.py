"""How many calls end in a second, lately. Pure."""

from __future__ import annotations

__all__ = ["Pace"]

_SPAN = 1.0
_SHORTEST = 0.2
"""Seconds that a span counts for at least: the first few calls say little."""


class Pace:
    """Counts over spans of a second; what it says is that of the last whole span, or of this one so far if it is faster."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._count = 0
        self._last = 0.0

    def count(self) -> None:
        """One more."""
        self._count += 1

    def per_second(self, now: float) -> float:
        """Calls a second. `now` is in seconds and never goes back."""
        elapsed = now - self._began
        if elapsed >= _SPAN:
            self._last = self._count / elapsed
            self._began, self._count = now, 0
        return max(self._last, self._count / max(now - self._began, _SHORTEST))
