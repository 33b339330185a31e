"""The outbox of the simulation: the tables in memory, ingest's transactions on them, and the way to the database.

The tables and the drain's side are those of the unit tests (tests/unit/drain/outbox_in_memory.py). What is added here
follows consumer/outbox/ingest_store.py and its SQL: watermarks with writer tokens, the ledger, marks and poison. A
transaction happens at one moment; the exceptions are ingest's, whose rows may be locked for a while before they become
visible, and a write-back whose COMMIT is late.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Hashable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import orjson

from consumer.outbox.command_store import Answer, Command, Found
from consumer.outbox.drain_store import Head, WriteBack
from consumer.outbox.errors import CommitUnknown, DatabaseUnavailable
from consumer.outbox.ingest_store import BatchRows, PartitionsLost, StaleOffsets
from consumer.outbox.lane import shard_of
from consumer.outbox.maintenance_store import Maintenance
from consumer.outbox.rows import EntryState, LogNote, NewEntry, PartitionProgress, PauseNote, Seen, Watermark
from consumer.outbox.unknown_store import Reread, UnknownEntry
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.weather import DatabaseFate, Weather
from tests.unit.drain.outbox_in_memory import (
    Entry,
    Lane,
    MemoryCommandStore,
    MemoryDatabase,
    MemoryDeletionStore,
    MemoryDrainStore,
    QueuedCommand,
)

__all__ = [
    "UNREADABLE",
    "Remote",
    "SimCommandStore",
    "SimDatabase",
    "SimDeletionStore",
    "SimDrainStore",
    "SimIngestStore",
    "SimMaintenanceStore",
    "SimUnknownStore",
    "WatchedTables",
]

UNREADABLE = frozenset({"schema_newer", "kind_unregistered"})
"""Reasons of entries that only a newer version can read."""

HOUR = 15.0
"""Seconds of the guard's hour, so that a run holds several."""
DAY = 3 * HOUR
"""Seconds after which the place of a delete that has come to an end is forgotten."""

_NOWHERE = Context()
"""The context of what happens on a server: it belongs to no host, and goes on whatever becomes of the caller."""

_LOCKING = frozenset({"settle", "claim", "hand_back", "still_pending", "acquire", "renew", "release"})
"""Operations that wait for the rows of a write-back whose COMMIT is late."""
_LONG = frozenset({"read_watermark", "take_partition", "persist", "reserve"})
"""Operations that may wait for locks, or hold them for a while."""


class WatchedTables(Protocol):
    """Who is told of every change."""

    def persisted(self, writer: str, progress: Sequence[PartitionProgress], rows: BatchRows) -> None:
        """A batch became visible."""

    def taken(self, writer: str, partition: int) -> None:
        """A partition has a new writer."""

    def claimed(self, owner: str, entries: Collection[Entry]) -> None:
        """Entries were claimed: from now on they may have been called."""

    def handed_back(self, owner: str, entries: Collection[Entry]) -> None:
        """Claimed entries were not called."""

    def settled(self, owner: str, write_backs: Sequence[WriteBack], fenced: Collection[bytes]) -> None:
        """Results were written, or fenced."""

    def asked(self, command: Command) -> None:
        """Somebody asked for something."""

    def looked_again(self, found: Mapping[int, Found]) -> None:
        """An owner sees how things stand with commands."""

    def answered(self, owner: str, answer: Answer) -> None:
        """A command is about to be done and answered."""

    def places_taken(
        self, realm: str, asked: Collection[int], through: Collection[int], *, room: int, limit: int
    ) -> None:
        """Deletes have asked for places within the hour, of which there were so many left."""

    def read_again(self, owner: str, written: Sequence[Reread]) -> None:
        """Held entries are about to go on, or end, because their kind is known now."""


class RowLocks:
    """Locks on rows by name, taken in the order of the names, so that nobody waits in a circle."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}

    @asynccontextmanager
    async def held(self, keys: Collection[tuple[str, Any]]) -> AsyncIterator[None]:
        """Hold the locks of these rows inside the block."""
        taken: list[asyncio.Lock] = []
        try:
            for key in sorted(keys):
                lock = self._locks.setdefault(key, asyncio.Lock())
                await lock.acquire()
                taken.append(lock)
            yield
        finally:
            for lock in taken:
                lock.release()


@dataclass(slots=True)
class _Partition:
    watermark: Watermark
    writer: str


class SimDatabase(MemoryDatabase):
    """All tables."""

    def __init__(self, loop: VirtualLoop, weather: Weather, rng: random.Random) -> None:
        super().__init__(loop.time)
        self.loop = loop
        self.weather = weather
        self.rng = rng
        self.watch: WatchedTables
        self.partitions: dict[int, _Partition] = {}
        self.ledger: dict[bytes, Seen] = {}
        self.marks: dict[tuple[int, int], str] = {}
        self.by_event: dict[str, Entry] = {}
        self.by_lane: dict[bytes, list[Entry]] = {}
        self.ingested: dict[int, NewEntry] = {}
        """Entries as they came."""
        self.maintenance: dict[str, Maintenance] = {}
        self.reserved_at: dict[int, float] = {}
        """When the places of deletes were taken."""
        self.late_until = 0.0
        """When the write-back whose COMMIT is late becomes visible."""
        self.locks = RowLocks()
        self.ids = itertools.count(1)

    def forget_passwords(self) -> None:
        """What the purge does with last passwords, of whatever age."""
        needed = {
            entry.lane_id
            for entry in self.entries.values()
            if entry.is_open and (entry.maybe_applied_since is not None or entry.claimed_at is not None)
        }
        for lane, fold in self.folds.items():
            if lane not in needed and fold.suspect_since is None:
                self.folds[lane] = fold.without_password()

    def insert(self, number: int, new: NewEntry) -> None:
        """Make an entry visible, and announce it on its lane."""
        entry = Entry(
            entry_id=number,
            lane_id=new.lane_id,
            kind=new.kind,
            event_id=new.event_id,
            data=orjson.loads(new.data),
            credential=new.credential,
            state=new.state,
            reason=new.state_reason,
            position=new.position,
        )
        self.entries[number] = entry
        self.ingested[number] = new
        self.by_event[new.event_id] = entry
        lane = self.by_lane.setdefault(new.lane_id, [])
        lane.append(entry)
        lane.sort(key=lambda each: each.entry_id)
        row = self.lanes.get(new.lane_id)
        if row is None:
            row = self.lanes[new.lane_id] = Lane(realm=new.realm, username_key=new.username_key)
        row.arrivals += 1
        if row.state == "IDLE":
            row.state = "READY"

    def places_used(self, realm: str) -> int:
        """Places of a realm that were taken within the hour; what operators allowed is not counted."""
        since = self.clock() - HOUR
        return sum(place == realm and self.reserved_at[entry] > since for entry, place in self.places.items())


class SimDrainStore(MemoryDrainStore):
    """The drain's store, under watch."""

    def __init__(self, database: SimDatabase, owner: str) -> None:
        super().__init__(database, owner)
        self.tables = database

    async def settle(self, write_backs: Sequence[WriteBack], *, instance: str) -> set[bytes]:
        fenced = await super().settle(write_backs, instance=instance)
        self.tables.watch.settled(self.owner, write_backs, fenced)
        return fenced

    async def claim(self, heads: Collection[Head], *, margin: float) -> dict[int, tuple[int, datetime]]:
        claims = await super().claim(heads, margin=margin)
        self.tables.watch.claimed(self.owner, [self.tables.entries[number] for number in sorted(claims)])
        return claims

    async def hand_back(self, claims: Collection[tuple[int, int]]) -> None:
        await super().hand_back(claims)
        self.tables.watch.handed_back(self.owner, [self.tables.entries[number] for number, _ in claims])

    def _open_entries(self, lane: bytes) -> list[Entry]:
        return [entry for entry in self.tables.by_lane.get(lane, ()) if entry.is_open]


class SimCommandStore(MemoryCommandStore):
    """The owners' side of the commands, under watch."""

    def __init__(self, database: SimDatabase, owner: str) -> None:
        super().__init__(database, owner)
        self.tables = database

    async def found(self, commands: Sequence[Command]) -> dict[int, Found]:
        found = await super().found(commands)
        self.tables.watch.looked_again(found)
        return found

    def _write(self, row: QueuedCommand, answer: Answer) -> None:
        self.tables.watch.answered(self.owner, answer)
        super()._write(row, answer)


class SimDeletionStore(MemoryDeletionStore):
    """The places of deletes, under watch, and with an hour that ends."""

    def __init__(self, database: SimDatabase) -> None:
        super().__init__(database)
        self.tables = database

    async def used(self, realm: str) -> int:
        return self.tables.places_used(realm)

    async def reserve(self, realm: str, entries: Sequence[int], *, limit: int) -> set[int]:
        db = self.tables
        async with db.locks.held([("realm", realm)]):
            room, placed = limit - db.places_used(realm), {*db.places}
            through = await self._reserve(realm, entries, limit=limit)
            for entry in through:
                db.reserved_at.setdefault(entry, db.clock())
        asked = [entry for entry in entries if entry not in placed]
        db.watch.places_taken(realm, asked, through - placed, room=room, limit=limit)
        return through

    async def _reserve(self, realm: str, entries: Sequence[int], *, limit: int) -> set[int]:
        return await super().reserve(realm, entries, limit=limit)

    async def forget(self, realm: str) -> None:
        db, before = self.tables, self.tables.clock() - DAY
        for entry in [entry for entry, place in db.places.items() if place == realm]:
            if db.reserved_at[entry] < before and not db.entries[entry].is_open:
                del db.places[entry], db.reserved_at[entry]


class SimMaintenanceStore:
    """What of `MaintenanceStore` an instance needs."""

    def __init__(self, database: SimDatabase) -> None:
        self.database = database

    async def read(self) -> list[Maintenance]:
        return [self.database.maintenance[realm] for realm in sorted(self.database.maintenance)]

    async def rouse(self, realm: str) -> None:
        for row in self.database.lanes.values():
            if row.realm == realm and row.state == "WAITING":
                row.due_at = min(row.due_at, self.database.clock())


class SimUnknownStore:
    """What `UnknownStore` does for one owner."""

    def __init__(self, database: SimDatabase, owner: str) -> None:
        self.database = database
        self.owner = owner

    async def known_now(
        self, shards: Collection[int], versions: Mapping[str, int], *, after: int, limit: int
    ) -> list[UnknownEntry]:
        found = []
        for number, new in sorted(self.database.ingested.items()):
            entry = self.database.entries[number]
            known = new.schema_version <= versions.get(new.kind, 0)
            if number > after and known and self._is_held(entry) and shard_of(new.lane_id) in shards:
                found.append(_unknown(number, new))
        return found[:limit]

    async def release(self, read: Sequence[Reread]) -> int:
        db = self.database
        written = [
            each
            for each in read
            if self._is_ours(each.entry.shard) and self._is_held(db.entries[each.entry.entry_id])
        ]
        db.watch.read_again(self.owner, written)
        for each in written:
            entry, lane = db.entries[each.entry.entry_id], db.lanes[each.entry.lane_id]
            entry.state, entry.reason, entry.credential = each.state, each.reason, each.credential
            if each.data is not None:
                entry.data = orjson.loads(each.data)
            if lane.state == "HELD":
                lane.state = "READY"
        return len(written)

    def _is_ours(self, shard: int) -> bool:
        lease = self.database.leases[shard]
        return lease.owner == self.owner and lease.deadline > self.database.clock()

    @staticmethod
    def _is_held(entry: Entry) -> bool:
        return entry.state is EntryState.HELD and entry.reason in UNREADABLE


def _unknown(number: int, new: NewEntry) -> UnknownEntry:
    return UnknownEntry(
        entry_id=number,
        lane_id=new.lane_id,
        shard=shard_of(new.lane_id),
        position=new.position,
        kind=new.kind,
        version=new.schema_version,
        realm=new.realm,
        source=new.source,
        event_id=new.event_id,
        username=new.username,
        event_time=new.event_time,
        sealed=new.data,
    )


class SimIngestStore:
    """What `IngestStore` does for one writer."""

    def __init__(self, database: SimDatabase, writer: str) -> None:
        self.database = database
        self.writer = writer

    async def topic_id(self, cluster: str, name: str) -> int:
        return 1

    async def note_pause(self, topic_id: int, partitions: Collection[int], note: PauseNote) -> None:
        """For people only."""

    async def note_logs(self, topic_id: int, notes: Sequence[LogNote]) -> None:
        """For housekeeping only."""

    async def read_watermark(self, topic_id: int, partition: int) -> Watermark | None:
        db = self.database
        async with db.locks.held([("watermark", partition)]):
            known = db.partitions.get(partition)
            return None if known is None else known.watermark

    async def take_partition(self, topic_id: int, partition: int, next_offset: int) -> int:
        db = self.database
        async with db.locks.held([("watermark", partition)]):
            known = db.partitions.get(partition)
            if known is not None and next_offset < known.watermark.next_offset:
                raise StaleOffsets({partition: known.watermark.next_offset})
            if known is None:
                after = Watermark(
                    next_offset=next_offset,
                    writer_token=1,
                    kafka_group="kcsync",
                    last_offset=None,
                    last_timestamp=None,
                    last_hash=None,
                )
            else:
                after = replace(
                    known.watermark, next_offset=next_offset, writer_token=known.watermark.writer_token + 1
                )
            db.partitions[partition] = _Partition(after, self.writer)
            db.watch.taken(self.writer, partition)
            return after.writer_token

    async def persist(
        self,
        topic_id: int,
        progress: Sequence[PartitionProgress],
        event_hashes: Sequence[bytes],
        plan: Callable[[Mapping[bytes, Seen]], BatchRows],
    ) -> BatchRows:
        db = self.database
        async with db.locks.held([("watermark", p.partition) for p in progress]):
            self._compare(progress)
            # A second row of an event waits at the ledger's key for the first one's COMMIT.
            async with db.locks.held([("event", each) for each in {*event_hashes}]):
                rows = plan({each: db.ledger[each] for each in event_hashes if each in db.ledger})
                async with db.locks.held(self._lane_locks(rows)):
                    numbers = [next(db.ids) for _ in rows.entries]
                    if db.rng.random() < db.weather.late_insert:
                        await asyncio.sleep(db.rng.uniform(0.1, 5.0))
                    self._commit(progress, rows, numbers)
        return rows

    def _compare(self, progress: Sequence[PartitionProgress]) -> None:
        known = self.database.partitions
        lost = [
            p.partition
            for p in progress
            if p.partition not in known or known[p.partition].watermark.writer_token != p.writer_token
        ]
        if lost:
            raise PartitionsLost(frozenset(lost))
        if any(known[p.partition].watermark.next_offset != p.from_offset for p in progress):
            raise StaleOffsets({p.partition: known[p.partition].watermark.next_offset for p in progress})

    def _lane_locks(self, rows: BatchRows) -> set[tuple[str, bytes]]:
        """Lanes are written before entries: ids then are given in the order in which a lane's entries become visible."""
        return {("lane", entry.lane_id) for entry in rows.entries}

    def _commit(self, progress: Sequence[PartitionProgress], rows: BatchRows, numbers: Sequence[int]) -> None:
        db = self.database
        for entry, number in zip(rows.entries, numbers, strict=True):
            db.ledger[entry.event_hash] = Seen(position=entry.position, content_hash=entry.content_hash)
            db.insert(number, entry)
        for kind, marked in (("duplicate", rows.duplicates), ("poison", rows.poison)):
            for each in marked:
                db.marks[each.position.partition, each.position.offset] = kind
        for p in progress:
            moved = Watermark(
                next_offset=p.next_offset,
                writer_token=db.partitions[p.partition].watermark.writer_token,
                kafka_group="kcsync",
                last_offset=p.last_offset,
                last_timestamp=p.last_timestamp,
                last_hash=p.last_hash,
            )
            db.partitions[p.partition].watermark = moved
        db.watch.persisted(self.writer, progress, rows)


@dataclass(slots=True)
class _Answer:
    """What comes back: a result or an error, carried as data, so that nobody complains about an error nobody reads."""

    result: Any = None
    error: Exception | None = None


@dataclass(slots=True)
class Remote:
    """A store behind a network: every method takes time, and may fail before, at or after its COMMIT.

    What was sent is done by the server even if the caller stands still or dies meanwhile. `strike` may stop the caller
    just before it sends.
    """

    store: Any
    database: SimDatabase
    rng: random.Random
    closed: Callable[[], bool]
    strike: Callable[[str], bool]

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.store, operation)

        async def call(*arguments: Any, **named: Any) -> Any:
            return await self._exchange(operation, lambda: method(*arguments, **named))

        return call

    async def _exchange(self, operation: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        loop, weather, rng = self.database.loop, self.database.weather, self.rng
        answer: asyncio.Future[_Answer] = loop.create_future()
        if self.closed():
            return await answer
        if self.strike(operation):
            # Struck before it was sent: it is sent when, and if, its host goes on.
            await asyncio.sleep(0)
        fate = weather.fate_of_transaction(rng)
        way = weather.database_latency(rng)
        if fate is DatabaseFate.AWAY:
            await asyncio.sleep(rng.uniform(0.01, 0.5))
            raise DatabaseUnavailable("MariaDB is away in this simulation")
        if fate is DatabaseFate.CUT:
            await asyncio.sleep(way)
            raise CommitUnknown
        loop.call_later(way, self._serve, operation, work, fate, answer, context=_NOWHERE)
        received = await answer
        if received.error is not None:
            raise received.error
        return received.result

    def _serve(
        self,
        operation: str,
        work: Callable[[], Coroutine[Any, Any, Any]],
        fate: DatabaseFate,
        answer: asyncio.Future[_Answer],
    ) -> None:
        db = self.database
        now = db.loop.time()
        if operation in _LOCKING and now < db.late_until:
            again = db.late_until + 1e-6
            db.loop.call_at(again, self._serve, operation, work, fate, answer, context=_NOWHERE)
            return
        if fate is DatabaseFate.LATE and operation == "settle":
            db.late_until = now + self.rng.uniform(0.1, 3.0)
            db.loop.call_at(db.late_until, lambda: _run(work()), context=_NOWHERE)
            self._reply(_Answer(error=CommitUnknown()), answer)
        elif operation in _LONG:
            task = db.loop.create_task(work(), context=_NOWHERE)
            task.add_done_callback(lambda done: self._reply(self._outcome(done, fate), answer))
        else:
            self._reply(self._lost(_run(work()), fate), answer)

    def _outcome(self, done: asyncio.Task[Any], fate: DatabaseFate) -> _Answer:
        if done.cancelled():
            return _Answer(error=DatabaseUnavailable("the simulation is over"))
        error = done.exception()
        if isinstance(error, Exception):
            return _Answer(error=error)
        return self._lost(_Answer(done.result()), fate)

    @staticmethod
    def _lost(answer: _Answer, fate: DatabaseFate) -> _Answer:
        return answer if fate is DatabaseFate.DONE or answer.error else _Answer(error=CommitUnknown())

    def _reply(self, what: _Answer, answer: asyncio.Future[_Answer]) -> None:
        way = self.database.weather.database_latency(self.rng)
        self.database.loop.call_later(way, _deliver, what, answer, context=_NOWHERE)


def _deliver(what: _Answer, answer: asyncio.Future[_Answer]) -> None:
    if not answer.done():
        answer.set_result(what)


def _run(work: Coroutine[Any, Any, Any]) -> _Answer:
    """Run a coroutine that only pretends to wait, at this moment."""
    try:
        while True:
            pretended = work.send(None)
            assert pretended is None, "this operation really waits for something"
    except StopIteration as done:
        return _Answer(done.value)
    except Exception as error:  # noqa: BLE001 - it goes to the caller, as a database's error does.
        return _Answer(error=error)
