"""Keeps this instance and the shared circuit in step: reads it, probes, opens, closes, and tells whoever listens."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from consumer.circuit.breaker import (
    CircuitPolicy,
    CircuitState,
    Ramp,
    Refusal,
    Step,
    Tally,
    next_step,
    refusal,
)
from consumer.outbox.circuit_store import CircuitRow, CircuitStore
from consumer.outbox.errors import OutboxError
from consumer.telemetry.trouble import Trouble

__all__ = ["CircuitKeeper", "ControlAnswer"]

_log = structlog.get_logger(__name__)
_READ_EVERY = 1.0
_NOTE_EVERY = 5.0
_LONGEST_REASON = 255
"""Of the column, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlAnswer:
    """What a control call came to.

    Attributes:
        available: False where Keycloak did not answer as a working Keycloak does.
        detail: one line for people.
        retry_after: seconds for which Keycloak asked to be left alone, or None.
    """

    available: bool
    detail: str
    retry_after: float | None = None


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
        self._tally = Tally(policy)
        self._ramp = Ramp(limit=calls, allowed=calls)
        self._state: CircuitState | None = None
        self._maintenance = False
        self._closed_at = float("-inf")
        # Never yet: the first turn asks.
        self._answered_at = float("-inf")
        self._success_noted_at = float("-inf")
        self._success_at: float | None = None
        self._check_began_at = float("-inf")
        self._check_wanted = False
        self._check_waiters: list[asyncio.Future[ControlAnswer]] = []
        self._nudge = asyncio.Event()
        self._trouble = Trouble()
        self._last_check_said: str | None = None

    @property
    def state(self) -> CircuitState:
        """The state last read; OPEN before the first reading, so that nothing is called unasked."""
        return self._state or CircuitState.OPEN

    @property
    def generation(self) -> int:
        """The generation last read; a call belongs to the one in which it begins."""
        return self._tally.generation

    @property
    def refusal(self) -> Refusal | None:
        """Why no delivery may begin now, or None. The one place where that is decided."""
        return refusal(self._state, maintenance=self._maintenance)

    @property
    def allowed_calls(self) -> int:
        """How many calls may run at once now."""
        return self._ramp.allowed if self.refusal is None else 0

    @property
    def settling(self) -> bool:
        """Whether a Keycloak that has just come back may still fail on some while it serves others.

        A vague failure of a call that begins now is the outage's tail and nobody's fault.
        """
        return self._clock() - self._closed_at < self._policy.settling

    def maintain(self, *, on: bool) -> None:
        """An operator stops deliveries on purpose, or lets them go on; told again, nothing happens.

        Meanwhile Keycloak is not asked anything, and afterwards deliveries ramp up as after an outage.
        """
        if self._maintenance and not on:
            self._closed_at = self._clock()
            self._ramp.restart()
        self._maintenance = on
        self._nudge.set()

    def success(self, generation: int, lane: object = None) -> None:
        """A delivery of `lane` that began in `generation` was answered: Keycloak is there."""
        self._answered_at = self._success_at = self._clock()
        self._tally.success(generation, lane)
        if generation == self.generation:
            self._ramp.success()

    def failure(self, generation: int, lane: object, retry_after: float | None = None) -> None:
        """A delivery of `lane` that began in `generation` failed in a way that Keycloak is to blame for.

        Args:
            generation: the one in which it began.
            lane: whose.
            retry_after: seconds for which Keycloak asked to be left alone, or None.
        """
        self._tally.failure(generation, lane, self._clock(), retry_after)
        self._check_wanted = True
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
        known, passed = self._state, row.generation != self.generation
        self._tally.begin(row.generation)
        state = CircuitState(row.state)
        if known is CircuitState.CLOSED and state is CircuitState.CLOSED and passed:
            # It has opened and closed between two readings.
            self._become(CircuitState.OPEN, row)
        if state is not self._state:
            self._become(state, row)
        return row

    def _become(self, state: CircuitState, row: CircuitRow) -> None:
        if state is CircuitState.CLOSED and row.openings:
            self._closed_at = self._clock() - row.changed_ago
            # A process that starts into the tail of an outage treads as softly as those that saw it.
            if self._state is not None or self.settling:
                self._ramp.restart()
        self._state = state
        self._on_change(state, row.reason)

    async def _turn(self) -> None:
        row = await self.refresh()
        # Before a step is taken: an opening begins a new tally, and the failures that led to it must stay to be seen.
        await self._note_success(row)
        now = self._clock()
        step = next_step(
            self.state,
            failures=self._tally.failures(now),
            policy=self._policy,
            retry_in=row.retry_in,
            probe_ends_in=row.probe_ends_in,
            idle_for=now - self._answered_at,
            check_asked=self._check_wanted or bool(self._check_waiters),
            maintenance=self._maintenance,
        )
        match step:
            case Step.OPEN:
                failures = self._tally.failures(now)
                reason = f"{failures} failures in a row"
                if self._tally.checks_failed and self._last_check_said:
                    reason += f", the last of them {self._last_check_said}"
                await self._open(row, reason, failures, self._tally.asked_for(now))
            case Step.PROBE:
                await self._probe(row)
            case Step.CHECK:
                await self._check(row)
            case Step.NOTHING:
                refused = ControlAnswer(available=False, detail=self.refusal or "not asked")
                self._answer(self._take_waiters(), refused)

    async def _open(self, row: CircuitRow, reason: str, failures: int, asked_for: float) -> None:
        openings = row.openings + 1
        if row.state == CircuitState.CLOSED and row.changed_ago >= self._policy.stable_after:
            openings = 1
        await self._store.change(
            row.generation,
            state=CircuitState.OPEN,
            reason=reason[:_LONGEST_REASON],
            failures=failures,
            openings=openings,
            retry_in=self._policy.cooldown_of(openings, self._uniform, asked_for=asked_for),
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
        if not mine or row.probe_owner != self._instance or self._maintenance:
            # Stopped meanwhile, the probe is not made; its deadline lets the next one begin.
            return
        answer = await self._ask()
        failures = 0 if answer.available else row.failures + 1
        await self._store.note_check(ok=answer.available, failures=failures)
        if answer.available:
            await self._store.change(
                row.generation, state=CircuitState.CLOSED, reason=None, failures=0, openings=row.openings
            )
            await self.refresh()
        else:
            await self._open(row, answer.detail, failures, answer.retry_after or 0.0)

    async def _check(self, row: CircuitRow) -> None:
        # At most one control call in a second, however many lanes fail.
        if self._clock() - self._check_began_at < _READ_EVERY:
            return
        answer = await self._ask()
        now = self._clock()
        if answer.available:
            self._tally.checks_failed = 0
        else:
            self._tally.check_failed(row.generation, now, answer.retry_after)
            self._last_check_said = answer.detail
            self._nudge.set()
        await self._store.note_check(ok=answer.available, failures=self._tally.failures(now))

    async def _ask(self) -> ControlAnswer:
        """Make a control call; it answers those who asked before it began, and nobody else."""
        self._check_began_at = self._clock()
        self._check_wanted = False
        waiters = self._take_waiters()
        try:
            answer = await self._control_call()
        except BaseException:
            self._check_waiters += waiters
            raise
        if answer.available:
            self._answered_at = self._clock()
        self._answer(waiters, answer)
        return answer

    def _take_waiters(self) -> list[asyncio.Future[ControlAnswer]]:
        waiters, self._check_waiters = self._check_waiters, []
        return waiters

    @staticmethod
    def _answer(waiters: list[asyncio.Future[ControlAnswer]], answer: ControlAnswer) -> None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(answer)

    async def _note_success(self, row: CircuitRow) -> None:
        now = self._clock()
        if self._success_at is not None and now - self._success_noted_at >= _NOTE_EVERY:
            failures = self._tally.failures(now) if self.state is CircuitState.CLOSED else row.failures
            await self._store.note_success(ago=now - self._success_at, failures=failures)
            self._success_noted_at, self._success_at = now, None
