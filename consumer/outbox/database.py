"""Connections to MariaDB, and transactions that know what became of them.

Every connection runs READ COMMITTED, in UTC, with short lock waits: claims must not take gap locks, and ingest must
never wait long behind a drain (measured, design.md 3.2). Deadlocks and lock waits are expected and retried here.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiomysql
import pymysql
from pymysql.constants import CLIENT

from consumer.database_address import DatabaseAddress
from consumer.outbox.bulk import Parameters, Statement, in_one_packet, list_literal, packets
from consumer.outbox.errors import CommitUnknown, DatabaseUnavailable, ServerUnsupported

__all__ = ["Database", "Row", "Transaction"]

Row = dict[str, Any]
T = TypeVar("T")

# Lock wait, deadlock, and a row changed since the snapshot (the last with innodb_snapshot_isolation, on from 11.8).
_EXPECTED = frozenset({1205, 1213, 1020})
# The server went away, refused or ended us: nothing wrong with the statement.
_LOST = frozenset(
    {1040, 1053, 1077, 1079, 1152, 1159, 1161, 1184, 1203, 1290, 1927, 2002, 2003, 2006, 2013, 2014, 2055}
)
# The server is there and will not: wrong password or database, a full disk, a statement killed or too long. Somebody
# mends it, and until then we wait.
_REFUSED = frozenset({1021, 1044, 1045, 1049, 1114, 1130, 1226, 1317, 1698, 1969})
# Unknown system variable: our own SET SESSION below is the one statement that names any.
_NOT_MARIADB = 1193
_TRIES = 8
_SESSION = (
    "SET SESSION tx_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = 5, time_zone = '+00:00', sql_notes = 0,"
    " sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO',"
    # A process that stands still inside a transaction must not keep its locks: others wait for its leases.
    " idle_transaction_timeout = {idle}"
)


class _Connection(aiomysql.Connection):  # type: ignore[misc]  # aiomysql ships no types
    """aiomysql's connection, minus its silent fall-back to plain text, and quicker with long lists.

    Where TLS is asked for and the greeting does not offer it, aiomysql 0.3.2 goes on without (connection.py
    `_request_authentication`); whoever sits on the wire could take the offer out, and then ask for the password.
    """

    async def _request_authentication(self) -> None:
        if self._ssl_context is not None and not self.server_capabilities & CLIENT.SSL:
            raise ssl.SSLError("the server offers no TLS")
        await super()._request_authentication()

    def escape(self, obj: Any) -> str:
        # Lists of lanes and entries are the longest part of the drain's statements: the driver's way took a fifth of
        # its CPU (profiled).
        return list_literal(obj) if isinstance(obj, tuple) else super().escape(obj)


class _Pool(aiomysql.Pool):  # type: ignore[misc]  # aiomysql ships no types
    """aiomysql's pool, minus its lost wake-up, with connections of our kind.

    Releasing a connection that is closed or still in a transaction returns without waking a waiter, which then sleeps
    for ever although a place is free (aiomysql 0.3.2, pool.py `release`).
    """

    async def _fill_free_pool(self, override_min: bool) -> None:  # noqa: FBT001 - aiomysql's signature
        # With a least size of 0 and no override, this only drops connections that have died.
        await super()._fill_free_pool(False)
        if self._free or not override_min or self.size >= self.maxsize:
            return
        self._acquiring += 1
        connection = _Connection(echo=self._echo, loop=self._loop, **self._conn_kwargs)
        try:
            await connection._connect()  # noqa: SLF001 - as aiomysql's own pool does
            self._free.append(connection)
        except BaseException:
            # Also when our time limit ends a handshake, which aiomysql would leave open.
            connection.close()
            raise
        finally:
            self._acquiring -= 1

    def release(self, conn: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = super().release(conn)
        return future if not future.done() else asyncio.ensure_future(self._wakeup())


class Transaction:
    """Statements inside one transaction. Its BEGIN travels with the first of them: a round trip costs more than that.

    One that is `alone` has a single statement, which is a transaction by itself.
    """

    def __init__(self, connection: Any, *, alone: bool = False) -> None:
        self._connection = connection
        self._alone = alone
        self._begun = alone
        self._in_doubt = False

    async def execute(self, sql: str, parameters: Parameters = None) -> int:
        """Run one statement; the number of rows it matched (CLIENT.FOUND_ROWS), or inserted."""
        (count,) = await self.execute_all([(sql, parameters)])
        return count

    async def execute_all(self, statements: Iterable[Statement]) -> list[int]:
        """Run statements one after the other, in as few packets as fit; of each what `execute` gives.

        If one fails, those behind it are not run.
        """
        self._in_doubt = self._alone
        counts = []
        async with self._connection.cursor() as cursor:
            for packet in packets(cursor.mogrify(sql, parameters) for sql, parameters in statements):
                await self._send(cursor, packet)
                counts.append(int(cursor.rowcount))
                while await cursor.nextset():
                    counts.append(int(cursor.rowcount))
        return counts

    async def insert(self, sql: str, parameters: Parameters = None) -> int:
        """Run one INSERT; the AUTO_INCREMENT id it was given."""
        async with self._connection.cursor() as cursor:
            await self._send(cursor, cursor.mogrify(sql, parameters))
            return int(cursor.lastrowid)

    async def fetch(self, sql: str, parameters: Parameters = None) -> list[Row]:
        """All rows of a SELECT, as mappings by column name."""
        async with self._connection.cursor(aiomysql.DictCursor) as cursor:
            await self._send(cursor, cursor.mogrify(sql, parameters))
            return list(await cursor.fetchall())

    async def fetch_column(self, sql: str, parameters: Parameters = None) -> list[Any]:
        """The one column of a SELECT, of all rows, a sixth quicker than as mappings."""
        async with self._connection.cursor() as cursor:
            await self._send(cursor, cursor.mogrify(sql, parameters))
            return [value for (value,) in await cursor.fetchall()]

    async def fetch_one(self, sql: str, parameters: Parameters = None) -> Row | None:
        """The first row of a SELECT, or None."""
        rows = await self.fetch(sql, parameters)
        return rows[0] if rows else None

    async def commit(self) -> None:
        """Make it last; what is alone lasts already. Called by `Database`."""
        if self._begun and not self._alone:
            self._in_doubt = True
            await self._connection.commit()

    def may_have_committed(self, error: BaseException) -> bool:
        """Whether, the connection lost with this error, only the tables know."""
        return self._in_doubt and not (self._alone and _code(error) in _REFUSED)

    async def _send(self, cursor: Any, packet: str) -> None:
        """Run a packet; the cursor then stands at the result of its first statement."""
        if self._begun:
            await cursor.execute(packet)
            return
        self._begun = True
        await cursor.execute(in_one_packet("BEGIN", packet))
        await cursor.nextset()


class Database:
    """A bounded pool of connections to one MariaDB."""

    def __init__(
        self,
        address: DatabaseAddress,
        *,
        tls: ssl.SSLContext | None = None,
        connections: int = 8,
        timeout: float = 15.0,
    ) -> None:
        """Connect on first use.

        Args:
            address: where MariaDB is.
            tls: how its certificate is verified; None talks in plain text.
            connections: the most connections that are ever open.
            timeout: seconds that one transaction may take, its wait for a connection included. aiomysql's own
                connect timeout does not cover the handshake.
        """
        self._address = address
        self._tls = tls
        self._connections = connections
        self._timeout = timeout
        self._pool: _Pool | None = None

    @property
    def address(self) -> DatabaseAddress:
        """Where this database is."""
        return self._address

    def patient(self, timeout: float) -> Database:
        """The same database by a connection of its own, whose transactions may take `timeout` seconds. Close it."""
        return Database(self._address, tls=self._tls, connections=1, timeout=timeout)

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in one transaction and commit; after a deadlock or lock wait, run it again.

        `work` may run several times, so it must not change anything but the database.

        Raises:
            DatabaseUnavailable: nothing was committed.
            CommitUnknown: the connection was lost at COMMIT.
            ServerUnsupported: the server is not MariaDB.
        """
        return await self._run(work)

    async def fetch(self, sql: str, parameters: Parameters = None) -> list[Row]:
        """All rows of one SELECT, in a transaction of its own."""
        return await self._run(lambda tx: tx.fetch(sql, parameters), alone=True)

    async def fetch_column(self, sql: str, parameters: Parameters = None) -> list[Any]:
        """The one column of one SELECT, of all rows, in a transaction of its own."""
        return await self._run(lambda tx: tx.fetch_column(sql, parameters), alone=True)

    async def fetch_one(self, sql: str, parameters: Parameters = None) -> Row | None:
        """The first row of one SELECT, or None."""
        rows = await self.fetch(sql, parameters)
        return rows[0] if rows else None

    async def execute(self, sql: str, parameters: Parameters = None) -> int:
        """Run one statement in a transaction of its own; the number of rows it matched."""
        return await self._run(lambda tx: tx.execute(sql, parameters), alone=True)

    async def aclose(self) -> None:
        """Close every connection, within the time limit."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        pool.close()
        try:
            async with asyncio.timeout(self._timeout):
                await pool.wait_closed()
        except TimeoutError:
            pool.terminate()

    async def _run(self, work: Callable[[Transaction], Awaitable[T]], *, alone: bool = False) -> T:
        for attempt in range(_TRIES):
            try:
                async with self._transaction(alone=alone) as transaction:
                    result = await work(transaction)
                    await transaction.commit()
                    return result
            except pymysql.err.MySQLError as error:
                if _code(error) not in _EXPECTED:
                    raise
                if attempt == _TRIES - 1:
                    raise self._unavailable(error) from error
            await asyncio.sleep(0.005 * 2**attempt)
        raise AssertionError("unreachable: the last try returns or raises")

    @asynccontextmanager
    async def _transaction(self, *, alone: bool) -> AsyncIterator[Transaction]:
        pool = self._pool or self._open_pool()
        connection: Any = None
        transaction: Transaction | None = None
        try:
            async with asyncio.timeout(self._timeout):
                connection = await pool.acquire()
                transaction = Transaction(connection, alone=alone)
                yield transaction
        except (pymysql.err.OperationalError, pymysql.err.InterfaceError, OSError, RuntimeError) as error:
            # aiomysql raises RuntimeError for a connection that was closed under a waiting call.
            if connection is None and _code(error) == _NOT_MARIADB:
                raise ServerUnsupported(
                    f"the database server at {self._address} is not MariaDB ({_brief(error)}); "
                    "use MariaDB 10.11 or newer"
                ) from error
            if not _is_lost(error):
                raise
            raise self._lost(error, connection, transaction) from error
        except TimeoutError as error:
            raise self._lost(error, connection, transaction) from error
        finally:
            if connection is not None:
                await self._give_back(pool, connection)

    def _open_pool(self) -> _Pool:
        address = self._address
        self._pool = _Pool(
            0,
            self._connections,
            False,  # echo
            300,  # seconds after which an idle connection is made anew: a silent NAT drop is not noticed otherwise
            asyncio.get_running_loop(),
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            db=address.database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=5,
            init_command=_SESSION.format(idle=max(1, math.ceil(self._timeout))),
            client_flag=CLIENT.FOUND_ROWS,
            ssl=self._tls,
        )
        return self._pool

    def _lost(
        self, error: BaseException, connection: Any, transaction: Transaction | None
    ) -> CommitUnknown | DatabaseUnavailable:
        if connection is not None:
            connection.close()
        unknown = transaction is not None and transaction.may_have_committed(error)
        return CommitUnknown() if unknown else self._unavailable(error)

    def _unavailable(self, error: BaseException) -> DatabaseUnavailable:
        if isinstance(error.__cause__, ssl.SSLError):
            problem = "cannot be reached safely"
        else:
            problem = "cannot be reached" if _is_away(error) else "refuses our work"
        return DatabaseUnavailable(
            f"MariaDB at {self._address} {problem} ({_brief(error)}); nothing was lost, "
            "the work is done again when it answers"
        )

    @staticmethod
    async def _give_back(pool: _Pool, connection: Any) -> None:
        if not connection.closed and connection.get_transaction_status():
            try:
                async with asyncio.timeout(5):
                    await connection.rollback()
            except (pymysql.err.MySQLError, OSError, TimeoutError, RuntimeError):
                connection.close()
        pool.release(connection)


def _code(error: BaseException) -> int | None:
    arguments = error.args
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def _is_lost(error: BaseException) -> bool:
    if isinstance(error, (OSError, pymysql.err.InterfaceError)):
        return True
    if isinstance(error, RuntimeError):
        return "closed" in str(error)
    return _code(error) in _LOST | _REFUSED


def _is_away(error: BaseException) -> bool:
    return _code(error) not in _REFUSED | _EXPECTED


def _brief(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error.__cause__, ssl.SSLError):
        return _brief_tls(error.__cause__)
    text = str(error.args[-1]) if error.args else type(error).__name__
    return text.strip("()\n ")[:200]


def _brief_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.rstrip(".")
        return (
            f"its certificate is not accepted: {reason}; "
            "check KCSYNC_DATABASE_CA_FILE and the host in KCSYNC_DATABASE_DSN"
        )
    # One of our own has no code of OpenSSL.
    reason = getattr(error, "reason", None) or error.args[-1]
    return f"TLS failed: {reason}; check KCSYNC_DATABASE_TLS and the server's ssl options"
