"""One step of one lane: what is done with a claimed head, and what is written of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeGuard

import orjson

from consumer.circuit.keeper import CircuitKeeper
from consumer.delivery.classify import MAY_BE_THE_USERS, refused_for_its_content
from consumer.delivery.errors import CallsStopped, LeaseTooShort, NotCalled
from consumer.delivery.outcome import (
    NEEDS_REPAIR,
    OF_A_FEDERATION,
    Blame,
    DeadLetter,
    Defer,
    Delivered,
    NotDelivered,
    Outcome,
    Retry,
)
from consumer.delivery.password_look import PasswordLook
from consumer.drain.ages import Ages
from consumer.drain.caller import Caller
from consumer.drain.holders import Unfinished, may_be_given_up
from consumer.drain.holds import hold_after
from consumer.drain.judge import Begun, Judge
from consumer.drain.late import doubt_of
from consumer.drain.password_looks import PasswordLooks
from consumer.drain.policy import DrainPolicy
from consumer.drain.realms import RealmWatch
from consumer.drain.reasons import DrainReason
from consumer.drain.settle import (
    EXISTENCE_KINDS,
    Call,
    dead,
    leave_others,
    leaves_traces,
    settle,
    split_apart,
    wait_for_read_back,
)
from consumer.outbox.drain_store import Head, ReadyLane, WriteBack
from consumer.outbox.rows import EntryState
from consumer.retry import retry_delay

__all__ = ["Claimed", "Turns"]

_MOST_SPLIT = 100_000


@dataclass(slots=True)
class Claimed:
    """A claimed head, with the followers that share its call, that waits for that call.

    Attributes:
        group: head and followers.
        token: of the lease it was claimed under.
        claimed_at: when, by the database's clock,
        claimed_clock: and by ours.
        alone: it has shared a call with other lanes, and was not served by it.
    """

    group: tuple[Head, ...]
    token: int
    claimed_at: datetime
    claimed_clock: float
    alone: bool = False

    @property
    def head(self) -> Head:
        """The lane's first open entry."""
        return self.group[0]

    @property
    def lane(self) -> ReadyLane:
        """Its lane, in hand."""
        return self.group[0].lane


@dataclass(slots=True, kw_only=True)
class Turns:
    """Takes the turns of lanes.

    Attributes:
        caller: makes the calls.
        judge: says whose fault a failure was.
        circuit: says whether calls are allowed.
        realms: tell a realm's fault from a user's.
        unfinished: says whether a lane may still free the name or the e-mail address that another user asks for.
        policy: the drain's numbers.
        clock: seconds that never go back.
        ages: tell how long an entry could have been delivered.
        looks: passwords that are looked at once more.
    """

    caller: Caller
    judge: Judge
    circuit: CircuitKeeper
    realms: RealmWatch
    unfinished: Unfinished
    policy: DrainPolicy
    clock: Callable[[], float] = time.monotonic
    ages: Ages = field(default_factory=Ages)
    looks: PasswordLooks = field(default_factory=PasswordLooks)
    _called_singly: dict[bytes, int] = field(default_factory=dict)

    async def take(self, claimed: Claimed) -> WriteBack | None:
        """Bring a claimed head one step further: one call, or a decision that needs none.

        Returns:
            What is to be written; None if no call may be made now, and the claim is to be handed back.

        Raises:
            GoesAlone: It shared a call and was not served by it; nothing has been changed.
        """
        reading = self.ages.reading(claimed.head.lane.realm)
        try:
            write_back = await self._step(claimed, reading)
        except (LeaseTooShort, CallsStopped):
            return None
        if write_back is None:
            return None
        if write_back.settlements[0].state is EntryState.PENDING:
            self.ages.called(claimed.head.entry_id, claimed.token, reading)
        else:
            self.ages.forget(claimed.head.entry_id)
        return hold_after(leave_others(write_back, claimed.group), self.policy.holding)

    async def _step(self, claimed: Claimed, reading: float) -> WriteBack | None:
        judged = await self.judge.judge(claimed.head)
        waited = self.ages.since_last_call(claimed.head.entry_id, claimed.token, reading)
        head = claimed.head
        if head.state_reason in OF_A_FEDERATION or head.state_reason in NEEDS_REPAIR:
            # It could not have been delivered, though others were served.
            waited = 0.0
        if judged or waited:
            head = replace(head, attempts=head.attempts + bool(judged), eligible=head.eligible + waited)
        policy = self.policy.of(head.kind)
        used_up = head.attempts >= policy.max_attempts
        too_old = policy.pending_max_age is not None and head.eligible >= policy.pending_max_age
        exhausted = used_up or too_old
        left = self._doubt_left(claimed)
        # What may have been applied stays the head: it is not given up before Keycloak has been read.
        needs_call = head.maybe_applied_since is not None or not exhausted
        if needs_call and (self.circuit.allowed_calls == 0 or self.realms.resting(head.lane.realm) > 0):
            # The circuit opened, or the realm was stopped, while this waited for its turn or we asked whose fault the
            # last failure was: handed back with the others, and judged again.
            return None
        reason = (
            self.judge.reason_of_last(head.entry_id)
            or head.state_reason
            or DrainReason.ATTEMPTS_EXHAUSTED.value
        )
        if too_old and not used_up:
            reason = DrainReason.TOO_OLD.value
        if not needs_call:
            self.judge.forget(head.entry_id)
            return dead(head, token=claimed.token, reason=reason, judged=judged)
        if left > 0 and exhausted:
            self.judge.forget(head.entry_id)
            return wait_for_read_back(head, claimed.token, left, reason=reason, judged=judged)
        if left > 0 and head.kind in EXISTENCE_KINDS:
            # Whether the user exists is in doubt: nothing is asked before the server limit has passed, also where an outage
            # has come between.
            reason = DrainReason.TAKEN_OVER if head.claimed_at is not None else reason
            return wait_for_read_back(head, claimed.token, left, reason=reason, judged=judged)
        if exhausted:
            return await self._last_look(head, claimed, reason=reason, judged=judged)
        return await self._deliver((head, *claimed.group[1:]), claimed, left, judged=judged)

    async def _deliver(
        self, group: Sequence[Head], claimed: Claimed, left: float, *, judged: bool | None
    ) -> WriteBack:
        head, called = group[0], group
        begun, began = self.judge.begin(), self.caller.clocks.now()
        outcome, trace_id = await self.caller.deliver(group, claimed.token)
        outcome = await self._for_its_content(head, await self._until_given_up(head, outcome))
        self.judge.forget(head.entry_id)
        self.judge.learn(head, outcome, begun)
        outcome = await self._configuration(head, outcome)
        if isinstance(outcome, DeadLetter) and head.maybe_applied_since is not None:
            group, outcome = await self._refused_in_doubt(group, outcome, claimed.token, left)
        call = self._ended(claimed, begun, began, trace_id, self.judge.openings(head, outcome), judged=judged)
        call = _with_what_it_leaves(call, called, outcome)
        self._look_again(called, outcome, began)
        if len(group) > 1 and _refused(outcome):
            self._call_singly(group)
            # Refused was the merged call: no entry is judged by it.
            self.judge.forget(head.entry_id)
            return split_apart(group, outcome, call)
        return settle(group, outcome, call, self.policy, partial(self._delay, head.kind))

    async def _refused_in_doubt(
        self, group: Sequence[Head], refused: DeadLetter, token: int, left: float
    ) -> tuple[Sequence[Head], Outcome]:
        """Refused, but an earlier call may have taken effect: Keycloak is read when nothing can change it any more."""
        later = Defer(reason=refused.reason, failure=refused.failure, not_before_seconds=left)
        if left > 0:
            return group, later
        try:
            found = await self.caller.read_back(group[0], token)
        except NotCalled:
            # The call that was refused has been made, and is recorded.
            return group, later
        return (group, refused) if isinstance(found, DeadLetter) else (group[:1], found)

    async def _last_look(
        self, head: Head, claimed: Claimed, *, reason: str, judged: bool | None
    ) -> WriteBack:
        """Before an entry in doubt whose attempts are used up is given up: has it taken effect?"""
        begun, began = self.judge.begin(), self.caller.clocks.now()
        found = await self.caller.read_back(head, claimed.token)
        self.judge.forget(head.entry_id)
        self.judge.learn(head, found, begun)
        if isinstance(found, DeadLetter):
            return dead(head, token=claimed.token, reason=reason, judged=judged)
        call = self._ended(claimed, begun, began, None, self.judge.openings(head, found), judged=judged)
        call = _with_what_it_leaves(call, (head,), found)
        return settle((head,), found, call, self.policy, partial(self._delay, head.kind))

    def _ended(
        self,
        claimed: Claimed,
        begun: Begun,
        began: datetime,
        trace_id: bytes | None,
        openings: int,
        *,
        judged: bool | None,
    ) -> Call:
        ended = self.clock()
        return Call(
            token=claimed.token,
            claimed_at=claimed.claimed_at,
            ended_at=claimed.claimed_at + timedelta(seconds=ended - claimed.claimed_clock),
            started_at=began.replace(tzinfo=None),
            seconds=ended - begun.at,
            trace_id=trace_id,
            openings=openings,
            judged=judged,
        )

    def _doubt_left(self, claimed: Claimed) -> float:
        """Seconds until a call of this head that was lost can have no effect any more."""
        head = claimed.head
        since = head.fold.suspect_since or head.maybe_applied_since
        if head.maybe_applied_since is None or since is None:
            return 0.0
        now = claimed.claimed_at + timedelta(seconds=self.clock() - claimed.claimed_clock)
        # What was sent before an outage may take effect when Keycloak is back: until then the limit does not run.
        waited = min((now - since).total_seconds(), self.circuit.closed_for)
        return max(0.0, self.policy.server_limit - waited)

    async def _configuration(self, head: Head, outcome: Outcome) -> Outcome:
        """Told that we may not: is it the realm, or this user? The realm's control call says.

        What is not Keycloak's own word about a user is charged to nobody, also where the control call gets through.
        """
        if isinstance(outcome, Delivered):
            await self.realms.well(head.lane.realm)
        if isinstance(outcome, Delivered | DeadLetter) or outcome.failure.blame is not Blame.CONFIGURATION:
            return outcome
        if await self.realms.at_fault(head.lane.realm) or outcome.reason not in MAY_BE_THE_USERS:
            return outcome
        failure = replace(outcome.failure, blame=Blame.USER)
        self.judge.blame_user(head, outcome.reason)
        return Retry(reason=outcome.reason, failure=failure)

    async def _for_its_content(self, head: Head, outcome: Outcome) -> Outcome:
        """Keycloak broke on a change twice, and it holds text that not every database behind Keycloak stores: refused alone.

        Unless Keycloak takes nothing that others write.
        """
        if isinstance(outcome, Delivered) or not outcome.failure.beyond_plane:
            return outcome
        writes = await self.judge.writes_work(head.lane.lane_id)
        return refused_for_its_content(outcome) if writes else outcome

    async def _until_given_up(self, head: Head, outcome: Outcome) -> Outcome:
        """Refused for another user's name or e-mail address: not charged while a change of theirs may give it up."""
        holder = None if isinstance(outcome, Delivered) else outcome.failure.holder
        if not isinstance(outcome, Retry) or holder is None:
            return outcome
        waits = await may_be_given_up(self.unfinished, head.lane, holder)
        return Defer(reason=outcome.reason, failure=outcome.failure) if waits else outcome

    def _look_again(self, group: Sequence[Head], outcome: Outcome, began: datetime) -> None:
        """Have a password that Keycloak has taken looked at once more, some seconds after it is written down."""
        member = next((each for each in reversed(group) if each.credential is not None), None)
        if (
            not isinstance(outcome, Delivered)
            or member is None
            or member.credential is None
            or outcome.user_id is None
            # Nobody logs in to whom Keycloak has just given an account.
            or not outcome.existed
            or outcome.credential_date is not None
        ):
            return
        look = PasswordLook(
            realm=member.lane.realm,
            username_key=member.lane.username_key,
            user_id=outcome.user_id,
            credential=orjson.loads(member.credential),
            event_id=member.event_id,
            temporary=bool(member.data.get("temporary", False)),
            began=began,
            ended=self.caller.clocks.now(),
        )
        self.looks.note(member.lane.lane_id, look)

    def _delay(self, kind: str, failures: int) -> float:
        policy = self.policy.of(kind)
        return retry_delay(
            failures,
            base=policy.backoff_base,
            factor=policy.backoff_factor,
            cap=policy.backoff_cap,
            floor=policy.backoff_floor,
        )

    def _call_singly(self, group: Sequence[Head]) -> None:
        self._called_singly[group[0].lane.lane_id] = group[-1].entry_id
        if len(self._called_singly) > _MOST_SPLIT:
            # Forgotten, a lane is merged, refused and split once more.
            del self._called_singly[next(iter(self._called_singly))]

    def merge_limit_of(self, head: Head) -> int:
        """How many entries may share a call: one while the members of a refused merge are called singly."""
        until = self._called_singly.get(head.lane.lane_id)
        if until is None:
            return self.policy.merge_limit
        if head.entry_id <= until:
            return 1
        del self._called_singly[head.lane.lane_id]
        return self.policy.merge_limit


def _with_what_it_leaves(call: Call, group: Sequence[Head], outcome: Outcome) -> Call:
    if not leaves_traces(outcome):
        return call
    restoring = not isinstance(outcome, Delivered) and outcome.failure.restoring
    doubt = doubt_of(group, began=call.claimed_at, ended=call.ended_at, restoring=restoring)
    return replace(call, leaves=doubt)


def _refused(outcome: Outcome) -> TypeGuard[NotDelivered]:
    """Whether a merged call was refused for what it says, and has surely changed nothing."""
    return (
        isinstance(outcome, Retry | Defer | DeadLetter)
        and not outcome.failure.ambiguous
        and (outcome.failure.blame in {Blame.USER, Blame.UNCLEAR} or isinstance(outcome, DeadLetter))
    )
