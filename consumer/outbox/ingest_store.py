"""Ingest's transactions: a partition is taken, a batch is persisted exactly once.

The watermark is compared (offset and writer token) and locked first, so that a process that lost the partition writes
nothing, and a batch whose COMMIT answer was lost is recognised when it comes again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import orjson
import pymysql

from consumer.outbox.bulk import Statement, Value, multi_row_statements
from consumer.outbox.database import Database, Transaction
from consumer.outbox.errors import DatabaseUnavailable
from consumer.outbox.lane import shard_of
from consumer.outbox.rows import (
    KEPT_OF_POISON,
    Duplicate,
    LogNote,
    NewEntry,
    PartitionProgress,
    PauseNote,
    PoisonRoom,
    PoisonRow,
    Position,
    Seen,
    Watermark,
)
from consumer.outbox.statements import load_statements

__all__ = ["BatchRows", "IngestStore", "PartitionsLost", "StaleOffsets"]

_SQL = load_statements("ingest")
_DUPLICATE_KEY = 1062
_POISON_AN_HOUR = PoisonRoom(1000, 4 * 1024 * 1024)
"""Kept by all processes together: in 30 days some 4 GB at most, sealed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRows:
    """What a batch comes to, once the ledger has been asked."""

    entries: Sequence[NewEntry]
    duplicates: Sequence[Duplicate]
    poison: Sequence[PoisonRow]
    """All of it. Which of it is kept and not only marked, the database says when it is written."""


class PartitionsLost(Exception):
    """Another process has become the writer of these partitions: drop them, commit nothing, rejoin the group."""

    def __init__(self, partitions: frozenset[int]) -> None:
        super().__init__(f"another process writes partitions {sorted(partitions)} now")
        self.partitions = partitions


class StaleOffsets(Exception):
    """The watermarks stand elsewhere than the batch begins; `next_offsets` says where to read from."""

    def __init__(self, next_offsets: Mapping[int, int]) -> None:
        super().__init__(f"watermarks stand at {dict(next_offsets)}")
        self.next_offsets = dict(next_offsets)


class IngestStore:
    """The outbox as ingest sees it, for one topic."""

    def __init__(self, database: Database, *, group: str, writer: str) -> None:
        self._database = database
        self._group = group
        self._writer = writer

    async def topic_id(self, cluster: str, name: str) -> int:
        """The small id that stands for a topic in every position."""
        parameters = {"cluster": cluster, "name": name}
        return await self._database.transact(lambda tx: tx.insert(_SQL["topic_id"], parameters))

    async def read_watermark(self, topic_id: int, partition: int) -> Watermark | None:
        """The watermark of a partition, or None before its first batch."""
        return await self._database.transact(lambda tx: _read_watermark(tx, topic_id, partition))

    async def take_partition(self, topic_id: int, partition: int, next_offset: int) -> int:
        """Become the partition's writer, reading on from `next_offset`; the new writer token.

        `next_offset` differs from the watermark only where retention has removed what stood between.

        Raises:
            StaleOffsets: the watermark stands beyond, or is there by now: the last writer was not done when it was
                read. Nothing changed.
        """

        async def work(tx: Transaction) -> int:
            known = await _read_watermark(tx, topic_id, partition)
            parameters = {
                "topic_id": topic_id,
                "partition": partition,
                "next_offset": next_offset,
                "writer": self._writer,
                "group": self._group,
            }
            if known is None:
                await tx.execute(_SQL["begin_partition"], parameters)
                return 1
            if next_offset < known.next_offset:
                raise StaleOffsets({partition: known.next_offset})
            await tx.execute(_SQL["take_partition"], parameters)
            return known.writer_token + 1

        try:
            return await self._database.transact(work)
        except pymysql.err.IntegrityError as error:
            if error.args[0] != _DUPLICATE_KEY:
                raise
            # Two processes began the same partition at once, and the other was first.
            raise StaleOffsets({partition: next_offset}) from error

    async def note_pause(self, topic_id: int, partitions: Collection[int], note: PauseNote) -> None:
        """Write down for `status` why partitions are not read, as far as they are still ours."""
        parameters = {
            "topic_id": topic_id,
            "partitions": tuple(sorted(partitions)),
            "writer": self._writer,
            "paused_for": ",".join(note.reasons) or None,
            "yields": int(note.yields),
        }
        await self._database.execute(_SQL["note_pause"], parameters)

    async def note_logs(self, topic_id: int, notes: Sequence[LogNote]) -> None:
        """Write down for housekeeping what Kafka holds now, as far as partitions are still ours."""
        rows = [
            {"partition": n.partition, "token": n.writer_token, "start": n.start, "end": n.end} for n in notes
        ]
        await self._database.execute(
            _SQL["note_logs"], {"topic_id": topic_id, "rows": orjson.dumps(rows).decode()}
        )

    async def persist(
        self,
        topic_id: int,
        progress: Sequence[PartitionProgress],
        event_hashes: Sequence[bytes],
        plan: Callable[[Mapping[bytes, Seen]], BatchRows],
    ) -> BatchRows:
        """Write a batch and move its watermarks in one transaction.

        Args:
            topic_id: the topic of all positions.
            progress: one a partition.
            event_hashes: of all events in the batch, for the ledger.
            plan: pure; decides with the ledger's answer what becomes of each event. May be called again.

        Raises:
            PartitionsLost: the writer token of some partitions is no longer ours; nothing was written.
            StaleOffsets: a watermark stands elsewhere (a COMMIT whose answer was lost); nothing was written.
            DatabaseUnavailable: nothing was written.
            CommitUnknown: re-read the watermarks.
        """

        async def work(tx: Transaction, *, ask: bool) -> BatchRows:
            await _compare(tx, topic_id, progress)
            rows = plan(await _seen(tx, event_hashes if ask else ()))
            watermarks = [_watermark_row(topic_id, self._group, p) for p in progress]
            kept = (await _poison_room(tx)).fitting(rows.poison) if rows.poison else ()
            await tx.execute_all(
                [*_inserts(rows, kept), *multi_row_statements(_SQL["move_watermarks"], watermarks)]
            )
            return rows

        # Nearly always every event is new, so the ledger is asked only when the database refuses a second row. It may
        # refuse again: another writer can put an event there between our question and our insert.
        for ask in (False, True, True, True):
            try:
                return await self._database.transact(partial(work, ask=ask))
            except pymysql.err.IntegrityError as error:
                if error.args[0] != _DUPLICATE_KEY:
                    raise
        raise DatabaseUnavailable(
            "another writer keeps publishing the same event ids; the batch is tried again"
        )


def _watermark_row(topic_id: int, group: str, progress: PartitionProgress) -> tuple[Value, ...]:
    return (
        topic_id,
        progress.partition,
        group,
        progress.next_offset,
        progress.last_offset,
        progress.last_timestamp,
        progress.last_hash,
    )


async def _read_watermark(tx: Transaction, topic_id: int, partition: int) -> Watermark | None:
    row = await tx.fetch_one(_SQL["read_watermark"], {"topic_id": topic_id, "partition": partition})
    return None if row is None else Watermark(**row)


async def _compare(tx: Transaction, topic_id: int, progress: Sequence[PartitionProgress]) -> None:
    partitions = tuple(p.partition for p in progress)
    rows = await tx.fetch(_SQL["lock_watermarks"], {"topic_id": topic_id, "partitions": partitions})
    found = {row["partition_no"]: row for row in rows}
    lost = frozenset(
        p.partition
        for p in progress
        if p.partition not in found or found[p.partition]["writer_token"] != p.writer_token
    )
    if lost:
        raise PartitionsLost(lost)
    if any(found[p.partition]["next_offset"] != p.from_offset for p in progress):
        raise StaleOffsets({p.partition: found[p.partition]["next_offset"] for p in progress})


def _ledger_rows(rows: BatchRows) -> list[tuple[bytes, int, int, int, bytes]]:
    return [
        (e.event_hash, e.position.topic_id, e.position.partition, e.position.offset, e.content_hash)
        for e in rows.entries
    ]


async def _seen(tx: Transaction, event_hashes: Sequence[bytes]) -> dict[bytes, Seen]:
    if not event_hashes:
        return {}
    rows = await tx.fetch(_SQL["seen_events"], {"hashes": tuple(event_hashes)})
    return {
        row["event_hash"]: Seen(
            position=Position(row["topic_id"], row["partition_no"], row["log_offset"]),
            content_hash=row["content_hash"],
        )
        for row in rows
    }


async def _poison_room(tx: Transaction) -> PoisonRoom:
    row = await tx.fetch_one(_SQL["poison_kept"], {"most": KEPT_OF_POISON})
    assert row is not None
    # A sum is a decimal.
    return PoisonRoom(_POISON_AN_HOUR.records - row["records"], _POISON_AN_HOUR.size - int(row["size"]))


def _inserts(rows: BatchRows, kept: Sequence[PoisonRow]) -> Iterator[Statement]:
    yield from multi_row_statements(_SQL["insert_ledger"], _ledger_rows(rows))
    # Lanes before entries: the lane's lock makes the order of entry ids the order in which a lane's events arrive,
    # even where two partitions carry one user.
    yield from multi_row_statements(_SQL["upsert_lanes"], _lanes(rows.entries))
    yield from multi_row_statements(
        _SQL["insert_entries"],
        [
            (
                e.lane_id,
                shard_of(e.lane_id),
                e.position.topic_id,
                e.position.partition,
                e.position.offset,
                e.kind,
                e.schema_version,
                e.source,
                e.event_id,
                e.username,
                e.tenant,
                e.priority,
                e.event_time,
                e.traceparent,
                e.tracestate,
                e.data,
                e.credential,
                e.state.value,
                e.state_reason,
            )
            for e in rows.entries
        ],
    )
    marks = [
        (
            d.position.topic_id,
            d.position.partition,
            d.position.offset,
            "duplicate",
            d.lane_id,
            d.first.partition,
            d.first.offset,
            None,
        )
        for d in rows.duplicates
    ] + [
        (
            p.position.topic_id,
            p.position.partition,
            p.position.offset,
            "poison",
            p.lane_id,
            None,
            None,
            p.reason,
        )
        for p in rows.poison
    ]
    yield from multi_row_statements(_SQL["insert_marks"], marks)
    yield from multi_row_statements(
        _SQL["insert_poison"],
        [
            (
                p.position.topic_id,
                p.position.partition,
                p.position.offset,
                p.reason,
                p.detail,
                p.lane_id,
                p.key,
                p.timestamp,
                p.length,
                p.digest,
                p.kid,
                p.sealed,
            )
            for p in kept
        ],
    )


def _lanes(entries: Sequence[NewEntry]) -> list[tuple[Value, ...]]:
    """One row a lane, in key order: two writers then never wait for each other in a circle."""
    count: dict[bytes, int] = {}
    priority: dict[bytes, int] = {}
    first: dict[bytes, NewEntry] = {}
    for entry in entries:
        first.setdefault(entry.lane_id, entry)
        count[entry.lane_id] = count.get(entry.lane_id, 0) + 1
        priority[entry.lane_id] = min(priority.get(entry.lane_id, entry.priority), entry.priority)
    return [
        (
            lane,
            shard_of(lane),
            first[lane].realm,
            first[lane].username_key,
            first[lane].position.topic_id,
            first[lane].position.partition,
            count[lane],
            priority[lane],
        )
        for lane in sorted(first)
    ]
