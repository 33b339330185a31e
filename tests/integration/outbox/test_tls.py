from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from compose.native.artifacts import MARIADB_VERSION
from compose.native.mariadb import MariaDB, lone_mariadb
from compose.native.stack import Stack
from consumer.database_address import DatabaseAddress
from consumer.outbox.database import Database
from consumer.outbox.errors import DatabaseUnavailable
from consumer.outbox.migrate import migrate
from consumer.tls import client_tls
from tests.integration.support.bench import Bench
from tests.integration.support.certificates import Authority, Signed
from tests.integration.support.kcsync import kcsync
from tests.integration.support.waiting import until


@dataclass(frozen=True, slots=True)
class Secured:
    """A MariaDB with a certificate for 127.0.0.1, and who has signed it."""

    server: MariaDB
    authority: Authority
    client: Signed

    @property
    def address(self) -> DatabaseAddress:
        return DatabaseAddress.parse(self.server.dsn)


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder, "authority")
    own = authority.sign("server", "127.0.0.1")
    options = (
        f"--ssl-ca={authority.certificate}",
        f"--ssl-cert={own.certificate}",
        f"--ssl-key={own.key}",
        "--require-secure-transport=OFF",
    )
    with lone_mariadb(MARIADB_VERSION, options) as server:
        yield Secured(server, authority, authority.sign("client"))


@asynccontextmanager
async def opened(
    address: DatabaseAddress, ca_file: Path, client: Signed | None = None
) -> AsyncIterator[Database]:
    tls = client_tls(
        "KCSYNC_DATABASE",
        ca_file=ca_file,
        cert_file=None if client is None else client.certificate,
        key_file=None if client is None else client.key,
    )
    database = Database(address, tls=tls, timeout=5)
    try:
        yield database
    finally:
        await database.aclose()


async def test_everything_goes_over_tls_migrations_too(secured: Secured) -> None:
    address = DatabaseAddress.parse(await asyncio.to_thread(secured.server.new_database, "migrated"))
    async with opened(address, secured.authority.certificate) as database:
        await migrate(database)
        status = await database.fetch_one("SHOW SESSION STATUS LIKE 'Ssl_version'")

    assert status is not None
    assert status["Value"].startswith("TLSv1.")


async def test_an_account_that_needs_a_certificate_gets_ours(secured: Secured) -> None:
    with secured.server.administrator() as cursor:
        cursor.execute("ALTER USER 'kcsync'@'127.0.0.1' REQUIRE X509")
    try:
        async with opened(secured.address, secured.authority.certificate) as without:
            with pytest.raises(DatabaseUnavailable, match="Access denied"):
                await without.fetch("SELECT 1")
        async with opened(secured.address, secured.authority.certificate, secured.client) as database:
            assert await database.fetch("SELECT 1 AS one") == [{"one": 1}]
    finally:
        with secured.server.administrator() as cursor:
            cursor.execute("ALTER USER 'kcsync'@'127.0.0.1' REQUIRE NONE")


class TestRefused:
    async def test_a_certificate_of_another_authority(self, secured: Secured, tmp_path: Path) -> None:
        other = Authority(tmp_path, "other")

        async with opened(secured.address, other.certificate) as database:
            with pytest.raises(DatabaseUnavailable) as refused:
                await database.fetch("SELECT 1")

        assert "cannot be reached safely (its certificate is not accepted: " in str(refused.value)
        assert "check KCSYNC_DATABASE_CA_FILE" in str(refused.value)

    async def test_a_certificate_for_another_host(self, secured: Secured) -> None:
        async with opened(
            replace(secured.address, host="localhost"), secured.authority.certificate
        ) as database:
            with pytest.raises(DatabaseUnavailable, match=r"Hostname mismatch.*'localhost'"):
                await database.fetch("SELECT 1")

    async def test_a_server_without_tls_before_anything_about_us_is_said(
        self, stack: Stack, secured: Secured
    ) -> None:
        address = DatabaseAddress.parse(stack.mariadb.dsn)
        heard = bytearray()
        async with listening(address, heard) as wire, opened(wire, secured.authority.certificate) as database:
            with pytest.raises(
                DatabaseUnavailable, match="TLS failed: the server offers no TLS; check KCSYNC_DATABASE_TLS"
            ):
                await database.fetch("SELECT 1")

        assert bytes(heard) == b""

    async def test_a_server_that_never_answers_within_the_time_limit(self, secured: Secured) -> None:
        """It greets, takes our wish for TLS, and says nothing more."""
        async with listening(secured.address, bytearray(), mute_after_greeting=True) as wire:
            tls = client_tls("KCSYNC_DATABASE", ca_file=secured.authority.certificate)
            database = Database(wire, tls=tls, timeout=1)
            try:
                async with asyncio.timeout(10):
                    with pytest.raises(DatabaseUnavailable, match="no answer in time"):
                        await database.fetch("SELECT 1")
            finally:
                await database.aclose()


@asynccontextmanager
async def listening(
    target: DatabaseAddress, heard: bytearray, *, mute_after_greeting: bool = False
) -> AsyncIterator[DatabaseAddress]:
    """Stand on the wire: note what clients say, and pass on the server's greeting at least."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], None]
    ) -> None:
        while data := await reader.read(65536):
            note(data)
            writer.write(data)
            await writer.drain()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.host, target.port)
        writer.write(await there.read(65536))
        try:
            if mute_after_greeting:
                while data := await reader.read(65536):
                    heard.extend(data)
                return
            tasks.add(asyncio.create_task(pump(there, writer, lambda _: None)))
            await pump(reader, back, heard.extend)
        except ConnectionError:
            pass
        finally:
            for end in (writer, back):
                end.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield replace(target, port=server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("mariadb", ["11.4"], indirect=True)
class TestTheCommands:
    async def test_work_with_it(self, bench: Bench, secured: Secured) -> None:
        dsn = await asyncio.to_thread(secured.server.new_database, "commands")
        with secured.server.administrator() as cursor:
            cursor.execute("ALTER USER 'kcsync'@'127.0.0.1' REQUIRE SSL")
        secure = {
            "KCSYNC_DATABASE_DSN": dsn,
            "KCSYNC_DATABASE_TLS": "true",
            "KCSYNC_DATABASE_CA_FILE": str(secured.authority.certificate),
        }
        try:
            consumer = await bench.started(**secure)
            await until(lambda: "artitions" in consumer.said, what="partitions taken")
            tested = await bench.kcsync("test", **secure)
            assert await consumer.stop() == 0
        finally:
            with secured.server.administrator() as cursor:
                cursor.execute("ALTER USER 'kcsync'@'127.0.0.1' REQUIRE NONE")

        assert tested.code == 0, tested.out

    async def test_say_in_one_line_what_is_wrong(
        self, bench: Bench, secured: Secured, tmp_path: Path
    ) -> None:
        wrong_ca = tmp_path / "wrong.pem"
        shutil.copy(Authority(tmp_path, "other").certificate, wrong_ca)
        environment = bench.environment(
            KCSYNC_DATABASE_DSN=secured.server.dsn,
            KCSYNC_DATABASE_TLS="true",
            KCSYNC_DATABASE_CA_FILE=str(wrong_ca),
        )

        refused = await kcsync(environment, "migrate")
        missing = await kcsync({**environment, "KCSYNC_DATABASE_CA_FILE": "/nowhere.pem"}, "migrate")

        assert refused.code == 5
        assert "its certificate is not accepted" in refused.err
        assert missing.code == 2
        assert "KCSYNC_DATABASE_CA_FILE='/nowhere.pem' cannot be used (No such file or directory)" in (
            missing.err
        )
        for finished in (refused, missing):
            assert len(finished.err.splitlines()) == 1
            assert secured.address.password not in finished.err
