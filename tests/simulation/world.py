"""The simulated world: one database, one topic, one Keycloak, several processes, and the time they share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import Any, cast

import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from consumer.delivery.passwords import KeyRing
from consumer.drain.policy import DrainPolicy
from tests.simulation.explained import Explained
from tests.simulation.fake_keycloak import FakeKeycloak
from tests.simulation.heal_rule import HealRule
from tests.simulation.history import History
from tests.simulation.kafka import Broker
from tests.simulation.keycloak_link import KeycloakServer
from tests.simulation.outbox import SimDatabase
from tests.simulation.process import CALLS, DRAIN, GUARD, REALMS, Parts, SimProcess
from tests.simulation.story import GROUPS, REALM_ROLES
from tests.simulation.virtual_loop import HostState, VirtualLoop
from tests.simulation.watch import Watch
from tests.simulation.weather import Weather
from tests.unit.circuit.circuit_in_memory import Clock, MemoryCircuit

__all__ = ["World", "heard"]

_KEYS = KeyRing({"k1": X25519PrivateKey.from_private_bytes(bytes(range(32)))})


@dataclass(slots=True)
class World:
    """Everything that one run is made of.

    Attributes:
        policy: of every process's drain: half of the worlds keep no password beyond its delivery.
        restores: whether a user whom somebody else has deleted is made again.
        newer: whether processes that start now are of the version that knows the kind of badges.
    """

    seed: int
    loop: VirtualLoop
    weather: Weather
    parts: Parts
    partitions: int
    keys: KeyRing = _KEYS
    restores: bool = True
    closed: bool = False
    newer: bool = False
    policy: DrainPolicy = field(init=False)
    watch: Watch = field(init=False)
    database: SimDatabase = field(init=False)
    broker: Broker = field(init=False)
    server: KeycloakServer = field(init=False)
    circuit_row: MemoryCircuit = field(init=False)
    processes: list[SimProcess] = field(default_factory=list)
    strike: Callable[[SimProcess, str], bool] = lambda _, __: False

    def __post_init__(self) -> None:
        self.policy = replace(DRAIN, keep_passwords=self.rng("passwords").random() < 0.5)
        self.watch = Watch(calls_allowed=CALLS, deletes_allowed=GUARD.deletes)
        self.database = SimDatabase(self.loop, self.weather, self.rng("database"))
        self.database.watch = self.watch
        self.broker = Broker(self.loop, self.weather, self.rng("kafka"), self.watch, self.partitions)
        self.watch.database, self.watch.broker = self.database, self.broker
        fake = FakeKeycloak(REALMS, groups=frozenset(GROUPS), realm_roles=frozenset(REALM_ROLES))
        history = History(fake, self.loop.time, self.watch.changed)
        self.server = KeycloakServer(self.loop, self.weather, fake, history, self.watch)
        self.watch.history = history
        self.watch.explained = Explained(history, self.restores, self.watch.fail)
        self.watch.heal_rule = HealRule(
            history=history,
            calls=self.watch.calls,
            server_limit=self.policy.server_limit,
            restores=self.restores,
            fail=self.watch.fail,
        )
        self.circuit_row = MemoryCircuit(cast(Clock, self.loop.time))

    def rng(self, purpose: str) -> random.Random:
        """Chance for one purpose, so that one part's draws do not move another's."""
        return random.Random(f"{self.seed}/{purpose}")

    def new_process(self) -> SimProcess:
        """Start one more process, under a name that none ever had."""
        process = SimProcess(self, f"p{len(self.processes)}", newer=self.newer)
        self.processes.append(process)
        self.watch.note(f"{process.name} starts{', of the newer version' if self.newer else ''}")
        process.start()
        process.main.add_done_callback(lambda main: self._ended(process, main), context=Context())
        return process

    def running(self) -> list[SimProcess]:
        """Processes that stand neither still, nor are dead or at their end."""
        return [p for p in self.processes if p.host.state is HostState.RUNNING and not p.main.done()]

    async def close(self) -> None:
        """End everything: nothing reaches a server any more, and every task is cancelled."""
        self.closed = self.server.closed = True
        for process in self.processes:
            process.host.raise_from_the_dead()
        current = asyncio.current_task()
        while left := [task for task in self.loop.all_tasks if not task.done() and task is not current]:
            for task in left:
                task.cancel()
            await asyncio.sleep(1.0)
        for process in self.processes:
            if process.main.done() and not process.main.cancelled():
                process.main.exception()

    def _ended(self, process: SimProcess, main: asyncio.Task[None]) -> None:
        if self.closed or main.cancelled() or (error := main.exception()) is None:
            return
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        self.watch.fail("defect", f"{process.name} ended: {type(error).__name__}: {error}")


@contextmanager
def heard(watch: Watch) -> Iterator[None]:
    """Keep the product's log silent, but for what tells of a defect."""

    def listen(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if line["event"] in {"drain broke", "delivery broke"}:
            watch.fail("defect", f"{line['event']}: {line.get('exc_info') or line.get('error')!r}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[listen],
        wrapper_class=structlog.make_filtering_bound_logger(40),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
