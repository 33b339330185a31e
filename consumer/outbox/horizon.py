"""Up to where may what speaks of positions be forgotten? Pure.

The ledger tells a duplicate from a new event, and a mark keeps a position out of every fold. Both may go when no record
can come any more that needs them: Kafka no longer holds the position, so no replay can read it, and a producer that
publishes the event once more, from its spool, would have done it by now, and we would have read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter

__all__ = ["Horizon", "SeenLog", "horizons"]

# Between Kafka's answer and the note of it there may be the longest wait for each of the two, 15 s.
_SLACK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLog:
    """A partition's watermark, and what its writer last saw in Kafka. None: nobody has looked yet.

    Attributes:
        topic_id: its topic.
        partition: its number.
        next_offset: the first record that was not ingested.
        log_start: the first record that Kafka held.
        log_end: where the next record would have been written.
        log_seen_at: when that was written down, by the database's clock.
    """

    topic_id: int
    partition: int
    next_offset: int
    log_start: int | None
    log_end: int | None
    log_seen_at: datetime | None

    @property
    def read_until(self) -> datetime | None:
        """Everything that Kafka took before has been ingested; None where nothing can be said."""
        if self.log_end is None or self.log_seen_at is None or self.next_offset < self.log_end:
            return None
        return self.log_seen_at - _SLACK


@dataclass(frozen=True, slots=True)
class Horizon:
    """What may be forgotten of one topic: positions before `starts`, by partition, remembered before a moment."""

    topic_id: int
    before: datetime
    starts: Mapping[int, int]


def horizons(logs: Iterable[SeenLog], age: timedelta) -> list[Horizon]:
    """Decide for each topic; a topic of which nothing may go is left out.

    A duplicate may come in any partition of the topic, because a producer may partition wrongly and topics grow. So the
    age counts up to where all of them have been read: what waits in Kafka behind a pause still finds the ledger as it
    was. A partition that nobody reads or looks at keeps its topic as it is.

    Args:
        logs: all partitions.
        age: how long something is remembered at least, which is as long as a producer may publish an event again.
    """
    found = []
    for topic_id, partitions in groupby(sorted(logs, key=_place), key=attrgetter("topic_id")):
        of_topic = list(partitions)
        read = [each.read_until for each in of_topic]
        starts = {each.partition: each.log_start for each in of_topic if each.log_start}
        if starts and None not in read:
            found.append(Horizon(topic_id, min(filter(None, read)) - age, starts))
    return found


def _place(log: SeenLog) -> tuple[int, int]:
    return log.topic_id, log.partition
