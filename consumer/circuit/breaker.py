"""When does the circuit open, who may probe, when does it close? Pure decisions over the shared row.

One circuit stands for one Keycloak and is shared by all instances through a row with a generation number. Each
instance tallies its own calls; a call counts only in the generation in which it began, so calls begun before an
opening cannot lengthen it. Failures count by distinct lanes: one user's trouble cannot open the circuit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["CircuitPolicy", "CircuitState", "Ramp", "Step", "Tally", "next_step"]


class CircuitState(StrEnum):
    """CLOSED: calls go through. OPEN: none do. HALF_OPEN: exactly one control call does."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """How the circuit behaves.

    Attributes:
        threshold: failures of distinct lanes, or of the control call, without a success between, that open it.
        cooldown: seconds before the first probe; doubles with each opening in a row.
        cooldown_cap: seconds that the cooldown never exceeds.
        health_cache: seconds for which the last answer of Keycloak stands for its health.
        probe_timeout: seconds after which a probe whose owner does not report is another's to make.
        stable_after: seconds of CLOSED after which the next opening counts as the first again.
    """

    threshold: int = 3
    cooldown: float = 60.0
    cooldown_cap: float = 600.0
    health_cache: float = 30.0
    probe_timeout: float = 30.0
    stable_after: float = 300.0

    def cooldown_of(self, openings: int, uniform: Callable[[float, float], float]) -> float:
        """The cooldown of the n-th opening in a row (from 1): longer each time, never shorter than asked for.

        Jitter only ever extends it, by up to a tenth, so that instances do not probe in step.
        """
        grown = min(self.cooldown * 2.0 ** min(openings - 1, 16), max(self.cooldown_cap, self.cooldown))
        return grown * uniform(1.0, 1.1)


@dataclass(slots=True)
class Tally:
    """What this instance saw of Keycloak in one generation: distinct failing sources since the last success."""

    generation: int = 0
    failed: set[object] = field(default_factory=set)
    checks_failed: int = 0

    def begin(self, generation: int) -> None:
        """Forget everything when the generation has changed."""
        if generation != self.generation:
            self.generation = generation
            self.failed.clear()
            self.checks_failed = 0

    def success(self, generation: int) -> None:
        """A call that began in `generation` succeeded."""
        if generation == self.generation:
            self.failed.clear()
            self.checks_failed = 0

    def failure(self, generation: int, source: object) -> None:
        """A call of `source` (a lane) that began in `generation` failed."""
        if generation == self.generation:
            self.failed.add(source)

    def check_failed(self, generation: int) -> None:
        """The control call failed. Each time counts: it stands for no single user."""
        if generation == self.generation:
            self.checks_failed += 1

    @property
    def failures(self) -> int:
        """What is compared with the threshold."""
        return len(self.failed) + self.checks_failed


class Step(StrEnum):
    """What an instance should do about the circuit now."""

    NOTHING = "nothing"
    OPEN = "open"
    PROBE = "probe"
    CHECK = "check"


def next_step(
    state: CircuitState,
    *,
    tally: Tally,
    policy: CircuitPolicy,
    retry_in: float | None,
    probe_ends_in: float | None,
    idle_for: float,
    check_asked: bool,
) -> Step:
    """Decide the next step.

    Args:
        state: the shared state.
        tally: of this instance, in the generation of that state.
        policy: thresholds and times.
        retry_in: seconds until a probe may begin, while OPEN.
        probe_ends_in: seconds until the running probe's deadline, while HALF_OPEN.
        idle_for: seconds since Keycloak last answered anything at all to this instance.
        check_asked: whether a failed call waits for a control call to tell whose fault it was.
    """
    match state:
        case CircuitState.OPEN:
            return Step.PROBE if (retry_in or 0.0) <= 0.0 else Step.NOTHING
        case CircuitState.HALF_OPEN:
            # A probe whose owner died would hold the circuit half open for ever.
            return Step.PROBE if (probe_ends_in or 0.0) <= 0.0 else Step.NOTHING
        case CircuitState.CLOSED:
            if tally.failures >= policy.threshold:
                return Step.OPEN
            if check_asked or tally.failures or idle_for >= policy.health_cache:
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
