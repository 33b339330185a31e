"""Pausing against real Kafka: it holds through rebalances, and yields to the topic's retention."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from consumer.ingest.kafka import KafkaAddress, KafkaReader
from consumer.ingest.pausing import PausePolicy, PauseReason
from consumer.ingest.retention import Retention
from consumer.outbox.database import Database
from tests.integration.support.bench import Bench, Record
from tests.integration.support.events import event, record
from tests.integration.support.ingesting import ingesting
from tests.integration.support.waiting import until

# A poll that is under way when a pause begins may still bring records: it lasts 0.2 s.
_POLLS = 1.0


def aged(bench: Bench, partition: int, hours: float) -> Record:
    written = int((time.time() - hours * 3600) * 1000)
    return replace(record(event(bench, "ada"), partition=partition), timestamp=written)


def notes(bench: Bench) -> dict[int, tuple[str | None, int]]:
    rows = bench.rows("SELECT partition_no, paused_for, yields FROM watermarks")
    return {row["partition_no"]: (row["paused_for"], row["yields"]) for row in rows}


def entries(bench: Bench) -> Any:
    return bench.value("SELECT COUNT(*) FROM entries")


async def test_a_pause_holds_through_rebalances_for_all_members(bench: Bench, database: Database) -> None:
    async with ingesting(bench, database, writer="first") as first:
        first.loop.pause(PauseReason.BACKLOG)
        await until(lambda: notes(bench) == dict.fromkeys(range(3), ("backlog", 0)), what="pauses noted")
        async with ingesting(bench, database, writer="second") as second:
            second.loop.pause(PauseReason.BACKLOG)
            await until(
                lambda: bench.value("SELECT COUNT(DISTINCT writer) FROM watermarks") == 2,
                what="partitions shared by two",
                within=40,
            )
            await bench.send(*(record(event(bench, f"user{p}"), partition=p) for p in range(3)))
            await until(lambda: notes(bench) == dict.fromkeys(range(3), ("backlog", 0)), what="pauses noted")
            await asyncio.sleep(_POLLS)
            assert entries(bench) == 0
        # One member again, and one more rebalance.
        await until(
            lambda: bench.value("SELECT COUNT(DISTINCT writer) FROM watermarks") == 1,
            what="all partitions the first's",
            within=40,
        )
        await asyncio.sleep(_POLLS)
        assert entries(bench) == 0

        first.loop.resume(PauseReason.BACKLOG)
        await until(lambda: entries(bench) == 3, what="three entries")
        await until(lambda: notes(bench) == dict.fromkeys(range(3), (None, 0)), what="nothing holds them")


async def test_a_paused_partition_flows_before_kafka_removes_its_records(
    bench: Bench, database: Database
) -> None:
    await bench.configure_topic(retention_ms=str(8 * 3_600_000))
    # All four stand there before the first look: one that saw a part of them would say another number.
    await bench.send(aged(bench, 0, 5), aged(bench, 0, 1), aged(bench, 1, 3), aged(bench, 2, 0))
    async with ingesting(bench, database) as ingest:
        ingest.loop.pause(PauseReason.CIRCUIT)

        await until(lambda: entries(bench) == 2, what="the endangered partition read", within=40)
        await until(
            lambda: notes(bench) == {0: ("circuit", 1), 1: ("circuit", 0), 2: ("circuit", 0)}, what="noted"
        )
        await asyncio.sleep(_POLLS)

        assert {row["partition_no"] for row in bench.rows("SELECT partition_no FROM entries")} == {0}
        (finding,) = bench.rows("SELECT action, arguments, outcome FROM audit")
        assert (finding["action"], finding["arguments"]) == ("retention_yield", '{"partition":0}')
        assert "8h" in finding["outcome"]
        assert ingest.said == [f"Partition 0: {finding['outcome']}"]


async def test_an_open_circuit_holds_nothing_where_the_policy_says_so(
    bench: Bench, database: Database
) -> None:
    await bench.send(record(event(bench, "ada")))
    async with ingesting(bench, database, pause=PausePolicy.ON_BACKLOG) as ingest:
        ingest.loop.pause(PauseReason.CIRCUIT)
        await until(lambda: entries(bench) == 1, what="one entry")
        ingest.loop.pause(PauseReason.BACKLOG)
        await until(lambda: set(notes(bench).values()) == {("backlog", 0)}, what="pauses noted")
        await bench.send(record(event(bench, "ada")))
        await asyncio.sleep(_POLLS)

        assert entries(bench) == 1


async def test_kafka_says_what_it_keeps_and_what_is_unread(bench: Bench) -> None:
    await bench.configure_topic(retention_ms="3600000", retention_bytes="1048576")
    await bench.send(aged(bench, 0, 0.9), aged(bench, 0, 0.4), aged(bench, 1, 0.9))
    address = KafkaAddress(
        bootstrap=bench.endpoints.kafka_bootstrap, topic=bench.topic, group=bench.group, client_id="look"
    )
    reader = KafkaReader(address, lambda _: None)
    await reader.start()
    try:
        assert await reader.retention() == Retention(seconds=3600.0, size=1048576)
        half_an_hour_ago = time.time() - 1800
        found = await reader.unread({0: 0, 1: 0, 2: 0}, dict.fromkeys(range(3), half_an_hour_ago))
        without_limit = await reader.unread({0: 1}, {0: float("-inf")})
    finally:
        await reader.stop()

    assert {p: (u.start, u.end, u.younger_from) for p, u in found.items()} == {
        0: (0, 2, 1),
        1: (0, 1, None),
        2: (0, 0, None),
    }
    assert {p: unread.has_older for p, unread in found.items()} == {0: True, 1: True, 2: False}
    assert without_limit[0].count == 1
