"""Keeps this instance and the shared circuit in step: reads it, probes, opens, closes, and tells whoever listens."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from consumer.circuit.breaker import CircuitPolicy, CircuitState, Ramp, Step, Tally, next_step
from consumer.outbox.circuit_store import CircuitRow, CircuitStore
from consumer.outbox.errors import OutboxError
from consumer.telemetry.trouble import Trouble

__all__ = ["CircuitKeeper", "ControlAnswer"]

_log = structlog.get_logger(__name__)
_READ_EVERY = 1.0
_NOTE_EVERY = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlAnswer:
    """What a control call came to. `available` is False where Keycloak did not answer as a working Keycloak does."""

    available: bool
    detail: str


class CircuitKeeper:
    """The circuit of one Keycloak, as one instance takes part in it."""

    def __init__(
        self,
        store: CircuitStore,
        control_call: Callable[[], Awaitable[ControlAnswer]],
        *,
        instance: str,
        policy: CircuitPolicy,
        calls: int,
        on_change: Callable[[CircuitState, str | None], None],
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Take part in the circuit.

        Args:
            store: the shared row.
            control_call: one cheap, bounded call to Keycloak that stands for no user.
            instance: our name, as a probe's owner.
            policy: thresholds and times.
            calls: the most calls this instance runs at once, for the ramp after an outage.
            on_change: told each new state and its reason, once; must not block.
            clock: seconds that never go back.
            uniform: a random number between two.
        """
        self._store = store
        self._control_call = control_call
        self._instance = instance
        self._policy = policy
        self._on_change = on_change
        self._clock = clock
        self._uniform = uniform
        self._tally = Tally()
        self._ramp = Ramp(limit=calls, allowed=calls)
        self._state: CircuitState | None = None
        # Never yet: the first turn asks.
        self._answered_at = float("-inf")
        self._success_noted_at = float("-inf")
        self._success_at: float | None = None
        self._check_began_at = float("-inf")
        self._check_waiters: list[asyncio.Future[ControlAnswer]] = []
        self._nudge = asyncio.Event()
        self._trouble = Trouble()

    @property
    def state(self) -> CircuitState:
        """The state last read; OPEN before the first reading, so that nothing is called unasked."""
        return self._state or CircuitState.OPEN

    @property
    def generation(self) -> int:
        """The generation last read; a call belongs to the one in which it begins."""
        return self._tally.generation

    @property
    def allowed_calls(self) -> int:
        """How many calls may run at once now."""
        return self._ramp.allowed if self.state is CircuitState.CLOSED else 0

    def success(self, generation: int) -> None:
        """A delivery that began in `generation` was answered: Keycloak is there."""
        self._answered_at = self._success_at = self._clock()
        self._tally.success(generation)
        self._ramp.success()

    def failure(self, generation: int, lane: object) -> None:
        """A delivery of `lane` that began in `generation` failed in a way that Keycloak is to blame for."""
        self._tally.failure(generation, lane)
        self._nudge.set()

    async def check(self) -> ControlAnswer:
        """A control call that begins after this moment; callers at the same time share it."""
        waiter: asyncio.Future[ControlAnswer] = asyncio.get_running_loop().create_future()
        self._check_waiters.append(waiter)
        self._nudge.set()
        return await waiter

    async def run(self) -> None:
        """Follow the circuit until cancelled."""
        while True:
            try:
                await self._turn()
                self._trouble.over()
            except OutboxError as error:
                if self._trouble.is_news():
                    _log.warning("circuit not readable", error=str(error))
            try:
                async with asyncio.timeout(_READ_EVERY):
                    await self._nudge.wait()
                # Failures come in bursts: let the others of this burst be counted first.
                await asyncio.sleep(0.02)
            except TimeoutError:
                pass
            self._nudge.clear()

    async def refresh(self) -> CircuitRow:
        """Read the shared row and take its state over."""
        row = await self._store.read()
        self._tally.begin(row.generation)
        state = CircuitState(row.state)
        if state is not self._state:
            if state is CircuitState.CLOSED and self._state is not None:
                self._ramp.restart()
            self._state = state
            self._on_change(state, row.reason)
        return row

    async def _turn(self) -> None:
        row = await self.refresh()
        # Before a step is taken: an opening begins a new tally, and the failures that led to it must stay to be seen.
        await self._note_success(row)
        step = next_step(
            self.state,
            tally=self._tally,
            policy=self._policy,
            retry_in=row.retry_in,
            probe_ends_in=row.probe_ends_in,
            idle_for=self._clock() - self._answered_at,
            check_asked=bool(self._check_waiters),
        )
        match step:
            case Step.OPEN:
                await self._open(row, f"{self._tally.failures} failures in a row")
            case Step.PROBE:
                await self._probe(row)
            case Step.CHECK:
                await self._check(row)
            case Step.NOTHING:
                self._answer_waiters(ControlAnswer(available=False, detail=f"circuit {self.state}"))

    async def _open(self, row: CircuitRow, reason: str) -> None:
        openings = row.openings + 1
        if row.state == CircuitState.CLOSED and row.changed_ago >= self._policy.stable_after:
            openings = 1
        await self._store.change(
            row.generation,
            state=CircuitState.OPEN,
            reason=reason,
            failures=max(self._tally.failures, row.failures),
            openings=openings,
            retry_in=self._policy.cooldown_of(openings, self._uniform),
        )
        await self.refresh()

    async def _probe(self, row: CircuitRow) -> None:
        mine = await self._store.change(
            row.generation,
            state=CircuitState.HALF_OPEN,
            reason=row.reason,
            failures=row.failures,
            openings=row.openings,
            probe_owner=self._instance,
            probe_in=self._policy.probe_timeout,
        )
        row = await self.refresh()
        if not mine or row.probe_owner != self._instance:
            return
        answer = await self._control_call()
        await self._store.note_check(
            ok=answer.available, failures=0 if answer.available else row.failures + 1
        )
        self._answer_waiters(answer)
        if answer.available:
            self._answered_at = self._clock()
            await self._store.change(
                row.generation, state=CircuitState.CLOSED, reason=None, failures=0, openings=row.openings
            )
            await self.refresh()
        else:
            await self._open(replace(row, failures=row.failures + 1), answer.detail)

    async def _check(self, row: CircuitRow) -> None:
        # At most one control call in a second, however many lanes fail.
        if self._clock() - self._check_began_at < _READ_EVERY:
            return
        self._check_began_at = self._clock()
        waiters, self._check_waiters = self._check_waiters, []
        answer = await self._control_call()
        if answer.available:
            self._answered_at = self._clock()
            self._tally.checks_failed = 0
        else:
            self._tally.check_failed(row.generation)
            self._nudge.set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(answer)
        await self._store.note_check(ok=answer.available, failures=self._tally.failures)

    def _answer_waiters(self, answer: ControlAnswer) -> None:
        waiters, self._check_waiters = self._check_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(answer)

    async def _note_success(self, row: CircuitRow) -> None:
        now = self._clock()
        if self._success_at is not None and now - self._success_noted_at >= _NOTE_EVERY:
            failures = self._tally.failures if self.state is CircuitState.CLOSED else row.failures
            await self._store.note_success(ago=now - self._success_at, failures=failures)
            self._success_noted_at, self._success_at = now, None
