from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Sequence

import pytest

from compose.demo.story import write_script
from producer_lib import UserChange
from tests.integration.support.bench import Bench
from tests.integration.support.kcsync import Running
from tests.integration.support.proving import prove_keycloak, prove_outbox
from tests.integration.support.waiting import until

AT_ONCE = 25


def progress(bench: Bench) -> int:
    """A number that grows with every batch that is persisted and every result that is recorded."""
    return int(
        bench.value(
            "SELECT (SELECT COALESCE(SUM(next_offset), 0) FROM watermarks)"
            " + (SELECT COUNT(*) FROM entries WHERE state <> 'PENDING')"
        )
    )


async def publish(bench: Bench, changes: Sequence[UserChange], seconds: float) -> None:
    """Publish all of it, spread over so many seconds."""
    pause = seconds * AT_ONCE / len(changes)
    async with bench.producer() as producer:
        for at in range(0, len(changes), AT_ONCE):
            await producer.publish_many(changes[at : at + AT_ONCE])
            await asyncio.sleep(pause)


async def at_work(bench: Bench) -> None:
    """Wait until something has been done since now."""
    before = progress(bench)
    await until(lambda: progress(bench) > before, what="progress after a crash", within=60)


async def all_delivered(bench: Bench, published: int, within: float = 120.0) -> None:
    try:
        await until(lambda: bench.settled(published), what=f"all {published} delivered", within=within)
    except AssertionError as error:
        left = bench.rows(
            "SELECT state, kind, state_reason, COUNT(*) AS n FROM entries WHERE state <> 'DELIVERED' GROUP BY 1, 2, 3"
        )
        lanes = bench.rows("SELECT state, COUNT(*) AS n FROM lanes GROUP BY state")
        circuit = bench.rows("SELECT state, reason, openings, retry_at FROM circuits")
        raise AssertionError(f"{error}: {bench.counts()}, {left}, {lanes}, {circuit}") from None


async def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(bench: Bench) -> None:
    """One consumer, killed four times under load and started again each time."""
    chance = random.Random(20261121)
    changes = write_script(bench.name, chance).changes
    since = int(time.time() * 1000)
    consumer = await bench.started()
    load = asyncio.create_task(publish(bench, changes, seconds=30))
    for _ in range(4):
        await at_work(bench)
        await asyncio.sleep(chance.uniform(0.0, 1.5))
        await consumer.kill()
        consumer = bench.start()
    await load
    await all_delivered(bench, len(changes))

    assert await consumer.stop() == 0
    assert all("Traceback" not in each.said for each in bench.running)
    prove_outbox(bench, len(changes))
    await prove_keycloak(bench, changes, since)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
async def test_three_consumers_killed_stopped_and_rolled_many_times_end_as_if_nothing_had_happened(
    bench: Bench, seed: int
) -> None:
    """Crashes, rolling restarts, and zombies: a process that sleeps through its leases and its place in the group."""
    chance = random.Random(seed)
    changes = write_script(bench.name, chance).changes
    since = int(time.time() * 1000)
    consumers = [await bench.started() for _ in range(3)]
    load = asyncio.create_task(publish(bench, changes, seconds=150))
    for _ in range(20):
        await at_work(bench)
        await asyncio.sleep(chance.uniform(0.0, 2.0))
        which = chance.randrange(3)
        match chance.choices(["kill", "sleep", "roll"], [5, 3, 2]):
            case ["kill"]:
                await consumers[which].kill()
                consumers[which] = bench.start()
            case ["sleep"]:
                await sleep_through(consumers[which], chance.uniform(1.0, 12.0))
            case _:
                await bench.has_started(consumers[which])
                assert await consumers[which].stop() == 0
                consumers[which] = bench.start()
    await load
    await all_delivered(bench, len(changes), within=240)

    for consumer in consumers:
        assert await consumer.stop() == 0
    prove_outbox(bench, len(changes))
    await prove_keycloak(bench, changes, since)


@pytest.mark.long
async def test_a_zombie_that_wakes_up_writes_nothing_of_what_others_have_taken(bench: Bench) -> None:
    """Stopped for longer than its leases and its session in the group, while another goes on; then awake again."""
    chance = random.Random(7)
    changes = write_script(bench.name, chance).changes[:500]
    since = int(time.time() * 1000)
    zombie, other = await bench.started(), await bench.started()
    load = asyncio.create_task(publish(bench, changes, seconds=20))
    await at_work(bench)
    await sleep_through(zombie, 12.0)
    await load
    await all_delivered(bench, len(changes))

    for consumer in (zombie, other):
        assert consumer.alive, consumer.said[-2000:]
        assert "Traceback" not in consumer.said
        assert await consumer.stop() == 0
    prove_outbox(bench, len(changes))
    await prove_keycloak(bench, changes, since)


async def sleep_through(consumer: Running, seconds: float) -> None:
    consumer.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        consumer.signal(signal.SIGCONT)
