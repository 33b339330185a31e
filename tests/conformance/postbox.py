"""A postbox on this machine: what Keycloak sends by e-mail, for cases in which somebody follows a link."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy

__all__ = ["Postbox", "a_postbox"]


@dataclass(slots=True)
class Postbox:
    """What has arrived, as text, by its address, and where."""

    port: int = 0
    letters: defaultdict[str, asyncio.Queue[str]] = field(default_factory=lambda: defaultdict(asyncio.Queue))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As much of SMTP (RFC 5321) as it takes to be handed a letter."""
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            match line[:4].upper():
                case b"DATA":
                    writer.write(b"354 go on\r\n")
                    letter = await reader.readuntil(b"\r\n.\r\n")
                    address, text = _read(letter)
                    await self.letters[address].put(text)
                    writer.write(b"250 taken\r\n")
                case b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 well\r\n")
            await writer.drain()
        writer.close()


def _read(letter: bytes) -> tuple[str, str]:
    message = message_from_bytes(letter, policy=policy.default)
    body = message.get_body(("plain",))
    assert body is not None, letter
    return str(message["To"]), str(body.get_content())


@asynccontextmanager
async def a_postbox() -> AsyncIterator[Postbox]:
    """Have one for a while."""
    postbox = Postbox()
    async with await asyncio.start_server(postbox.serve, "127.0.0.1", 0) as server:
        postbox.port = server.sockets[0].getsockname()[1]
        yield postbox
