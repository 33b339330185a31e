"""The outbox as the drain sees it: ready lanes, their heads, claims, and fenced write-backs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson

from consumer.outbox.bulk import Value
from consumer.outbox.database import Database, Row, Transaction
from consumer.outbox.fold import Credential, Fold
from consumer.outbox.lane import shard_of
from consumer.outbox.rows import EntryState, Position
from consumer.outbox.statements import load_statements

__all__ = ["Attempt", "DrainStore", "Head", "LaneHint", "ReadyLane", "Settlement", "WriteBack", "lane_of"]

_SQL = load_statements("drain")
_LEASES = load_statements("leases")
_SWEEP_PIECE = 50_000
_UNKNOWN = Fold()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyLane:
    """A lane that may go on, as its row says. `arrivals` is its tail, `priority` its urgency when we looked."""

    lane_id: bytes
    realm: str
    username_key: str
    arrivals: int
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a lane: its lowest open entry, with what is known of the user.

    `followers` are the entries directly behind it, in order, as far as they were read; a follower has none itself.
    `next_priority` is the most urgent of what was read behind it, and None if nothing stood there. `eligible` is seconds
    since its first call, as far as it could have been delivered in them.
    """

    lane: ReadyLane
    entry_id: int
    position: Position | None
    origin: str
    kind: str
    source: str
    event_id: str
    username: str
    priority: int
    traceparent: bytes | None
    tracestate: bytes | None
    data: Mapping[str, Any] = field(repr=False)
    credential: bytes | None = field(repr=False)
    state: EntryState
    state_reason: str | None
    attempts: int
    calls: int
    openings: int
    charged_ago: float | None
    due_in: float
    claimed_at: datetime | None
    maybe_applied_since: datetime | None
    eligible: float
    next_priority: int | None
    fold: Fold = field(repr=False)
    followers: tuple[Head, ...] = field(default=(), repr=False)

    @property
    def shard(self) -> int:
        """The shard of its lane."""
        return shard_of(self.lane.lane_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One recorded call."""

    started_at: datetime
    ended_at: datetime
    outcome: str
    reason: str
    http_status: int | None
    charged: bool | None
    trace_id: bytes | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a call, or a decision without a call, makes of an entry.

    `reason` None leaves the entry's reason as it is. `delay` is seconds until the next attempt of an entry that stays
    PENDING. `judged` says whether earlier, unjudged calls are charged.
    """

    head: Head
    state: EntryState
    reason: str | None
    attempts: int
    openings: int = 0
    charged: bool = False
    delay: float = 0.0
    maybe_applied_since: datetime | None = None
    attempt: Attempt | None = None
    judged: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBack:
    """What is written of one lane in one transaction, under the fencing token of its shard.

    Several settlements are those of a merge group, in the lane's order; none are those of a heal. `fold` is None where
    it does not change.
    """

    lane: ReadyLane
    token: int
    settlements: tuple[Settlement, ...] = ()
    fold: Fold | None = None

    @property
    def shard(self) -> int:
        """The shard of its lane."""
        return shard_of(self.lane.lane_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneHint:
    """Where a lane's head stands: state IDLE, READY, WAITING (for `delay` seconds) or HELD.

    `priority` is the most urgent of the open entries we saw. With `recount`, the entry that made the lane as urgent as
    it was has gone, and all of its open entries are asked. `parked` is a kind: the lane, WAITING, goes on as soon as one
    more call of that kind may be made.
    """

    lane: ReadyLane
    state: str
    delay: float | None = None
    priority: int | None = None
    recount: bool = False
    parked: str | None = None


class DrainStore:
    """Queries and write-backs of one owner."""

    def __init__(self, database: Database, *, owner: str) -> None:
        self._database = database
        self._owner = owner

    async def ready_lanes(
        self, shards: Collection[int], limit: int, *, in_hand: Collection[bytes] = ()
    ) -> list[ReadyLane]:
        """Lanes of these shards that may go on and are not in hand, most urgent first."""
        if not shards:
            return []
        parameters = {"shards": tuple(shards), "limit": limit, "in_hand": tuple(in_hand) or (b"",)}
        rows = await self._database.fetch(_SQL["ready_lanes"], parameters)
        return [lane_of(row) for row in rows]

    async def heads(self, lanes: Sequence[ReadyLane], *, depth: int = 1) -> list[Head]:
        """The heads of these lanes, each with up to `depth - 1` followers; a lane without open entries has none."""
        if not lanes:
            return []
        ids = tuple(lane.lane_id for lane in lanes)

        async def work(tx: Transaction) -> tuple[list[Row], list[Row]]:
            ends = await tx.fetch(_SQL["lane_ends"], {"lanes": ids})
            wanted = {row["head"] for row in ends if row["head"] is not None}
            longer = [row["lane_id"] for row in ends if row["head"] != row["tail"]]
            if longer:
                union = " UNION ALL ".join([_SQL["first_open"]] * len(longer))
                # One more than asked for: it tells whether anything stands behind the last.
                parameters = tuple(value for lane in longer for value in (lane, depth + 1))
                wanted.update(row["entry_id"] for row in await tx.fetch(union, parameters))
            if not wanted:
                return [], []
            return (
                await tx.fetch(_SQL["open_entries"], {"entries": tuple(wanted)}),
                await tx.fetch(_SQL["folds"], {"lanes": ids}),
            )

        entries, folds = await self._database.transact(work)
        fold_of = {row["lane_id"]: _fold(row) for row in folds}
        rows: dict[bytes, list[Row]] = {}
        for row in entries:
            rows.setdefault(row["lane_id"], []).append(row)
        return [
            _front(lane, rows[lane.lane_id], fold_of.get(lane.lane_id, _UNKNOWN), depth)
            for lane in lanes
            if lane.lane_id in rows
        ]

    async def suspects(self, shards: Collection[int], *, after: float, limit: int) -> list[ReadyLane]:
        """Lanes in doubt for more than `after` seconds whose own entries are not in doubt: time to heal them."""
        if not shards:
            return []
        parameters = {"shards": tuple(shards), "after": after, "limit": limit}
        return [lane_of(row) for row in await self._database.fetch(_SQL["suspects"], parameters)]

    async def still_suspect(
        self, lanes: Collection[ReadyLane], *, after: float
    ) -> dict[bytes, tuple[Fold, datetime]]:
        """Those of the lanes that `suspects` would name now, with their folds and the database's time.

        Asked while the lanes are in hand, so that nobody changes their folds any more.
        """
        parameters = {"lanes": tuple(lane.lane_id for lane in lanes), "after": after}
        rows = await self._database.fetch(_SQL["still_suspect"], parameters)
        return {row["lane_id"]: (_fold(row), row["asked_at"]) for row in rows}

    async def claim(self, heads: Collection[Head], *, margin: float) -> dict[int, tuple[int, datetime]]:
        """Mark entries "maybe started"; those that are ours now, with token and time.

        An entry is missing from the answer when its shard is no longer ours, its lease ends within `margin` seconds,
        or its state has changed.
        """
        if not heads:
            return {}
        entries = tuple(head.entry_id for head in heads)
        parameters = {"entries": entries, "owner": self._owner, "margin": margin}

        async def work(tx: Transaction) -> list[Row]:
            if any(head.claimed_at is not None for head in heads):
                # Claimed before, and nothing recorded since: that doubt must outlive the new claim.
                await tx.execute(_SQL["keep_doubt"], parameters)
            await tx.execute(_SQL["claim"], parameters)
            return await tx.fetch(_SQL["claimed"], parameters)

        rows = await self._database.transact(work)
        return {row["entry_id"]: (row["claim_token"], row["claimed_at"]) for row in rows}

    async def still_pending(self, entries: Collection[int]) -> dict[int, int | None]:
        """Which of these entries are pending still, each with the token it is claimed under (None: it is not).

        Waits for a write-back that is committing.
        """
        if not entries:
            return {}
        rows = await self._database.fetch(_SQL["still_pending"], {"entries": tuple(entries)})
        return {row["entry_id"]: row["claim_token"] for row in rows}

    async def hand_back(self, claims: Collection[tuple[int, int]]) -> None:
        """Take back claims (entry, token) for which no call was made, unless another owner has claimed since."""
        if claims:
            rows = orjson.dumps([{"entry_id": entry, "token": token} for entry, token in claims]).decode()
            await self._database.execute(_SQL["unclaim"], {"rows": rows})

    async def settle(self, write_backs: Sequence[WriteBack], *, instance: str) -> set[bytes]:
        """Write the results of many lanes in one transaction; the lanes that were fenced and not written.

        Entry, fold and attempt change together. The leases are locked first: a take-over of a shard waits for this
        commit, and one that came before it fences us.
        """

        async def work(tx: Transaction) -> set[bytes]:
            shards = tuple({each.shard for each in write_backs})
            tokens = {
                row["shard"]: row["token"]
                for row in await tx.fetch(_LEASES["lock_tokens"], {"shards": shards})
                if row["owner"] == self._owner
            }
            ours = [each for each in write_backs if tokens.get(each.shard) == each.token]
            if ours:
                await _write(tx, ours, instance)
            return {each.lane.lane_id for each in write_backs} - {each.lane.lane_id for each in ours}

        return await self._database.transact(work)

    async def hint(self, hints: Sequence[LaneHint]) -> None:
        """Put lanes where their heads stand. Hints may be lost: the sweep reconciles them."""
        if not hints:
            return
        counted = await self._recount([hint.lane.lane_id for hint in hints if hint.recount])
        rows = [
            {
                "lane": hint.lane.lane_id.hex(),
                "state": hint.state,
                "arrivals": arrivals,
                "priority": priority,
                "recounted": int(hint.lane.lane_id in counted),
                "delay_us": None if hint.delay is None else int(hint.delay * 1e6),
            }
            for hint in sorted(hints, key=lambda hint: hint.lane.lane_id)
            for arrivals, priority in [
                counted.get(hint.lane.lane_id, (hint.lane.arrivals, hint.priority)),
            ]
        ]
        await self._database.execute(_SQL["hint_lanes"], {"rows": orjson.dumps(rows).decode()})
        parked = [
            {"lane": hint.lane.lane_id.hex(), "kind": hint.parked}
            for hint in hints
            if hint.parked is not None
        ]
        if parked:
            await self._database.execute(_SQL["park_lanes"], {"rows": orjson.dumps(parked).decode()})

    async def unpark(self, shards: Collection[int], kind: str, limit: int) -> int:
        """Make lanes ready that are parked for a kind, most urgent first; how many."""
        if not shards:
            return 0

        async def work(tx: Transaction) -> int:
            parameters = {"kind": kind, "shards": tuple(shards), "limit": limit}
            lanes = {"lanes": tuple(row["lane_id"] for row in await tx.fetch(_SQL["parked"], parameters))}
            if not lanes["lanes"]:
                return 0
            await tx.execute(_SQL["forget_parked"], lanes)
            return await tx.execute(_SQL["unpark_lanes"], lanes)

        return await self._database.transact(work)

    async def _recount(self, lanes: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        """Tail and most urgent open entry of lanes, both of one moment."""
        if not lanes:
            return {}
        rows = await self._database.fetch(_SQL["recount"], {"lanes": tuple(lanes)})
        return {
            row["lane_id"]: (row["arrivals"], row["priority"]) for row in rows if row["priority"] is not None
        }

    async def wake(self, shards: Collection[int]) -> int:
        """Make waiting lanes ready whose time has come; how many."""
        if not shards:
            return 0
        return await self._database.execute(_SQL["wake_lanes"], {"shards": tuple(shards)})

    async def sweep(self, shards: Collection[int]) -> int:
        """Make lanes ready that sleep although they have work; how many.

        Walks the pending entries in pieces, so that no statement is long however large the backlog.
        """
        span = await self._database.fetch_one(_SQL["open_range"])
        if not shards or span is None or span["first_id"] is None:
            return 0
        roused = 0
        for after in range(span["first_id"] - 1, span["last_id"], _SWEEP_PIECE):
            rows = await self._database.fetch(
                _SQL["asleep_lanes"], {"after": after, "until": after + _SWEEP_PIECE, "shards": tuple(shards)}
            )
            if rows:
                lanes = tuple(row["lane_id"] for row in rows)
                roused += await self._database.execute(_SQL["rouse_lanes"], {"lanes": lanes})
        return roused


async def _write(tx: Transaction, write_backs: Sequence[WriteBack], instance: str) -> None:
    settlements = [settlement for each in write_backs for settlement in each.settlements]
    if settlements:
        await _write_entries(tx, settlements)
    await tx.insert_rows(
        _SQL["insert_attempts"],
        [
            (
                s.head.entry_id,
                _calls(s),
                a.started_at,
                a.ended_at,
                a.outcome,
                a.reason,
                a.http_status,
                a.charged,
                a.trace_id,
                instance,
                a.error,
            )
            for s in settlements
            if (a := s.attempt) is not None
        ],
    )
    await tx.insert_rows(
        _SQL["upsert_folds"],
        [_fold_row(each.lane.lane_id, each.fold) for each in write_backs if each.fold is not None],
    )
    await tx.insert_rows(
        _SQL["insert_dead_marks"],
        [
            (p.topic_id, p.partition, p.offset, "dead", s.head.lane.lane_id)
            for s in settlements
            if s.state is EntryState.DEAD_LETTER and (p := s.head.position) is not None
        ],
    )


async def _write_entries(tx: Transaction, settlements: Sequence[Settlement]) -> None:
    rows = [
        {
            "entry_id": s.head.entry_id,
            "state": s.state.value,
            "reason": s.reason,
            "attempts": s.attempts,
            "calls": _calls(s),
            "openings": s.openings,
            "eligible_us": int(s.head.eligible * 1e6),
            "charged": int(s.charged),
            "delay_us": int(s.delay * 1e6) if s.state is EntryState.PENDING else None,
            "maybe": s.maybe_applied_since and s.maybe_applied_since.isoformat(sep=" "),
        }
        for s in settlements
    ]
    written = await tx.execute(_SQL["settle"], {"rows": orjson.dumps(rows).decode()})
    if written != len(settlements):
        # Only the owner changes entries, and the owner is us: anything else is a defect, and must not pass.
        raise AssertionError(f"{len(settlements)} results, but {written} entries were pending")
    for charged in (True, False):
        judged = tuple(s.head.entry_id for s in settlements if s.judged is charged)
        if judged:
            await tx.execute(_SQL["judge_attempts"], {"entries": judged, "charged": int(charged)})


def _calls(settlement: Settlement) -> int:
    return settlement.head.calls + (settlement.attempt is not None)


def lane_of(row: Row) -> ReadyLane:
    """A lane as a row shows it."""
    return ReadyLane(
        lane_id=row["lane_id"],
        realm=row["realm"],
        username_key=row["username_key"],
        arrivals=row["arrivals"],
        priority=row["priority"],
    )


def _front(lane: ReadyLane, rows: Sequence[Row], fold: Fold, depth: int) -> Head:
    head, *followers = (_head(lane, row, rows[at + 1 :], fold) for at, row in enumerate(rows[:depth]))
    return replace(head, followers=tuple(followers)) if followers else head


def _head(lane: ReadyLane, row: Row, behind: Sequence[Row], fold: Fold) -> Head:
    return Head(
        lane=lane,
        entry_id=row["entry_id"],
        position=_position(row["topic_id"], row["partition_no"], row["log_offset"]),
        origin=row["origin"],
        kind=row["kind"],
        source=row["source"],
        event_id=row["event_id"],
        username=row["username"],
        priority=row["priority"],
        traceparent=row["traceparent"],
        tracestate=row["tracestate"],
        data=orjson.loads(row["data"]),
        credential=row["credential"],
        state=EntryState(row["state"]),
        state_reason=row["state_reason"],
        attempts=row["attempts"],
        calls=row["calls"],
        openings=row["openings"],
        charged_ago=None if row["charged_ago_us"] is None else row["charged_ago_us"] / 1e6,
        due_in=max(0.0, (row["due_in_us"] or 0) / 1e6),
        claimed_at=row["claimed_at"],
        maybe_applied_since=row["maybe_applied_since"],
        eligible=row["eligible_us"] / 1e6,
        next_priority=min((r["priority"] for r in behind), default=None),
        fold=fold,
    )


def _position(topic_id: int | None, partition: int | None, offset: int | None) -> Position | None:
    if topic_id is None or partition is None or offset is None:
        return None
    return Position(topic_id, partition, offset)


def _fold(row: Row) -> Fold:
    credential = None
    if row["credential"] is not None:
        position = _position(
            row["credential_topic_id"], row["credential_partition"], row["credential_offset"]
        )
        credential = Credential(row["credential"], row["credential_event_id"], position)
    return Fold(
        exists=None if row["user_exists"] is None else bool(row["user_exists"]),
        exists_position=_position(row["exists_topic_id"], row["exists_partition"], row["exists_offset"]),
        fields=Fold.load_fields(row["fields"]),
        user_id=row["user_id"],
        credential=credential,
        credential_date=row["credential_date"],
        suspect_since=row["suspect_since"],
        suspect_kind=row["suspect_kind"],
        held_by_entry=row["held_by_entry"],
        held_reason=row["held_reason"],
    )


def _fold_row(lane: bytes, fold: Fold) -> tuple[Value, ...]:
    credential = fold.credential
    return (
        lane,
        shard_of(lane),
        fold.exists,
        *_columns(fold.exists_position),
        fold.dump_fields(),
        fold.user_id,
        None if credential is None else credential.sealed,
        None if credential is None else credential.event_id,
        *_columns(credential.position if credential else None),
        fold.credential_date,
        fold.suspect_since,
        fold.suspect_kind,
        fold.held_by_entry,
        fold.held_reason,
    )


def _columns(position: Position | None) -> tuple[int | None, int | None, int | None]:
    return (
        (None, None, None) if position is None else (position.topic_id, position.partition, position.offset)
    )
