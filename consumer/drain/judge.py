"""Whose fault a failure was: remembered until the entry's turn comes again, because only time shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from consumer.circuit.keeper import CircuitKeeper
from consumer.delivery.outcome import Blame, Defer, Delivered, Outcome, Reason, Retry
from consumer.drain.charging import Evidence, Unjudged, is_charged
from consumer.drain.policy import DrainPolicy
from consumer.frozen import quick_dataclass
from consumer.outbox.drain_store import Head

__all__ = ["Begun", "Judge"]

_MOST_UNJUDGED = 100_000
_LATELY = 10.0
"""Seconds for which a write that succeeded shows that Keycloak takes them."""
_SURELY_WRITTEN = frozenset({Reason.CREATED, Reason.RESTORED, Reason.DELETED})
"""An update may have found everything as it should be, and then Keycloak writes nothing."""


@quick_dataclass(frozen=True, slots=True)
class Begun:
    """The beginning of a call.

    Attributes:
        generation: of the circuit.
        at: seconds, by the judge's clock.
        tail: Keycloak had just come back.
    """

    generation: int
    at: float
    tail: bool


@dataclass(slots=True)
class Judge:
    """What this process alone remembers of entries that wait; losing it costs no correctness.

    Attributes:
        circuit: told of each success and failure; asked for a control call where evidence is missing.
        evidence: what was seen of Keycloak.
        policy: when a failure is charged.
        clock: seconds that never go back.
    """

    circuit: CircuitKeeper
    evidence: Evidence
    policy: DrainPolicy
    clock: Callable[[], float] = time.monotonic
    _unjudged: dict[int, Unjudged] = field(default_factory=dict)
    _failed_in: dict[int, set[int]] = field(default_factory=dict)
    _refused_in: dict[int, set[int]] = field(default_factory=dict)
    _opened_on: set[int] = field(default_factory=set)

    def circuit_opened(self, generation: int) -> None:
        """The circuit has opened after `generation`: remember whose calls were failing until then.

        The opening itself may have passed unseen between two readings of the circuit; so all that came before counts.
        """
        for called in (self._failed_in, self._refused_in):
            for before in [g for g in called if g <= generation]:
                self._opened_on |= called.pop(before)

    async def judge(self, head: Head) -> bool | None:
        """Decide whether the entry's earlier failure is charged, now that time has shown what Keycloak was doing.

        Returns:
            Whether it is, or None if there was no failure to judge.
        """
        failure = self._unjudged.get(head.entry_id)
        if failure is None:
            # Taken over from another process, which alone knew: the benefit of the doubt.
            return False if head.calls else None
        if failure.unclear:
            if not self.evidence.wrote_after(failure.ended, failure.lane):
                self.evidence.ask_for_writes()
                await self.circuit.check()
        elif not self.evidence.available_after(failure.ended, failure.lane):
            await self.circuit.check()
        # In flight when the circuit opened, it was the outage's fault, however well calls went before.
        return head.entry_id not in self._opened_on and is_charged(
            failure,
            self.evidence,
            now=self.clock(),
            charged_ago=head.charged_ago,
            charge_pause=self.policy.charge_pause,
            charge_share=self.policy.charge_share,
        )

    async def writes_work(self, lane: bytes) -> bool:
        """Whether Keycloak takes what others than this lane write; asked if that was not seen lately."""
        if self.evidence.wrote_after(self.clock() - _LATELY, lane):
            return True
        self.evidence.ask_for_writes()
        return (await self.circuit.check()).available

    def write_check_ended(self, began: float, ended: float, *, wrote: bool) -> None:
        """What the write check came to; where it wrote, what was refused until then is each user's own."""
        self.evidence.write_check_ended(began, ended, wrote=wrote)
        if wrote:
            self._refused_in.clear()

    def reason_of_last(self, entry_id: int) -> str | None:
        """The reason code of the failure that waits for its judgement."""
        failure = self._unjudged.get(entry_id)
        return None if failure is None else failure.reason

    def forget(self, entry_id: int) -> None:
        """The failure was judged, and what came of it is being written."""
        self._unjudged.pop(entry_id, None)

    def begin(self) -> Begun:
        """A call begins: what its outcome will be measured by."""
        return Begun(self.circuit.generation, self.clock(), tail=self.circuit.settling)

    def learn(self, head: Head, outcome: Outcome, begun: Begun) -> None:
        """What the outcome of an entry's call says about Keycloak, for the circuit and for judging failures."""
        generation = begun.generation
        self.learn_of(head.lane.lane_id, outcome, begun)
        if isinstance(outcome, Delivered):
            return
        blame = outcome.failure.blame
        if blame is Blame.KEYCLOAK:
            _note(self._failed_in, generation, head.entry_id)
        elif blame is Blame.UNCLEAR:
            _note(self._refused_in, generation, head.entry_id)
        if isinstance(outcome, Retry):
            vague = blame is Blame.KEYCLOAK or (blame is Blame.UNCLEAR and outcome.failure.ambiguous)
            self._remember(head, outcome.reason, vague=vague, tail=begun.tail, unclear=blame is Blame.UNCLEAR)

    def learn_of(self, lane: bytes, outcome: Outcome, begun: Begun) -> None:
        """What the outcome of any call of a lane says about Keycloak."""
        now, generation = self.clock(), begun.generation
        blame = None if isinstance(outcome, Delivered) else outcome.failure.blame
        match blame:
            case None | Blame.USER:
                # A definite answer about one user also shows that Keycloak is there.
                self.evidence.succeeded(lane, begun.at, now)
                self.circuit.success(generation, lane)
                # As the circuit does: what failed before a success did not open it.
                self._failed_in.pop(generation, None)
                if isinstance(outcome, Delivered) and outcome.reason in _SURELY_WRITTEN:
                    self.evidence.wrote(lane, begun.at)
            case Blame.UNCLEAR:
                # Neither for nor against Keycloak, until it is seen whether it takes writes.
                self.evidence.refused(lane, now)
                if self.evidence.writes_in_doubt(now):
                    self.circuit.want_check()
            case Blame.KEYCLOAK:
                self.evidence.failed(lane, now)
                asked = outcome.not_before_seconds if isinstance(outcome, Defer) else None
                self.circuit.failure(generation, lane, asked, reason=outcome.reason)
            case Blame.CONFIGURATION | Blame.LOCAL | Blame.FEDERATION:
                pass

    def blame_user(self, head: Head, reason: Reason) -> None:
        """What looked like a fault of the configuration was about this user: judge it as such."""
        self._remember(head, reason, vague=False, tail=False)

    def openings(self, head: Head, outcome: Outcome) -> int:
        """Openings of the circuit in a row during which this entry was in flight, this call counted."""
        opened = head.entry_id in self._opened_on
        self._opened_on.discard(head.entry_id)
        if isinstance(outcome, Delivered) or outcome.failure.blame is not Blame.KEYCLOAK:
            return 0
        return head.openings + opened

    def _remember(
        self, head: Head, reason: Reason, *, vague: bool, tail: bool, unclear: bool = False
    ) -> None:
        """Keep a failure until the entry's turn comes again; the oldest go first when there are too many."""
        self._unjudged[head.entry_id] = Unjudged(
            head.lane.lane_id, self.clock(), vague, reason.value, tail=tail, unclear=unclear
        )
        if len(self._unjudged) > _MOST_UNJUDGED:
            del self._unjudged[next(iter(self._unjudged))]


def _note(called: dict[int, set[int]], generation: int, entry_id: int) -> None:
    """Remember an entry by the generation its call began in; older generations are over."""
    called.setdefault(generation, set()).add(entry_id)
    for old in [g for g in called if g < generation]:
        del called[old]
