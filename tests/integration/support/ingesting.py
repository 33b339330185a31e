"""Ingest alone, inside the test: real Kafka, real MariaDB, no Keycloak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from opentelemetry.trace import NoOpTracer

from consumer.ingest.ingest import Ingest, IngestPolicy
from consumer.ingest.kafka import KafkaAddress
from consumer.ingest.pausing import PausePolicy
from consumer.outbox.audit import AuditStore
from consumer.outbox.database import Database
from consumer.outbox.ingest_store import IngestStore
from tests.integration.support.bench import Bench


@dataclass(slots=True)
class IngestUnderTest:
    """An ingest loop that runs, and what it told people."""

    loop: Ingest
    said: list[str] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


@asynccontextmanager
async def ingesting(
    bench: Bench,
    database: Database,
    *,
    writer: str = "first",
    batch: int = 500,
    pause: PausePolicy = PausePolicy.IMMEDIATELY,
) -> AsyncIterator[IngestUnderTest]:
    """Run an ingest loop inside the block; it stops gracefully at the end."""
    keys = bench.keys()
    said: list[str] = []

    def seal(plaintext: bytes, context: bytes) -> tuple[str, bytes]:
        sealed = keys.seal(plaintext, context)
        return sealed["kid"], orjson.dumps(sealed)

    loop = Ingest(
        KafkaAddress(
            bootstrap=bench.endpoints.kafka_bootstrap,
            topic=bench.topic,
            group=bench.group,
            client_id=writer,
        ),
        IngestStore(database, group=bench.group, writer=writer),
        AuditStore(database),
        policy=IngestPolicy(batch=batch, realms=frozenset({bench.realm}), pause=pause),
        seal=seal,
        tracer=NoOpTracer(),
        on_persisted=lambda: None,
        on_state=said.append,
    )
    task = asyncio.create_task(loop.run())
    try:
        yield IngestUnderTest(loop, said, task)
    finally:
        loop.stop()
        done, _ = await asyncio.wait([task], timeout=20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert done, "ingest did not stop"
    # An exception that ended it early is the test's to know.
    task.result()
