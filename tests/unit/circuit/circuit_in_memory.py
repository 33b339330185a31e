"""The shared row of the circuit in memory, a clock moved by hand, and a Keycloak that answers when it is told to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

from consumer.circuit.breaker import CircuitPolicy, CircuitState
from consumer.circuit.keeper import CircuitKeeper, ControlAnswer
from consumer.outbox.circuit_store import CircuitRow, CircuitStore
from consumer.outbox.errors import OutboxError

POLICY = CircuitPolicy()


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class MemoryCircuit:
    """What `CircuitStore` does, for all instances that share it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.fault: OutboxError | None = None
        self.generation = 0
        self.state = "CLOSED"
        self.reason: str | None = None
        self.failures = 0
        self.openings = 0
        self.retry_at: float | None = None
        self.probe_owner: str | None = None
        self.probe_deadline: float | None = None
        self.changed_at = clock()
        self.checks: list[bool] = []
        self.successes: list[float] = []
        self.history: list[str] = ["CLOSED"]
        self.changed: list[float] = [clock()]

    async def read(self) -> CircuitRow:
        await self._reach()
        now = self.clock()
        return CircuitRow(
            generation=self.generation,
            state=self.state,
            reason=self.reason,
            failures=self.failures,
            openings=self.openings,
            retry_in=None if self.retry_at is None else self.retry_at - now,
            probe_owner=self.probe_owner,
            probe_ends_in=None if self.probe_deadline is None else self.probe_deadline - now,
            checked_ago=None,
            changed_ago=now - self.changed_at,
            opened_at=None,
            last_success_at=None,
            last_check_at=None,
            last_check_ok=None,
        )

    async def change(
        self,
        generation: int,
        *,
        state: str,
        reason: str | None,
        failures: int,
        openings: int,
        retry_in: float | None = None,
        probe_owner: str | None = None,
        probe_in: float | None = None,
    ) -> bool:
        await self._reach()
        if generation != self.generation:
            return False
        now = self.clock()
        self.generation += 1
        self.state, self.reason, self.failures, self.openings = state, reason, failures, openings
        self.retry_at = None if retry_in is None else now + retry_in
        self.probe_owner = probe_owner
        self.probe_deadline = None if probe_in is None else now + probe_in
        self.changed_at = now
        self.history.append(str(state))
        self.changed.append(now)
        return True

    async def note_check(self, *, ok: bool, failures: int) -> None:
        await self._reach()
        self.checks.append(ok)

    async def note_success(self, *, ago: float, failures: int) -> None:
        await self._reach()
        self.successes.append(self.clock() - ago)

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault


class Keycloak:
    """Answers control calls: at once, or, while `slow`, when the test says so."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.available = True
        self.slow = False
        self.retry_after: float | None = None
        self.began: list[float] = []
        self.pending: list[asyncio.Future[bool]] = []

    async def control_call(self) -> ControlAnswer:
        self.began.append(self.clock())
        if not self.slow:
            return self._answer(available=self.available)
        waiting = asyncio.get_running_loop().create_future()
        self.pending.append(waiting)
        try:
            return self._answer(available=await waiting)
        finally:
            self.pending.remove(waiting)

    def answer(self, *, available: bool) -> None:
        """Let the longest pending call come back."""
        self.pending[0].set_result(available)

    def _answer(self, *, available: bool) -> ControlAnswer:
        if available:
            return ControlAnswer(available=True, detail="")
        return ControlAnswer(available=False, detail="connection refused", retry_after=self.retry_after)


class Instance:
    """One keeper, with what it was told."""

    def __init__(
        self,
        circuit: MemoryCircuit,
        keycloak: Keycloak,
        *,
        name: str = "a",
        policy: CircuitPolicy = POLICY,
        calls: int = 8,
    ) -> None:
        self.told: list[tuple[CircuitState, str | None]] = []
        self.keeper = CircuitKeeper(
            cast(CircuitStore, circuit),
            keycloak.control_call,
            instance=name,
            policy=policy,
            calls=calls,
            on_change=lambda state, reason: self.told.append((state, reason)),
            clock=circuit.clock,
            uniform=lambda low, _: low,
        )

    @property
    def states(self) -> list[CircuitState]:
        return [state for state, _ in self.told]

    async def turn(self) -> None:
        """One look at the circuit, and the step that follows."""
        await self.keeper._turn()

    def fail(self, *lanes: object, generation: int | None = None) -> None:
        """Deliveries of these lanes fail."""
        for lane in lanes:
            self.keeper.failure(self.keeper.generation if generation is None else generation, lane)


def policy(**changes: float) -> CircuitPolicy:
    return replace(POLICY, **changes)  # type: ignore[arg-type]  # threshold is an int, the others are floats
