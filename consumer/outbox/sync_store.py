"""What one sync on demand covers, how far it has come, and a drain that is confined to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from consumer.outbox.command_store import Action, Order
from consumer.outbox.database import Database, Row, Transaction
from consumer.outbox.drain_store import DrainStore, ReadyLane, lane_of
from consumer.outbox.rows import EntryState
from consumer.outbox.statements import load_statements

__all__ = [
    "ConfinedDrainStore",
    "Confines",
    "Progress",
    "Sync",
    "begin_sync",
    "due_lanes",
    "progress",
    "waiting_heads",
]

_SQL = load_statements("sync")
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Sync:
    """What is followed: entries up to `tail`, of one lane or all, from a moment of the database's clock on."""

    since: datetime
    tail: int
    lane: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What has become of a sync's entries.

    Attributes:
        ended: how many ended since, by state and reason.
        pending: how many are pending still.
        retried: those of them that were called in vain.
        held: how many are held.
    """

    ended: Mapping[tuple[EntryState, str], int]
    pending: int
    retried: int
    held: int

    @property
    def processed(self) -> int:
        """How many came to an end."""
        return sum(self.ended.values())

    def count(self, state: EntryState) -> int:
        """How many ended in this state."""
        return sum(count for (ended, _), count in self.ended.items() if ended is state)


@dataclass(frozen=True, slots=True)
class Confines:
    """What a drain on demand may touch: one lane or all, and at most so many entries (None: no limit)."""

    lane: bytes | None = None
    limit: int | None = None


async def begin_sync(database: Database, lane: bytes | None) -> Sync:
    """Remember from where a sync is counted."""
    row = await database.fetch_one(_SQL["mark"])
    assert row is not None
    return Sync(row["since"], row["tail"], lane)


async def due_lanes(database: Database, sync: Sync, *, upto: int) -> int:
    """Users with changes of this sync that may go on now, counted no further than `upto`."""
    row = await database.fetch_one(_SQL["due_lanes"], {"lane": sync.lane, "tail": sync.tail, "limit": upto})
    return 0 if row is None else int(row["n"])


async def progress(database: Database, sync: Sync) -> Progress:
    """How far a sync has come."""
    parameters = {"lane": sync.lane, "tail": sync.tail, "since": sync.since}

    async def work(tx: Transaction) -> tuple[list[Row], Row | None]:
        return await tx.fetch(_SQL["ended"], parameters), await tx.fetch_one(_SQL["still_open"], parameters)

    ended, still_open = await database.transact(work)
    assert still_open is not None
    return Progress(
        ended={(EntryState(row["state"]), row["reason"] or ""): row["entries"] for row in ended},
        pending=int(still_open["pending"]),
        retried=int(still_open["retried"]),
        held=int(still_open["held"]),
    )


async def waiting_heads(database: Database, lane: bytes | None) -> list[Order]:
    """Orders to hurry the next changes of users who wait for their next attempt."""
    rows = await database.fetch(_SQL["waiting_heads"], {"lane": lane, "limit": _MOST})
    return [
        Order(
            lane_id=row["lane_id"],
            action=Action.HURRY,
            entry_id=row["entry_id"],
            state=EntryState(row["state"]),
            arrivals=row["arrivals"],
        )
        for row in rows
    ]


class ConfinedDrainStore(DrainStore):
    """The outbox as a drain on demand sees it: nothing beyond its confines is ready or to be healed."""

    def __init__(self, database: Database, *, owner: str, confines: Confines) -> None:
        super().__init__(database, owner=owner)
        self._lane = confines.lane
        self._left = confines.limit

    async def ready_lanes(
        self, shards: Collection[int], limit: int, *, in_hand: Collection[bytes] = ()
    ) -> list[ReadyLane]:
        """Lanes that may go on. Each counts as one entry: confined by a limit, a drain merges nothing."""
        if self._left is not None:
            limit = min(limit, self._left)
        if limit <= 0 or not shards:
            return []
        if self._lane is None:
            lanes = await super().ready_lanes(shards, limit, in_hand=in_hand)
        elif self._lane in in_hand:
            lanes = []
        else:
            parameters = {"lane": self._lane, "shards": tuple(shards)}
            rows = await self._database.fetch(_SQL["lane_if_ready"], parameters)
            lanes = [lane_of(row) for row in rows]
        if self._left is not None:
            self._left -= len(lanes)
        return lanes

    async def suspects(
        self,
        shards: Collection[int],  # noqa: ARG002 - as in the outbox.
        *,
        after: float,  # noqa: ARG002 - the same.
        limit: int,  # noqa: ARG002 - the same.
        resting: Collection[str],  # noqa: ARG002 - the same.
    ) -> list[ReadyLane]:
        """None: healing is for those who stay."""
        return []
