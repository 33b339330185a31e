"""When does the circuit open, who may ask what of Keycloak, when does it close? Pure decisions over the shared row.

One circuit stands for one Keycloak and is shared by all instances through a row with a generation number. Each
instance tallies its own calls; a call counts only in the generation in which it began, so calls begun before an
opening cannot lengthen it. Failures count by distinct lanes that have newly begun to fail: neither one user's trouble
nor that of a few who are tried again and again can open the circuit (docs/decisions/0015).

While it is open, one instance asks each second whether Keycloak is there, which costs next to nothing. That it answers
again, after it was away, is news, and news is worth a control call at once; without news the cooldown has to pass
(docs/decisions/0057).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from consumer.delivery.outcome import Reason
from consumer.delivery.presence import Presence

__all__ = [
    "OUT_OF_REACH",
    "CircuitPolicy",
    "CircuitState",
    "Ramp",
    "Refusal",
    "Step",
    "Tally",
    "WhileOpen",
    "asks_in",
    "next_step",
    "refusal",
]

_MOST_LANES = 10_000
_A_LOOK = 1.0
"""Seconds from one look at the circuit to the next, each the occasion for a question."""
OUT_OF_REACH: Final = frozenset({Reason.CONNECTION_FAILED, Reason.CONNECTION_LOST, Reason.STARTING})
"""Failures that show that nobody is there, so that an answer is news."""


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
        cooldown: seconds before a control call without news; doubles with each opening in a row.
        cooldown_cap: seconds that the growing cooldown never exceeds.
        retry_after_cap: seconds that a pause for which Keycloak asked never exceeds.
        health_cache: seconds for which the last answer of Keycloak stands for its health.
        probe_timeout: seconds after which a probe whose owner does not report is another's to make.
        ask_every: seconds at least between two questions whether Keycloak is there; each look at the circuit is the
            occasion for one.
        asker_timeout: seconds after which the questions are another instance's to ask, if who asks is not heard of.
        news: seconds for which it is news that Keycloak is there again.
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
    ask_every: float = 0.9
    asker_timeout: float = 5.0
    news: float = 60.0
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

    def rest_between_news(self, tries: int) -> float:
        """Seconds before news is worth another control call, after so many in vain: 0, 2, 4, 8, … up to the cooldown's cap."""
        return 0.0 if tries == 0 else min(2.0 ** min(tries, 16), max(self.cooldown_cap, self.cooldown))


@dataclass(slots=True)
class Tally:
    """What this instance saw of Keycloak in one generation: which lanes newly fail, and how the control call fares.

    A lane that has failed before and fails again is no news, however often: what is tried again and again would
    otherwise add up to an outage in a quiet hour.
    """

    policy: CircuitPolicy
    generation: int = 0
    checks_failed: int = 0
    writes_refused: int = 0
    _rest_until: float = float("-inf")
    _why: Counter[str] = field(default_factory=Counter)
    _new: dict[object, float] = field(default_factory=dict)
    _failing: dict[object, float] = field(default_factory=dict)

    def begin(self, generation: int) -> None:
        """Forget everything when the generation has changed."""
        if generation != self.generation:
            self.generation = generation
            self.writes_refused = 0
            self._failing.clear()
            self._forget()

    def success(self, generation: int, lane: object = None) -> None:
        """A call that began in `generation` succeeded, of `lane` if that is known: it may be news again."""
        if generation == self.generation:
            self._failing.pop(lane, None)
            self._forget()

    def failure(
        self, generation: int, lane: object, now: float, retry_after: float | None = None, *, reason: str
    ) -> None:
        """A call of a lane that began in `generation` failed; Keycloak may have asked for a pause in seconds."""
        if generation != self.generation:
            return
        self._why[reason] += 1
        self._rest_until = max(self._rest_until, now + (retry_after or 0.0))
        failed_at = self._failing.pop(lane, None)
        if failed_at is None or now - failed_at > self.policy.lane_memory:
            self._new[lane] = now
        # The one that failed longest ago stands first.
        self._failing[lane] = now
        if len(self._failing) > _MOST_LANES:
            del self._failing[next(iter(self._failing))]

    def check_failed(
        self, generation: int, now: float, retry_after: float | None = None, *, reason: str
    ) -> None:
        """The control call failed. Each time counts: it stands for no single user.

        One that found that Keycloak takes no writes is not outweighed by what still answers without writing.
        """
        if generation == self.generation:
            self._why[reason] += 1
            if reason == Reason.WRITES_REFUSED:
                self.writes_refused += 1
            else:
                self.checks_failed += 1
            self._rest_until = max(self._rest_until, now + (retry_after or 0.0))

    def check_succeeded(self) -> None:
        """The control call found nothing wrong. Of what lanes meet that says nothing."""
        self.checks_failed = self.writes_refused = 0

    def failures(self, now: float) -> int:
        """What is compared with the threshold."""
        self._new = {lane: at for lane, at in self._new.items() if now - at <= self.policy.window}
        return len(self._new) + self.checks_failed + self.writes_refused

    @property
    def out_of_reach(self) -> bool:
        """Whether nobody was there for a call that failed since the last success."""
        return not OUT_OF_REACH.isdisjoint(self._why)

    @property
    def why(self) -> str:
        """The reason codes of what failed since the last success, the most frequent first: `timeout (5), throttled`."""
        return ", ".join(
            reason if count == 1 else f"{reason} ({count})" for reason, count in self._why.most_common()
        )

    def asked_for(self, now: float) -> float:
        """Seconds for which Keycloak still wants to be left alone, as far as it said so since the last success."""
        return max(0.0, self._rest_until - now)

    def _forget(self) -> None:
        self._new.clear()
        self._why.clear()
        self.checks_failed = 0
        self._rest_until = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class WhileOpen:
    """How an open circuit stands; spans are seconds.

    Attributes:
        rest_in: until Keycloak may be asked anything at all, by its own words (Retry-After); 0 or less: now.
        retry_in: until a control call may be made without any news.
        open_for: since it has opened, or since a control call has failed in vain.
        met: what the last question met; None before the first, and where Keycloak was in reach at the opening.
        back_for: since Keycloak has been there again after it was away; None if it is not.
        tries: control calls that news has cost since a delivery last succeeded.
        asked_ago: since the last question; None before the first.
        asks: whether the questions are this instance's to ask.
        wanted: whether somebody wants to know now.
    """

    rest_in: float = 0.0
    retry_in: float = 0.0
    open_for: float = 0.0
    met: Presence | None = None
    back_for: float | None = None
    tries: int = 0
    asked_ago: float | None = None
    asks: bool = True
    wanted: bool = False


def asks_in(circuit: WhileOpen) -> float:
    """Seconds until Keycloak is asked something again, by an instance that runs; what it wants kept goes before all."""
    since = circuit.asked_ago
    return max(circuit.rest_in, 0.0 if since is None else _A_LOOK - since, 0.0)


class Step(StrEnum):
    """What an instance should do about the circuit now.

    OPEN: open it. CHECK: make a control call while it is closed. ASK: ask whether Keycloak is there. The others let one
    control call through: PROBE because the cooldown is over, PROBE_NEWS because Keycloak is there again, PROBE_WANTED
    because somebody wants to know.
    """

    NOTHING = "nothing"
    OPEN = "open"
    CHECK = "check"
    ASK = "ask"
    PROBE = "probe"
    PROBE_NEWS = "probe_news"
    PROBE_WANTED = "probe_wanted"


def next_step(
    state: CircuitState,
    *,
    failures: int,
    policy: CircuitPolicy,
    while_open: WhileOpen,
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
        while_open: what is looked at while OPEN.
        probe_ends_in: seconds until the running probe's deadline, while HALF_OPEN.
        idle_for: seconds since Keycloak last answered anything at all to this instance.
        check_asked: whether a failed call waits for a control call to tell whose fault it was.
        maintenance: whether Keycloak is left alone on purpose: what it answers then says nothing.
    """
    if maintenance:
        return Step.NOTHING
    match state:
        case CircuitState.OPEN:
            return _step_while_open(while_open, policy)
        case CircuitState.HALF_OPEN:
            # A probe whose owner died would hold the circuit half open for ever.
            return Step.PROBE if (probe_ends_in or 0.0) <= 0.0 else Step.NOTHING
        case CircuitState.CLOSED:
            if failures >= policy.threshold:
                return Step.OPEN
            if check_asked or failures or idle_for >= policy.health_cache:
                return Step.CHECK
            return Step.NOTHING


def _step_while_open(circuit: WhileOpen, policy: CircuitPolicy) -> Step:
    if circuit.rest_in > 0.0:
        return Step.NOTHING
    if circuit.wanted:
        return Step.PROBE_WANTED
    is_news = circuit.back_for is not None and circuit.back_for < policy.news
    if is_news and circuit.open_for >= policy.rest_between_news(circuit.tries):
        return Step.PROBE_NEWS
    # Where nobody listens, a control call has nobody to reach. Any other answer may be about the question alone.
    if circuit.retry_in <= 0.0 and circuit.met is not Presence.AWAY:
        return Step.PROBE
    due = circuit.asked_ago is None or circuit.asked_ago >= policy.ask_every
    return Step.ASK if circuit.asks and due else Step.NOTHING


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
