"""What integration tests share: a corner of the servers for each test."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pymysql
import pytest
from aiokafka.errors import KafkaError

from compose.native.mariadb import MariaDB
from compose.native.stack import Stack
from consumer.outbox.database import Database
from consumer.outbox.migrate import migrate
from tests.integration.support.bench import Bench


@pytest.fixture
def mariadb(stack: Stack) -> MariaDB:
    """Where a corner has its database."""
    return stack.mariadb


@pytest.fixture
async def bench(
    stack: Stack, mariadb: MariaDB, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Bench]:
    """A corner with an empty database and a topic of three partitions."""
    name = (
        f"{re.sub('[^a-z0-9]', '', request.node.name.removeprefix('test_').lower())[:24]}-{uuid4().hex[:8]}"
    )
    dsn = await asyncio.to_thread(mariadb.new_database, f"t_{name.replace('-', '_')}")
    corner = Bench(stack, name, dsn, name, 3, tmp_path)
    await corner.create_topic()
    yield corner
    for consumer in corner.running:
        consumer.close()
    # A test that leaves a broken server fails by itself; this is only tidiness.
    with suppress(KafkaError, OSError):
        await corner.delete_topic()
    with suppress(pymysql.err.MySQLError):
        corner.change(f"DROP DATABASE `{corner.address.database}`")


@pytest.fixture
async def database(bench: Bench) -> AsyncIterator[Database]:
    """The corner's database with its schema."""
    opened = Database(bench.address)
    await migrate(opened)
    yield opened
    await opened.aclose()
