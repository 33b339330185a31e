from __future__ import annotations

from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from producer_lib import UserCreate
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until


async def publish(bench: Bench, *numbers: int) -> None:
    async with bench.producer() as producer:
        await producer.publish_many(UserCreate(username=f"{bench.name}-{number}") for number in numbers)


async def members(bench: Bench) -> int:
    """How many processes are in the Kafka group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.endpoints.kafka_bootstrap)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([bench.group])
    finally:
        await admin.close()
    (group,) = answer.to_object()["groups"]
    return len(group["members"])


async def roles(bench: Bench) -> dict[str, tuple[list[str], int]]:
    """Role and shards of each living process, by name."""
    report: dict[str, Any] = await bench.status()
    return {each["name"]: (each["roles"], each["shards"]) for each in report["drain"]["instances"]}


async def test_one_reads_and_one_delivers_and_each_goes_on_without_the_other(bench: Bench) -> None:
    reads = await bench.started("--role", "ingest", KCSYNC_INSTANCE="reads")
    await publish(bench, *range(20))
    await until(lambda: bench.counts() == {"PENDING": 20}, what="twenty read")

    # Nobody delivers: it says so, and takes no shards.
    report = await bench.status()
    assert report["exit_code"] == 3
    assert await roles(bench) == {"reads": (["ingest"], 0)}
    assert bench.value("SELECT COUNT(*) FROM leases WHERE owner IS NOT NULL") == 0
    assert await members(bench) == 1

    drains = await bench.started(
        KCSYNC_ROLE="drain", KCSYNC_INSTANCE="delivers", KCSYNC_MAX_CALLS_PER_SECOND="500"
    )
    await until(lambda: bench.settled(20), what="twenty delivered", within=60)
    assert await roles(bench) == {"reads": (["ingest"], 0), "delivers": (["drain"], 256)}
    assert await members(bench) == 1

    calls = {each["name"]: each["calls"] for each in (await bench.status())["drain"]["instances"]}
    assert calls["reads"] is None
    assert 2 <= calls["delivers"]["limit"] <= calls["delivers"]["ceiling"] == 16
    assert calls["delivers"]["per_second"] == 500

    # What was read when the reader dies is delivered all the same.
    await publish(bench, *range(20, 220))
    await until(lambda: bench.value("SELECT COUNT(*) FROM entries") == 220, what="the others read")
    await reads.kill()
    await until(lambda: bench.settled(220), what="the others delivered", within=60)
    await publish(bench, *range(220, 225))
    assert drains.alive

    # Its successor finds what was published meanwhile.
    reads = await bench.started("--role", "ingest", KCSYNC_INSTANCE="successor")
    await until(lambda: bench.settled(225), what="the last five delivered", within=90)
    assert [await reads.stop(), await drains.stop()] == [0, 0]
    assert "Traceback" not in reads.said + drains.said


@pytest.mark.long
async def test_shards_are_shared_among_those_that_drain_only(bench: Bench) -> None:
    for name, role in (("a", "drain"), ("b", "ingest"), ("c", "all"), ("d", "ingest")):
        await bench.started("--role", role, KCSYNC_INSTANCE=name)

    async def shared() -> bool:
        return await roles(bench) == {
            "a": (["drain"], 128),
            "b": (["ingest"], 0),
            "c": (["ingest", "drain"], 128),
            "d": (["ingest"], 0),
        }

    await until(shared, what="two halves", within=60)


@pytest.mark.long
async def test_who_reads_pauses_by_the_circuit_that_others_have_opened(bench: Bench) -> None:
    """It has no business with Keycloak, and does not ask whether it is there."""
    reads = await bench.started("--role", "ingest")
    await publish(bench, 1)
    await until(lambda: bench.counts() == {"PENDING": 1}, what="one read")

    async def summaries(more: int) -> None:
        """Each stands for many polls."""
        at = reads.said.count("Persisted ")
        await until(lambda: reads.said.count("Persisted ") >= at + more, what="summaries")

    bench.change(
        "UPDATE circuits SET state = 'OPEN', generation = generation + 1, opened_at = NOW(6),"
        " retry_at = NOW(6) + INTERVAL 1 HOUR"
    )
    await until(lambda: "Circuit OPEN" in reads.said, what="an open circuit")
    # The poll that was under way may still bring something.
    await summaries(2)
    await publish(bench, 2)
    await summaries(2)
    assert bench.counts() == {"PENDING": 1}

    bench.change("UPDATE circuits SET state = 'CLOSED', generation = generation + 1, opened_at = NULL")
    await until(lambda: bench.counts() == {"PENDING": 2}, what="the second read")
    assert bench.value("SELECT last_check_at FROM circuits") is None
    assert "Persisted 1 records (total: 1, pending: 1)" in reads.said
    assert await reads.stop() == 0


@pytest.mark.parametrize("how", [("--role", "both"), ()])
async def test_another_word_is_refused_with_what_is_allowed(bench: Bench, how: tuple[str, ...]) -> None:
    finished = await bench.kcsync("start", *how, **({} if how else {"KCSYNC_ROLE": "both"}))

    assert finished.code == 2
    assert "KCSYNC_ROLE='both': there is no such choice. Allowed: all, ingest or drain." in finished.err
