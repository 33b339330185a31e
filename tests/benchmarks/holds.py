"""What must hold however large the backlog: the cost of a claim, other users' waiting, memory, more processes."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Any

from compose.native.stack import Stack
from consumer.outbox.database import Database
from consumer.outbox.drain_store import DrainStore
from consumer.outbox.lease_store import LeaseStore
from tests.benchmarks.backlog import empty_outbox, fill_by_sql, hold_a_lane
from tests.benchmarks.drain import AtOnce, draining
from tests.benchmarks.result import Result
from tests.benchmarks.workers import drained_by
from tests.integration.support.batches import Writer, update

CLAIMS = 40
A_CLAIM = 100
PROCESSES = 4
CALLS_EACH = 8
KEYCLOAK_SECONDS = 0.02
STREAM = 1_500
STREAM_PER_SECOND = 150


async def scenario(stack: Stack) -> list[Result]:
    """All of them, one after the other."""
    return [
        await _claim_cost(stack),
        await _beside_a_blocked_lane(stack),
        await _more_processes(stack),
        await _memory(stack),
    ]


async def _claim_cost(stack: Stack) -> Result:
    seconds = []
    for entries in (10_000, 1_000_000):
        async with empty_outbox(stack, f"bench_claims_{entries}") as database:
            await fill_by_sql(database, entries)
            leases = LeaseStore(database, owner="bench", roles="drain", version="0", seconds=600)
            await leases.renew()
            await leases.acquire(range(256))
            seconds.append(await _claims(DrainStore(database, owner="bench")))
    few, many = seconds
    ratios = [b / a for a, b in zip(sorted(few), sorted(many), strict=True)]
    ratio = statistics.median(many) / statistics.median(few)
    return Result(
        name="claim of 100 with 1,000,000 pending, against 10,000",
        unit="ms",
        value=statistics.median(many) * 1000,
        reference=statistics.median(few) * 1000,
        ratio=ratio,
        spread=(min(ratios), max(ratios)),
        target=1.3,
        holds=ratio <= 1.3,
    )


async def _claims(store: DrainStore) -> list[float]:
    seconds = []
    in_hand: list[bytes] = []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        lanes = await store.ready_lanes(range(256), A_CLAIM, in_hand=in_hand)
        heads = await store.heads(lanes)
        claims = await store.claim(heads, margin=1)
        seconds.append(time.perf_counter() - began)
        assert len(claims) == A_CLAIM
        # As many as the drain has in hand at most.
        in_hand = [*in_hand, *(lane.lane_id for lane in lanes)][-500:]
    return seconds[5:]


async def _beside_a_blocked_lane(stack: Stack) -> Result:
    waits = {}
    for blocked in (0, 50_000):
        async with empty_outbox(stack, f"bench_blocked_{blocked}") as database:
            if blocked:
                await hold_a_lane(database, blocked)
            waits[blocked] = await _stream(database)
    free, beside = (_p99(waits[blocked]) * 1000 for blocked in (0, 50_000))
    return Result(
        name="p99 from ingest to call, beside 50,000 blocked entries of one user",
        unit="ms",
        value=beside,
        reference=free,
        ratio=beside / free,
        target=2.0,
        holds=beside <= 2.0 * free,
    )


class _Timed(AtOnce):
    """Notes when each event was asked for."""

    def __init__(self) -> None:
        super().__init__(0.005)
        self.at: dict[str, float] = {}

    async def deliver(self, change: Any, before_call: Any) -> Any:
        self.at.setdefault(change.event_id, time.perf_counter())
        return await super().deliver(change, before_call)


async def _stream(database: Database) -> list[float]:
    """Ingest a steady stream of users' updates, and see how long each waits for its call."""
    keycloak, ingested = _Timed(), {}
    writer = await Writer.take(database, partition=1)
    async with draining(database, keycloak) as drainer:
        began = time.perf_counter()
        a_tick = STREAM_PER_SECOND // 10
        for first in range(0, STREAM, a_tick):
            events = [update(f"s-{n}", f"stream-{n}") for n in range(first, first + a_tick)]
            await writer.persist(events)
            now = time.perf_counter()
            ingested.update({event["id"]: now for event in events})
            drainer.notify()
            await asyncio.sleep(max(0.0, began + (first + a_tick) / STREAM_PER_SECOND - time.perf_counter()))
        while len(keycloak.at) < STREAM:
            await asyncio.sleep(0.01)
    return [keycloak.at[event] - at for event, at in ingested.items()]


async def _more_processes(stack: Stack) -> Result:
    rates = {}
    for processes in (1, PROCESSES):
        async with empty_outbox(stack, f"bench_processes_{processes}") as database:
            await fill_by_sql(database, 60_000)
            reports = await drained_by(
                processes, database.address, calls=CALLS_EACH, keycloak_seconds=KEYCLOAK_SECONDS
            )
        rates[processes] = sum(report["rate"] for report in reports)
    ratio = rates[PROCESSES] / rates[1]
    return Result(
        name="four processes against one, a Keycloak of 20 ms, 8 calls each",
        unit="entries/s",
        value=rates[PROCESSES],
        reference=rates[1],
        ratio=ratio,
        target=3.6,
        holds=ratio >= 3.6,
    )


async def _memory(stack: Stack) -> Result:
    async with empty_outbox(stack, "bench_memory") as database:
        await fill_by_sql(database, 1_000_000)
        (report,) = await drained_by(1, database.address, calls=64, keycloak_seconds=0.005)
    return Result.figure("resident memory with 1,000,000 pending", "MB", [report["rss_mb"]], at_most=150)


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
