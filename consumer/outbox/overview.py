"""What is in the outbox: the numbers behind `status`, `test` and the summary line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from consumer.outbox.database import Database, Row, Transaction
from consumer.outbox.rows import EntryState, PauseNote
from consumer.outbox.statements import load_statements

__all__ = [
    "CallsRow",
    "InstanceRow",
    "Leases",
    "Overview",
    "PartitionRow",
    "Queue",
    "queue_counts",
    "read_overview",
    "table_counts",
]

_SQL = load_statements("overview")
_WAITING_SHOWN = 1000
_LEASES = load_statements("leases")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRow:
    """How far one partition was ingested, by whom, when last, and why it is not read now.

    `log_start` is the first record that Kafka held when its writer last looked; None before that.
    """

    topic: str
    partition: int
    next_offset: int
    writer: str | None
    updated_at: datetime
    pause: PauseNote
    log_start: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsRow:
    """How many calls an instance makes at once at most, up to what ceiling, how many a second, and why and since when."""

    limit: int
    ceiling: int
    per_second: float | None
    why: str
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """A living process, and what it does: `ingest`, `drain` or both; how it stands with its calls, if it makes any."""

    name: str
    roles: tuple[str, ...]
    calls: CallsRow | None


@dataclass(frozen=True, slots=True)
class Leases:
    """How many shards an instance owns, and when the first of its leases ends unless it is renewed."""

    shards: int
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The outbox in numbers.

    `oldest_pending` is seconds, or None when nothing is pending. `waiting_for` counts lanes by what their heads wait for,
    among the thousand that go on first; `heals_refused` lanes by why Keycloak refused their last heal.
    """

    entries: dict[EntryState, int]
    oldest_pending: float | None
    lanes: dict[str, int]
    waiting_for: dict[str, int]
    heals_refused: dict[str, int]
    poison: int
    duplicates: int
    partitions: tuple[PartitionRow, ...]
    instances: tuple[InstanceRow, ...]
    leases: dict[str, Leases]

    @property
    def draining(self) -> tuple[str, ...]:
        """Names of the living processes that deliver."""
        return tuple(each.name for each in self.instances if "drain" in each.roles)


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits and what needs somebody."""

    pending: int
    held: int
    dead: int


async def read_overview(database: Database) -> Overview:
    """Read all numbers in one transaction."""

    async def work(tx: Transaction) -> Overview:
        counts = {EntryState(row["state"]): row["entries"] for row in await tx.fetch(_SQL["entry_counts"])}
        oldest = await tx.fetch_one(_SQL["oldest_pending"])
        lanes = {row["state"]: row["lanes"] for row in await tx.fetch(_SQL["lane_counts"])}
        poison = await tx.fetch_one(_SQL["poison_count"])
        duplicates = await tx.fetch_one(_SQL["duplicate_count"])
        assert poison is not None
        assert duplicates is not None
        return Overview(
            entries={state: counts.get(state, 0) for state in EntryState},
            oldest_pending=None if oldest is None else float(oldest["seconds"]),
            lanes={state: lanes.get(state, 0) for state in ("READY", "WAITING", "HELD", "IDLE")},
            waiting_for={
                row["reason"]: row["lanes"]
                for row in await tx.fetch(_SQL["waiting_for"], {"limit": _WAITING_SHOWN})
            },
            heals_refused={row["reason"]: row["lanes"] for row in await tx.fetch(_SQL["heals_refused"])},
            poison=poison["n"],
            duplicates=duplicates["n"],
            partitions=tuple(
                PartitionRow(
                    topic=row["topic"],
                    partition=row["partition_no"],
                    next_offset=row["next_offset"],
                    writer=row["writer"],
                    updated_at=row["updated_at"],
                    pause=PauseNote(
                        tuple(row["paused_for"].split(",")) if row["paused_for"] else (),
                        yields=bool(row["yields"]),
                    ),
                    log_start=row["log_start"],
                )
                for row in await tx.fetch(_SQL["watermarks"])
            ),
            instances=tuple(
                InstanceRow(row["instance"], tuple(row["roles"].split(",")), _calls(row))
                for row in await tx.fetch(_LEASES["instances"])
            ),
            leases={
                row["owner"]: Leases(row["shards"], row["until"]) for row in await tx.fetch(_LEASES["owners"])
            },
        )

    return await database.transact(work)


def _calls(row: Row) -> CallsRow | None:
    if row["call_limit"] is None:
        return None
    return CallsRow(
        limit=row["call_limit"],
        ceiling=row["call_ceiling"],
        per_second=row["calls_per_second"],
        why=row["limit_why"],
        changed_at=row["limit_changed_at"],
    )


async def queue_counts(database: Database) -> Queue:
    """Pending, held and dead entries."""
    row = await database.fetch_one(_SQL["queue"])
    assert row is not None
    return Queue(int(row["pending"] or 0), int(row["held"] or 0), int(row["dead"] or 0))


async def table_counts(database: Database) -> dict[str, int]:
    """Rows in every table."""
    return {row["name"]: row["n"] for row in await database.fetch(_SQL["table_counts"])}
