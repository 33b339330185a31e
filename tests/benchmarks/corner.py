"""A benchmark's own corner of the servers, for those that go the whole way from Kafka to Keycloak."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from compose.native.stack import Stack
from tests.integration.support.bench import Bench

__all__ = ["corner_of"]


@asynccontextmanager
async def corner_of(stack: Stack, name: str) -> AsyncIterator[Bench]:
    """An empty database and topic under a new name that begins so; consumers that still run are ended with the block."""
    name = f"{name}-{uuid.uuid4().hex[:6]}"
    dsn = stack.mariadb.new_database(name.replace("-", "_"))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(stack, name, dsn, name, 3, Path(folder))
        await bench.create_topic()
        try:
            yield bench
        finally:
            for consumer in bench.running:
                consumer.close()
