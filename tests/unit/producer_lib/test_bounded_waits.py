"""No wait is longer than the delivery timeout, whatever is at the other end of the wire."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING

import pytest

from producer_lib import KafkaUnreachable, Producer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TIMEOUT = 0.3
# Cleaning up may take two seconds; without a bound, these tests would take forty and more.
BOUND = 5.0


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """A server that accepts, reads and never answers."""
    gone = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096) and not gone.is_set():
                pass
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    gone.set()
    server.close()
    await server.wait_closed()


def a_producer(port: int) -> Producer:
    return Producer(
        bootstrap_servers=f"127.0.0.1:{port}", source="/test", realm="test", delivery_timeout=TIMEOUT
    )


async def test_starting_without_a_broker_ends_in_a_clear_error() -> None:
    port = free_port()

    with at_most(BOUND), pytest.raises(KafkaUnreachable) as failed:
        await a_producer(port).start()

    assert failed.value.bootstrap_servers == f"127.0.0.1:{port}"
    assert f"127.0.0.1:{port}: no broker accepted a connection" in str(failed.value)


async def test_starting_against_a_silent_server_ends_in_a_clear_error(silent_port: int) -> None:
    with at_most(BOUND), pytest.raises(KafkaUnreachable, match=f"127.0.0.1:{silent_port}"):
        await a_producer(silent_port).start()


async def test_a_failed_start_leaves_no_task_behind(silent_port: int) -> None:
    before = asyncio.all_tasks()

    with pytest.raises(KafkaUnreachable):
        await a_producer(silent_port).start()

    left = {task for task in asyncio.all_tasks() - before if "swallow" not in repr(task)}
    _, pending = await asyncio.wait(left, timeout=BOUND) if left else ((), set())
    assert pending == set()


async def test_closing_a_producer_that_never_started_is_nothing() -> None:
    with at_most(BOUND):
        await a_producer(free_port()).close()
