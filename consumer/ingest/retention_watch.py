"""Looks after paused partitions: lets those flow whose unread records Kafka would soon remove, and says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta

import structlog

from consumer.durations import format_duration
from consumer.ingest.kafka import KafkaReader, KafkaUnavailable
from consumer.ingest.retention import ASSUMED, Retention, Unread
from consumer.outbox.audit import AuditStore
from consumer.telemetry.trouble import Trouble

__all__ = ["RetentionWatch"]

_log = structlog.get_logger(__name__)


class RetentionWatch:
    """Which of the paused partitions may not stay so."""

    def __init__(
        self,
        audit: AuditStore,
        on_state: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Watch.

        Args:
            audit: where it is recorded that a partition flows in spite of a pause.
            on_state: told the same in one line for people; must not block.
            clock: seconds that never go back.
            wall: seconds since the epoch, as in the records' timestamps.
        """
        self._audit = audit
        self._on_state = on_state
        self._clock = clock
        self._wall = wall
        self._endangered: set[int] = set()
        self._look_at = float("-inf")
        self._assumption_said = False
        self._trouble = Trouble()

    @property
    def endangered(self) -> Collection[int]:
        """Partitions that flow whatever the reason for a pause."""
        return self._endangered

    def forget(self) -> None:
        """Nothing is paused any more, or other partitions are ours: the next pause is looked at at once."""
        self._endangered = set()
        self._look_at = float("-inf")

    async def look(self, reader: KafkaReader, next_offsets: Mapping[int, int]) -> None:
        """Look at partitions that are paused or endangered, if it is time to.

        Args:
            reader: the member that owns them.
            next_offsets: the first unread record of each.

        Raises:
            DatabaseUnavailable: what was found could not be recorded.
        """
        if self._clock() < self._look_at:
            return
        endangered = self._endangered
        try:
            retention = await self._retention(reader)
            found = await self._ask(reader, retention, next_offsets)
        except KafkaUnavailable as error:
            self._look_at = self._clock() + ASSUMED.look_every
            if self._trouble.is_news():
                _log.warning("paused partitions not looked after", reason=str(error))
            return
        self._trouble.over()
        if endangered is not self._endangered:
            # A rebalance came between: other partitions are ours now.
            return
        self._look_at = self._clock() + retention.look_every
        for partition, unread in found.items():
            if not retention.endangers(unread):
                endangered.discard(partition)
            elif partition not in endangered:
                await self._tell(partition, unread, retention)
                endangered.add(partition)

    async def _retention(self, reader: KafkaReader) -> Retention:
        retention = await reader.retention()
        if retention is not None:
            return retention
        if not self._assumption_said:
            self._assumption_said = True
            _log.warning(
                "the topic's retention may not be read; 7d are assumed while partitions are paused: "
                "grant DescribeConfigs on the topic"
            )
        return ASSUMED

    async def _ask(
        self, reader: KafkaReader, retention: Retention, next_offsets: Mapping[int, int]
    ) -> dict[int, Unread]:
        now = self._wall()
        moments = {
            partition: now - retention.limit(endangered=partition in self._endangered)
            for partition in next_offsets
        }
        return await reader.unread(next_offsets, moments)

    async def _tell(self, partition: int, unread: Unread, retention: Retention) -> None:
        limits = [
            *([] if retention.seconds is None else [format_duration(timedelta(seconds=retention.seconds))]),
            *([] if retention.size is None else [f"{retention.size:,} bytes"]),
        ]
        message = (
            f"{unread.count:,} unread records from offset {max(unread.next_offset, unread.start)} on near the end of "
            f"Kafka's retention ({' or '.join(limits)}): the partition flows into the outbox in spite of the pause"
        )
        _log.error("pause yields to retention", partition=partition, detail=message)
        self._on_state(f"Partition {partition}: {message}")
        await self._audit.record(
            actor="ingest", action="retention_yield", arguments={"partition": partition}, outcome=message
        )
