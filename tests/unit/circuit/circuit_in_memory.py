"""The shared row of the circuit in memory, a clock moved by hand, and a Keycloak that answers when it is told to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

from consumer.circuit.breaker import CircuitPolicy, CircuitState
from consumer.circuit.keeper import CircuitKeeper, ControlAnswer
from consumer.delivery.outcome import Reason
from consumer.delivery.presence import Presence, Sighting
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
        self.rest_until: float | None = None
        self.asker: str | None = None
        self.asker_deadline: float | None = None
        self.asked_at: float | None = None
        self.met: str | None = None
        self.said: str | None = None
        self.back_at: float | None = None
        self.news_tries = 0
        self.wanted = False
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
            retry_in=_until(self.retry_at, now),
            probe_owner=self.probe_owner,
            probe_ends_in=_until(self.probe_deadline, now),
            checked_ago=None,
            changed_ago=now - self.changed_at,
            rest_in=_until(self.rest_until, now),
            asker=self.asker,
            asker_ends_in=_until(self.asker_deadline, now),
            asked_ago=_since(self.asked_at, now),
            met=self.met,
            said=self.said,
            back_ago=_since(self.back_at, now),
            news_tries=self.news_tries,
            wanted=self.wanted,
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
        news_tries: int = 0,
        retry_in: float | None = None,
        rest_in: float | None = None,
        met: str | None = None,
        probe_owner: str | None = None,
        probe_in: float | None = None,
    ) -> bool:
        await self._reach()
        if generation != self.generation:
            return False
        now = self.clock()
        self.generation += 1
        anew = "CLOSED" in {self.state, str(state)}
        if anew:
            self.asked_at, self.said = None, None
        if anew or met is not None:
            self.back_at, self.met = None, met
        self.rest_until = None if rest_in is None else now + rest_in
        self.wanted, self.news_tries = False, news_tries
        self.state, self.reason, self.failures, self.openings = state, reason, failures, openings
        self.retry_at = None if retry_in is None else now + retry_in
        self.probe_owner = probe_owner
        self.probe_deadline = None if probe_in is None else now + probe_in
        self.changed_at = now
        self.history.append(str(state))
        self.changed.append(now)
        return True

    async def take_questions(self, generation: int, *, asker: str, asker_in: float) -> bool:
        await self._reach()
        now = self.clock()
        free = self.asker == asker or self.asker_deadline is None or self.asker_deadline <= now
        if generation != self.generation or self.state != "OPEN" or not free:
            return False
        self.asker, self.asker_deadline = asker, now + asker_in
        return True

    async def note_sighting(
        self, generation: int, *, asker: str, asker_in: float, met: str, said: str, rest_in: float | None
    ) -> None:
        await self._reach()
        if generation != self.generation or self.state != "OPEN" or self.asker != asker:
            return
        now = self.clock()
        if met != "THERE":
            self.back_at = None
        elif self.met not in {None, "THERE"}:
            self.back_at = now
        self.met, self.said, self.asked_at, self.asker_deadline = met, said, now, now + asker_in
        self.rest_until = max(self.rest_until or now, now + (rest_in or 0.0))

    async def want(self, generation: int) -> bool:
        await self._reach()
        if generation != self.generation or self.state != "OPEN":
            return False
        self.wanted = True
        return True

    async def note_check(self, *, ok: bool, failures: int) -> None:
        await self._reach()
        self.checks.append(ok)

    async def note_success(self, *, ago: float, failures: int) -> None:
        await self._reach()
        self.successes.append(self.clock() - ago)
        if self.state == "CLOSED" and self.changed_at <= self.clock() - ago:
            self.news_tries = 0

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault


def _until(at: float | None, now: float) -> float | None:
    return None if at is None else at - now


def _since(at: float | None, now: float) -> float | None:
    return None if at is None else now - at


class Keycloak:
    """Answers control calls: at once, or, while `slow`, when the test says so. `presence` is what a look sees."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.available = True
        self.presence = Presence.THERE
        self.look_retry_after: float | None = None
        self.looked: list[float] = []
        self.takes_writes = True
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

    async def look(self) -> Sighting:
        self.looked.append(self.clock())
        return Sighting(presence=self.presence, said=self.presence.lower(), retry_after=self.look_retry_after)

    def answer(self, *, available: bool) -> None:
        """Let the longest pending call come back."""
        self.pending[0].set_result(available)

    def _answer(self, *, available: bool) -> ControlAnswer:
        if available and not self.takes_writes:
            return ControlAnswer(
                available=False, detail="writes_refused: read-only", reason=Reason.WRITES_REFUSED
            )
        if available:
            return ControlAnswer(available=True, detail="")
        return ControlAnswer(
            available=False,
            detail="server_error: it broke",
            reason=Reason.SERVER_ERROR,
            retry_after=self.retry_after,
        )


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
            keycloak.look,
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

    def fail(
        self,
        *lanes: object,
        generation: int | None = None,
        reason: str = Reason.SERVER_ERROR,
        retry_after: float | None = None,
    ) -> None:
        """Deliveries of these lanes fail."""
        of = self.keeper.generation if generation is None else generation
        for lane in lanes:
            self.keeper.failure(of, lane, retry_after, reason=reason)


def policy(**changes: float) -> CircuitPolicy:
    return replace(POLICY, **changes)  # type: ignore[arg-type]  # threshold is an int, the others are floats
