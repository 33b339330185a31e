"""Would Kafka soon remove records that nobody has read? Then a paused partition flows again. Pure.

Kafka removes whole segments: those whose newest record is older than `retention.ms`, and the oldest ones of a log that
has grown beyond `retention.bytes`. It says nothing beforehand, so half of either is as far as a pause may go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from producer_lib import MAX_EVENT_BYTES

__all__ = ["ASSUMED", "Retention", "Unread"]

_LONGEST_LOOK = 30.0
_SHORTEST_LOOK = 1.0


@dataclass(frozen=True, slots=True)
class Unread:
    """How one partition stands.

    Attributes:
        next_offset: the first record that was not read.
        start: the first record that Kafka holds.
        end: where the next record will be written.
        younger_from: the first record that is younger than a given moment, or None if none is.
    """

    next_offset: int
    start: int
    end: int
    younger_from: int | None

    @property
    def count(self) -> int:
        """Records that were not read, and that Kafka still holds."""
        return max(0, self.end - max(self.next_offset, self.start))

    @property
    def has_older(self) -> bool:
        """Whether a record that was not read is older than the given moment."""
        return self.count > 0 and (self.younger_from is None or self.younger_from > self.next_offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long Kafka keeps the topic's records: seconds and bytes a partition; None: without limit."""

    seconds: float | None
    size: int | None

    @classmethod
    def of(cls, config: Mapping[str, str]) -> Retention:
        """Read it from the topic's own configuration, in which -1 means without limit."""
        if "delete" not in config["cleanup.policy"].split(","):
            return cls(seconds=None, size=None)
        milliseconds, size = int(config["retention.ms"]), int(config["retention.bytes"])
        return cls(seconds=None if milliseconds < 0 else milliseconds / 1000, size=None if size < 0 else size)

    @property
    def look_every(self) -> float:
        """Seconds between two looks at a paused partition: often enough for the shortest retention."""
        if self.seconds is None:
            return _LONGEST_LOOK
        return min(max(self.seconds / 10, _SHORTEST_LOOK), _LONGEST_LOOK)

    def limit(self, *, endangered: bool) -> float:
        """The age in seconds that an unread record may reach: half of what Kafka grants.

        A partition that flows for its age goes on until its records are younger than half of that, so that it does not
        stop and go.
        """
        if self.seconds is None:
            return float("inf")
        return self.seconds / (4 if endangered else 2)

    def endangers(self, unread: Unread) -> bool:
        """Whether records would soon be removed unread.

        By age: one is older than `limit`, which is the moment `unread` was asked about. By size: Kafka counts bytes and
        we records, so at most half of the log may be unread, unless it is so little that it can be no half.
        """
        if self.seconds is not None and unread.has_older:
            return True
        if self.size is None or unread.count * MAX_EVENT_BYTES <= self.size / 2:
            return False
        return unread.count * 2 >= unread.end - unread.start


ASSUMED = Retention(seconds=7 * 86400.0, size=None)
"""Kafka's own default, assumed where we may not read the topic's configuration."""
