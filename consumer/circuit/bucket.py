"""So many a second, and no more: a token bucket with a small burst."""

from __future__ import annotations

__all__ = ["Bucket"]

_BURST_SECONDS = 0.1
_NOTHING = 1e-6


class Bucket:
    """Permits that come in at a rate. Time and rate come from the caller: seconds that never go back, permits a second."""

    def __init__(self, now: float) -> None:
        self._filled_at = now
        self._permits = 1.0

    def wait(self, now: float, rate: float) -> float:
        """Seconds until a permit is there; 0 if there is one."""
        burst = max(1.0, rate * _BURST_SECONDS)
        self._permits = min(burst, self._permits + (now - self._filled_at) * rate)
        self._filled_at = now
        # Whoever has waited as long as they were told may not find it missing by a rounding error.
        missing = 1.0 - self._permits
        return missing / rate if missing > _NOTHING else 0.0

    def take(self) -> None:
        """Spend a permit, one that is still to come if there is none."""
        self._permits -= 1.0
