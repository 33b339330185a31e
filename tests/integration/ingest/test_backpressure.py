"""Backpressure in real processes: marks, blocked lanes, and a Keycloak that is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from producer_lib import UserCreate
from tests.integration.support.bench import Bench
from tests.integration.support.events import event, record
from tests.integration.support.keycloak_proxy import keycloak_proxy
from tests.integration.support.waiting import until

MARKS = {
    "KCSYNC_BACKLOG_HIGH": "20",
    "KCSYNC_BACKLOG_LOW": "5",
    "KCSYNC_COOLDOWN_CAP": "1s",
    "KCSYNC_COOLDOWN": "1s",
}
# A poll that is under way when a pause begins may still bring records: it lasts 0.2 s.
_POLLS = 1.0


def ingested(bench: Bench) -> int:
    return int(bench.value("SELECT COALESCE(SUM(next_offset), 0) FROM watermarks"))


def holds(report: dict[str, Any]) -> list[list[str]]:
    return [partition["paused_for"] for partition in report["ingest"]["partitions"]]


@pytest.mark.long
async def test_an_outage_fills_the_outbox_to_the_mark_and_kafka_keeps_the_rest(bench: Bench) -> None:
    away = True
    async with keycloak_proxy(bench.endpoints.keycloak_url) as proxy, bench.producer() as producer:
        proxy.answer = lambda _: (503, "") if away else None
        settings = {"KCSYNC_KEYCLOAK_URL": proxy.url, "KCSYNC_PAUSE_POLICY": "on_backlog", **MARKS}
        one = await bench.started(**settings)
        other = await bench.started(**settings)
        await until(lambda: "Circuit OPEN" in one.said, what="an open circuit", within=40)
        await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(30))
        await until(lambda: ingested(bench) == 30, what="events in the outbox while the circuit is open")
        await until(lambda: "Backlog full" in one.said and "Backlog full" in other.said, what="both holding")
        await asyncio.sleep(_POLLS)
        await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(30, 60))
        await asyncio.sleep(_POLLS)

        report = await bench.status(**settings)
        assert holds(report) == [["backlog"]] * 3
        assert sum(partition["lag"] for partition in report["ingest"]["partitions"]) == 30
        assert ingested(bench) == 30

        away = False
        await until(lambda: bench.settled(60), what="all delivered", within=60)
        await until(lambda: "Backlog well again" in one.said, what="the end of it said")
        assert holds(await bench.status(**settings)) == [[]] * 3


async def test_a_blocked_user_holds_nobody(bench: Bench) -> None:
    """What a newer producer sent for one user waits for an upgrade, and so does all that stands behind it."""
    blocked = [record(event(bench, f"{bench.name}-ada", type="kcsync.user_update.v2", data={"later": 1}))]
    blocked += [record(event(bench, f"{bench.name}-ada")) for _ in range(40)]
    await bench.send(*blocked)
    await bench.started(**MARKS)
    await until(
        lambda: bench.value("SELECT COUNT(*) FROM lanes WHERE state = 'HELD'") == 1, what="a held lane"
    )
    async with bench.producer() as producer:
        await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(30))
        await until(
            lambda: bench.counts() == {"HELD": 1, "PENDING": 40, "DELIVERED": 30}, what="others delivered"
        )

    await until(
        lambda: (
            bench.rows("SELECT due, blocked, is_full FROM backlog")
            == [{"due": 0, "blocked": 41, "is_full": 0}]
        ),
        what="them counted apart",
    )
