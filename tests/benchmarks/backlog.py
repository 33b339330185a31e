"""Large backlogs, made by MariaDB itself."""

from __future__ import annotations

from pathlib import Path

from consumer.outbox.database import Database, Transaction

__all__ = ["fill_by_sql", "hold_a_lane"]

_SQL = Path(__file__).parent


async def fill_by_sql(database: Database, entries: int) -> None:
    """As many pending updates, each of another user."""
    await _run(database, "backlog.sql", {"entries": entries})


async def hold_a_lane(database: Database, entries: int) -> None:
    """One user with a held head and as many entries behind it."""
    await _run(database, "held_lane.sql", {"entries": entries})


async def _run(database: Database, file: str, parameters: dict[str, int]) -> None:
    statements = (_SQL / file).read_text(encoding="utf-8").split(";\n")
    # A million rows take longer than any statement of the consumer may.
    patient = Database(database.address, connections=1, timeout=600)

    async def work(tx: Transaction) -> None:
        for statement in filter(str.strip, statements):
            await tx.execute(statement, parameters)

    await patient.transact(work)
    await patient.aclose()
