"""A small HTTP server on loopback that answers, misbehaves and remembers, for the tests of delivery."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def json(self) -> Any:
        return json.loads(self.body)


Respond = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def answering(status: int, body: Any = None, *, headers: dict[str, str] | None = None) -> Respond:
    """Return a behaviour: one answer, JSON unless the body is bytes."""

    async def respond(_: Request, writer: asyncio.StreamWriter) -> None:
        write_answer(writer, status, body, headers=headers)

    return respond


def write_answer(
    writer: asyncio.StreamWriter, status: int, body: Any = None, *, headers: dict[str, str] | None = None
) -> None:
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    kind = (
        {}
        if body is None
        else {"Content-Type": "text/html" if isinstance(body, bytes) else "application/json"}
    )
    fields = {"Content-Length": str(len(content)), **kind, **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode() + content)


@dataclass(slots=True)
class LocalServer:
    """The server: `behaviour` may be exchanged at any time; `requests` is what arrived."""

    behaviour: Respond
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    open_calls: int = 0
    most_open_calls: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await _read(reader)
                self.requests.append(request)
                self.open_calls += 1
                self.most_open_calls = max(self.most_open_calls, self.open_calls)
                try:
                    await self.behaviour(request, writer)
                finally:
                    self.open_calls -= 1
                if writer.is_closing():
                    return
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


@asynccontextmanager
async def local_server(
    behaviour: Respond, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[LocalServer]:
    """Serve on a free port for the time of the block."""
    local = LocalServer(behaviour)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(local._serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    local.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
    try:
        yield local
    finally:
        server.close()
        open_connections = tuple(connections)
        for task in open_connections:
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail after five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
