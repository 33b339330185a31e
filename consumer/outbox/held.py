"""What waits for somebody: held entries, lanes behind a dead letter, and changes that time alone does not bring on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime

from consumer.outbox.database import Database, Row, Transaction
from consumer.outbox.rows import EntryState
from consumer.outbox.statements import load_statements

__all__ = ["Held", "HeldCounts", "Which", "count_held", "knows_realm", "read_held"]

_SQL = load_statements("held")
_LOOKED_AT = 10_000
"""Users who wait, of whom it is looked what for: more wait only where a realm is at fault, and that says itself."""


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
        entry_id: the held entry, the dead letter that holds its lane, or the next change of a user who waits.
        lane_id: its lane.
        realm: the user's realm.
        username: as the event wrote it. For the command line only.
        kind: what the entry does.
        event_id: its handle in logs.
        state: HELD, DEAD_LETTER for one that holds its lane, or PENDING for one that is tried again and again.
        reason: why it is held, why it died, or what it waits for.
        holder: who has the name or the e-mail address it asked for, where that is the reason. For the command line only.
        since: since when the entry is here, when it died, or when it first met that reason; None where that is gone.
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
    holder: str | None = field(repr=False)
    since: datetime | None
    seconds: float | None
    arrivals: int
    behind: int

    @property
    def holds_lane(self) -> bool:
        """Whether it is a dead letter that holds its lane."""
        return self.state not in {EntryState.HELD, EntryState.PENDING}


@dataclass(frozen=True, slots=True)
class HeldCounts:
    """How much is held: entries by reason, lanes that wait behind a dead letter, and users who wait, by reason."""

    entries: dict[str, int]
    lanes: int
    waiting: dict[str, int]


async def read_held(
    database: Database, which: Which, *, limit: int, waits_for: Collection[str] = ()
) -> list[Held]:
    """What is held, oldest first.

    Args:
        database: the outbox.
        which: which of it.
        limit: at most so many of the held entries, of the lanes behind a dead letter, and of those who wait.
        waits_for: reasons for which a user's next change waits for somebody; none: such changes are left out.
    """
    parameters = {**asdict(which), "limit": limit}

    async def work(tx: Transaction) -> list[Row]:
        return [
            *await tx.fetch(_SQL["held_entries"], parameters),
            *await tx.fetch(_SQL["held_lanes"], parameters),
            *await _waiting(tx, _SQL["for_somebody"], waits_for, parameters),
        ]

    held = [_held(row) for row in await database.transact(work)]
    return sorted(held, key=lambda each: each.entry_id)


async def count_held(database: Database, *, waits_for: Collection[str] = ()) -> HeldCounts:
    """How much is held, and how many users wait for one of these reasons."""

    async def work(tx: Transaction) -> HeldCounts:
        entries = {row["reason"] or "": row["entries"] for row in await tx.fetch(_SQL["held_counts"])}
        lanes = await tx.fetch_one(_SQL["held_lane_count"])
        waiting = await _waiting(tx, _SQL["for_somebody_counts"], waits_for, {})
        return HeldCounts(
            entries, 0 if lanes is None else lanes["n"], {row["reason"]: row["lanes"] for row in waiting}
        )

    return await database.transact(work)


async def knows_realm(database: Database, realm: str) -> bool:
    """Whether anything of this realm ever came."""
    return await database.fetch_one(_SQL["knows_realm"], {"realm": realm}) is not None


async def _waiting(
    tx: Transaction, statement: str, waits_for: Collection[str], parameters: Mapping[str, object]
) -> list[Row]:
    if not waits_for:
        return []
    return await tx.fetch(
        statement, {**parameters, "reasons": tuple(sorted(waits_for)), "looked_at": _LOOKED_AT}
    )


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
        holder=row["holder"],
        since=row["since"],
        seconds=None if row["seconds"] is None else float(row["seconds"]),
        arrivals=row["arrivals"],
        behind=row["behind"],
    )
