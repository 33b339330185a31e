"""The drain alone, inside the test: real leases and entries in MariaDB, and a Keycloak that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from opentelemetry.trace import NoOpTracer

from consumer.circuit.breaker import CircuitPolicy
from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.errors import LeaseTooShort
from consumer.delivery.keycloak import ControlResult
from consumer.delivery.known_user import KnownUser
from consumer.delivery.outcome import Delivered, Outcome, Reason
from consumer.delivery.presence import Presence, Sighting
from consumer.drain.admission import Admission
from consumer.drain.assembly import Drain, Stores
from consumer.drain.policy import DrainPolicy
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.command_store import CommandStore
from consumer.outbox.database import Database
from consumer.outbox.drain_store import DrainStore
from consumer.outbox.lease_store import LeaseStore
from tests.integration.support.batches import REALM
from tests.unit.circuit.fixed_limit import fixed_limit

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

    async def heal(self, known: KnownUser, before_call: Callable[[], None]) -> Outcome:
        before_call()
        return DELIVERED


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
) -> AsyncIterator[Drain]:
    """Drain inside the block. Without `renewing`, leases are taken once and left to end. `caps` are by kind."""

    async def control_call(realm: str) -> ControlResult:
        return ControlResult(realm=realm, began=0.0, ended=0.0, trouble=None)

    async def look(_: str) -> Sighting:
        return Sighting(presence=Presence.THERE, said="there")

    policy = DrainPolicy(
        call_timeout=call_timeout, lease=lease, sweep_interval=sweep, merge_limit=1, server_limit=1.0
    )
    policy = replace(policy, kinds={kind: replace(policy, batch=cap) for kind, cap in (caps or {}).items()})
    circuits = CircuitStore(database, keycloak="played")
    drain = Drain(
        Stores(
            drain=DrainStore(database, owner=instance),
            leases=LeaseStore(database, owner=instance, roles="drain", version="0", seconds=lease),
            commands=CommandStore(database, owner=instance),
            circuit=circuits,
            realms=circuits,
        ),
        cast(Delivery, keycloak),
        control_call,
        look,
        write_check=control_call,
        instance=instance,
        control_realm=REALM,
        policy=policy,
        circuit_policy=CircuitPolicy(),
        calls=fixed_limit(calls),
        tracer=NoOpTracer(),
        topic="topic",
        kafka_group="tests",
        on_circuit=lambda _state, _reason: None,
        on_state=lambda _: None,
        admissions=admissions,
    )
    await drain.circuit.refresh()
    await drain.leases.turn()
    works = [drain.run()] if renewing else [drain.circuit.run(), drain.drainer.run()]
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield drain
        for task in tasks:
            # One that has ended has broken.
            assert not task.done(), task.exception()
    finally:
        await drain.drainer.stop(5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await drain.leases.release_all()
