"""When does the circuit open, who may probe, when does it close? Pure decisions over the shared row.

One circuit stands for one Keycloak and is shared by all instances through a row with a generation number. Each
instance tallies its own calls; a call counts only in the generation in which it began, so calls begun before an
opening cannot lengthen it. Failures count by distinct lanes that have newly begun to fail: neither one user's trouble
nor that of a few who are tried again and again can open the circuit (docs/decisions/0015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["CircuitPolicy", "CircuitState", "Ramp", "Refusal", "Step", "Tally", "next_step", "refusal"]

_MOST_LANES = 10_000


class CircuitState(StrEnum):
    """CLOSED: calls go through. OPEN: none do. HALF_OPEN: exactly one control call does."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Refusal(StrEnum):
    """Why no delivery may begin. The values are for people."""

    UNKNOWN = "the circuit has not been read yet"
    MAINTENANCE = "maintenance"
    CIRCUIT = "the circuit is open"


def refusal(state: CircuitState | None, *, maintenance: bool) -> Refusal | None:
    """Why no delivery may begin now, or None. Somebody's will goes before what the circuit saw.

    Args:
        state: the shared state last read; None before the first reading.
        maintenance: whether an operator has stopped deliveries on purpose.
    """
    if state is None:
        return Refusal.UNKNOWN
    if maintenance:
        return Refusal.MAINTENANCE
    return None if state is CircuitState.CLOSED else Refusal.CIRCUIT


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """How the circuit behaves.

    Attributes:
        threshold: failures of distinct lanes, or of the control call, without a success between, that open it.
        window: seconds within which distinct lanes must begin to fail to be counted together.
        lane_memory: seconds for which a lane that fails again is no news.
        cooldown: seconds before the first probe; doubles with each opening in a row.
        cooldown_cap: seconds that the growing cooldown never exceeds.
        retry_after_cap: seconds that a pause for which Keycloak asked never exceeds.
        health_cache: seconds for which the last answer of Keycloak stands for its health.
        probe_timeout: seconds after which a probe whose owner does not report is another's to make.
        stable_after: seconds of CLOSED after which the next opening counts as the first again.
        settling: seconds after it has closed that still count as the outage's tail.
    """

    threshold: int = 3
    window: float = 60.0
    lane_memory: float = 3600.0
    cooldown: float = 60.0
    cooldown_cap: float = 300.0
    retry_after_cap: float = 3600.0
    health_cache: float = 30.0
    probe_timeout: float = 30.0
    stable_after: float = 300.0
    settling: float = 60.0

    def cooldown_of(
        self, openings: int, uniform: Callable[[float, float], float], *, asked_for: float = 0.0
    ) -> float:
        """The cooldown of the n-th opening in a row (from 1): longer each time, never shorter than asked for.

        Jitter only ever extends it, by up to a tenth, so that instances do not probe in step.

        Args:
            openings: in a row.
            uniform: a random number between two.
            asked_for: the longest pause in seconds that Keycloak itself asked for (Retry-After).
        """
        grown = min(self.cooldown * 2.0 ** min(openings - 1, 16), max(self.cooldown_cap, self.cooldown))
        return max(grown, min(asked_for, self.retry_after_cap)) * uniform(1.0, 1.1)


@dataclass(slots=True)
class Tally:
    """What this instance saw of Keycloak in one generation: which lanes newly fail, and how the control call fares.

    A lane that has failed before and fails again is no news, however often: what is tried again and again would
    otherwise add up to an outage in a quiet hour.
    """

    policy: CircuitPolicy
    generation: int = 0
    checks_failed: int = 0
    _rest_until: float = float("-inf")
    _new: dict[object, float] = field(default_factory=dict)
    _failing: dict[object, float] = field(default_factory=dict)

    def begin(self, generation: int) -> None:
        """Forget everything when the generation has changed."""
        if generation != self.generation:
            self.generation = generation
            self._failing.clear()
            self._forget()

    def success(self, generation: int, lane: object = None) -> None:
        """A call that began in `generation` succeeded, of `lane` if that is known: it may be news again."""
        if generation == self.generation:
            self._failing.pop(lane, None)
            self._forget()

    def failure(self, generation: int, lane: object, now: float, retry_after: float | None = None) -> None:
        """A call of a lane that began in `generation` failed; Keycloak may have asked for a pause in seconds."""
        if generation != self.generation:
            return
        self._rest_until = max(self._rest_until, now + (retry_after or 0.0))
        failed_at = self._failing.pop(lane, None)
        if failed_at is None or now - failed_at > self.policy.lane_memory:
            self._new[lane] = now
        # The one that failed longest ago stands first.
        self._failing[lane] = now
        if len(self._failing) > _MOST_LANES:
            del self._failing[next(iter(self._failing))]

    def check_failed(self, generation: int, now: float, retry_after: float | None = None) -> None:
        """The control call failed. Each time counts: it stands for no single user."""
        if generation == self.generation:
            self.checks_failed += 1
            self._rest_until = max(self._rest_until, now + (retry_after or 0.0))

    def failures(self, now: float) -> int:
        """What is compared with the threshold."""
        self._new = {lane: at for lane, at in self._new.items() if now - at <= self.policy.window}
        return len(self._new) + self.checks_failed

    def asked_for(self, now: float) -> float:
        """Seconds for which Keycloak still wants to be left alone, as far as it said so since the last success."""
        return max(0.0, self._rest_until - now)

    def _forget(self) -> None:
        self._new.clear()
        self.checks_failed = 0
        self._rest_until = float("-inf")


class Step(StrEnum):
    """What an instance should do about the circuit now."""

    NOTHING = "nothing"
    OPEN = "open"
    PROBE = "probe"
    CHECK = "check"


def next_step(
    state: CircuitState,
    *,
    failures: int,
    policy: CircuitPolicy,
    retry_in: float | None,
    probe_ends_in: float | None,
    idle_for: float,
    check_asked: bool,
    maintenance: bool,
) -> Step:
    """Decide the next step.

    Args:
        state: the shared state.
        failures: of this instance's tally, in the generation of that state.
        policy: thresholds and times.
        retry_in: seconds until a probe may begin, while OPEN.
        probe_ends_in: seconds until the running probe's deadline, while HALF_OPEN.
        idle_for: seconds since Keycloak last answered anything at all to this instance.
        check_asked: whether a failed call waits for a control call to tell whose fault it was.
        maintenance: whether Keycloak is left alone on purpose: what it answers then says nothing.
    """
    if maintenance:
        return Step.NOTHING
    match state:
        case CircuitState.OPEN:
            return Step.PROBE if (retry_in or 0.0) <= 0.0 else Step.NOTHING
        case CircuitState.HALF_OPEN:
            # A probe whose owner died would hold the circuit half open for ever.
            return Step.PROBE if (probe_ends_in or 0.0) <= 0.0 else Step.NOTHING
        case CircuitState.CLOSED:
            if failures >= policy.threshold:
                return Step.OPEN
            if check_asked or failures or idle_for >= policy.health_cache:
                return Step.CHECK
            return Step.NOTHING


@dataclass(slots=True)
class Ramp:
    """How many calls may run at once after the circuit has closed: 1, 2, 4, … up to the limit."""

    limit: int
    allowed: int = 1
    _successes: int = 0

    def restart(self) -> None:
        """The circuit has just closed: begin with one call."""
        self.allowed, self._successes = 1, 0

    def success(self) -> None:
        """A call succeeded; after as many as are allowed at once, allow twice as many."""
        if self.allowed < self.limit:
            self._successes += 1
            if self._successes >= self.allowed:
                self.allowed, self._successes = min(self.allowed * 2, self.limit), 0
