"""Processes that drain for a benchmark, each an instance of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from consumer.database_address import DatabaseAddress

__all__ = ["drained_by"]

_SECONDS = 8.0


async def drained_by(
    processes: int, address: DatabaseAddress, *, calls: int, keycloak_seconds: float, merge_limit: int = 1
) -> list[dict[str, float]]:
    """Drain a backlog that lasts, some twenty seconds long; what each process reports: `rate`, `rss_mb`.

    Args:
        processes: how many.
        address: the outbox.
        calls: of each at once.
        keycloak_seconds: how long a call takes.
        merge_limit: the most entries that share one.
    """
    dsn = f"mysql://{address.user}:{address.password}@{address.host}:{address.port}/{address.database}"
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.benchmarks.drain_worker",
            f"w{number}",
            str(calls),
            str(keycloak_seconds),
            str(merge_limit),
            str(_SECONDS),
            env={**os.environ, "BENCH_DSN": dsn},
            stdout=asyncio.subprocess.PIPE,
        )
        for number in range(processes)
    ]
    return await asyncio.gather(*map(_report, workers))


async def _report(worker: asyncio.subprocess.Process) -> dict[str, float]:
    out, _ = await worker.communicate()
    assert worker.returncode == 0
    report: dict[str, float] = json.loads(out.decode().splitlines()[-1])
    return report
