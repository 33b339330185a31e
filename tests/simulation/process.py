"""One simulated process: the real drain and ingest, on stores and connections of the world."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import orjson
from opentelemetry.trace import NoOpTracer

from consumer.circuit.breaker import CircuitPolicy, CircuitState
from consumer.circuit.calls import CallLimit
from consumer.circuit.keeper import CircuitKeeper, ControlAnswer
from consumer.circuit.limit_policy import LimitPolicy
from consumer.delivery.delivery import Delivery
from consumer.delivery.passwords import KeyRing
from consumer.delivery.presence import Sighting
from consumer.drain import assembly
from consumer.drain.assembly import Drain, Stores
from consumer.drain.clocks import Clocks
from consumer.drain.guard import DeletionGuard, GuardPolicy
from consumer.drain.maintenance import MaintenanceWatch
from consumer.drain.policy import DrainPolicy
from consumer.drain.release import Releaser
from consumer.ingest.ingest import Ingest, IngestPolicy
from consumer.ingest.kafka import KafkaAddress, KafkaReader
from consumer.ingest.pausing import PausePolicy, PauseReason
from consumer.ingest.reread import known_versions, reread
from consumer.kinds import Kind
from consumer.outbox.audit import AuditStore
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.errors import OutboxError
from consumer.outbox.ingest_store import IngestStore
from consumer.outbox.maintenance_store import EVERY_REALM, MaintenanceStore
from consumer.outbox.unknown_store import UnknownStore
from tests.example_kind.shop_badges.handler import KIND as BADGES
from tests.simulation.kafka import SimReader
from tests.simulation.keycloak_link import SimDelivery, SimKeycloak
from tests.simulation.outbox import (
    Remote,
    SimCommandStore,
    SimDeletionStore,
    SimDrainStore,
    SimIngestStore,
    SimMaintenanceStore,
    SimUnknownStore,
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
    looks=(20.0, 40.0),
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
    asker_timeout=3.0,
    news=20.0,
    stable_after=60.0,
)
_GRACE = 6.0
_RELEASE_EVERY = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(assembly.Parts):
    """What a mutation replaces: the real parts unless it does."""

    maintenance: type[MaintenanceWatch] = MaintenanceWatch
    releaser: type[Releaser] = Releaser
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
    """A process that can be paused, killed and told to stop.

    Attributes:
        newer: whether it is of the version that knows the kind of badges.
    """

    world: World
    name: str
    newer: bool = False
    host: Host = field(init=False)
    main: asyncio.Task[None] = field(init=False)
    drain: Drain = field(init=False)
    ingest: Ingest = field(init=False)
    _stop: asyncio.Event = field(init=False)
    _maintenance: MaintenanceWatch = field(init=False)
    _releaser: Releaser = field(init=False)
    _stopped_all: bool = False
    _stopped_realms: frozenset[str] = frozenset()

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
        kinds: dict[str, Kind] = {BADGES.contract.name: BADGES} if self.newer else {}
        custom = {name: kind.contract for name, kind in kinds.items()}
        self._stop = asyncio.Event()
        keycloak = SimKeycloak(
            world.server,
            self.host,
            self._rng("calls"),
            realms=REALMS,
            timeout=DRAIN.call_timeout,
            calls=CALLS,
            strike=self._strike,
        )
        calls = CallLimit(LimitPolicy(ceiling=CALLS), clock=clock)
        delivery = SimDelivery(
            Delivery(
                keycloak=keycloak,
                keys=world.keys,
                restores_lost=world.restores,
                custom={name: kind.handler for name, kind in kinds.items()},
                watch=calls,
            ),
            self.host,
            world.watch,
            self._strike,
        )
        places = self._remote(parts.deletion_store(world.database), "places")
        leases = MemoryLeaseStore(world.database, name, seconds=DRAIN.lease)
        self.drain = Drain(
            Stores(
                drain=self._remote(parts.drain_store(world.database, name), "drain"),
                leases=self._remote(leases, "leases"),
                commands=self._remote(parts.command_store(world.database, name), "commands"),
                circuit=self._remote(world.circuit_row, "circuit"),
                realms=self._remote(MemoryRealmStore(world.database), "realms"),
            ),
            cast(Delivery, delivery),
            keycloak.control_call,
            keycloak.look,
            write_check=keycloak.write_check,
            instance=name,
            control_realm="shop",
            policy=world.policy,
            circuit_policy=CIRCUIT,
            calls=calls,
            tracer=NoOpTracer(),
            topic="t",
            kafka_group="kcsync",
            on_circuit=self._circuit_changed,
            on_state=lambda _: None,
            admissions=[DeletionGuard(store=places, policy=GUARD, clock=clock)],
            clock=clock,
            clocks=Clocks(now=lambda: world.database.now().replace(tzinfo=UTC)),
            parts=replace(parts, circuit=partial(self._circuit, parts.circuit)),
        )
        self._maintenance = parts.maintenance(
            cast(MaintenanceStore, self._remote(SimMaintenanceStore(world.database), "maintenance")),
            on_all=self._maintain_all,
            on_realms=self._maintain_realms,
            on_state=lambda _: None,
        )
        self._releaser = parts.releaser(
            store=cast(UnknownStore, self._remote(SimUnknownStore(world.database, name), "unknown")),
            leases=self.drain.leases,
            versions=known_versions(custom),
            reread=lambda entry: reread(
                entry, lambda sealed, context: world.keys.open(orjson.loads(sealed), context), custom
            ),
            interval=_RELEASE_EVERY,
            on_released=self.drain.drainer.notify,
        )
        self.ingest = Ingest(
            KafkaAddress(bootstrap="", topic="t", group="kcsync", client_id=name),
            cast(IngestStore, self._remote(parts.ingest_store(world.database, name), "ingest")),
            cast(AuditStore, _Findings(world.watch.fail)),
            policy=IngestPolicy(batch=5, realms=REALMS, pause=PausePolicy.IMMEDIATELY, custom=custom),
            seal=lambda plaintext, context: _seal(world.keys, plaintext, context),
            tracer=NoOpTracer(),
            on_persisted=self.drain.drainer.notify,
            on_state=lambda _: None,
            reader=lambda _, assigned: cast(KafkaReader, SimReader(world.broker, self.host, assigned)),
            clock=clock,
        )

    async def _run(self) -> None:
        """As `Consumer.run` does it."""
        while True:
            try:
                await self._maintenance.turn()
                await self.drain.circuit.refresh()
                break
            except OutboxError:
                # A real process would end here, and be started again.
                await asyncio.sleep(0.5)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.drain.run()),
                tasks.create_task(self._releaser.run()),
                tasks.create_task(self._maintenance.run()),
            ]
            ingest = tasks.create_task(self.ingest.run())
            await self._stop.wait()
            self.ingest.stop()
            await asyncio.gather(self.drain.drainer.stop(_GRACE), asyncio.wait([ingest], timeout=_GRACE))
            for task in (*background, ingest):
                task.cancel()
        try:
            await self.drain.leases.release_all()
        except OutboxError:
            self.world.watch.note(f"{self.name} leaves its leases to end by themselves")

    def _circuit(
        self,
        make: Callable[..., CircuitKeeper],
        store: CircuitStore,
        control_call: Callable[[], Awaitable[ControlAnswer]],
        look: Callable[[], Awaitable[Sighting]],
        **settings: Any,
    ) -> CircuitKeeper:
        """A circuit whose control calls and looks are watched."""

        async def watched() -> ControlAnswer:
            self.world.watch.keycloak_is_asked(self.host)
            return await control_call()

        async def watched_look() -> Sighting:
            self.world.watch.keycloak_is_asked(self.host)
            return await look()

        return make(store, watched, watched_look, **settings)

    def _maintain_all(self, on: bool) -> None:  # noqa: FBT001 - a state, not an option.
        self._stopped_all = on
        self._tell_maintenance()
        self.drain.circuit.maintain(on=on)
        if on:
            self.ingest.pause(PauseReason.MAINTENANCE)
        else:
            self.ingest.resume(PauseReason.MAINTENANCE)
        self.drain.drainer.notify()

    def _maintain_realms(self, realms: frozenset[str]) -> None:
        self._stopped_realms = realms
        self._tell_maintenance()
        self.drain.realms.maintain(realms)

    def _tell_maintenance(self) -> None:
        everything = {EVERY_REALM} if self._stopped_all else set()
        self.world.watch.maintenance_seen(self.host, self._stopped_realms | everything)

    def _circuit_changed(self, state: CircuitState, reason: str | None) -> None:
        self.world.watch.note(f"{self.name} sees the circuit {state}: {reason}")
        if state is CircuitState.CLOSED:
            self.ingest.resume(PauseReason.CIRCUIT)
        else:
            self.ingest.pause(PauseReason.CIRCUIT)


def _seal(keys: KeyRing, plaintext: bytes, context: bytes) -> tuple[str, bytes]:
    sealed = keys.seal(plaintext, context)
    return sealed["kid"], orjson.dumps(sealed)
