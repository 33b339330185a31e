"""One draining process of a benchmark: reports its rate between a warm start and the end, and its memory, as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import time

import structlog

from consumer.collector import collect_less
from consumer.database_address import DatabaseAddress
from consumer.outbox.database import Database
from tests.benchmarks.drain import AtOnce, draining
from tests.unit.circuit.fixed_limit import fixed_limit


async def work(name: str, calls: int, keycloak: float, merge_limit: int, seconds: float) -> dict[str, float]:
    """Drain for so many seconds, after the shards have been shared."""
    database = Database(DatabaseAddress.parse(os.environ["BENCH_DSN"]))
    async with draining(
        database,
        AtOnce(keycloak),
        instance=name,
        calls=fixed_limit(calls),
        lease=9.0,
        merge_limit=merge_limit,
    ) as drainer:
        # Until every process has its share: a third of a lease, twice.
        await asyncio.sleep(7)
        first, began = drainer.counts.delivered, time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (drainer.counts.delivered - first) / (time.perf_counter() - began)
    await database.aclose()
    return {"rate": rate, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    collect_less()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    _, given, calls, keycloak, merge_limit, seconds = sys.argv
    report = asyncio.run(work(given, int(calls), float(keycloak), int(merge_limit), float(seconds)))
    print(json.dumps(report))
