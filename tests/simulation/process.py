"""One simulated process: the real parts, put together as consumer/app.py does it, on stores and connections of the world.

The only place that builds them, so that a new part or argument is added here once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import orjson
from opentelemetry.trace import NoOpTracer

from consumer.circuit.breaker import CircuitPolicy, CircuitState
from consumer.circuit.keeper import CircuitKeeper, ControlAnswer
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import ControlResult
from consumer.delivery.outcome import Blame, Defer
from consumer.delivery.passwords import KeyRing
from consumer.drain.caller import Caller
from consumer.drain.charging import Evidence
from consumer.drain.drainer import Drainer
from consumer.drain.executor import CommandExecutor
from consumer.drain.guard import DeletionGuard, GuardPolicy
from consumer.drain.healer import Healer
from consumer.drain.judge import Judge
from consumer.drain.leases import LeaseKeeper
from consumer.drain.policy import DrainPolicy
from consumer.drain.realms import RealmWatch
from consumer.drain.turns import Turns
from consumer.ingest.ingest import Ingest, IngestPolicy
from consumer.ingest.kafka import KafkaAddress, KafkaReader
from consumer.ingest.pausing import PausePolicy, PauseReason
from consumer.outbox.audit import AuditStore
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.command_store import CommandStore
from consumer.outbox.deletion_store import DeletionStore
from consumer.outbox.drain_store import DrainStore
from consumer.outbox.errors import OutboxError
from consumer.outbox.ingest_store import IngestStore
from consumer.outbox.lease_store import LeaseStore
from tests.simulation.kafka import SimReader
from tests.simulation.keycloak_link import SimDelivery, SimKeycloak
from tests.simulation.outbox import (
    Remote,
    SimCommandStore,
    SimDeletionStore,
    SimDrainStore,
    SimIngestStore,
)
from tests.simulation.virtual_loop import Host
from tests.unit.drain.outbox_in_memory import MemoryLeaseStore, MemoryRealmStore

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["CALLS", "DRAIN", "GUARD", "REALMS", "Parts", "SimProcess"]

REALMS = frozenset({"shop", "club"})
CALLS = 4
SERVER_LIMIT = 10.0
DRAIN = DrainPolicy(
    batch=8,
    max_attempts=3,
    backoff_base=0.5,
    backoff_factor=3.0,
    backoff_cap=8.0,
    backoff_floor=0.2,
    call_timeout=3.0,
    lease=10.0,
    call_margin=0.5,
    sweep_interval=15.0,
    realm_pause=3.0,
    server_limit=SERVER_LIMIT,
    openings=2,
    holding=frozenset({"user_create", "user_update"}),
)
"""The defaults, some three times faster, so that a minute holds several leases, backoffs and outages; and more is held,
for operators to end."""
GUARD = GuardPolicy(deletes=3, share=0.5, floor=2)
"""So few that a run of a minute meets it."""
CIRCUIT = CircuitPolicy(
    threshold=3,
    window=20.0,
    cooldown=3.0,
    cooldown_cap=10.0,
    health_cache=10.0,
    probe_timeout=5.0,
    stable_after=60.0,
)
_GRACE = 6.0


@dataclass(slots=True, kw_only=True)
class Parts:
    """What a mutation replaces: the real parts unless it does."""

    drainer: type[Drainer] = Drainer
    caller: type[Caller] = Caller
    judge: type[Judge] = Judge
    healer: type[Healer] = Healer
    executor: type[CommandExecutor] = CommandExecutor
    drain_store: type[SimDrainStore] = SimDrainStore
    command_store: type[SimCommandStore] = SimCommandStore
    deletion_store: type[SimDeletionStore] = SimDeletionStore
    ingest_store: type[SimIngestStore] = SimIngestStore


class _Findings:
    """What of `AuditStore` ingest needs: nothing in a simulation may need an operator."""

    def __init__(self, fail: Callable[[str, str], None]) -> None:
        self._fail = fail

    async def record(self, *, actor: str, action: str, arguments: Any, outcome: str) -> None:
        self._fail("I1", f"{actor} found {action} {arguments}: {outcome}")


@dataclass(slots=True)
class SimProcess:
    """A process that can be paused, killed and told to stop."""

    world: World
    name: str
    host: Host = field(init=False)
    main: asyncio.Task[None] = field(init=False)
    drainer: Drainer = field(init=False)
    ingest: Ingest = field(init=False)
    leases: LeaseKeeper = field(init=False)
    circuit: CircuitKeeper = field(init=False)
    _stop: asyncio.Event = field(init=False)
    _evidence: Evidence = field(init=False)
    _judge: Judge = field(init=False)
    _keycloak: SimKeycloak = field(init=False)

    def start(self) -> None:
        """Begin to run."""
        self.host = Host(self.name, self.world.loop)
        self.host.context.run(self._build)
        self.main = self.host.spawn(self._run())

    def stop(self) -> None:
        """SIGTERM."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def _rng(self, purpose: str) -> random.Random:
        return random.Random(f"{self.world.seed}/{self.name}/{purpose}")

    def _remote(self, store: object, purpose: str) -> Any:
        world = self.world
        return Remote(store, world.database, self._rng(purpose), lambda: world.closed, self._strike)

    def _strike(self, moment: str) -> bool:
        return self.world.strike(self, moment)

    def _build(self) -> None:
        world, name, clock = self.world, self.name, self.world.loop.time
        parts = world.parts
        self._stop = asyncio.Event()
        self._evidence = Evidence()
        self._keycloak = SimKeycloak(
            world.server,
            self.host,
            self._rng("calls"),
            realms=REALMS,
            timeout=DRAIN.call_timeout,
            calls=CALLS,
            strike=self._strike,
        )
        circuits = cast(CircuitStore, self._remote(world.circuit_row, "circuit"))
        realms = cast(CircuitStore, self._remote(MemoryRealmStore(world.database), "realms"))
        self.circuit = CircuitKeeper(
            circuits,
            self._control,
            instance=name,
            policy=CIRCUIT,
            calls=CALLS,
            on_change=self._circuit_changed,
            clock=clock,
        )
        self.leases = LeaseKeeper(
            cast(
                LeaseStore,
                self._remote(MemoryLeaseStore(world.database, name, seconds=DRAIN.lease), "leases"),
            ),
            instance=name,
            seconds=DRAIN.lease,
            busy=lambda: self.drainer.busy_shards(),  # noqa: PLW0108 - the drainer is built below
            clock=clock,
        )
        delivery = SimDelivery(
            Delivery(keycloak=self._keycloak, keys=world.keys), self.host, world.watch, self._strike
        )
        self._judge = parts.judge(circuit=self.circuit, evidence=self._evidence, policy=DRAIN, clock=clock)
        caller = parts.caller(
            delivery=cast(Delivery, delivery),
            leases=self.leases,
            policy=DRAIN,
            tracer=NoOpTracer(),
            topic="t",
            kafka_group="kcsync",
        )
        watch = RealmWatch(
            self._realm_control, realms, pause=DRAIN.realm_pause, on_state=lambda _: None, clock=clock
        )
        store = cast(DrainStore, self._remote(parts.drain_store(world.database, name), "drain"))
        self.drainer = parts.drainer(
            store,
            self.leases,
            self.circuit,
            Turns(
                caller=caller,
                judge=self._judge,
                circuit=self.circuit,
                realms=watch,
                policy=DRAIN,
                clock=clock,
            ),
            parts.healer(store=store, caller=caller, judge=self._judge, circuit=self.circuit, instance=name),
            watch,
            parts.executor(
                cast(CommandStore, self._remote(parts.command_store(world.database, name), "commands"))
            ),
            policy=DRAIN,
            instance=name,
            admissions=[
                DeletionGuard(
                    store=cast(DeletionStore, self._remote(parts.deletion_store(world.database), "places")),
                    policy=GUARD,
                    clock=clock,
                )
            ],
            clock=clock,
        )
        self.ingest = Ingest(
            KafkaAddress(bootstrap="", topic="t", group="kcsync", client_id=name),
            cast(IngestStore, self._remote(parts.ingest_store(world.database, name), "ingest")),
            cast(AuditStore, _Findings(world.watch.fail)),
            policy=IngestPolicy(batch=5, realms=REALMS, pause=PausePolicy.IMMEDIATELY),
            seal=lambda plaintext, context: _seal(world.keys, plaintext, context),
            tracer=NoOpTracer(),
            on_persisted=self.drainer.notify,
            on_state=lambda _: None,
            reader=lambda _, assigned: cast(KafkaReader, SimReader(world.broker, self.host, assigned)),
            clock=clock,
        )

    async def _run(self) -> None:
        """As `Consumer.run` does it."""
        while True:
            try:
                await self.circuit.refresh()
                break
            except OutboxError:
                # A real process would end here, and be started again.
                await asyncio.sleep(0.5)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.circuit.run()),
                tasks.create_task(self.leases.run()),
                tasks.create_task(self.drainer.run()),
            ]
            ingest = tasks.create_task(self.ingest.run())
            await self._stop.wait()
            self.ingest.stop()
            await asyncio.gather(self.drainer.stop(_GRACE), asyncio.wait([ingest], timeout=_GRACE))
            for task in (*background, ingest):
                task.cancel()
        try:
            await self.leases.release_all()
        except OutboxError:
            self.world.watch.note(f"{self.name} leaves its leases to end by themselves")

    async def _control(self) -> ControlAnswer:
        trouble = (await self._realm_control("shop")).trouble
        available = trouble is None or trouble.failure.blame is not Blame.KEYCLOAK
        asked = trouble.not_before_seconds if isinstance(trouble, Defer) else None
        return ControlAnswer(
            available=available, detail="" if trouble is None else trouble.reason.value, retry_after=asked
        )

    async def _realm_control(self, realm: str) -> ControlResult:
        result = await self._keycloak.control_call(realm)
        if result.ok:
            self._evidence.control_succeeded(result.began)
        return result

    def _circuit_changed(self, state: CircuitState, reason: str | None) -> None:
        self.world.watch.note(f"{self.name} sees the circuit {state}: {reason}")
        if state is CircuitState.CLOSED:
            self.ingest.resume(PauseReason.CIRCUIT)
        else:
            self.ingest.pause(PauseReason.CIRCUIT)
            self._judge.circuit_opened(self.circuit.generation - 1)
        self.drainer.notify()


def _seal(keys: KeyRing, plaintext: bytes, context: bytes) -> tuple[str, bytes]:
    sealed = keys.seal(plaintext, context)
    return sealed["kid"], orjson.dumps(sealed)
