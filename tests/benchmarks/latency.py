"""From the application's publish call to Keycloak's answer, one change at a time, nothing else going on.

The whole way: producer_lib, Kafka, `kcsync start` as a process, MariaDB, Keycloak. The bare call is the same update by
an aiohttp client with an open connection and a token. Both in turn, for the same user.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import UTC, datetime
from typing import Any

from compose.native.stack import Stack
from producer_lib import UserCreate, UserUpdate
from tests.benchmarks.bare import BareKeycloak
from tests.benchmarks.corner import corner_of
from tests.benchmarks.result import Result
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until

CHANGES = 200
WARM_UP = 40


async def scenario(stack: Stack) -> list[Result]:
    """Publish, wait until applied, call barely, and so on."""
    async with corner_of(stack, "bench-latency") as bench:
        await bench.started(KCSYNC_PROFILE="production", KCSYNC_KEYCLOAK_TIMEOUT="3s", KCSYNC_LEASE="30s")
        ours, bare = await _measure(bench)
    ratio = statistics.median(ours) / statistics.median(bare)
    return [
        Result(
            name="publish to applied when idle, p50, against the bare call",
            unit="ms",
            value=statistics.median(ours) * 1000,
            reference=statistics.median(bare) * 1000,
            ratio=ratio,
            target=5.0,
            holds=ratio <= 5.0,
        ),
        Result.figure("the same, p99", "ms", [statistics.quantiles(ours, n=100)[98] * 1000]),
    ]


async def _measure(bench: Bench) -> tuple[list[float], list[float]]:
    user = f"{bench.name}-ada"
    ours, bare = [], []
    async with bench.producer() as producer, BareKeycloak.connected(bench.endpoints) as keycloak:
        await producer.publish(UserCreate(username=user, email=f"{user}@example.org"))
        await until(lambda: bench.settled(1), what="the user")
        path = await _path_of(keycloak, user)
        for number in range(CHANGES + WARM_UP):
            published = datetime.now(UTC).replace(tzinfo=None)
            change = UserUpdate(username=user, last_name=f"Name {number}")
            event_id = (await producer.publish(change)).event_id
            while not (ended := _applied(bench, event_id)):
                await asyncio.sleep(0.02)
            seconds = await _update(keycloak, path, {"lastName": f"Bare {number}"})
            if number >= WARM_UP:
                ours.append((ended - published).total_seconds())
                bare.append(seconds)
    return ours, bare


def _applied(bench: Bench, event_id: str) -> datetime | None:
    found = bench.rows(
        "SELECT a.ended_at FROM attempts a JOIN entries e USING (entry_id) WHERE e.event_id = %s", event_id
    )
    return found[0]["ended_at"] if found else None


async def _path_of(keycloak: BareKeycloak, username: str) -> str:
    query = {"username": username, "exact": "true"}
    async with keycloak.http.get(keycloak.users_url, params=query) as answer:
        (user,) = await answer.json()
    return f"/{user['id']}"


async def _update(keycloak: BareKeycloak, path: str, body: dict[str, Any]) -> float:
    """Seconds until the answer has been read."""
    began = time.perf_counter()
    await keycloak.send("PUT", path, body, 204)
    return time.perf_counter() - began
