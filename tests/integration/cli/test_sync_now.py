"""`kcsync sync-now` with its options."""

from __future__ import annotations

import asyncio
import signal

import pytest

from consumer.outbox.database import Database
from producer_lib import UserCreate, UserUpdate
from tests.integration.support.bench import Bench
from tests.integration.support.ingesting import ingesting
from tests.integration.support.kcsync import KCSYNC
from tests.integration.support.waiting import until


async def ingested(bench: Bench, database: Database, users: int) -> None:
    """So many creates, each with an update behind it."""
    names = [f"{bench.name}-{n}" for n in range(users)]
    async with bench.producer() as producer, ingesting(bench, database):
        await producer.publish_many(UserCreate(username=name) for name in names)
        await producer.publish_many(UserUpdate(username=name, first_name="A") for name in names)
        await until(lambda: bench.counts() == {"PENDING": 2 * users}, what="all ingested")


async def test_delivers_one_user_or_so_many_changes_and_no_more(bench: Bench, database: Database) -> None:
    await ingested(bench, database, 6)

    one = await bench.kcsync("sync-now", "--user", f"{bench.name}-3")
    some = await bench.kcsync("sync-now", "--limit", "4")

    assert one.code == 0, one.out + one.err
    assert "Processed 2 sync items, 0 pending" in one.out
    assert bench.value("SELECT COUNT(DISTINCT username) FROM entries WHERE state = 'DELIVERED'") == 5
    assert some.code == 6, some.out + some.err
    assert "Processed 4 sync items, 6 pending" in some.out
    assert bench.counts() == {"DELIVERED": 6, "PENDING": 6}
    assert bench.value("SELECT COUNT(*) FROM leases WHERE owner IS NOT NULL") == 0


async def test_ignores_backoff_when_asked_to_and_says_what_died_of_what(
    bench: Bench, database: Database
) -> None:
    await ingested(bench, database, 2)
    bench.change(
        "UPDATE lanes SET state = 'WAITING', due_at = NOW(6) + INTERVAL 1 HOUR WHERE username_key LIKE %s",
        "%-1",
    )
    bench.change(
        "UPDATE entries SET next_attempt_at = NOW(6) + INTERVAL 1 HOUR WHERE username LIKE %s", "%-1"
    )
    # The create is gone: its update meets no user.
    bench.change(
        "UPDATE entries SET state = 'SUPERSEDED', ended_at = NOW(6) - INTERVAL 1 HOUR"
        " WHERE kind = 'user_create' AND username LIKE %s",
        "%-1",
    )

    patient = await bench.kcsync("sync-now")
    hurried = await bench.kcsync("sync-now", "--ignore-backoff")

    assert "Processed 2 sync items, 1 pending" in patient.out
    assert patient.code == 6
    assert "1 that waited for their next attempt are due now" in hurried.out
    assert "dead letters, user_missing: 1" in hurried.out
    assert hurried.code == 4


@pytest.mark.long
async def test_a_follower_that_is_interrupted_leaves_the_work_to_the_instances(bench: Bench) -> None:
    await bench.started(KCSYNC_KEYCLOAK_CALLS="1")
    await until(lambda: bench.value("SELECT COUNT(*) FROM watermarks") == 3, what="partitions taken")
    async with bench.producer() as producer:
        await producer.publish_many(
            UserCreate(username=f"{bench.name}-{n}", password=f"pw {n}") for n in range(150)
        )
    await until(lambda: bench.value("SELECT COUNT(*) FROM entries") == 150, what="all ingested")
    follower = await asyncio.create_subprocess_exec(
        KCSYNC,
        "sync-now",
        env=bench.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert follower.stdout is not None
    said = await follower.stdout.readline() + await follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    out, err = await follower.communicate()

    assert b"1 running instances" in said
    assert b"the instances go on" in out
    assert b"Traceback" not in err
    assert follower.returncode == 130
    await until(lambda: bench.settled(150), what="all delivered", within=120)
