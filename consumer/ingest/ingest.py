"""The ingest loop: poll, decode, persist, commit. One loop a process, one transaction a batch."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog
from aiokafka.partitioner import murmur2
from opentelemetry.trace import Tracer

from consumer.ingest.decode import Poison, Record, decode
from consumer.ingest.kafka import KafkaAddress, KafkaReader, KafkaUnavailable
from consumer.ingest.log_watch import LogWatch
from consumer.ingest.pausing import PausePolicy, PauseReason, Pausing
from consumer.ingest.plan import Seal, plan_batch, progress_of
from consumer.ingest.poison_log import PoisonLog
from consumer.ingest.resume import Committed, Finding, LogRange, decide
from consumer.ingest.retention_watch import RetentionWatch
from consumer.ingest.stamp import is_ours, stamp
from consumer.outbox.audit import AuditStore
from consumer.outbox.errors import CommitUnknown, DatabaseUnavailable, OutboxError
from consumer.outbox.ingest_store import BatchRows, IngestStore, PartitionsLost, StaleOffsets
from consumer.outbox.rows import FLOWS, NewEntry, PartitionProgress, PauseNote, Watermark
from consumer.retry import Backoff
from consumer.telemetry.propagation import TraceContext
from consumer.telemetry.spans import MOST_LINKS, poll_span
from producer_lib import CustomKind

__all__ = ["Ingest", "IngestPolicy"]

_log = structlog.get_logger(__name__)
_POLL_WAIT = 0.2
_COMMIT_EVERY = 1.0
_HOMES = 65_536
_DECODE_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPolicy:
    """How much at once, and of what.

    Attributes:
        batch: records in one transaction.
        realms: whose events are taken.
        pause: when nothing is taken.
        custom: the kinds that other packages bring, by name.
    """

    batch: int
    realms: frozenset[str]
    pause: PausePolicy
    custom: Mapping[str, CustomKind] = field(default_factory=dict)


@dataclass(slots=True)
class _Writer:
    """A partition that is ours to write.

    Attributes:
        token: fences older writers.
        next_offset: to ingest.
        expect: the record that must stand before it, as (offset, fingerprint).
        noted: how its pause stands in the outbox, for `status`.
    """

    token: int
    next_offset: int
    expect: tuple[int, bytes] | None
    noted: PauseNote = FLOWS


@dataclass(frozen=True, slots=True)
class _Batch:
    """Decoded records, and how they move the watermarks."""

    decoded: list[tuple[Record, NewEntry | Poison]]
    progress: list[PartitionProgress]


class Ingest:
    """Reads the topic as a member of the group, and persists every record exactly once."""

    def __init__(
        self,
        address: KafkaAddress,
        store: IngestStore,
        audit: AuditStore,
        *,
        policy: IngestPolicy,
        seal: Seal,
        tracer: Tracer,
        on_persisted: Callable[[], None],
        on_state: Callable[[str], None],
        reader: Callable[[KafkaAddress, Callable[[frozenset[int]], None]], KafkaReader] = KafkaReader,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the loop.

        Args:
            address: where Kafka is.
            store: the outbox.
            audit: where findings go that need an operator.
            policy: how much at once.
            seal: how poison bytes are kept.
            tracer: where the span of each batch comes from.
            on_persisted: told after each commit that there is new work; must not block.
            on_state: told each change of state in one line for people.
            reader: makes a member of the group.
            clock: seconds that never go back.
        """
        self._address = address
        self._store = store
        self._audit = audit
        self._policy = policy
        self._seal = seal
        self._tracer = tracer
        self._on_persisted = on_persisted
        self._on_state = on_state
        self._new_reader = reader
        self._clock = clock
        self._topic_id = 0
        self._partitions = 0
        self._writers: dict[int, _Writer] = {}
        self._untaken: set[int] = set()
        self._pausing = Pausing(policy.pause)
        self._retention = RetentionWatch(audit, on_state)
        self._log_watch = LogWatch(store, clock=clock)
        self._poison_log = PoisonLog(clock=clock)
        self._uncommitted: dict[int, int] = {}
        self._writing: asyncio.Task[bool] | None = None
        self._committed_at = 0.0
        self._stopping = asyncio.Event()
        self._homes: dict[bytes, int] = {}
        self.persisted = 0

    def pause(self, reason: PauseReason) -> None:
        """There is a reason to leave records in Kafka; polling goes on, so that the group keeps us."""
        self._pausing.begin(reason)

    def resume(self, reason: PauseReason) -> None:
        """The reason is gone; records flow when no other holds them."""
        self._pausing.end(reason)

    def stop(self) -> None:
        """Finish the batch in hand, commit, and leave the group."""
        self._stopping.set()

    async def run(self) -> None:
        """Read until stopped. Faults of Kafka or MariaDB are waited out with growing, jittered pauses."""
        backoff = Backoff(base=0.5, cap=15.0, uniform=random.uniform)
        while not self._stopping.is_set():
            try:
                await self._member(backoff)
            except (KafkaUnavailable, DatabaseUnavailable, CommitUnknown) as error:
                _log.warning("ingest interrupted", reason=str(error))
                self._on_state(f"Ingest waits: {error}")
                await self._sleep(backoff.next_delay())
            except PartitionsLost as error:
                _log.info(
                    "partitions have another writer; joining the group anew",
                    partitions=sorted(error.partitions),
                )
                await self._sleep(backoff.next_delay())

    async def _member(self, backoff: Backoff) -> None:
        """One membership in the group, until something breaks it."""
        reader = self._new_reader(self._address, self._assigned)
        await reader.start()
        try:
            self._partitions = reader.partitions()
            self._topic_id = await self._store.topic_id(reader.cluster, self._address.topic)
            while not self._stopping.is_set():
                await self._turn(reader)
                backoff.reset()
            await self._settled()
            await self._commit(reader)
        finally:
            self._poison_log.summarise()
            self._writers.clear()
            if self._writing is not None:
                # Whether it was written or not: the watermark tells the next membership.
                writing, self._writing = self._writing, None
                await asyncio.wait([writing])
                writing.exception()
            await reader.stop()

    async def _turn(self, reader: KafkaReader) -> None:
        if self._untaken:
            await self._settled()
            await self._take(reader)
        await self._log_watch.look(reader, self._topic_id, {p: w.token for p, w in self._writers.items()})
        await self._hold(reader)
        self._poison_log.tick()
        batches = await reader.poll(self._topic_id, wait=_POLL_WAIT, limit=self._policy.batch)
        batch = await self._prepare({p: records for p, records in batches.items() if p in self._writers})
        # The last batch is written while this one was polled and decoded; one transaction at a time.
        went_well = await self._settled()
        if batch is not None and went_well:
            self._writing = asyncio.create_task(self._persist(reader, batch))
        if self._uncommitted and self._clock() - self._committed_at >= _COMMIT_EVERY:
            await self._commit(reader)

    async def _settled(self) -> bool:
        """Wait for the batch that is being written; False if the watermarks stood elsewhere than it began."""
        if self._writing is None:
            return True
        writing, self._writing = self._writing, None
        return await writing

    def _assigned(self, partitions: frozenset[int]) -> None:
        """A rebalance: whatever we knew of our partitions is void, and all of them are paused until taken."""
        self._writers.clear()
        self._uncommitted.clear()
        self._untaken = set(partitions)
        self._retention.forget()
        self._log_watch.forget()

    async def _hold(self, reader: KafkaReader) -> None:
        """Pause what should stand still, let the rest flow, and note for `status` what changed."""
        if self._pausing.heeded:
            await self._retention.look(reader, {p: w.next_offset for p, w in self._writers.items()})
        else:
            self._retention.forget()
        endangered = self._retention.endangered
        # Last: a rebalance while we looked has paused everything, and knows other partitions.
        reader.pause_only(
            self._pausing.paused(reader.assignment(), taken=self._writers, endangered=endangered)
        )
        await self._note_pauses()

    async def _note_pauses(self) -> None:
        reasons = tuple(sorted(self._pausing.heeded))
        changed: dict[PauseNote, list[int]] = {}
        for partition, writer in self._writers.items():
            note = PauseNote(reasons, yields=partition in self._retention.endangered)
            if note != writer.noted:
                changed.setdefault(note, []).append(partition)
        for note, partitions in changed.items():
            try:
                await self._store.note_pause(self._topic_id, partitions, note)
            except OutboxError:
                # It is for people, and the next turn tries again.
                return
            for partition in partitions:
                if (noted := self._writers.get(partition)) is not None:
                    noted.noted = note

    async def _take(self, reader: KafkaReader) -> None:
        """Become the writer of newly assigned partitions and say where each goes on."""
        untaken = self._untaken
        moving: set[int] = set()
        partitions = sorted(untaken & reader.assignment())
        states = await reader.states(partitions) if partitions else {}
        for partition in partitions:
            watermark = await self._store.read_watermark(self._topic_id, partition)
            state = states[partition]
            if watermark is not None and watermark.next_offset > state.log.end:
                # The last writer may have gone on since Kafka was asked: only a log that still ends there was cut.
                # What was committed is what stood before the watermark was read, or it would seem to run ahead.
                state = replace(state, log=(await reader.states([partition]))[partition].log)
            committed = None
            if state.committed is not None:
                offset, metadata = state.committed
                committed = Committed(offset, is_ours(metadata, reader.cluster, partition, offset))
            resume = decide(None if watermark is None else watermark.next_offset, committed, state.log)
            if resume.needs_operator is not None:
                await self._tell_operator(partition, resume.finding, resume.needs_operator)
            if resume.offset is None:
                # Paused, it is not read; without a position, the library would not read the others either.
                reader.seek(partition, state.log.end)
                continue
            try:
                token = await self._store.take_partition(self._topic_id, partition, resume.offset)
            except StaleOffsets:
                # The last writer has persisted a batch since we looked: the next turn looks again.
                moving.add(partition)
                continue
            if self._untaken is not untaken:
                # A rebalance came between: what was taken before it is void, and its own partitions are still to take.
                return
            expect = _expected(watermark, resume.offset, state.log)
            self._writers[partition] = _Writer(token, resume.offset, expect)
            if committed != Committed(resume.offset, ours=True):
                # Stamped at once: what an operator set was answered now, and must not be answered again.
                self._uncommitted[partition] = resume.offset
            # Read the last record once more: if it is another, the topic is not the one we know.
            reader.seek(partition, resume.offset if expect is None else expect[0])
            _log.debug(
                "partition taken", partition=partition, offset=resume.offset, finding=resume.finding.value
            )
        if self._untaken is untaken:
            untaken.intersection_update(moving)

    async def _prepare(self, batches: Mapping[int, list[Record]]) -> _Batch | None:
        decoded: list[tuple[Record, NewEntry | Poison]] = []
        progress: list[PartitionProgress] = []
        for partition, polled in batches.items():
            if (writer := self._writers.get(partition)) is None:  # a rebalance came between
                continue
            records = await self._verified(partition, writer, polled)
            if not records:
                continue
            for at in range(0, len(records), _DECODE_AT_ONCE):
                piece = records[at : at + _DECODE_AT_ONCE]
                decoded += [
                    (record, decode(record, self._policy.realms, self._policy.custom)) for record in piece
                ]
                # The batch before this one is being written: let its next statement go out.
                await asyncio.sleep(0)
            last = records[-1]
            progress.append(
                progress_of(partition, writer.token, writer.next_offset, last, _fingerprint(last))
            )
            writer.next_offset = last.position.offset + 1
        return _Batch(decoded, progress) if progress else None

    async def _persist(self, reader: KafkaReader, batch: _Batch) -> bool:
        decoded = batch.decoded
        hashes = [result.event_hash for _, result in decoded if isinstance(result, NewEntry)]
        creators = [
            TraceContext.of(result.traceparent, result.tracestate)
            for _, result in decoded[:MOST_LINKS]
            if isinstance(result, NewEntry)
        ]
        with poll_span(
            self._tracer,
            topic=self._address.topic,
            group=self._address.group,
            count=len(decoded),
            creators=creators,
        ):
            try:
                rows = await self._store.persist(
                    self._topic_id, batch.progress, hashes, lambda seen: plan_batch(decoded, seen, self._seal)
                )
            except StaleOffsets as error:
                # A COMMIT whose answer was lost had succeeded: the watermark says where to go on.
                for partition, offset in error.next_offsets.items():
                    self._move(reader, partition, offset)
                return False
        for moved in batch.progress:
            if moved.partition in self._writers:
                self._uncommitted[moved.partition] = moved.next_offset
        self.persisted += len(rows.entries)
        self._report(rows, decoded)
        self._on_persisted()
        return True

    async def _verified(self, partition: int, writer: _Writer, records: list[Record]) -> list[Record]:
        """Leave out what stands below the watermark, after a look whether it is the record we remember."""
        if writer.expect is not None:
            offset, remembered = writer.expect
            first = records[0]
            if first.position.offset == offset and _fingerprint(first) != remembered:
                message = (
                    f"offset {offset} holds another record than the one ingested: the topic was recreated; "
                    "nothing is read until an operator has confirmed what happened"
                )
                del self._writers[partition]
                await self._tell_operator(partition, Finding.LOG_TRUNCATED, message)
                return []
            writer.expect = None
        return [record for record in records if record.position.offset >= writer.next_offset]

    def _move(self, reader: KafkaReader, partition: int, offset: int) -> None:
        if (writer := self._writers.get(partition)) is not None:
            writer.next_offset = offset
            reader.seek(partition, offset)

    async def _commit(self, reader: KafkaReader) -> None:
        """Tell Kafka how far we are. The only place that commits offsets."""
        offsets = {
            partition: (offset, stamp(reader.cluster, partition, offset))
            for partition, offset in self._uncommitted.items()
        }
        self._committed_at = self._clock()
        if await reader.commit(offsets):
            for partition, (offset, _) in offsets.items():
                if self._uncommitted.get(partition) == offset:
                    del self._uncommitted[partition]

    def _report(self, rows: BatchRows, decoded: list[tuple[Record, NewEntry | Poison]]) -> None:
        self._poison_log.note(rows.poison)
        for duplicate in rows.duplicates:
            _log.info(
                "duplicate event",
                partition=duplicate.position.partition,
                offset=duplicate.position.offset,
                first_partition=duplicate.first.partition,
                first_offset=duplicate.first.offset,
            )
        strays = sum(
            isinstance(result, NewEntry)
            and self._home(result.username_key.encode()) != record.position.partition
            for record, result in decoded
        )
        if strays:
            _log.error(
                "events in a partition that is not their user's: a producer partitions by something else than "
                "murmur2 of the username key",
                events=strays,
            )

    def _home(self, key: bytes) -> int:
        """The partition that murmur2 gives a key. Remembered: aiokafka's murmur2 is plain Python."""
        home = self._homes.get(key)
        if home is None:
            if len(self._homes) >= _HOMES:
                self._homes.clear()
            home = self._homes[key] = (murmur2(key) & 0x7FFFFFFF) % max(self._partitions, 1)
        return home

    async def _tell_operator(self, partition: int, finding: Finding, message: str) -> None:
        _log.error("partition needs an operator", partition=partition, finding=finding.value, detail=message)
        self._on_state(f"Partition {partition}: {message}")
        await self._audit.record(
            actor="ingest", action=finding.value, arguments={"partition": partition}, outcome=message
        )

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _expected(watermark: Watermark | None, offset: int, log: LogRange) -> tuple[int, bytes] | None:
    """The record that must stand just before an offset, if we remember it and Kafka still has it."""
    if watermark is None or watermark.last_offset is None or watermark.last_hash is None:
        return None
    known = watermark.last_offset == offset - 1 and watermark.last_offset >= log.start
    return (watermark.last_offset, watermark.last_hash) if known else None


def _fingerprint(record: Record) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(record.timestamp.to_bytes(8, "big", signed=True))
    digest.update(record.key or b"")
    digest.update(b"\0")
    digest.update(record.value or b"")
    return digest.digest()
