"""Waiting longer after each failure, with jitter. The only module that imports `backoff` (archived upstream)."""

from __future__ import annotations

from collections.abc import Callable

import backoff

__all__ = ["Backoff", "retry_delay"]


class Backoff:
    """Pauses of a loop that waits for a server to come back: they double up to a cap, jittered from half to whole."""

    def __init__(self, *, base: float, cap: float, uniform: Callable[[float, float], float]) -> None:
        self._base = base
        self._cap = cap
        self._uniform = uniform
        self._failures = 0

    def reset(self) -> None:
        """The server has answered."""
        self._failures = 0

    def next_delay(self) -> float:
        """Seconds to wait after one more failure."""
        self._failures += 1
        # backoff's generators are stateful and begin with None; its pure jitter is what we want of it.
        whole = min(self._cap, self._base * 2.0 ** min(self._failures - 1, 30))
        return whole / 2 + self._uniform(0.0, whole / 2)


def retry_delay(failures: int, *, base: float, factor: float, cap: float, floor: float) -> float:
    """Seconds until the next attempt after the n-th failure (from 1): full jitter above a floor.

    Full jitter alone can come to nearly nothing, and a failing user would be tried again at once.
    """
    whole = min(cap, base * factor ** min(max(failures, 1) - 1, 30))
    return float(floor + backoff.full_jitter(max(0.0, whole - floor)))
