from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from compose.native.artifacts import MARIADB_VERSION, OLDER_MARIADB_VERSION
from compose.native.mariadb import MariaDB, lone_mariadb
from consumer.database_address import DatabaseAddress
from consumer.outbox import database as database_module
from consumer.outbox.database import Database
from consumer.outbox.errors import ServerUnsupported
from consumer.outbox.migrate import migrate
from consumer.outbox.server import check_server
from tests.integration.support.bench import Bench
from tests.integration.support.kcsync import kcsync
from tests.integration.support.waiting import until


@pytest.fixture(scope="session")
def galera() -> Iterator[MariaDB]:
    """A server that takes itself for a node of a Galera cluster."""
    with lone_mariadb(MARIADB_VERSION, ("--skip-ssl", "--wsrep-on=ON", "--binlog-format=ROW")) as server:
        yield server


async def test_both_supported_versions_are_what_they_say(bench: Bench, database: Database) -> None:
    version = await check_server(database)

    assert version in {f"{MARIADB_VERSION}-MariaDB", f"{OLDER_MARIADB_VERSION}-MariaDB"}
    assert version == bench.value("SELECT VERSION()")


class TestAGaleraNode:
    async def test_gets_no_schema(self, galera: MariaDB) -> None:
        address = DatabaseAddress.parse(await asyncio.to_thread(galera.new_database, "outbox"))
        database = Database(address)
        try:
            with pytest.raises(ServerUnsupported, match=r"wsrep_on=ON.*one writing primary"):
                await migrate(database)
            assert await database.fetch("SHOW TABLES") == []
        finally:
            await database.aclose()

    @pytest.mark.parametrize("mariadb", ["11.4"], indirect=True)
    @pytest.mark.parametrize("command", ["test", "start", "migrate"])
    async def test_is_refused_by_every_command_that_would_work_on_it(
        self, bench: Bench, galera: MariaDB, command: str
    ) -> None:
        environment = bench.environment(KCSYNC_DATABASE_DSN=galera.dsn)

        finished = await kcsync(environment, command)

        assert finished.code == 2
        assert "is a Galera node (wsrep_on=ON)" in finished.out + finished.err
        assert "Traceback" not in finished.err


async def test_a_server_that_does_not_know_our_session_is_not_mariadb(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL has no `tx_isolation`; here MariaDB is asked for something that only the other one has."""
    monkeypatch.setattr(database_module, "_SESSION", "SET SESSION mysqlx_read_timeout = 5")
    database = Database(bench.address)
    try:
        with pytest.raises(ServerUnsupported, match="is not MariaDB"):
            await migrate(database)
    finally:
        await database.aclose()


@pytest.mark.parametrize("mariadb", ["10.11"], indirect=True)
async def test_start_works_on_the_older_one(bench: Bench) -> None:
    consumer = await bench.started()
    await until(lambda: bench.value("SELECT COUNT(*) FROM watermarks") == 3, what="partitions taken")
    assert (await bench.status())["exit_code"] in {0, 3}
    assert await consumer.stop() == 0
