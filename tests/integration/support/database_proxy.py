"""A wire to MariaDB that can be cut at the worst moment: when a transaction is being committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from consumer.database_address import DatabaseAddress

_COMMIT = b"\x03COMMIT"


@dataclass(slots=True)
class DatabaseProxy:
    """Passes bytes on, and cuts.

    Attributes:
        address: where clients connect.
        cuts: how many connections were cut at COMMIT.
    """

    address: DatabaseAddress
    cuts: int = 0
    _cut_after: bytes | None = None
    _reaches_server: bool = False
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut_next_commit(self, *, after: bytes, reaches_server: bool) -> None:
        """Cut the next connection that commits a transaction in which it has sent `after`.

        With `reaches_server`, the server has committed and only its answer is lost.
        """
        self._cut_after, self._reaches_server = after, reaches_server

    async def serve(self, target: DatabaseAddress, client: _Wire) -> None:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        server = _Wire(reader, writer)
        self._writers |= {client.writer, writer}
        seen = bytearray()
        answers = asyncio.create_task(_pass_on(server.reader, client.writer))
        try:
            while data := await client.reader.read(65536):
                seen += data
                commits = data.find(_COMMIT) >= 0
                if commits and self._cut_after is not None and self._cut_after in seen:
                    self._cut_after = None
                    self.cuts += 1
                    if self._reaches_server:
                        answers.cancel()
                        with suppress(asyncio.CancelledError):
                            await answers
                        server.writer.write(data)
                        await server.writer.drain()
                        # Its answer has come, and goes nowhere.
                        assert await server.reader.read(1)
                    return
                if commits:
                    seen.clear()
                server.writer.write(data)
                await server.writer.drain()
        except ConnectionError:
            pass
        finally:
            answers.cancel()
            for end in (client.writer, server.writer):
                # A cut wire says no goodbye.
                end.transport.abort()
                self._writers.discard(end)


@dataclass(frozen=True, slots=True)
class _Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def database_proxy(target: DatabaseAddress) -> AsyncIterator[DatabaseProxy]:
    """Stand between clients and a database."""
    proxies: list[DatabaseProxy] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await proxies[0].serve(target, _Wire(reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    proxies.append(DatabaseProxy(replace(target, port=port)))
    try:
        yield proxies[0]
    finally:
        server.close()
        for writer in list(proxies[0]._writers):
            writer.transport.abort()
        await server.wait_closed()
