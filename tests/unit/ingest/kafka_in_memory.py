"""A group member and an outbox in memory, for tests of the ingest loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import cast

from opentelemetry.trace import NoOpTracer

from consumer.ingest.decode import Record
from consumer.ingest.ingest import Ingest, IngestPolicy
from consumer.ingest.kafka import KafkaAddress, KafkaReader, KafkaUnavailable, PartitionState
from consumer.ingest.pausing import PausePolicy
from consumer.ingest.resume import LogRange
from consumer.ingest.retention import Retention, Unread
from consumer.outbox.audit import AuditStore
from consumer.outbox.errors import OutboxError
from consumer.outbox.ingest_store import BatchRows, IngestStore, PartitionsLost, StaleOffsets
from consumer.outbox.rows import LogNote, PartitionProgress, PauseNote, Seen, Watermark
from tests.unit.ingest.records import REALMS


class MemoryLog:
    """One topic: its records, and what the group has committed."""

    def __init__(self, partitions: int = 4) -> None:
        self.records: dict[int, list[Record]] = {partition: [] for partition in range(partitions)}
        self.start = dict.fromkeys(range(partitions), 0)
        self.committed: dict[int, tuple[int, str]] = {}
        self.retention: Retention | None = Retention(seconds=7 * 86400.0, size=None)


class MemoryReader:
    """A member that has been assigned what the test says."""

    cluster = "c"

    def __init__(self, log: MemoryLog, on_assigned: Callable[[frozenset[int]], None]) -> None:
        self.log = log
        self.assigned: frozenset[int] = frozenset()
        self.paused: frozenset[int] = frozenset()
        self.positions: dict[int, int] = {}
        self.between_polls: Callable[[], None] = lambda: None
        self.while_asked: Callable[[], None] = lambda: None
        self.fault: KafkaUnavailable | None = None
        self.looks = 0
        self.log_looks = 0
        self.once_asked: Callable[[], None] = lambda: None
        self._on_assigned = on_assigned

    def rebalance(self, *partitions: int) -> None:
        """A new assignment: positions and pauses are forgotten, and all of it is paused."""
        self.assigned = self.paused = frozenset(partitions)
        self.positions = {}
        self._on_assigned(self.assigned)

    def assignment(self) -> frozenset[int]:
        return self.assigned

    async def states(self, partitions: Collection[int]) -> dict[int, PartitionState]:
        states = {
            partition: PartitionState(
                LogRange(self.log.start[partition], len(self.log.records[partition])),
                self.log.committed.get(partition),
            )
            for partition in partitions
        }
        self.once_asked()
        return states

    async def logs(self, partitions: Collection[int]) -> dict[int, LogRange]:
        self.log_looks += 1
        if self.fault is not None:
            raise self.fault
        return {p: LogRange(self.log.start[p], len(self.log.records[p])) for p in partitions}

    async def retention(self) -> Retention | None:
        self.looks += 1
        if self.fault is not None:
            raise self.fault
        return self.log.retention

    async def unread(
        self, next_offsets: Mapping[int, int], moments: Mapping[int, float]
    ) -> dict[int, Unread]:
        self.while_asked()
        return {
            partition: Unread(
                next_offset=at,
                start=self.log.start[partition],
                end=len(self.log.records[partition]),
                younger_from=next(
                    (
                        record.position.offset
                        for record in self.log.records[partition]
                        if record.timestamp >= moments[partition] * 1000
                    ),
                    None,
                ),
            )
            for partition, at in next_offsets.items()
        }

    def seek(self, partition: int, offset: int) -> None:
        if partition in self.assigned:
            self.positions[partition] = offset

    def pause_only(self, paused: Collection[int]) -> None:
        self.paused = frozenset(paused)

    async def poll(self, topic_id: int, *, wait: float, limit: int) -> dict[int, list[Record]]:
        batches = {}
        for partition in sorted(self.assigned - self.paused):
            at = self.positions[partition]
            if records := self.log.records[partition][at : at + limit]:
                batches[partition] = records
                self.positions[partition] = at + len(records)
        self.between_polls()
        return batches

    async def commit(self, offsets: Mapping[int, tuple[int, str]]) -> bool:
        self.log.committed.update({p: offset for p, offset in offsets.items() if p in self.assigned})
        return True


class MemoryIngestStore:
    """Watermarks with writer tokens, and the batches that were written."""

    def __init__(self) -> None:
        self.watermarks: dict[int, Watermark] = {}
        self.written: list[BatchRows] = []
        self.notes: dict[int, PauseNote] = {}
        self.notes_written = 0
        self.logs: dict[int, LogNote] = {}
        self.fault: OutboxError | None = None
        self.while_taking: Callable[[int], None] = lambda _: None

    async def read_watermark(self, topic_id: int, partition: int) -> Watermark | None:
        return self.watermarks.get(partition)

    async def take_partition(self, topic_id: int, partition: int, next_offset: int) -> int:
        known = self.watermarks.get(partition)
        self.watermarks[partition] = Watermark(
            next_offset=next_offset,
            writer_token=1 if known is None else known.writer_token + 1,
            kafka_group="kcsync",
            last_offset=None if known is None else known.last_offset,
            last_timestamp=None if known is None else known.last_timestamp,
            last_hash=None if known is None else known.last_hash,
        )
        self.while_taking(partition)
        return self.watermarks[partition].writer_token

    async def note_pause(self, topic_id: int, partitions: Collection[int], note: PauseNote) -> None:
        if self.fault is not None:
            raise self.fault
        self.notes_written += 1
        self.notes.update(dict.fromkeys(partitions, note))

    async def note_logs(self, topic_id: int, notes: Sequence[LogNote]) -> None:
        if self.fault is not None:
            raise self.fault
        self.logs.update({note.partition: note for note in notes})

    async def persist(
        self,
        topic_id: int,
        progress: Sequence[PartitionProgress],
        event_hashes: Sequence[bytes],
        plan: Callable[[Mapping[bytes, Seen]], BatchRows],
    ) -> BatchRows:
        lost = [p.partition for p in progress if self.watermarks[p.partition].writer_token != p.writer_token]
        if lost:
            raise PartitionsLost(frozenset(lost))
        if any(self.watermarks[p.partition].next_offset != p.from_offset for p in progress):
            raise StaleOffsets({p.partition: self.watermarks[p.partition].next_offset for p in progress})
        rows = plan({})
        self.written.append(rows)
        for p in progress:
            self.watermarks[p.partition] = Watermark(
                next_offset=p.next_offset,
                writer_token=p.writer_token,
                kafka_group="kcsync",
                last_offset=p.last_offset,
                last_timestamp=p.last_timestamp,
                last_hash=p.last_hash,
            )
        return rows

    @property
    def entries(self) -> list[tuple[int, int]]:
        """The positions of all entries, as (partition, offset)."""
        return [(e.position.partition, e.position.offset) for rows in self.written for e in rows.entries]


class MemoryAudit:
    """Findings that need an operator."""

    def __init__(self) -> None:
        self.findings: list[tuple[str, str]] = []

    async def record(self, *, actor: str, action: str, arguments: Mapping[str, object], outcome: str) -> None:
        self.findings.append((action, outcome))


class Member:
    """One ingest loop over memory, moved on turn by turn."""

    def __init__(
        self,
        log: MemoryLog,
        store: MemoryIngestStore,
        *,
        batch: int = 100,
        pause: PausePolicy = PausePolicy.IMMEDIATELY,
    ) -> None:
        self.audit = MemoryAudit()
        self.said: list[str] = []
        self.persisted = 0
        self.ingest = Ingest(
            KafkaAddress(bootstrap="", topic="t", group="kcsync", client_id="i"),
            cast(IngestStore, store),
            cast(AuditStore, self.audit),
            policy=IngestPolicy(batch=batch, realms=REALMS, pause=pause),
            seal=lambda plaintext, _: ("k1", plaintext),
            tracer=NoOpTracer(),
            on_persisted=self._count,
            on_state=self.said.append,
        )
        self.reader = MemoryReader(log, self.ingest._assigned)

    def _count(self) -> None:
        self.persisted += 1

    async def turn(self) -> None:
        """Poll once, and wait until what was polled is written."""
        await self.ingest._turn(cast(KafkaReader, self.reader))
        await self.ingest._settled()
