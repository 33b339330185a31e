"""The drain alone, inside the test: real leases and entries in MariaDB, and a Keycloak that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from opentelemetry.trace import NoOpTracer

from consumer.circuit.breaker import CircuitPolicy
from consumer.circuit.keeper import CircuitKeeper, ControlAnswer
from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.errors import LeaseTooShort
from consumer.delivery.keycloak import ControlResult
from consumer.delivery.outcome import Delivered, Outcome, Reason
from consumer.drain.admission import Admission
from consumer.drain.caller import Caller
from consumer.drain.charging import Evidence
from consumer.drain.drainer import Drainer
from consumer.drain.executor import CommandExecutor
from consumer.drain.healer import Healer
from consumer.drain.judge import Judge
from consumer.drain.leases import LeaseKeeper
from consumer.drain.policy import DrainPolicy
from consumer.drain.realms import RealmWatch
from consumer.drain.turns import Turns
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.command_store import CommandStore
from consumer.outbox.database import Database
from consumer.outbox.drain_store import DrainStore
from consumer.outbox.lease_store import LeaseStore

DELIVERED = Delivered(reason=Reason.UPDATED, user_id="id", existed=True)


@dataclass(slots=True)
class Played:
    """A Keycloak that notes which events it was asked to apply, and answers as the test says."""

    applied: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answer: Callable[[Change], Awaitable[Outcome]] | None = None

    async def deliver(self, change: Change, before_call: Callable[[], None]) -> Outcome:
        try:
            before_call()
        except LeaseTooShort:
            self.refused.append(change.event_id)
            raise
        self.applied.append(change.event_id)
        return DELIVERED if self.answer is None else await self.answer(change)


@dataclass(slots=True)
class DrainUnderTest:
    """One draining instance."""

    drainer: Drainer
    leases: LeaseKeeper


@asynccontextmanager
async def draining(
    database: Database,
    keycloak: Played,
    *,
    instance: str = "first",
    lease: float = 6.0,
    call_timeout: float = 1.0,
    calls: int = 8,
    sweep: float = 1.0,
    renewing: bool = True,
    admissions: Sequence[Admission] = (),
    caps: Mapping[str, int] | None = None,
) -> AsyncIterator[DrainUnderTest]:
    """Drain inside the block. Without `renewing`, leases are taken once and left to end. `caps` are by kind."""

    async def control() -> ControlAnswer:
        return ControlAnswer(available=True, detail="")

    async def realm_control(realm: str) -> ControlResult:
        return ControlResult(realm=realm, began=0.0, ended=0.0, trouble=None)

    circuits = CircuitStore(database, keycloak="played")
    circuit = CircuitKeeper(
        circuits,
        control,
        instance=instance,
        policy=CircuitPolicy(),
        calls=calls,
        on_change=lambda _state, _reason: None,
    )
    policy = DrainPolicy(
        call_timeout=call_timeout, lease=lease, sweep_interval=sweep, merge_limit=1, server_limit=1.0
    )
    policy = replace(policy, kinds={kind: replace(policy, batch=cap) for kind, cap in (caps or {}).items()})
    leases = LeaseKeeper(
        LeaseStore(database, owner=instance, roles="drain", version="0", seconds=lease),
        instance=instance,
        seconds=lease,
        busy=lambda: drainer.busy_shards(),  # noqa: PLW0108 - the drainer is built below.
    )
    store = DrainStore(database, owner=instance)
    judge = Judge(circuit=circuit, evidence=Evidence(), policy=policy)
    realms = RealmWatch(realm_control, circuits, pause=1.0, on_state=lambda _: None)
    caller = Caller(
        delivery=cast(Delivery, keycloak),
        leases=leases,
        policy=policy,
        tracer=NoOpTracer(),
        topic="topic",
        kafka_group="tests",
    )
    drainer = Drainer(
        store,
        leases,
        circuit,
        Turns(caller=caller, judge=judge, circuit=circuit, realms=realms, policy=policy),
        Healer(store=store, caller=caller, judge=judge, circuit=circuit, instance=instance),
        realms,
        CommandExecutor(CommandStore(database, owner=instance)),
        policy=policy,
        instance=instance,
        admissions=admissions,
    )
    await circuit.refresh()
    await leases.turn()
    tasks = [asyncio.create_task(circuit.run()), asyncio.create_task(drainer.run())]
    if renewing:
        tasks.append(asyncio.create_task(leases.run()))
    try:
        yield DrainUnderTest(drainer, leases)
        for task in tasks:
            # One that has ended has broken.
            assert not task.done(), task.exception()
    finally:
        await drainer.stop(5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await leases.release_all()
