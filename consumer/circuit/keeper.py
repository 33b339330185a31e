"""Keeps this instance and the shared circuit in step: reads it, asks, probes, opens, closes, and tells whoever listens."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from consumer.circuit.breaker import (
    OUT_OF_REACH,
    CircuitPolicy,
    CircuitState,
    Ramp,
    Refusal,
    Step,
    Tally,
    WhileOpen,
    next_step,
    refusal,
)
from consumer.delivery.presence import Presence, Sighting
from consumer.outbox.circuit_store import CircuitRow, CircuitStore
from consumer.outbox.errors import OutboxError
from consumer.telemetry.trouble import Trouble

__all__ = ["CircuitKeeper", "ControlAnswer", "while_open"]

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
        reason: the reason code of what failed.
        retry_after: seconds for which Keycloak asked to be left alone, or None.
    """

    available: bool
    detail: str
    reason: str = ""
    retry_after: float | None = None


def while_open(row: CircuitRow, *, instance: str) -> WhileOpen:
    """How an open circuit stands, to an instance of this name."""
    return WhileOpen(
        rest_in=row.rest_in or 0.0,
        retry_in=row.retry_in or 0.0,
        open_for=row.changed_ago,
        met=None if row.met is None else Presence(row.met),
        back_for=row.back_ago,
        tries=row.news_tries,
        asked_ago=row.asked_ago,
        asks=row.asker == instance or (row.asker_ends_in or 0.0) <= 0.0,
        wanted=row.wanted,
    )


class CircuitKeeper:
    """The circuit of one Keycloak, as one instance takes part in it."""

    def __init__(
        self,
        store: CircuitStore,
        control_call: Callable[[], Awaitable[ControlAnswer]],
        look: Callable[[], Awaitable[Sighting]],
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
            control_call: one bounded call to Keycloak that stands for no user, and needs everything that deliveries need.
            look: one that only sees whether Keycloak is there; asked each second while the circuit is open.
            instance: our name, as a probe's owner.
            policy: thresholds and times.
            calls: the most calls this instance runs at once, for the ramp after an outage.
            on_change: told each new state and its reason, once; must not block.
            clock: seconds that never go back.
            uniform: a random number between two.
        """
        self._store = store
        self._control_call = control_call
        self._look = look
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
    def closed_for(self) -> float:
        """Seconds since the circuit has last closed; without end where nothing is known of an opening, 0 while it is open."""
        return 0.0 if self.state is not CircuitState.CLOSED else self._clock() - self._closed_at

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

    def failure(
        self, generation: int, lane: object, retry_after: float | None = None, *, reason: str
    ) -> None:
        """A delivery of `lane` that began in `generation` failed in a way that Keycloak is to blame for.

        Args:
            generation: the one in which it began.
            lane: whose.
            retry_after: seconds for which Keycloak asked to be left alone, or None.
            reason: the reason code.
        """
        self._tally.failure(generation, lane, self._clock(), retry_after, reason=reason)
        self.want_check()

    def want_check(self) -> None:
        """Something has been seen that a control call should look into; nobody waits for it."""
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
            while_open=while_open(row, instance=self._instance),
            probe_ends_in=row.probe_ends_in,
            idle_for=now - self._answered_at,
            check_asked=self._check_wanted or bool(self._check_waiters),
            maintenance=self._maintenance,
        )
        match step:
            case Step.OPEN:
                await self._open_first(row)
            case Step.PROBE | Step.PROBE_NEWS | Step.PROBE_WANTED:
                await self._probe(row, step)
            case Step.ASK:
                self._refuse_waiters()
                await self._ask_whether_it_is_there(row)
            case Step.CHECK:
                await self._check(row)
            case Step.NOTHING:
                self._refuse_waiters()

    async def _ask_whether_it_is_there(self, row: CircuitRow) -> None:
        for_long = self._policy.asker_timeout
        mine = row.asker == self._instance and (row.asker_ends_in or 0.0) > for_long / 2
        if not mine and not await self._store.take_questions(
            row.generation, asker=self._instance, asker_in=for_long
        ):
            return
        if self._maintenance:
            return
        sighting = await self._look()
        await self._store.note_sighting(
            row.generation,
            asker=self._instance,
            asker_in=for_long,
            met=sighting.presence,
            said=sighting.said[:_LONGEST_REASON],
            rest_in=self._rest(sighting.retry_after),
        )
        if sighting.presence is Presence.THERE and row.met != Presence.THERE:
            self._nudge.set()

    def _rest(self, asked_for: float | None) -> float | None:
        return None if asked_for is None else min(asked_for, self._policy.retry_after_cap)

    async def _open_first(self, row: CircuitRow) -> None:
        """Open a circuit that was closed."""
        tally, policy, now = self._tally, self._policy, self._clock()
        failures = tally.failures(now)
        reason = f"{failures} failures in a row: {tally.why}"
        if tally.checks_failed + tally.writes_refused and self._last_check_said:
            reason += f"; the last control call met {self._last_check_said}"
        asked_for = tally.asked_for(now)
        openings = 1 if row.changed_ago >= policy.stable_after else row.openings + 1
        await self._store.change(
            row.generation,
            state=CircuitState.OPEN,
            reason=reason[:_LONGEST_REASON],
            failures=failures,
            openings=openings,
            news_tries=0 if row.changed_ago >= policy.settling else row.news_tries,
            retry_in=policy.cooldown_of(openings, self._uniform, asked_for=asked_for),
            rest_in=self._rest(asked_for or None),
            met=Presence.AWAY if tally.out_of_reach else None,
        )
        await self.refresh()

    async def _open_again(
        self, row: CircuitRow, answer: ControlAnswer, failures: int, step: Step, left: float
    ) -> None:
        """Open a circuit whose control call failed.

        The cooldown grows only where it was that which let the call be made.
        """
        asked_for = answer.retry_after or 0.0
        openings = row.openings + (step is Step.PROBE)
        cooldown = self._policy.cooldown_of(openings, self._uniform, asked_for=asked_for)
        await self._store.change(
            row.generation,
            state=CircuitState.OPEN,
            reason=answer.detail[:_LONGEST_REASON],
            failures=failures,
            openings=openings,
            news_tries=row.news_tries,
            retry_in=max(left, asked_for) if step is Step.PROBE_WANTED else cooldown,
            rest_in=self._rest(answer.retry_after),
            met=Presence.AWAY if answer.reason in OUT_OF_REACH else None,
        )
        await self.refresh()

    async def _probe(self, row: CircuitRow, step: Step) -> None:
        left = max(0.0, row.retry_in or 0.0)
        mine = await self._store.change(
            row.generation,
            state=CircuitState.HALF_OPEN,
            reason=row.reason,
            failures=row.failures,
            openings=row.openings,
            news_tries=row.news_tries + (step is Step.PROBE_NEWS),
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
                row.generation,
                state=CircuitState.CLOSED,
                reason=None,
                failures=0,
                openings=row.openings,
                news_tries=row.news_tries,
            )
            await self.refresh()
        else:
            await self._open_again(row, answer, failures, step, left)

    async def _check(self, row: CircuitRow) -> None:
        # At most one control call in a second, however many lanes fail.
        if self._clock() - self._check_began_at < _READ_EVERY:
            return
        answer = await self._ask()
        now = self._clock()
        if answer.available:
            self._tally.check_succeeded()
        else:
            self._tally.check_failed(row.generation, now, answer.retry_after, reason=answer.reason)
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

    def _refuse_waiters(self) -> None:
        """Answer those who want a control call while none may be made."""
        refused = ControlAnswer(available=False, detail=self.refusal or "not asked")
        self._answer(self._take_waiters(), refused)

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
