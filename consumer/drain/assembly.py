"""The drain of one process put together, with its leases and its circuit.

The consumer, its simulation and its benchmarks all build it here: a part is added once, and nothing is proved on another
machine than the one that runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from opentelemetry.trace import Tracer

from consumer.circuit.breaker import CircuitPolicy, CircuitState
from consumer.circuit.calls import CallLimit
from consumer.circuit.keeper import CircuitKeeper, ControlAnswer
from consumer.delivery.advice import explained
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import ControlResult
from consumer.delivery.outcome import Blame, Defer, NotDelivered
from consumer.delivery.presence import Sighting
from consumer.drain.admission import Admission
from consumer.drain.caller import Caller
from consumer.drain.charging import Evidence
from consumer.drain.clocks import Clocks
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
from consumer.outbox.drain_store import DrainStore
from consumer.outbox.lease_store import LeaseStore

__all__ = ["Drain", "Parts", "Stores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What the drain keeps in MariaDB.

    Attributes:
        drain: lanes and entries, under this process's name.
        leases: shards, under the same name.
        commands: what is asked of the owner of a shard.
        circuit: the row of the Keycloak that all instances share.
        realms: where a realm's fault is recorded.
    """

    drain: DrainStore
    leases: LeaseStore
    commands: CommandStore
    circuit: CircuitStore
    realms: CircuitStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a drain is made of. A simulation puts broken parts in, to see that they are noticed."""

    circuit: Callable[..., CircuitKeeper] = CircuitKeeper
    drainer: type[Drainer] = Drainer
    caller: type[Caller] = Caller
    judge: type[Judge] = Judge
    healer: type[Healer] = Healer
    executor: type[CommandExecutor] = CommandExecutor
    realms: type[RealmWatch] = RealmWatch


_REAL = Parts()


class Drain:
    """One process's drain.

    Attributes:
        evidence: what was seen of Keycloak.
        circuit: whether calls are allowed.
        leases: our shards.
        judge: says whose fault a failure was.
        realms: which of them rest.
        healer: heals lanes in doubt.
        drainer: takes the turns of lanes.
    """

    def __init__(
        self,
        stores: Stores,
        delivery: Delivery,
        control_call: Callable[[str], Awaitable[ControlResult]],
        look: Callable[[str], Awaitable[Sighting]],
        *,
        write_check: Callable[[str], Awaitable[ControlResult]],
        instance: str,
        control_realm: str,
        policy: DrainPolicy,
        circuit_policy: CircuitPolicy,
        calls: CallLimit,
        tracer: Tracer,
        topic: str,
        kafka_group: str,
        on_circuit: Callable[[CircuitState, str | None], None],
        on_state: Callable[[str], None],
        admissions: Sequence[Admission] = (),
        clock: Callable[[], float] = time.monotonic,
        clocks: Clocks | None = None,
        parts: Parts = _REAL,
    ) -> None:
        """Put it together.

        Args:
            stores: what it keeps in MariaDB.
            delivery: applies changes to Keycloak.
            control_call: one bounded call to a realm of Keycloak that stands for no user.
            look: one that needs no token, and only sees whether Keycloak is there.
            write_check: one that writes something that stands for no user.
            instance: our name.
            control_realm: the realm that the circuit asks.
            policy: the drain's numbers.
            circuit_policy: the circuit's.
            calls: how many may be under way, as far as the circuit allows any; `delivery` tells it of each.
            tracer: where spans come from.
            topic: shown in spans.
            kafka_group: shown in spans.
            on_circuit: told each new state of the circuit and its reason, once; must not block.
            on_state: told each other change in one line for people; must not block.
            admissions: what may refuse an entry before its call.
            clock: seconds that never go back.
            clocks: what is known of the database's clock and ours.
            parts: what it is made of.
        """
        self._control_call = control_call
        self._write_check = write_check
        self._control_realm = control_realm
        self._clock = clock
        self._on_circuit = on_circuit
        self.evidence = Evidence(threshold=circuit_policy.threshold)
        self.circuit = parts.circuit(
            stores.circuit,
            self._control,
            lambda: look(control_realm),
            instance=instance,
            policy=circuit_policy,
            calls=calls.ceiling,
            on_change=self._circuit_changed,
            clock=clock,
        )
        self.leases = LeaseKeeper(
            stores.leases,
            instance=instance,
            seconds=policy.lease,
            busy=lambda: self.drainer.busy_shards(),  # noqa: PLW0108 - the drainer is built below.
            calls=calls,
            clock=clock,
        )
        self.judge = parts.judge(circuit=self.circuit, evidence=self.evidence, policy=policy, clock=clock)
        self.realms = parts.realms(
            self._ask_realm,
            stores.realms,
            instance=instance,
            may_ask=lambda: self.circuit.refusal is None,
            pause=policy.realm_pause,
            on_state=on_state,
            clock=clock,
        )
        caller = parts.caller(
            delivery=delivery,
            leases=self.leases,
            circuit=self.circuit,
            policy=policy,
            tracer=tracer,
            topic=topic,
            kafka_group=kafka_group,
            clocks=clocks or Clocks(),
        )
        self.healer = parts.healer(
            store=stores.drain,
            caller=caller,
            judge=self.judge,
            circuit=self.circuit,
            realms=self.realms,
            instance=instance,
        )
        self.drainer = parts.drainer(
            stores.drain,
            self.leases,
            self.circuit,
            calls,
            Turns(
                caller=caller,
                judge=self.judge,
                circuit=self.circuit,
                realms=self.realms,
                unfinished=stores.drain.unfinished,
                policy=policy,
                clock=clock,
            ),
            self.healer,
            self.realms,
            parts.executor(stores.commands),
            policy=policy,
            instance=instance,
            admissions=admissions,
            clock=clock,
        )

    async def run(self) -> None:
        """Take part in the circuit, hold leases and drain, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.circuit.run())
            tasks.create_task(self.leases.run())
            tasks.create_task(self.realms.run())
            tasks.create_task(self.drainer.run())

    @asynccontextmanager
    async def running(self, grace: float) -> AsyncIterator[None]:
        """Drain for as long as the block runs, and `grace` seconds longer for calls under way.

        Raises:
            OutboxError: MariaDB could not be asked, at the beginning or the end.
        """
        await self.circuit.refresh()
        await self.leases.turn()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.run())
            try:
                yield
            finally:
                await self.drainer.stop(grace)
                running.cancel()
        await self.leases.release_all()

    async def _control(self) -> ControlAnswer:
        trouble = (await self._ask_realm(self._control_realm)).trouble or await self._trouble_with_writes()
        if trouble is None:
            await self.realms.well(self._control_realm)
            return ControlAnswer(available=True, detail="")
        # Credentials that are refused are a realm's trouble; Keycloak itself has answered.
        available = trouble.failure.blame is not Blame.KEYCLOAK
        return ControlAnswer(
            available=available,
            detail=f"{trouble.reason.value}: {explained(trouble)}",
            reason=trouble.reason.value,
            retry_after=trouble.not_before_seconds if isinstance(trouble, Defer) else None,
        )

    async def _trouble_with_writes(self) -> NotDelivered | None:
        """Why Keycloak takes no writes; None where it does, where nobody doubts it, and where it cannot be told.

        It is always asked before the circuit closes: whatever opened it, deliveries are writes.
        """
        closed = self.circuit.state is CircuitState.CLOSED
        if closed and not self.evidence.writes_in_doubt(self._clock()):
            return None
        result = await self._write_check(self._control_realm)
        if result.trouble is not None and result.trouble.failure.blame is not Blame.KEYCLOAK:
            # Something about our own client, which deliveries would meet as well, or never.
            return None
        self.judge.write_check_ended(result.began, result.ended, wrote=result.ok)
        return result.trouble

    async def _ask_realm(self, realm: str) -> ControlResult:
        result = await self._control_call(realm)
        if result.ok:
            self.evidence.control_succeeded(result.began)
        return result

    def _circuit_changed(self, state: CircuitState, reason: str | None) -> None:
        if state is not CircuitState.CLOSED:
            self.judge.circuit_opened(self.circuit.generation - 1)
        self._on_circuit(state, reason)
        if state is CircuitState.CLOSED:
            self.drainer.outage_over()
        else:
            self.drainer.notify()
