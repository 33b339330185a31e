"""`make bench`: run the scenarios, print a table, write build/bench.json."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import structlog

from compose.native.stack import Stack
from consumer.collector import collect_less
from tests.benchmarks import delivery, drain, holds, ingest, latency, logins, recovery
from tests.benchmarks.result import Result

SCENARIOS: dict[str, Callable[[Stack], Awaitable[list[Result]]]] = {
    "ingest": ingest.scenario,
    "drain": drain.scenario,
    "delivery": delivery.scenario,
    "holds": holds.scenario,
    "latency": latency.scenario,
    "logins": logins.scenario,
    "recovery": recovery.scenario,
}


def main() -> None:
    """Run all scenarios, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(SCENARIOS))
    only = parser.parse_args().only
    collect_less()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with Stack("bench", at_full_speed=True).session(print) as stack:
        results = [
            result
            for name, scenario in SCENARIOS.items()
            if only in {None, name}
            for result in asyncio.run(_run(scenario, stack))
        ]
    _print(results)
    target = Path("build/bench.json")
    target.parent.mkdir(exist_ok=True)
    document = {"cores": os.cpu_count(), "results": [result.as_json() for result in results]}
    target.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    print(f"written to {target}; {os.cpu_count()} cores")


async def _run(scenario: Callable[[Stack], Awaitable[list[Result]]], stack: Stack) -> list[Result]:
    return await scenario(stack)


def _print(results: list[Result]) -> None:
    head = ("scenario", "unit", "ours", "raw", "ratio", "spread", "target", "holds")
    rows = [head, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(result: Result) -> tuple[str, ...]:
    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:,.{digits}f}"

    spread = "-" if result.spread is None else f"{result.spread[0]:.2f} to {result.spread[1]:.2f}"
    holds = {True: "yes", False: "NO", None: "-"}[result.holds]
    return (
        result.name,
        result.unit,
        number(result.value, 0),
        number(result.reference, 0),
        number(result.ratio, 2),
        spread,
        number(result.target, 2),
        holds,
    )


if __name__ == "__main__":
    main()
