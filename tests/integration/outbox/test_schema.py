from __future__ import annotations

import asyncio

import pytest

from consumer.outbox.database import Database
from consumer.outbox.errors import SchemaMismatch
from consumer.outbox.migrate import check_schema, migrate, migrations
from tests.integration.support.bench import Bench


async def test_migrating_twice_does_nothing_the_second_time(bench: Bench) -> None:
    database = Database(bench.address)
    try:
        first = await migrate(database)
        second = await migrate(database)
        await check_schema(database)
    finally:
        await database.aclose()

    assert first == migrations()
    assert second == []
    assert bench.value("SELECT COUNT(*) FROM leases") == 256
    assert bench.value("SELECT COUNT(*) FROM schema_migrations") == len(first)


async def test_instances_that_start_together_migrate_one_after_the_other(bench: Bench) -> None:
    databases = [Database(bench.address) for _ in range(4)]
    try:
        applied = await asyncio.gather(*(migrate(database) for database in databases))
    finally:
        for database in databases:
            await database.aclose()

    assert sorted(map(len, applied)) == [0, 0, 0, len(migrations())]


async def test_a_migration_that_was_broken_off_is_finished(bench: Bench, database: Database) -> None:
    last = migrations()[-3:]
    bench.change("DELETE FROM schema_migrations WHERE version >= %s", last[0].version)

    applied = await migrate(database)

    assert applied == last
    await check_schema(database)


async def test_an_empty_database_is_refused_with_what_to_do(bench: Bench) -> None:
    database = Database(bench.address)
    try:
        with pytest.raises(SchemaMismatch, match="has no kcsync tables; run `kcsync migrate`"):
            await check_schema(database)
    finally:
        await database.aclose()


async def test_a_missing_migration_is_named(bench: Bench, database: Database) -> None:
    bench.change("DELETE FROM schema_migrations WHERE version = 5")

    with pytest.raises(SchemaMismatch, match="lacks migration 0005_folds"):
        await check_schema(database)


async def test_a_migration_of_a_newer_version_is_refused(bench: Bench, database: Database) -> None:
    bench.change("INSERT INTO schema_migrations (version, name, checksum) VALUES (9999, 'later', 'x')")

    for act in (check_schema, migrate):
        with pytest.raises(SchemaMismatch, match="9999_later, which this version of kcsync does not know"):
            await act(database)


async def test_a_migration_with_another_text_is_refused(bench: Bench, database: Database) -> None:
    bench.change("UPDATE schema_migrations SET checksum = REPEAT('x', 32) WHERE version = 3")

    for act in (check_schema, migrate):
        with pytest.raises(SchemaMismatch, match="0003_entries was applied with another text"):
            await act(database)
