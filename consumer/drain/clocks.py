"""How far this process's clock is ahead of the database's.

What is kept stands in the database's time, what Keycloak is asked in ours: each answer of the database that names its time
tells the difference between the two, but for the way of that answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

__all__ = ["Clocks"]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Clocks:
    """What is known of the two clocks.

    Attributes:
        now: gives the present time by ours (UTC).
        ahead: how far ours is ahead.
    """

    now: Callable[[], datetime] = _now
    ahead: timedelta = timedelta(0)

    def database_said(self, theirs: datetime) -> None:
        """The database has just named its time (UTC, without a zone)."""
        self.ahead = self.now() - theirs.replace(tzinfo=UTC)

    def ours(self, theirs: datetime) -> datetime:
        """The moment by our clock (UTC) that the database called by its own."""
        return theirs.replace(tzinfo=UTC) + self.ahead

    def database(self, ours: datetime) -> datetime:
        """The moment by the database's clock (UTC, without a zone) that is a moment of ours (UTC)."""
        return (ours - self.ahead).replace(tzinfo=None)
