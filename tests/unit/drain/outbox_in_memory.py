"""Leases, lanes, entries and folds in memory, as the drain's stores show them, under a clock moved by hand."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from consumer.delivery.outcome import TAKEN
from consumer.outbox.command_store import Action, Answer, Change, Command, Found, Verdict
from consumer.outbox.doubt import Doubt
from consumer.outbox.drain_store import (
    Attempt,
    Head,
    LaneHint,
    ReadyLane,
    Settlement,
    SuspectFold,
    WriteBack,
)
from consumer.outbox.fold import Fold
from consumer.outbox.lane import SHARDS, lane_id, shard_of
from consumer.outbox.lease_store import LeaseView
from consumer.outbox.rows import EntryState, LimitNote, Position

EPOCH = datetime(2026, 11, 21)  # noqa: DTZ001 - naive UTC, as stored


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(slots=True)
class Entry:
    """One row of `entries`. Moments are the clock's seconds, but for those that leave the database."""

    entry_id: int
    lane_id: bytes
    kind: str
    event_id: str
    data: dict[str, Any]
    credential: bytes | None
    priority: int = 5
    state: EntryState = EntryState.PENDING
    reason: str | None = None
    attempts: int = 0
    calls: int = 0
    openings: int = 0
    charged_at: float | None = None
    due_at: float = 0.0
    claimed_at: datetime | None = None
    claim_token: int | None = None
    maybe_applied_since: datetime | None = None
    eligible: float = 0.0
    recorded: list[Attempt] = field(default_factory=list)
    position: Position | None = None
    holder: str | None = None

    @property
    def is_open(self) -> bool:
        return self.state in {EntryState.PENDING, EntryState.HELD}


@dataclass(slots=True)
class Lane:
    """One row of `lanes`."""

    realm: str
    username_key: str
    arrivals: int = 0
    state: str = "READY"
    due_at: float = 0.0
    parked: str | None = None
    priority: int = 10
    ready_since: float = 0.0

    @property
    def urgent_at(self) -> float:
        """As the column of that name."""
        return self.ready_since + 600 * self.priority


@dataclass(slots=True)
class Lease:
    """One row of `leases`."""

    owner: str | None = None
    token: int = 0
    deadline: float = 0.0


@dataclass(frozen=True, slots=True)
class NotedDoubt:
    """One row of `doubts`."""

    lane_id: bytes
    kind: str
    doubt: Doubt
    due_at: float


@dataclass(slots=True)
class QueuedCommand:
    """One row of `commands`."""

    command: Command
    expires_at: float
    answer: Verdict | None = None
    detail: str = ""


class MemoryDatabase:
    """What all instances share."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.entries: dict[int, Entry] = {}
        self.lanes: dict[bytes, Lane] = {}
        self.folds: dict[bytes, Fold] = {}
        self.doubts: dict[int, NotedDoubt] = {}
        self.doubt_ids = itertools.count(1)
        self.leases = {shard: Lease() for shard in range(SHARDS)}
        self.instances: dict[str, float] = {}
        self.realm_faults: dict[str, str] = {}
        self.realm_fault_by: dict[str, str] = {}
        self.commands: list[QueuedCommand] = []
        self.places: dict[int, str | None] = {}
        """Rows of `deletions`: the realm whose place an entry took, or None where an operator let it through."""
        self.allow: Callable[[int], object] = lambda entry: self.places.update({entry: None})
        # Faults by operation: raised before the work is done, or, where they say so, after.
        self.faults: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self.faults_after: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self.gates: dict[str, asyncio.Event] = {}
        self.reached: Counter[str] = Counter()
        self.settled: list[list[int]] = []
        self._ids = itertools.count(1)

    def add(self, username: str, kind: str = "user_update", *, realm: str = "shop", **changes: Any) -> Entry:
        """Ingest one event."""
        lane = lane_id(realm, username)
        number = next(self._ids)
        entry = Entry(
            entry_id=number,
            lane_id=lane,
            kind=kind,
            event_id=f"e-{number}",
            data={"email": f"{number}@example.org"} if kind == "user_update" else {},
            credential=b'{"kid":"k1"}' if kind == "password_change" else None,
        )
        for name, value in changes.items():
            setattr(entry, name, value)
        self.entries[number] = entry
        row = self.lanes.setdefault(
            lane,
            Lane(realm=realm, username_key=username, priority=entry.priority, ready_since=self.clock()),
        )
        row.arrivals += 1
        if row.state == "IDLE":
            row.state, row.priority, row.ready_since = "READY", entry.priority, self.clock()
        row.priority = min(row.priority, entry.priority)
        return entry

    def ready_lane(self, lane: bytes) -> ReadyLane:
        row = self.lanes[lane]
        return ReadyLane(
            lane_id=lane,
            realm=row.realm,
            username_key=row.username_key,
            arrivals=row.arrivals,
            priority=row.priority,
        )

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.clock())

    def ask(self, action: Action, entry: Entry, *, seen: EntryState | None = None) -> QueuedCommand:
        """Queue a command about an entry as it stands, or as it was `seen`."""
        row = self.lanes[entry.lane_id]
        command = Command(
            command_id=len(self.commands) + 1,
            lane=self.ready_lane(entry.lane_id),
            action=action,
            entry_id=entry.entry_id,
            seen_state=seen or entry.state,
            seen_arrivals=row.arrivals,
            actor="alice@desk",
            why=None,
        )
        self.commands.append(QueuedCommand(command, self.clock() + 3600.0))
        return self.commands[-1]

    async def reach(self, operation: str) -> None:
        self.reached[operation] += 1
        await asyncio.sleep(0)
        if (gate := self.gates.get(operation)) is not None:
            await gate.wait()
        if self.faults[operation]:
            raise self.faults[operation].popleft()

    def leave(self, operation: str) -> None:
        if self.faults_after[operation]:
            raise self.faults_after[operation].popleft()


class MemoryDrainStore:
    """What `DrainStore` does."""

    def __init__(self, database: MemoryDatabase, owner: str) -> None:
        self.database = database
        self.owner = owner

    async def ready_lanes(
        self, shards: Collection[int], limit: int, *, in_hand: Collection[bytes] = ()
    ) -> list[ReadyLane]:
        db = self.database
        await db.reach("ready_lanes")
        ready = [
            lane
            for lane, row in db.lanes.items()
            if row.state == "READY" and shard_of(lane) in shards and lane not in in_hand
        ]
        ready.sort(key=lambda lane: db.lanes[lane].urgent_at)
        return [db.ready_lane(lane) for lane in ready[:limit]]

    async def heads(self, lanes: Sequence[ReadyLane], *, depth: int = 1) -> list[Head]:
        await self.database.reach("heads")
        return [head for lane in lanes if (head := self._front(lane, depth)) is not None]

    async def suspects(
        self, shards: Collection[int], *, after: float, limit: int, resting: Collection[str]
    ) -> list[ReadyLane]:
        db = self.database
        await db.reach("suspects")
        return [
            db.ready_lane(lane)
            for lane in db.lanes
            if shard_of(lane) in shards
            and db.lanes[lane].realm not in resting
            and self._is_suspect(lane, after)
        ][:limit]

    async def still_suspect(self, lanes: Collection[ReadyLane], *, after: float) -> dict[bytes, SuspectFold]:
        db = self.database
        await db.reach("still_suspect")
        return {
            lane.lane_id: SuspectFold(
                fold=db.folds.get(lane.lane_id, Fold()),
                asked_at=db.now(),
                in_doubt=self._is_in_doubt(lane.lane_id, after),
                noted={number: noted.doubt for number, noted in self._noted(lane.lane_id).items()},
            )
            for lane in lanes
            if self._is_suspect(lane.lane_id, after)
        }

    async def note_doubts(self, doubts: Mapping[bytes, Doubt], *, kind: str, after: float) -> None:
        db = self.database
        await db.reach("note_doubts")
        for lane, doubt in doubts.items():
            db.doubts[next(db.doubt_ids)] = NotedDoubt(lane, kind, doubt, db.clock() + after)

    def _noted(self, lane: bytes) -> dict[int, NotedDoubt]:
        db = self.database
        return {
            number: noted
            for number, noted in db.doubts.items()
            if noted.lane_id == lane and noted.due_at <= db.clock()
        }

    def _is_suspect(self, lane: bytes, after: float) -> bool:
        db = self.database
        fold = db.folds.get(lane, Fold())
        if any(
            entry.maybe_applied_since is not None or entry.claimed_at is not None
            for entry in self._open_entries(lane)
        ):
            return False
        look_is_due = fold.look_at is not None and fold.look_at <= db.now()
        return look_is_due or self._is_in_doubt(lane, after) or bool(self._noted(lane))

    def _is_in_doubt(self, lane: bytes, after: float) -> bool:
        db = self.database
        since = db.folds.get(lane, Fold()).suspect_since
        return since is not None and since < db.now() - timedelta(seconds=after)

    async def claim(self, heads: Collection[Head], *, margin: float) -> dict[int, tuple[int, datetime]]:
        db = self.database
        await db.reach("claim")
        claims = {}
        for entry in (db.entries[head.entry_id] for head in heads):
            lease = db.leases[shard_of(entry.lane_id)]
            if entry.claimed_at is not None and entry.maybe_applied_since is None:
                entry.maybe_applied_since = entry.claimed_at
            ours = lease.owner == self.owner and lease.deadline > db.clock() + margin
            if entry.state is EntryState.PENDING and ours:
                entry.claimed_at, entry.claim_token = db.now(), lease.token
                claims[entry.entry_id] = (lease.token, entry.claimed_at)
        db.leave("claim")
        return claims

    async def still_pending(self, entries: Collection[int]) -> dict[int, int | None]:
        db = self.database
        await db.reach("still_pending")
        return {
            number: entry.claim_token
            for number in entries
            if (entry := db.entries[number]).state is EntryState.PENDING
        }

    async def unfinished(self, lane: bytes) -> str | None:
        await self.database.reach("unfinished")
        waiting = self._open_entries(lane)
        if not waiting:
            return None
        head = waiting[0]
        return head.holder or "" if head.reason in TAKEN else ""

    async def hand_back(self, claims: Collection[tuple[int, int]]) -> None:
        db = self.database
        await db.reach("hand_back")
        for number, token in claims:
            entry = db.entries[number]
            if entry.state is EntryState.PENDING and entry.claim_token == token:
                entry.claimed_at = entry.claim_token = None

    async def settle(self, write_backs: Sequence[WriteBack], *, instance: str) -> set[bytes]:
        db = self.database
        await db.reach("settle")
        fenced = set()
        for each in write_backs:
            lease = db.leases[each.shard]
            if lease.owner != self.owner or lease.token != each.token:
                fenced.add(each.lane.lane_id)
                continue
            for settlement in each.settlements:
                self._write(settlement)
            if each.fold is not None:
                db.folds[each.lane.lane_id] = each.fold
            for number in each.taken_in:
                db.doubts.pop(number, None)
        db.settled.append([s.head.entry_id for each in write_backs for s in each.settlements])
        db.leave("settle")
        return fenced

    async def hint(self, hints: Sequence[LaneHint]) -> None:
        db = self.database
        await db.reach("hint")
        for hint in hints:
            row = db.lanes[hint.lane.lane_id]
            arrived = hint.state == "IDLE" and row.arrivals != hint.lane.arrivals
            row.state = "READY" if arrived else hint.state
            row.due_at = db.clock() + (hint.delay or 0.0)
            row.parked = hint.parked
            if hint.recount:
                lane = hint.lane.lane_id
                open_ones = [e.priority for e in db.entries.values() if e.lane_id == lane and e.is_open]
                row.priority = min(open_ones, default=row.priority)
            elif hint.priority is not None:
                row.priority = min(row.priority, hint.priority)
            if row.state == "READY":
                row.ready_since = db.clock()
                # To the end of the queue, as `ready_since` has it where the clock stands still.
                db.lanes[hint.lane.lane_id] = db.lanes.pop(hint.lane.lane_id)

    async def wake(self, shards: Collection[int]) -> int:
        db = self.database
        await db.reach("wake")
        woken = [
            row
            for lane, row in db.lanes.items()
            if row.state == "WAITING" and row.due_at <= db.clock() and shard_of(lane) in shards
        ]
        for row in woken:
            row.state = "READY"
        return len(woken)

    async def hurry(
        self, shards: Collection[int], *, reasons: Collection[str], wait_in_doubt: Collection[str]
    ) -> int:
        db = self.database
        await db.reach("hurry")
        hurried = 0
        for lane, row in db.lanes.items():
            if row.state != "WAITING" or row.due_at <= db.clock() or shard_of(lane) not in shards:
                continue
            head = next((entry for entry in self._open_entries(lane)), None)
            if (
                head is None
                or head.state is not EntryState.PENDING
                or head.claimed_at is not None
                or head.reason not in reasons
                or (head.maybe_applied_since is not None and head.kind in wait_in_doubt)
            ):
                continue
            head.due_at, row.state = 0.0, "READY"
            hurried += 1
        return hurried

    async def unpark(self, shards: Collection[int], kind: str, limit: int) -> int:
        db = self.database
        await db.reach("unpark")
        parked = [
            row
            for lane, row in db.lanes.items()
            if row.state == "WAITING" and row.parked == kind and shard_of(lane) in shards
        ]
        parked = sorted(parked, key=lambda row: row.urgent_at)[:limit]
        for row in parked:
            row.state = "READY"
        return len(parked)

    async def sweep(self, shards: Collection[int]) -> int:
        db = self.database
        await db.reach("sweep")
        asleep = {
            entry.lane_id
            for entry in db.entries.values()
            if entry.state is EntryState.PENDING
            and db.lanes[entry.lane_id].state in {"IDLE", "HELD"}
            and db.folds.get(entry.lane_id, Fold()).held_by_entry is None
        }
        for lane in asleep:
            db.lanes[lane].state = "READY"
        return len(asleep)

    def _front(self, lane: ReadyLane, depth: int) -> Head | None:
        waiting = self._open_entries(lane.lane_id)[: depth + 1]
        if not waiting:
            return None
        head, *followers = (
            self._head(lane, entry, waiting[at + 1 :]) for at, entry in enumerate(waiting[:depth])
        )
        return replace(head, followers=tuple(followers))

    def _open_entries(self, lane: bytes) -> list[Entry]:
        return [e for e in self.database.entries.values() if e.lane_id == lane and e.is_open]

    def _head(self, lane: ReadyLane, entry: Entry, behind: Sequence[Entry]) -> Head:
        db = self.database
        return Head(
            lane=lane,
            entry_id=entry.entry_id,
            position=entry.position or Position(1, 0, entry.entry_id),
            origin="live",
            kind=entry.kind,
            source="/accounts",
            event_id=entry.event_id,
            username=lane.username_key,
            priority=entry.priority,
            traceparent=None,
            tracestate=None,
            data=entry.data,
            credential=entry.credential,
            state=entry.state,
            state_reason=entry.reason,
            attempts=entry.attempts,
            calls=entry.calls,
            openings=entry.openings,
            charged_ago=None if entry.charged_at is None else db.clock() - entry.charged_at,
            due_in=max(0.0, entry.due_at - db.clock()),
            claimed_at=entry.claimed_at,
            maybe_applied_since=entry.maybe_applied_since,
            eligible=entry.eligible,
            next_priority=min((other.priority for other in behind), default=None),
            fold=db.folds.get(lane.lane_id, Fold()),
        )

    def _write(self, settlement: Settlement) -> None:
        db, head = self.database, settlement.head
        entry = db.entries[head.entry_id]
        assert entry.state is EntryState.PENDING, "only the owner writes, and only once"
        entry.state, entry.reason = settlement.state, settlement.reason or entry.reason
        entry.attempts, entry.openings = settlement.attempts, settlement.openings
        entry.charged_at = db.clock() if settlement.charged else entry.charged_at
        entry.due_at = db.clock() + settlement.delay
        entry.maybe_applied_since = settlement.maybe_applied_since or entry.maybe_applied_since
        entry.eligible = head.eligible
        entry.holder = settlement.holder or entry.holder
        entry.claimed_at = entry.claim_token = None
        if settlement.state is EntryState.DELIVERED:
            entry.credential = None
        if settlement.attempt is not None:
            entry.calls = head.calls + 1
            entry.recorded.append(settlement.attempt)


class MemoryCommandStore:
    """What of `CommandStore` an owner needs."""

    def __init__(self, database: MemoryDatabase, owner: str) -> None:
        self.database = database
        self.owner = owner

    async def waiting(self, shards: Collection[int], *, limit: int) -> list[Command]:
        db = self.database
        await db.reach("waiting")
        oldest: dict[bytes, Command] = {}
        for row in db.commands:
            lane = row.command.lane.lane_id
            if row.answer is None and shard_of(lane) in shards:
                oldest.setdefault(lane, row.command)
        return list(oldest.values())[:limit]

    async def found(self, commands: Sequence[Command]) -> dict[int, Found]:
        db = self.database
        await db.reach("found")
        return {
            command.command_id: self._found(command)
            for command in commands
            if db.commands[command.command_id - 1].answer is None
        }

    async def settle(self, answers: Sequence[Answer]) -> set[bytes]:
        db = self.database
        await db.reach("settle_commands")
        fenced = set()
        for answer in answers:
            command, lane = answer.command, answer.command.lane.lane_id
            lease = db.leases[shard_of(lane)]
            row = db.commands[command.command_id - 1]
            fits = lease.owner == self.owner and lease.token == answer.token and self._is_as_seen(answer)
            if not fits or self._is_answered(row):
                fenced.add(lane)
                continue
            self._write(row, answer)
        db.leave("settle_commands")
        return fenced

    def _is_answered(self, row: QueuedCommand) -> bool:
        return row.answer is not None

    def _is_as_seen(self, answer: Answer) -> bool:
        if answer.change is None or answer.change.state is None:
            return True
        return self.database.entries[answer.command.entry_id].state is answer.command.seen_state

    def _write(self, row: QueuedCommand, answer: Answer) -> None:
        row.answer, row.detail = answer.verdict, answer.detail
        if (change := answer.change) is not None:
            self._change(self.database.entries[answer.command.entry_id], change)

    def _found(self, command: Command) -> Found:
        db = self.database
        entry = db.entries[command.entry_id]
        lane = command.lane.lane_id
        open_ids = [e.entry_id for e in db.entries.values() if e.lane_id == lane and e.is_open]
        return Found(
            expired=db.commands[command.command_id - 1].expires_at <= db.clock(),
            arrivals=db.lanes[lane].arrivals,
            state=entry.state,
            reason=entry.reason,
            event_id=entry.event_id,
            in_doubt=entry.maybe_applied_since is not None or entry.claimed_at is not None,
            head_id=min(open_ids, default=None),
            held_by_entry=db.folds.get(lane, Fold()).held_by_entry,
        )

    def _change(self, entry: Entry, change: Change) -> None:
        db = self.database
        if change.state is not None:
            assert entry.is_open, "only the owner changes entries"
            if entry.state is EntryState.HELD:
                entry.openings = 0
            entry.state, entry.reason, entry.due_at = change.state, change.reason or entry.reason, 0.0
        if change.allows_delete:
            db.allow(entry.entry_id)
        if change.ends_hold:
            db.folds[entry.lane_id] = replace(db.folds[entry.lane_id], held_by_entry=None, held_reason=None)


class MemoryDeletionStore:
    """What `DeletionStore` does, with all users known and within one hour."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def let_through(self, entries: Collection[int]) -> set[int]:
        await self.database.reach("let_through")
        return {*entries} & self.database.places.keys()

    async def used(self, realm: str) -> int:
        return sum(place == realm for place in self.database.places.values())

    async def reserve(self, realm: str, entries: Sequence[int], *, limit: int) -> set[int]:
        await self.database.reach("reserve")
        places = self.database.places
        placed = {*entries} & places.keys()
        taken = [each for each in entries if each not in placed][: max(0, limit - await self.used(realm))]
        places |= dict.fromkeys(taken, realm)
        return placed.union(taken)

    async def users(self, realm: str, *, upto: int) -> int:
        db = self.database
        known = sum(fold.exists is True for lane, fold in db.folds.items() if db.lanes[lane].realm == realm)
        return min(known, upto)

    async def forget(self, realm: str) -> None:
        """Nothing is a day old."""


class MemoryLeaseStore:
    """What `LeaseStore` does for one instance."""

    def __init__(self, database: MemoryDatabase, owner: str, *, seconds: float = 30.0) -> None:
        self.database = database
        self.owner = owner
        self.seconds = seconds
        self.before_renewal: Callable[[], None] = lambda: None
        self.noted: LimitNote | None = None

    async def renew(self, calls: LimitNote | None = None) -> LeaseView:
        db = self.database
        await db.reach("renew")
        self.before_renewal()
        now = db.clock()
        db.instances[self.owner] = now + self.seconds
        self.noted = calls
        for lease in db.leases.values():
            if lease.owner == self.owner and lease.deadline > now:
                lease.deadline = now + self.seconds
        return LeaseView(
            owned=self._owned(),
            free=tuple(
                shard for shard, lease in db.leases.items() if lease.owner is None or lease.deadline <= now
            ),
            alive=tuple(sorted(name for name, deadline in db.instances.items() if deadline > now)),
        )

    async def acquire(self, shards: Collection[int]) -> dict[int, int]:
        db = self.database
        await db.reach("acquire")
        now = db.clock()
        for lease in (db.leases[shard] for shard in shards):
            if lease.owner is None or lease.deadline <= now:
                lease.owner, lease.token, lease.deadline = self.owner, lease.token + 1, now + self.seconds
        return self._owned()

    async def release(self, shards: Collection[int]) -> None:
        await self.database.reach("release")
        for lease in (self.database.leases[shard] for shard in shards):
            if lease.owner == self.owner:
                lease.owner, lease.deadline = None, self.database.clock()

    async def leave(self) -> None:
        await self.database.reach("leave")
        self.database.instances.pop(self.owner, None)

    def _owned(self) -> dict[int, int]:
        now = self.database.clock()
        return {
            shard: lease.token
            for shard, lease in self.database.leases.items()
            if lease.owner == self.owner and lease.deadline > now
        }


class MemoryRealmStore:
    """What of `CircuitStore` the watch over realms needs."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def set_realm_fault(self, realm: str, fault: str, detail: str, *, instance: str) -> None:
        await self.database.reach("set_realm_fault")
        self.database.realm_faults[realm] = fault
        self.database.realm_fault_by[realm] = instance

    async def end_realm_fault(self, realm: str, *, instance: str) -> bool:
        await self.database.reach("end_realm_fault")
        return self._ends(realm, instance) and self.database.realm_faults.pop(realm, None) is not None

    async def realm_faults_to_ask(self, *, instance: str) -> list[str]:
        await self.database.reach("realm_faults_to_ask")
        return [realm for realm in self.database.realm_faults if self._ends(realm, instance)]

    def _ends(self, realm: str, instance: str) -> bool:
        """Whether the instance may end the fault: its own, or of one that is no more."""
        by = self.database.realm_fault_by.get(realm)
        alive = by is not None and self.database.instances.get(by, 0.0) > self.database.clock()
        return by == instance or not alive
