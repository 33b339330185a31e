"""What a transaction and a statement alone leave behind, and what is said when the connection goes in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pymysql
import pytest

from consumer.outbox.bulk import Statement
from consumer.outbox.database import Database, Transaction
from consumer.outbox.errors import CommitUnknown, DatabaseUnavailable
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until


@pytest.fixture
async def table(bench: Bench) -> AsyncIterator[Database]:
    database = Database(bench.address)
    await database.execute("CREATE TABLE t (a INT PRIMARY KEY, b INT NOT NULL) ENGINE = InnoDB")
    yield database
    await database.aclose()


def insert(a: int, b: int = 0) -> Statement:
    return "INSERT INTO t (a, b) VALUES (%s, %s)", (a, b)


async def contents(database: Database) -> list[int]:
    return [row["a"] for row in await database.fetch("SELECT a FROM t ORDER BY a")]


async def test_statements_that_share_a_packet_each_say_how_many_rows_they_matched(table: Database) -> None:
    counts = await table.transact(
        lambda tx: tx.execute_all(
            [insert(1), insert(2), ("UPDATE t SET b = 0", None), ("DELETE FROM t WHERE a > 9", None)]
        )
    )

    assert counts == [1, 1, 2, 0]
    assert await contents(table) == [1, 2]


async def test_one_that_fails_in_a_packet_takes_all_of_its_transaction_with_it(table: Database) -> None:
    await table.execute(*insert(2))

    for statements in ([insert(2), insert(3)], [insert(1), insert(2), insert(3)]):

        async def work(tx: Transaction, wanted: list[Statement] = statements) -> None:
            await tx.execute(*insert(9))
            await tx.execute_all(wanted)

        with pytest.raises(pymysql.err.IntegrityError):
            await table.transact(work)

    assert await contents(table) == [2]


async def test_the_first_statement_of_a_transaction_is_part_of_it(table: Database) -> None:
    async def breaks(tx: Transaction) -> None:
        await tx.execute(*insert(1))
        raise LookupError

    with pytest.raises(LookupError):
        await table.transact(breaks)

    assert await contents(table) == []


async def test_a_packet_whose_first_statement_fails_opens_nothing_that_stays(table: Database) -> None:
    await table.execute(*insert(1))

    with pytest.raises(pymysql.err.IntegrityError):
        await table.transact(lambda tx: tx.execute(*insert(1)))

    # The same connection is taken again, and what is written alone is not part of anything.
    assert await table.execute(*insert(2)) == 1
    other = Database(table.address)
    try:
        assert await contents(other) == [1, 2]
    finally:
        await other.aclose()


async def test_no_statements_make_no_round_trip_and_leave_nothing_open(table: Database) -> None:
    assert await table.transact(lambda tx: tx.execute_all([])) == []


@pytest.mark.parametrize(("kill", "expected"), [("KILL", CommitUnknown), ("KILL QUERY", DatabaseUnavailable)])
async def test_what_became_of_a_statement_alone_is_said_no_surer_than_it_is(
    bench: Bench, table: Database, kill: str, expected: type[Exception]
) -> None:
    """The connection lost: only the table knows. The statement ended by somebody: it has done nothing."""
    await table.execute(*insert(1))

    async def holds(tx: Transaction) -> None:
        await tx.execute("UPDATE t SET b = 1")
        writing = asyncio.create_task(table.execute("UPDATE t SET b = 2 /* waits for the lock */"))
        await until(lambda: bench.value(_WAITING) is not None, what="the second write waits for the first")
        bench.change(f"{kill} {bench.value(_WAITING)}")
        with pytest.raises(expected):
            await writing

    await table.transact(holds)

    assert await table.fetch("SELECT b FROM t") == [{"b": 1}]


async def test_a_read_that_is_lost_is_only_unavailable(bench: Bench, table: Database) -> None:
    reading = asyncio.create_task(table.fetch("SELECT SLEEP(60) /* waits for the lock */"))
    await until(lambda: bench.value(_WAITING) is not None, what="the read is under way")
    bench.change(f"KILL {bench.value(_WAITING)}")

    with pytest.raises(DatabaseUnavailable):
        await reading


_WAITING = (
    "SELECT MAX(id) FROM information_schema.processlist WHERE db = DATABASE()"
    " AND info LIKE '%/* waits for the lock */' AND info NOT LIKE '%processlist%'"
)
