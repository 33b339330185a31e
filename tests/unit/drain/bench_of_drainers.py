"""Whole drainers over the outbox in memory, with a Keycloak that does what the test says."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import cast

from opentelemetry.trace import NoOpTracer

from consumer.circuit.breaker import CircuitPolicy
from consumer.circuit.calls import CallLimit
from consumer.circuit.keeper import CircuitKeeper, ControlAnswer
from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import ControlResult
from consumer.delivery.known_user import KnownUser
from consumer.delivery.late_effects import LateEffects
from consumer.delivery.outcome import (
    Blame,
    DeadLetter,
    Delivered,
    Failure,
    NotDelivered,
    Outcome,
    Reason,
)
from consumer.delivery.password_look import PasswordLook
from consumer.delivery.presence import Sighting
from consumer.drain.admission import Admission
from consumer.drain.assembly import Drain, Parts, Stores
from consumer.drain.charging import Evidence
from consumer.drain.clocks import Clocks
from consumer.drain.policy import DrainPolicy
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.command_store import CommandStore
from consumer.outbox.drain_store import DrainStore
from consumer.outbox.lease_store import LeaseStore
from consumer.outbox.rows import EntryState
from tests.unit.circuit.fixed_limit import fixed_limit
from tests.unit.drain.outbox_in_memory import (
    Clock,
    Entry,
    MemoryCommandStore,
    MemoryDatabase,
    MemoryDrainStore,
    MemoryLeaseStore,
    MemoryRealmStore,
)

POLICY = DrainPolicy(backoff_floor=0.5, sweep_interval=3600.0, merge_limit=1, gather=0.0)
NOT_APPLIED = DeadLetter(reason=Reason.NOT_APPLIED, failure=Failure(blame=Blame.USER))


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; five seconds at most."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def settle_down() -> None:
    """Let everything that can go on without the clock go on."""
    for _ in range(100):
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Made:
    """One call that reached Keycloak."""

    by: str
    lane: str
    event_id: str
    change: Change


class Keycloak:
    """Takes every change, unless the test has other plans for it."""

    def __init__(self) -> None:
        self.calls: list[Made] = []
        self.under_way: defaultdict[str, int] = defaultdict(int)
        self.most_at_once = 0
        self.plans: defaultdict[str, deque[Outcome | Exception]] = defaultdict(deque)
        self.always: dict[str, Outcome] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.read: list[str] = []
        self.found: dict[str, Outcome] = {}
        self.healed: list[KnownUser] = []
        self.late: list[LateEffects] = []
        self.looked_at: list[PasswordLook] = []
        self.looks: Outcome | None = None
        self.heals: Outcome | Callable[[KnownUser], Outcome | None] | None = None
        self.before_request: Callable[[Change], Awaitable[None]] | None = None

    def hold(self, lane: str) -> asyncio.Event:
        """Calls of this user wait until the event is set."""
        gate = self.gates[lane] = asyncio.Event()
        return gate

    def order(self, lane: str) -> list[str]:
        """The events of a user in the order in which they were asked for."""
        return [made.event_id for made in self.calls if made.lane == lane]

    async def take(self, by: str, change: Change) -> Outcome:
        lane = change.username_key
        self.calls.append(Made(by, lane, change.event_id, change))
        self.under_way[lane] += 1
        self.most_at_once = max(self.most_at_once, sum(self.under_way.values()))
        assert self.under_way[lane] == 1, "two calls of one lane at once"
        try:
            await asyncio.sleep(0)
            if (gate := self.gates.get(lane)) is not None:
                await gate.wait()
            if self.plans[change.event_id]:
                outcome = self.plans[change.event_id].popleft()
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome
            return self.always.get(lane) or Delivered(reason=Reason.UPDATED, user_id="0b5c", existed=True)
        finally:
            self.under_way[lane] -= 1


class FakeDelivery:
    """`Delivery`, as one instance has it."""

    def __init__(self, keycloak: Keycloak, name: str) -> None:
        self.keycloak = keycloak
        self.name = name

    async def deliver(self, change: Change, before_call: Callable[[], None]) -> Outcome:
        if self.keycloak.before_request is not None:
            await self.keycloak.before_request(change)
        before_call()
        return await self.keycloak.take(self.name, change)

    async def read_back(self, change: Change, before_call: Callable[[], None]) -> Outcome:
        before_call()
        self.keycloak.read.append(change.event_id)
        await asyncio.sleep(0)
        return self.keycloak.found.get(change.event_id, NOT_APPLIED)

    async def heal(self, known: KnownUser, late: LateEffects, before_call: Callable[[], None]) -> Outcome:
        before_call()
        self.keycloak.healed.append(known)
        self.keycloak.late.append(late)
        await asyncio.sleep(0)
        heals = self.keycloak.heals
        outcome = heals(known) if callable(heals) else heals
        return outcome or Delivered(reason=Reason.HEALED, user_id="0b5c", existed=True)

    async def look_at_password(self, look: PasswordLook, before_call: Callable[[], None]) -> Outcome:
        before_call()
        self.keycloak.looked_at.append(look)
        await asyncio.sleep(0)
        return self.keycloak.looks or Delivered(reason=Reason.AS_DELIVERED, user_id="0b5c", existed=True)


class FakeCircuit:
    """What the drain sees of the circuit."""

    def __init__(self, clock: Clock) -> None:
        self.evidence = Evidence()
        self.clock = clock
        self.allowed_calls = 8
        self.generation = 0
        self.control_succeeds = True
        self.while_checking: Callable[[], None] = lambda: None
        self.checks = 0
        self.failures: list[tuple[int, object]] = []
        self.successes: list[int] = []
        self.asked: list[float | None] = []
        self.settling = False
        self.closed_for = float("inf")

    def success(self, generation: int, lane: object) -> None:
        self.successes.append(generation)

    def failure(self, generation: int, lane: object, retry_after: float | None, *, reason: str) -> None:
        self.failures.append((generation, lane))
        self.asked.append(retry_after)

    async def check(self) -> ControlAnswer:
        self.checks += 1
        self.clock.advance(0.001)
        began = self.clock()
        await asyncio.sleep(0)
        self.while_checking()
        if self.control_succeeds:
            self.evidence.control_succeeded(began)
        return ControlAnswer(available=self.control_succeeds, detail="")


class Instance:
    """One process: a drainer with its leases, circuit and realms."""

    def __init__(
        self,
        bench: Bench,
        name: str,
        *,
        policy: DrainPolicy = POLICY,
        admissions: Sequence[Admission] = (),
        calls: CallLimit | None = None,
    ) -> None:
        self.bench = bench
        self.lease_store = MemoryLeaseStore(bench.database, name)
        self.name = name
        self.realm_trouble: dict[str, NotDelivered] = {}
        drain = Drain(
            Stores(
                drain=cast(DrainStore, MemoryDrainStore(bench.database, name)),
                leases=cast(LeaseStore, self.lease_store),
                commands=cast(CommandStore, MemoryCommandStore(bench.database, name)),
                circuit=cast(CircuitStore, None),
                realms=cast(CircuitStore, MemoryRealmStore(bench.database)),
            ),
            cast(Delivery, FakeDelivery(bench.keycloak, name)),
            self._control_call,
            self._look,
            write_check=self._control_call,
            instance=name,
            control_realm="shop",
            policy=policy,
            circuit_policy=CircuitPolicy(),
            calls=calls or fixed_limit(8),
            tracer=NoOpTracer(),
            topic="t",
            kafka_group="kcsync",
            on_circuit=lambda _state, _reason: None,
            on_state=lambda _: None,
            admissions=admissions,
            clock=bench.clock,
            clocks=Clocks(now=lambda: bench.database.now().replace(tzinfo=UTC)),
            parts=Parts(circuit=self._fake_circuit),
        )
        self.evidence, self.judge, self.leases = drain.evidence, drain.judge, drain.leases
        self.realms, self.healer, self.drainer = drain.realms, drain.healer, drain.drainer
        self.circuit.evidence = self.evidence

    def _fake_circuit(self, *_: object, **__: object) -> CircuitKeeper:
        self.circuit = FakeCircuit(self.bench.clock)
        return cast(CircuitKeeper, self.circuit)

    async def _look(self, realm: str) -> Sighting:
        raise AssertionError(f"the drain itself never asks whether {realm} is there")

    async def _control_call(self, realm: str) -> ControlResult:
        now = self.bench.clock()
        return ControlResult(realm=realm, began=now, ended=now, trouble=self.realm_trouble.get(realm))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Own what is free, and drain."""
        await self.leases.turn()
        task = asyncio.create_task(self.drainer.run())
        try:
            yield
        finally:
            task.cancel()
            done = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(done[0], asyncio.CancelledError), done


class Bench:
    """One database, one Keycloak, one clock, and the instances that share them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.database = MemoryDatabase(self.clock)
        self.keycloak = Keycloak()
        self.instances: list[Instance] = []

    def instance(
        self,
        name: str = "a",
        *,
        policy: DrainPolicy = POLICY,
        admissions: Sequence[Admission] = (),
        calls: CallLimit | None = None,
    ) -> Instance:
        instance = Instance(self, name, policy=policy, admissions=admissions, calls=calls)
        self.instances.append(instance)
        return instance

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for instance in self.instances:
                await stack.enter_async_context(instance.running())
            yield

    def notify(self) -> None:
        for instance in self.instances:
            instance.drainer.notify()

    async def advance(self, seconds: float) -> None:
        """Let time pass, with the leases renewed, and everybody look."""
        # What is being written now is written by the clock of now.
        await settle_down()
        self.clock.advance(seconds)
        for instance in self.instances:
            await instance.leases.turn()
        self.notify()
        await settle_down()

    async def done(self, *entries: Entry) -> None:
        """Wait until these have come to an end, moving the clock to whatever they wait for."""
        async with asyncio.timeout(10):
            while waiting := [entry for entry in entries if entry.state is EntryState.PENDING]:
                # In steps that leave the leases alive.
                wait = min(entry.due_at for entry in waiting) - self.clock()
                await self.advance(min(max(wait, 0.5), 20.0))
                await asyncio.sleep(0.001)
