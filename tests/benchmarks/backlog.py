"""Outboxes to measure on, and large backlogs in them, made by MariaDB itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from compose.native.stack import Stack
from consumer.database_address import DatabaseAddress
from consumer.outbox.database import Database, Transaction
from consumer.outbox.migrate import migrate

__all__ = ["empty_outbox", "fill_by_sql", "hold_a_lane"]

_SQL = Path(__file__).parent


@asynccontextmanager
async def empty_outbox(stack: Stack, name: str) -> AsyncIterator[Database]:
    """A new database with our tables in it, of this name."""
    database = Database(DatabaseAddress.parse(stack.mariadb.new_database(name)))
    try:
        await migrate(database)
        yield database
    finally:
        await database.aclose()


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
