from __future__ import annotations

import asyncio

import pytest

from producer_lib import UserCreate
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until


def one_line(said: str, *words: str) -> bool:
    return any(all(word in line for word in words) for line in said.splitlines())


@pytest.mark.long
async def test_each_server_that_is_away_at_start_is_one_line_and_work_begins_when_they_come(
    bench: Bench,
) -> None:
    stack = bench.stack
    try:
        # Keycloak first: its own database goes with MariaDB.
        for server in (stack.keycloak, stack.kafka, stack.mariadb):
            await asyncio.to_thread(server.kill)
        consumer = bench.start()
        await until(
            lambda: one_line(
                consumer.said, f"127.0.0.1:{stack.mariadb.port}", "cannot be reached", "next try"
            ),
            what="a line about MariaDB",
        )
        assert consumer.alive
        await asyncio.to_thread(stack.mariadb.start)
        await until(
            lambda: one_line(consumer.said, f"Kafka at {stack.kafka.bootstrap} cannot be reached"),
            what="a line about Kafka",
        )
        await until(lambda: one_line(consumer.said, "Circuit OPEN"), what="a line about Keycloak", within=40)
    finally:
        for again in (stack.mariadb, stack.kafka, stack.keycloak):
            await asyncio.to_thread(again.start)

    bench.change("UPDATE circuits SET retry_at = NOW(6) WHERE state = 'OPEN'")
    async with bench.producer() as producer:
        await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(10))
    await until(lambda: bench.settled(10), what="ten users created", within=90)
    assert "Traceback" not in consumer.said
    assert await consumer.stop() == 0


async def test_mariadb_and_kafka_that_die_at_work_are_waited_for(bench: Bench) -> None:
    """Keycloak is in that MariaDB too: the circuit may open, and has to close again."""
    stack = bench.stack
    consumer = await bench.started(KCSYNC_COOLDOWN="1s")
    async with bench.producer() as producer:
        await producer.publish_many(UserCreate(username=f"{bench.name}-a{n}") for n in range(100))
        await until(lambda: bench.value("SELECT COUNT(*) FROM entries") > 0, what="something ingested")
        try:
            await asyncio.to_thread(stack.mariadb.kill)
            await until(lambda: "cannot be reached" in consumer.said, what="a line about MariaDB")
        finally:
            await asyncio.to_thread(stack.mariadb.start)
        try:
            await asyncio.to_thread(stack.kafka.kill)
            await asyncio.sleep(1)
        finally:
            await asyncio.to_thread(stack.kafka.start)
        await producer.publish_many(UserCreate(username=f"{bench.name}-b{n}") for n in range(100))

    await until(lambda: bench.settled(200), what="all delivered", within=120)
    assert consumer.alive
    assert "Traceback" not in consumer.said
    assert bench.value("SELECT COUNT(*) FROM attempts WHERE reason = 'internal_error'") == 0


async def test_a_consumer_that_waits_for_mariadb_ends_when_asked(bench: Bench) -> None:
    port = bench.address.port
    consumer = bench.start(KCSYNC_DATABASE_DSN=bench.dsn.replace(f":{port}/", ":9/"))
    await until(lambda: "next try" in consumer.said, what="a line about MariaDB")

    assert await consumer.stop(within=5) == 0


async def test_a_consumer_whose_mariadb_died_ends_when_asked(bench: Bench) -> None:
    stack = bench.stack
    consumer = await bench.started()
    await until(lambda: bench.value("SELECT COUNT(*) FROM watermarks") == 3, what="partitions taken")
    try:
        await asyncio.to_thread(stack.mariadb.kill)
        await until(lambda: "cannot be reached" in consumer.said, what="a line about MariaDB")
        code = await consumer.stop(within=45)
    finally:
        await asyncio.to_thread(stack.mariadb.start)

    assert code == 0
    assert "Traceback" not in consumer.said
