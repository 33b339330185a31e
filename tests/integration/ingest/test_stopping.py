"""How `kcsync start` ends: gracefully at the first signal, at once at the second."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from producer_lib import Producer, UserCreate, UserUpdate
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """A server that takes requests and never answers; its address."""
    held: set[asyncio.StreamWriter] = set()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.add(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for writer in held:
            writer.close()


async def publish_until(producer: Producer, enough: asyncio.Event) -> None:
    n = 0
    while not enough.is_set():
        await producer.publish_many(
            UserUpdate(username=f"user{n % 40}", attributes={"n": [str(n + i)]}) for i in range(20)
        )
        n += 1


async def test_the_first_signal_commits_what_is_written_and_leaves_the_group_at_once(bench: Bench) -> None:
    """Under load: a batch is being written, and the next one is polled, when the signal comes."""
    enough = asyncio.Event()
    # Nobody drains: Keycloak does not answer, and ingest goes on all the same.
    async with silent_server() as nowhere, bench.producer() as producer:
        consumer = await bench.started(
            KCSYNC_KEYCLOAK_URL=nowhere,
            KCSYNC_PAUSE_POLICY="never",
            KCSYNC_INGEST_BATCH="20",
            KCSYNC_HEALTH_CACHE="1h",
        )
        load = asyncio.create_task(publish_until(producer, enough))
        try:
            await until(lambda: bench.value("SELECT COUNT(*) FROM entries") >= 200, what="ingest at work")
            assert await consumer.stop(within=15) == 0
            # The broker would keep a member that went without a word for the session timeout of 10 s.
            assert await bench.members() == 0
        finally:
            enough.set()
            await load

    written = {
        row["partition_no"]: row["next_offset"]
        for row in bench.rows("SELECT partition_no, next_offset FROM watermarks")
    }
    assert {partition: offset for partition, (offset, _) in (await bench.committed()).items()} == written
    assert bench.value("SELECT COUNT(*) FROM entries") == sum(written.values())
    assert consumer.said.rstrip().endswith("Stopped")
    assert "Traceback" not in consumer.said


async def test_the_second_signal_ends_it_at_once(bench: Bench) -> None:
    async with silent_server() as nowhere, bench.producer() as producer:
        consumer = await bench.started(
            KCSYNC_KEYCLOAK_URL=nowhere,
            KCSYNC_KEYCLOAK_TIMEOUT="20s",
            KCSYNC_LEASE="60s",
            KCSYNC_HEALTH_CACHE="1h",
        )
        await producer.publish(UserCreate(username=f"{bench.name}-ada"))
        await until(
            lambda: bench.value("SELECT COUNT(*) FROM entries WHERE claimed_at IS NOT NULL") == 1,
            what="a call under way",
        )
        consumer.signal(signal.SIGTERM)
        await until(lambda: "Stopping" in consumer.said, what="a stop that waits for the call")
        assert consumer.alive

        consumer.signal(signal.SIGTERM)

        assert await consumer.ended(within=2) == 128 + signal.SIGTERM
