"""The outbox as the drain sees it: ready lanes, their heads, claims, and fenced write-backs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from typing import Any

import orjson

from consumer.frozen import quick_dataclass
from consumer.outbox.bulk import Statement, Value, multi_row_statements
from consumer.outbox.database import Database, Row, Transaction
from consumer.outbox.doubt import Doubt
from consumer.outbox.fold import Credential, Fold
from consumer.outbox.lane import shard_of
from consumer.outbox.lease_store import lock_claimable, lock_tokens
from consumer.outbox.rows import EntryState, Position
from consumer.outbox.statements import load_statements
from consumer.side_by_side import side_by_side

__all__ = [
    "Attempt",
    "DrainStore",
    "Head",
    "LaneHint",
    "ReadyLane",
    "Settlement",
    "SuspectFold",
    "WriteBack",
    "lane_of",
]

_SQL = load_statements("drain")
_SWEEP_PIECE = 50_000
_MOST_HURRIED = 10_000
"""Those beyond it wait for their own next attempt, while these are called."""
_UNKNOWN = Fold()
_PART = 200
_MOST_PARTS = 3
"""Entries are read and claimed in parts of so many or more, and in at most so many parts."""
_ALIKE = 16
"""As many results that are the same are written by a statement of their own."""
_RESULT = (
    "state",
    "reason",
    "attempts",
    "calls",
    "openings",
    "eligible_us",
    "charged",
    "delay_us",
    "maybe",
    "holder",
)

_PRIORITY = 9
"""Where an entry's document says its priority."""
_LONGEST_USER_ID = 255
"""Of the column, in characters. Keycloak's own are 36; of a federation, they hold the user's name."""

Document = list[Any]
Result = tuple[str | int | None, ...]


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class ReadyLane:
    """A lane that may go on, as its row says. `arrivals` is its tail, `priority` its urgency when we looked."""

    lane_id: bytes
    realm: str
    username_key: str
    arrivals: int
    priority: int


@quick_dataclass(frozen=True, slots=True, kw_only=True)
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


@quick_dataclass(frozen=True, slots=True, kw_only=True)
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


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a call, or a decision without a call, makes of an entry.

    `reason` None leaves the entry's reason as it is. `delay` is seconds until the next attempt of an entry that stays
    PENDING. `judged` says whether earlier, unjudged calls are charged. `holder` is the username of who has the name
    or the e-mail address that it asks for; None leaves what is known.
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
    holder: str | None = field(default=None, repr=False)


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class WriteBack:
    """What is written of one lane in one transaction, under the fencing token of its shard.

    Several settlements are those of a merge group, in the lane's order; none are those of a heal. `fold` is None where
    it does not change. `taken_in` are the ids of doubts that others noted of the lane, and that the fold has in it now.
    """

    lane: ReadyLane
    token: int
    settlements: tuple[Settlement, ...] = ()
    fold: Fold | None = None
    taken_in: tuple[int, ...] = ()

    @property
    def shard(self) -> int:
        """The shard of its lane."""
        return shard_of(self.lane.lane_id)


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class SuspectFold:
    """The fold of a lane in doubt, or of one at which one more look is due.

    Attributes:
        fold: the fold.
        asked_at: the database's time.
        in_doubt: the doubt is as old as the server limit; else only a look is due, or something noted by others.
        noted: by their ids, the doubts that others noted of the lane.
    """

    fold: Fold
    asked_at: datetime
    in_doubt: bool
    noted: Mapping[int, Doubt]


@quick_dataclass(frozen=True, slots=True, kw_only=True)
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
        return [_lane(lane) for lane in await self._database.fetch_column(_SQL["ready_lanes"], parameters)]

    async def heads(self, lanes: Sequence[ReadyLane], *, depth: int = 1) -> list[Head]:
        """The heads of these lanes in any order, each with up to `depth - 1` followers; a lane without open entries has none."""
        if not lanes:
            return []
        lane_of_id = {lane.lane_id: lane for lane in lanes}
        rows = await self._database.fetch_column(_SQL["heads"], {"lanes": tuple(lane_of_id)})
        found = [orjson.loads(row) for row in rows]
        longer = [bytes.fromhex(lane) for lane, goes_on, *_ in found if goes_on]
        documents: dict[str, list[Document]] = {}
        if longer:
            union = " UNION ALL ".join([_SQL["first_open"]] * len(longer))
            # One more than asked for: it tells whether anything stands behind the last.
            parameters = tuple(value for lane in longer for value in (lane, depth + 1))
            ids = await self._database.fetch_column(union, parameters)
            # Part after part, so that the entries of a lane stay in their order. None is there if all were delivered
            # meanwhile, by who has taken our shards over.
            size = max(1, -(-len(ids) // _parts(len(ids))))
            parts = [ids[first : first + size] for first in range(0, len(ids), size)]
            for rows in await side_by_side(map(self._open_entries, parts)):
                for lane, entry in map(orjson.loads, rows):
                    documents.setdefault(lane, []).append(entry)
        heads = []
        for lane, _, entry, is_known, fold in found:
            queue = documents.get(lane) or [entry]
            known = _fold(fold) if is_known else _UNKNOWN
            heads.append(_front(lane_of_id[bytes.fromhex(lane)], queue, known, depth))
        return heads

    async def suspects(
        self, shards: Collection[int], *, after: float, limit: int, resting: Collection[str]
    ) -> list[ReadyLane]:
        """Lanes in doubt for more than `after` seconds whose own entries are not in doubt: time to heal them.

        Not those of `resting` realms, however long they have been in doubt.
        """
        if not shards:
            return []
        # An empty list is no SQL; no realm is called "".
        parameters = {
            "shards": tuple(shards),
            "after": after,
            "limit": limit,
            "resting": tuple(resting) or ("",),
        }
        return [lane_of(row) for row in await self._database.fetch(_SQL["suspects"], parameters)]

    async def still_suspect(self, lanes: Collection[ReadyLane], *, after: float) -> dict[bytes, SuspectFold]:
        """Those of the lanes that `suspects` would name now, with their folds and the database's time.

        Asked while the lanes are in hand, so that nobody changes their folds any more.
        """
        of_lanes = {"lanes": tuple(lane.lane_id for lane in lanes), "after": after}
        rows = await self._database.fetch(_SQL["still_suspect"], of_lanes)
        noted = await self._database.fetch(_SQL["noted_doubts"], of_lanes)
        return {
            row["lane_id"]: SuspectFold(
                fold=_UNKNOWN if row["fold"] is None else _fold(orjson.loads(row["fold"])),
                asked_at=row["asked_at"],
                in_doubt=bool(row["in_doubt"]),
                noted={
                    each["doubt_id"]: Doubt.load(each["doubt"])
                    for each in noted
                    if each["lane_id"] == row["lane_id"]
                },
            )
            for row in rows
        }

    async def note_doubts(self, doubts: Mapping[bytes, Doubt], *, kind: str, after: float) -> None:
        """Note what may still happen to the users of lanes that need not be ours; their owners look when it is due.

        Args:
            doubts: By lane.
            kind: Why: `fenced` or `asked`.
            after: Seconds from now until it is looked for.
        """
        rows = [
            {"lane": lane.hex(), "shard": shard_of(lane), "doubt": doubt.dump().decode()}
            for lane, doubt in doubts.items()
        ]
        if rows:
            parameters = {"rows": orjson.dumps(rows).decode(), "kind": kind, "after": after}
            await self._database.execute(_SQL["note_doubts"], parameters)

    async def claim(self, heads: Collection[Head], *, margin: float) -> dict[int, tuple[int, datetime]]:
        """Mark entries "maybe started"; those that are ours now, with token and time.

        An entry is missing from the answer when its shard is no longer ours, its lease ends within `margin` seconds,
        or its state has changed.
        """
        parts: list[list[Head]] = [[] for _ in range(_parts(len(heads)))]
        for head in heads:
            # By shard: a merge group is claimed by one statement, or not at all.
            parts[head.shard % len(parts)].append(head)
        claims = await side_by_side(self._claim_part(part, margin=margin) for part in parts if part)
        return {entry: claim for part in claims for entry, claim in part.items()}

    async def _open_entries(self, entries: Sequence[int]) -> list[str]:
        return await self._database.fetch_column(_SQL["open_entries"], {"entries": tuple(entries)})

    async def _claim_part(self, heads: Sequence[Head], *, margin: float) -> dict[int, tuple[int, datetime]]:
        shards = {head.shard for head in heads}

        async def work(tx: Transaction) -> dict[int, tuple[int, datetime]]:
            tokens, now = await lock_claimable(tx, shards, owner=self._owner, margin=margin)
            ours = {head.entry_id: tokens[head.shard] for head in heads if head.shard in tokens}
            if not ours:
                return {}
            entries = {"entries": tuple(ours), "locked_at": now}
            if any(head.claimed_at is not None for head in heads):
                # Claimed before, and nothing recorded since: that doubt must outlive the new claim.
                await tx.execute(_SQL["keep_doubt"], entries)
            if await tx.execute(_SQL["claim"], entries) < len(ours):
                pending = {row["entry_id"] for row in await tx.fetch(_SQL["claimed"], entries)}
                ours = {entry: token for entry, token in ours.items() if entry in pending}
            return {entry: (token, now) for entry, token in ours.items()}

        return await self._database.transact(work)

    async def still_pending(self, entries: Collection[int]) -> dict[int, int | None]:
        """Which of these entries are pending still, each with the token it is claimed under (None: it is not).

        Waits for a write-back that is committing.
        """
        if not entries:
            return {}
        rows = await self._database.fetch(_SQL["still_pending"], {"entries": tuple(entries)})
        return {row["entry_id"]: row["claim_token"] for row in rows}

    async def unfinished(self, lane: bytes) -> str | None:
        """What the head of a lane waits for; None if the lane has no open entries.

        That is the user who has the name or the address that it asks for, or "" for whatever else it may be.
        """
        row = await self._database.fetch_one(_SQL["unfinished"], {"lane": lane})
        return None if row is None else row["waits_for"]

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
            tokens = await lock_tokens(tx, {each.shard for each in write_backs}, owner=self._owner)
            ours = [each for each in write_backs if tokens.get(each.shard) == each.token]
            if ours:
                await _write(tx, ours, instance)
            return {each.lane.lane_id for each in write_backs} - {each.lane.lane_id for each in ours}

        return await self._database.transact(work)

    async def hint(self, hints: Sequence[LaneHint]) -> None:
        """Put lanes where their heads stand, by the last hint of each. Hints may be lost: the sweep reconciles them."""
        if not hints:
            return
        # A lane may have been looked at again before its first hint was written, and MariaDB, given two, takes the first.
        last = {hint.lane.lane_id: hint for hint in hints}
        counted = await self._recount([lane for lane, hint in last.items() if hint.recount])
        idle = sorted((lane, hint.lane.arrivals) for lane, hint in last.items() if hint.state == "IDLE")
        if idle:
            parameters = {"tails": tuple(idle), "lanes": tuple(lane for lane, _ in idle)}
            await self._database.execute(_SQL["idle_lanes"], parameters)
        rows = [
            {
                "lane": hint.lane.lane_id.hex(),
                "state": hint.state,
                "arrivals": arrivals,
                "priority": priority,
                "recounted": int(hint.lane.lane_id in counted),
                "delay_us": None if hint.delay is None else int(hint.delay * 1e6),
            }
            for _, hint in sorted(last.items())
            if hint.state != "IDLE"
            for arrivals, priority in [
                counted.get(hint.lane.lane_id, (hint.lane.arrivals, hint.priority)),
            ]
        ]
        parked = [
            {"lane": lane.hex(), "kind": hint.parked}
            for lane, hint in last.items()
            if hint.parked is not None
        ]
        if parked:
            # First: a lane that waits and is parked nowhere would sleep long.
            await self._database.execute(_SQL["park_lanes"], {"rows": orjson.dumps(parked).decode()})
        if rows:
            await self._database.execute(_SQL["hint_lanes"], {"rows": orjson.dumps(rows).decode()})

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

    async def hurry(
        self, shards: Collection[int], *, reasons: Collection[str], wait_in_doubt: Collection[str]
    ) -> int:
        """Let lanes go on at once that wait because of an outage that is over; how many.

        Args:
            shards: ours.
            reasons: the codes of failures that the outage explains.
            wait_in_doubt: kinds whose entries wait for the server limit while their last call may still take effect.
        """
        if not shards:
            return 0
        parameters = {
            "shards": tuple(shards),
            "reasons": tuple(sorted(reasons)),
            "wait_in_doubt": tuple(sorted(wait_in_doubt)),
            "limit": _MOST_HURRIED,
        }
        rows = await self._database.fetch(_SQL["waiting_for_outage"], parameters)
        if not rows:
            return 0
        await self._database.execute(
            _SQL["hurry_entries"], {"entries": tuple(row["entry_id"] for row in rows)}
        )
        return await self._database.execute(
            _SQL["hurry_lanes"], {"lanes": tuple(row["lane_id"] for row in rows)}
        )

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


def _parts(entries: int) -> int:
    """In how many parts so many entries are read or claimed, each by a connection of its own.

    A busy MariaDB gives each connection its share: one alone, beside thirty of Keycloak's, kept the drain waiting for
    its next claims (docs/decisions/0041).
    """
    return max(1, min(_MOST_PARTS, entries // _PART))


async def _write(tx: Transaction, write_backs: Sequence[WriteBack], instance: str) -> None:
    settlements = [settlement for each in write_backs for settlement in each.settlements]
    entries = _entry_statements(settlements)
    counts = await tx.execute_all(
        [
            *entries,
            *_judge_statements(settlements),
            *multi_row_statements(
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
            ),
            *multi_row_statements(
                _SQL["upsert_folds"],
                [_fold_row(each.lane.lane_id, each.fold) for each in write_backs if each.fold is not None],
            ),
            *multi_row_statements(
                _SQL["insert_dead_marks"],
                [
                    (p.topic_id, p.partition, p.offset, "dead", s.head.lane.lane_id)
                    for s in settlements
                    if s.state is EntryState.DEAD_LETTER and (p := s.head.position) is not None
                ],
            ),
            *_taken_in_statements(write_backs),
        ]
    )
    written = sum(counts[: len(entries)])
    if written != len(settlements):
        # Only the owner changes entries, and the owner is us: anything else is a defect, and must not pass.
        raise AssertionError(f"{len(settlements)} results, but {written} entries were pending")


def _entry_statements(settlements: Sequence[Settlement]) -> list[Statement]:
    alike: dict[Result, list[int]] = {}
    for settlement in settlements:
        alike.setdefault(_result(settlement), []).append(settlement.head.entry_id)
    statements: list[Statement] = []
    singly = []
    for result, entries in alike.items():
        values = dict(zip(_RESULT, result, strict=True))
        if len(entries) >= _ALIKE:
            statements.append((_SQL["settle_alike"], {**values, "entries": tuple(entries)}))
        else:
            singly += [{**values, "entry_id": entry} for entry in entries]
    if singly:
        statements.append((_SQL["settle"], {"rows": orjson.dumps(singly).decode()}))
    return statements


def _taken_in_statements(write_backs: Sequence[WriteBack]) -> Iterator[Statement]:
    taken_in = tuple(doubt for each in write_backs for doubt in each.taken_in)
    if taken_in:
        yield _SQL["remove_doubts"], {"doubts": taken_in}


def _judge_statements(settlements: Sequence[Settlement]) -> Iterator[Statement]:
    for charged in (True, False):
        judged = tuple(s.head.entry_id for s in settlements if s.judged is charged)
        if judged:
            yield _SQL["judge_attempts"], {"entries": judged, "charged": int(charged)}


def _result(settlement: Settlement) -> Result:
    """What is written of an entry, in the order of `_RESULT`."""
    pending = settlement.state is EntryState.PENDING
    maybe = settlement.maybe_applied_since
    since = None if maybe is None else maybe.isoformat(sep=" ")
    return (
        settlement.state.value,
        settlement.reason,
        settlement.attempts,
        _calls(settlement),
        settlement.openings,
        int(settlement.head.eligible * 1e6),
        int(settlement.charged),
        int(settlement.delay * 1e6) if pending else None,
        since,
        settlement.holder,
    )


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


def _lane(document: str) -> ReadyLane:
    lane_id, realm, username_key, arrivals, priority = orjson.loads(document)
    return ReadyLane(
        lane_id=bytes.fromhex(lane_id),
        realm=realm,
        username_key=username_key,
        arrivals=arrivals,
        priority=priority,
    )


def _front(lane: ReadyLane, documents: Sequence[Document], fold: Fold, depth: int) -> Head:
    head, *followers = (
        _head(lane, document, [behind[_PRIORITY] for behind in documents[at + 1 :]], fold)
        for at, document in enumerate(documents[:depth])
    )
    return replace(head, followers=tuple(followers)) if followers else head


def _head(lane: ReadyLane, document: Document, behind: Sequence[int], fold: Fold) -> Head:
    """An entry from its document, in the order of `entry_document`; `behind` are the priorities of what follows."""
    (
        entry_id,
        topic_id,
        partition,
        offset,
        origin,
        kind,
        source,
        event_id,
        username,
        priority,
        traceparent,
        tracestate,
        data,
        credential,
        state,
        state_reason,
        attempts,
        calls,
        openings,
        claimed_at,
        eligible_us,
        maybe_applied_since,
        due_in_us,
        charged_ago_us,
    ) = document
    return Head(
        lane=lane,
        entry_id=entry_id,
        position=_position(topic_id, partition, offset),
        origin=origin,
        kind=kind,
        source=source,
        event_id=event_id,
        username=username,
        priority=priority,
        traceparent=_bytes(traceparent),
        tracestate=_bytes(tracestate),
        data=orjson.loads(data),
        credential=_bytes(credential),
        state=EntryState(state),
        state_reason=state_reason,
        attempts=attempts,
        calls=calls,
        openings=openings,
        charged_ago=None if charged_ago_us is None else charged_ago_us / 1e6,
        due_in=max(0.0, (due_in_us or 0) / 1e6),
        claimed_at=_time(claimed_at),
        maybe_applied_since=_time(maybe_applied_since),
        eligible=eligible_us / 1e6,
        next_priority=min(behind, default=None),
        fold=fold,
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _position(topic_id: int | None, partition: int | None, offset: int | None) -> Position | None:
    if topic_id is None or partition is None or offset is None:
        return None
    return Position(topic_id, partition, offset)


def _fold(document: Document) -> Fold:
    """A fold from its document, in the order of `fold_document`."""
    (
        exists,
        exists_topic_id,
        exists_partition,
        exists_offset,
        fields,
        user_id,
        sealed,
        credential_event_id,
        credential_topic_id,
        credential_partition,
        credential_offset,
        credential_date,
        suspect_since,
        suspect_kind,
        held_by_entry,
        held_reason,
        credential_at,
        heal_refused,
        doubt,
        looks,
        look_at,
        drift,
        drift_at,
    ) = document
    credential = None
    if credential_event_id is not None:
        position = _position(credential_topic_id, credential_partition, credential_offset)
        credential = Credential(_bytes(sealed), credential_event_id, position, _time(credential_at))
    return Fold(
        exists=None if exists is None else bool(exists),
        exists_position=_position(exists_topic_id, exists_partition, exists_offset),
        fields=Fold.load_fields(fields),
        user_id=user_id,
        credential=credential,
        credential_date=_time(credential_date),
        suspect_since=_time(suspect_since),
        suspect_kind=suspect_kind,
        held_by_entry=held_by_entry,
        held_reason=held_reason,
        heal_refused=heal_refused,
        doubt=None if doubt is None else Doubt.load(doubt),
        looks=looks,
        look_at=_time(look_at),
        drift={} if drift is None else orjson.loads(drift),
        drift_at=_time(drift_at),
    )


def _fold_row(lane: bytes, fold: Fold) -> tuple[Value, ...]:
    credential = fold.credential
    return (
        lane,
        shard_of(lane),
        fold.exists,
        *_columns(fold.exists_position),
        fold.dump_fields(),
        # Without its id a user is found by name.
        fold.user_id if fold.user_id is None or len(fold.user_id) <= _LONGEST_USER_ID else None,
        None if credential is None else credential.sealed,
        None if credential is None else credential.event_id,
        *_columns(credential.position if credential else None),
        fold.credential_date,
        fold.suspect_since,
        fold.suspect_kind,
        fold.held_by_entry,
        fold.held_reason,
        None if credential is None else credential.delivered_at,
        fold.heal_refused,
        None if fold.doubt is None else fold.doubt.dump(),
        fold.looks,
        fold.look_at,
        orjson.dumps(fold.drift) if fold.drift else None,
        fold.drift_at,
    )


def _columns(position: Position | None) -> tuple[int | None, int | None, int | None]:
    return (
        (None, None, None) if position is None else (position.topic_id, position.partition, position.offset)
    )
