"""`kcsync maintenance` as operators run it."""

from __future__ import annotations

import pytest

from producer_lib import UserCreate
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until


async def test_stops_deliveries_through_restarts_until_it_is_over(bench: Bench) -> None:
    consumer = await bench.started(KCSYNC_PAUSE_POLICY="never")
    on = await bench.kcsync("maintenance", "on", "--reason", "upgrade")
    await until(lambda: "Maintenance of everything: no deliveries" in consumer.said, what="a stop")
    async with bench.producer() as producer:
        await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(5))
    await until(lambda: bench.counts() == {"PENDING": 5}, what="five ingested", within=60)
    status = await bench.status()
    await consumer.stop()
    again = await bench.started(KCSYNC_PAUSE_POLICY="never")
    refused = await bench.kcsync("sync-now")
    assert bench.counts() == {"PENDING": 5}

    off = await bench.kcsync("maintenance", "off")
    await until(lambda: bench.settled(5), what="five delivered", within=60)

    assert (on.code, off.code) == (0, 0)
    assert status["connection"]["mode"] == "MAINTENANCE"
    (stop,) = status["connection"]["stops"]
    assert (stop["realm"], stop["reason"]) == (None, "upgrade")
    assert status["exit_code"] == 3
    assert "Maintenance:" in again.said
    assert refused.code == 3
    assert "maintenance" in refused.err.lower()
    assert bench.value("SELECT MAX(calls) FROM entries") == 1
    assert [row["action"] for row in bench.rows("SELECT action FROM audit ORDER BY audit_id")] == [
        "maintenance_begin",
        "maintenance_end",
    ]


@pytest.mark.long
async def test_of_one_realm_leaves_the_process_at_work(bench: Bench) -> None:
    consumer = await bench.started()
    wrong = await bench.kcsync("maintenance", "on", "--realm", "nowhere")
    await bench.kcsync("maintenance", "on", "--realm", bench.realm)
    await until(lambda: f"Maintenance of realm {bench.realm}" in consumer.said, what="a stop")
    async with bench.producer() as producer:
        await producer.publish(UserCreate(username=f"{bench.name}-a"))
    await until(lambda: bench.value("SELECT COUNT(*) FROM lanes WHERE state = 'WAITING'") == 1, what="rest")
    status = await bench.status()
    await bench.kcsync("maintenance", "off", "--realm", bench.realm)
    await until(lambda: bench.settled(1), what="one delivered", within=20)

    assert wrong.code == 2
    assert status["connection"]["mode"] == "DEGRADED"
    assert bench.value("SELECT calls FROM entries") == 1
