"""Says a trouble when it begins, and seldom while it lasts."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Trouble"]


class Trouble:
    """One trouble that a loop meets again and again, such as a database that is away."""

    def __init__(self, every: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare for a trouble.

        Args:
            every: seconds after which it is said again while it lasts.
            clock: seconds that never go back.
        """
        self._every = every
        self._clock = clock
        self._said_at: float | None = None

    def is_news(self) -> bool:
        """It is met now: whether to say so."""
        now = self._clock()
        if self._said_at is not None and now - self._said_at < self._every:
            return False
        self._said_at = now
        return True

    def over(self) -> None:
        """All went well: the next time it is news again."""
        self._said_at = None
