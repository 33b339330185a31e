"""What waits for somebody: held entries, and lanes that wait behind a dead letter."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime

from consumer.outbox.database import Database, Row, Transaction
from consumer.outbox.rows import EntryState
from consumer.outbox.statements import load_statements

__all__ = ["Held", "HeldCounts", "Which", "count_held", "read_held"]

_SQL = load_statements("held")


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which of what is held is meant; None means any."""

    lane: bytes | None = None
    realm: str | None = None
    event_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One thing that waits for somebody.

    Attributes:
        entry_id: the held entry, or the dead letter that holds its lane.
        lane_id: its lane.
        realm: the user's realm.
        username: as the event wrote it. For the command line only.
        kind: what the entry does.
        event_id: its handle in logs.
        state: HELD, or DEAD_LETTER for one that holds its lane.
        reason: why it is held, or why it died.
        email_holder: who has the e-mail address it asked for, where that is the reason. For the command line only.
        since: since when the entry is here, or when it died; None where the dead letter is gone.
        seconds: how long ago that was.
        arrivals: the lane's tail.
        behind: open entries that wait behind it.
    """

    entry_id: int
    lane_id: bytes
    realm: str
    username: str = field(repr=False)
    kind: str
    event_id: str
    state: EntryState
    reason: str
    email_holder: str | None = field(repr=False)
    since: datetime | None
    seconds: float | None
    arrivals: int
    behind: int

    @property
    def holds_lane(self) -> bool:
        """Whether it is a dead letter that holds its lane."""
        return self.state is not EntryState.HELD


@dataclass(frozen=True, slots=True)
class HeldCounts:
    """How much is held: entries by reason, and lanes that wait behind a dead letter."""

    entries: dict[str, int]
    lanes: int


async def read_held(database: Database, which: Which, *, limit: int) -> list[Held]:
    """What is held, oldest first, at most `limit` of the entries and of the lanes."""
    parameters = {**asdict(which), "limit": limit}

    async def work(tx: Transaction) -> list[Row]:
        return [
            *await tx.fetch(_SQL["held_entries"], parameters),
            *await tx.fetch(_SQL["held_lanes"], parameters),
        ]

    held = [_held(row) for row in await database.transact(work)]
    return sorted(held, key=lambda each: each.entry_id)


async def count_held(database: Database) -> HeldCounts:
    """How much is held."""

    async def work(tx: Transaction) -> HeldCounts:
        entries = {row["reason"] or "": row["entries"] for row in await tx.fetch(_SQL["held_counts"])}
        lanes = await tx.fetch_one(_SQL["held_lane_count"])
        return HeldCounts(entries, 0 if lanes is None else lanes["n"])

    return await database.transact(work)


def _held(row: Row) -> Held:
    return Held(
        entry_id=row["entry_id"],
        lane_id=row["lane_id"],
        realm=row["realm"],
        username=row["username"],
        kind=row["kind"],
        event_id=row["event_id"],
        state=EntryState(row["state"]),
        reason=row["reason"] or "",
        email_holder=row["email_holder"],
        since=row["since"],
        seconds=None if row["seconds"] is None else float(row["seconds"]),
        arrivals=row["arrivals"],
        behind=row["behind"],
    )
