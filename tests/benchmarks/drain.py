"""The machinery of the drain alone: leases, lanes, claims and write-backs, with a delivery that answers at once.

MariaDB is on the same machine. Statements are counted by the server, BEGIN and COMMIT not among them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pymysql
from opentelemetry.trace import NoOpTracer, Tracer

from compose.native.stack import Stack
from consumer.circuit.breaker import CircuitPolicy
from consumer.circuit.calls import CallLimit
from consumer.database_address import DatabaseAddress
from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import ControlResult
from consumer.delivery.outcome import Delivered, Outcome, Reason
from consumer.delivery.presence import Presence, Sighting
from consumer.drain.assembly import Drain, Stores
from consumer.drain.drainer import Drainer
from consumer.drain.policy import DrainPolicy
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.command_store import CommandStore
from consumer.outbox.database import Database
from consumer.outbox.drain_store import DrainStore
from consumer.outbox.lease_store import LeaseStore
from tests.benchmarks.backlog import empty_outbox
from tests.benchmarks.result import Result
from tests.benchmarks.workers import drained_by
from tests.integration.support.batches import Writer, update
from tests.unit.circuit.fixed_limit import fixed_limit

ENTRIES = 30_000
ROUNDS = 3
CALLS = 64
BATCH = 500


@dataclass(slots=True)
class AtOnce:
    """A Keycloak that takes everything, at once or after `seconds`."""

    seconds: float = 0.0

    async def deliver(self, change: Change, before_call: Callable[[], None]) -> Outcome:
        before_call()
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return Delivered(reason=Reason.UPDATED, user_id="0b5c0b5c-0b5c-4b5c-8b5c-0b5c0b5c0b5c", existed=True)


@dataclass(frozen=True, slots=True)
class Load:
    """So many entries of each user, called singly or merged."""

    name: str
    a_user: int
    merge_limit: int
    most_statements: int | None


LOADS = (
    Load("drain, machinery alone", a_user=1, merge_limit=1, most_statements=40),
    # The load of which the outbox we are compared with publishes its rate, merged as we merge by default.
    Load("the same, 10 entries a user, merged", a_user=10, merge_limit=20, most_statements=None),
)


INSTANCES = 2
"""One for each core; that outbox publishes its rate for four."""
LASTING = 400_000


async def scenario(stack: Stack) -> list[Result]:
    """Drain backlogs, some times each."""
    alone = [result for number, load in enumerate(LOADS) for result in await _drained(load, number, stack)]
    return [*alone, await _drained_together(LOADS[-1], stack)]


async def _drained(load: Load, number: int, stack: Stack) -> list[Result]:
    rates, statements, cpu = [], [], []
    for turn in range(ROUNDS + 1):
        async with empty_outbox(stack, f"bench_drain_{number}_{turn}") as database:
            await fill(database, ENTRIES, users=ENTRIES // load.a_user)
            before, cpu_before, began = counted(database.address), time.process_time(), time.perf_counter()
            async with draining(database, AtOnce(), merge_limit=load.merge_limit) as drainer:
                while drainer.counts.delivered < ENTRIES:
                    await asyncio.sleep(0.005)
                seconds = time.perf_counter() - began
                spent = time.process_time() - cpu_before
                made = counted(database.address) - before
        if turn:  # the first one warms up
            rates.append(ENTRIES / seconds)
            statements.append(made * 1000 / ENTRIES)
            cpu.append(spent * 1e6 / ENTRIES)
    return [
        Result.figure(load.name, "entries/s", rates),
        Result.figure("its statements", "per 1,000 entries", statements, at_most=load.most_statements),
        Result.figure("its CPU, ours alone", "µs an entry", cpu),
    ]


async def _drained_together(load: Load, stack: Stack) -> Result:
    rates = []
    for turn in range(ROUNDS):
        async with empty_outbox(stack, f"bench_drain_together_{turn}") as database:
            await fill(database, LASTING, users=LASTING // load.a_user)
            reports = await drained_by(
                INSTANCES,
                database.address,
                calls=2 * CALLS,
                keycloak_seconds=0.0,
                merge_limit=load.merge_limit,
            )
            (left,) = await database.fetch("SELECT COUNT(*) AS n FROM entries WHERE state = 'PENDING'")
            assert left["n"], "the backlog did not last"
        rates.append(sum(report["rate"] for report in reports))
    return Result.figure(f"{load.name}, by {INSTANCES} processes", "entries/s", rates)


async def fill(database: Database, entries: int, *, users: int | None = None) -> None:
    """Ingest a backlog of updates, one after the other over so many users."""
    writer = await Writer.take(database)
    for first in range(0, entries, 1000):
        numbers = range(first, min(first + 1000, entries))
        await writer.persist([update(f"e-{n}", f"user-{n % (users or entries)}") for n in numbers])


def counted(address: DatabaseAddress) -> int:
    """Statements that the server has run since it started."""
    connection = pymysql.connect(
        host=address.host, port=address.port, user=address.user, password=address.password
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SHOW GLOBAL STATUS WHERE variable_name IN ('Com_select', 'Com_insert', 'Com_update', 'Com_delete',"
            " 'Com_update_multi', 'Com_delete_multi', 'Com_insert_select', 'Com_replace')"
        )
        return sum(int(value) for _, value in cursor.fetchall())


@asynccontextmanager
async def draining(
    database: Database,
    keycloak: Any,
    *,
    instance: str = "bench",
    calls: CallLimit | None = None,
    lease: float = 30.0,
    call_timeout: float = 1.0,
    merge_limit: int = 1,
    bulk: bool = False,
    tracer: Tracer | None = None,
) -> AsyncIterator[Drainer]:
    """A drainer as the consumer builds it, over another Keycloak."""

    async def control_call(realm: str) -> ControlResult:
        return ControlResult(realm=realm, began=0.0, ended=0.0, trouble=None)

    async def look(_: str) -> Sighting:
        return Sighting(presence=Presence.THERE, said="there")

    policy = DrainPolicy(
        batch=BATCH, merge_limit=merge_limit, lease=lease, call_timeout=call_timeout, bulk_creates=bulk
    )
    circuits = CircuitStore(database, keycloak="bench")
    drain = Drain(
        Stores(
            drain=DrainStore(database, owner=instance),
            leases=LeaseStore(database, owner=instance, roles="drain", version="0", seconds=policy.lease),
            commands=CommandStore(database, owner=instance),
            circuit=circuits,
            realms=circuits,
        ),
        cast(Delivery, keycloak),
        control_call,
        look,
        write_check=control_call,
        instance=instance,
        control_realm="bench",
        policy=policy,
        circuit_policy=CircuitPolicy(),
        calls=calls or fixed_limit(CALLS),
        tracer=tracer or NoOpTracer(),
        topic="topic",
        kafka_group="bench",
        on_circuit=lambda _state, _reason: None,
        on_state=lambda _: None,
    )
    async with drain.running(5):
        yield drain.drainer
