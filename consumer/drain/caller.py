"""The calls of the drain: what is handed to delivery, under which lease, in which trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import orjson
import structlog
from opentelemetry.trace import Span, Tracer

from consumer.circuit.keeper import CircuitKeeper
from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.errors import CallsStopped, LeaseTooShort, NotCalled
from consumer.delivery.outcome import Blame, Failure, Outcome, Reason, Retry
from consumer.delivery.password_look import PasswordLook
from consumer.drain.clocks import Clocks
from consumer.drain.known import known_user
from consumer.drain.late import late_effects
from consumer.drain.leases import LeaseKeeper
from consumer.drain.merge import merged
from consumer.drain.policy import DrainPolicy
from consumer.outbox.drain_store import Head, ReadyLane
from consumer.outbox.fold import Fold
from consumer.outbox.lane import shard_of
from consumer.telemetry.propagation import TraceContext
from consumer.telemetry.spans import UnderWay, heal_span, process_span, set_outcome

__all__ = ["Caller"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Makes the calls.

    Attributes:
        delivery: applies changes to Keycloak.
        leases: ours; no call may outlive the lease it was claimed under.
        circuit: says whether calls are allowed.
        policy: the drain's numbers.
        tracer: where spans come from.
        topic: shown in spans.
        kafka_group: shown in spans.
        clocks: how far ours is ahead of the database's.
    """

    delivery: Delivery
    leases: LeaseKeeper
    circuit: CircuitKeeper
    policy: DrainPolicy
    tracer: Tracer
    topic: str
    kafka_group: str
    clocks: Clocks = field(default_factory=Clocks)

    async def deliver(self, group: Sequence[Head], token: int) -> tuple[Outcome, bytes | None]:
        """Apply one entry, or a merge group with one call; the outcome and the trace id of the first.

        Raises:
            NotCalled: A request did not leave, and nothing has been changed.
        """
        change = self._change(group)
        spans = [self._span(member) for member in group]

        async def call() -> Outcome:
            return await self.delivery.deliver(change, lambda: self._check(group[0].lane, token))

        with UnderWay(spans):
            outcome = await _outcome_of(call, spans, "delivery broke", event_id=change.event_id)
        return outcome, _trace_id(spans[0])

    async def read_back(self, head: Head, token: int) -> Outcome:
        """Ask Keycloak whether an entry in doubt has taken effect.

        Raises:
            NotCalled: A request did not leave, and nothing has been changed.
        """
        spans = (self._span(head),)

        async def call() -> Outcome:
            change = self._change((head,))
            return await self.delivery.read_back(change, lambda: self._check(head.lane, token))

        with UnderWay(spans):
            return await _outcome_of(call, spans, "reading back broke", event_id=head.event_id)

    async def heal(self, lane: ReadyLane, fold: Fold, token: int, *, only_looks: bool) -> Outcome:
        """Undo what calls in doubt have left late.

        Raises:
            NotCalled: A request did not leave, and nothing has been changed.
        """
        with heal_span(self.tracer, kind="look" if only_looks else fold.suspect_kind or "unknown") as span:

            async def call() -> Outcome:
                late = late_effects(
                    fold,
                    server_limit=self.policy.server_limit,
                    ahead=self.clocks.ahead,
                    only_looks=only_looks,
                )
                known = known_user(lane, fold)
                return await self.delivery.heal(known, late, lambda: self._check(lane, token))

            return await _outcome_of(call, (span,), "healing broke")

    async def look_at_password(self, lane: ReadyLane, look: PasswordLook, token: int) -> Outcome:
        """Look whether a password that was set is still the user's.

        Raises:
            NotCalled: A request did not leave, and nothing has been changed.
        """
        with heal_span(self.tracer, kind="password") as span:

            async def call() -> Outcome:
                return await self.delivery.look_at_password(look, lambda: self._check(lane, token))

            return await _outcome_of(call, (span,), "looking at a password broke")

    def _change(self, group: Sequence[Head]) -> Change:
        head = group[0]
        what = merged(group)
        return Change(
            event_id=head.event_id,
            kind=what.kind,
            realm=head.lane.realm,
            username=head.username,
            username_key=head.lane.username_key,
            data=what.data,
            credential=None if what.credential is None else orjson.loads(what.credential),
            credential_event_id=what.credential_event_id,
            known=partial(known_user, head.lane, head.fold) if head.fold.exists else None,
            user_id=head.fold.user_id,
            maybe_applied_since=None
            if head.maybe_applied_since is None
            else self.clocks.ours(head.maybe_applied_since),
            last_reason=head.state_reason,
        )

    def _span(self, head: Head) -> Span:
        position = head.position
        return process_span(
            self.tracer,
            parent=TraceContext.of(head.traceparent, head.tracestate),
            topic=self.topic,
            group=self.kafka_group,
            partition=-1 if position is None else position.partition,
            offset=-1 if position is None else position.offset,
            event_id=head.event_id,
            kind=head.kind,
            attempt=head.calls + 1,
        )

    def _check(self, lane: ReadyLane, token: int) -> None:
        """The last statements before each request."""
        self._check_lease(lane, token)
        if self.circuit.allowed_calls == 0:
            # Some were when the turn began; the turns of many creates that share a call take long.
            raise CallsStopped

    def _check_lease(self, lane: ReadyLane, token: int) -> None:
        """No call may outlive the lease it was claimed under.

        A process that was stopped for long finds fresh leases, with other tokens or of other shards, before it looks
        at what it had claimed: others may have gone on with those lanes meanwhile.
        """
        if (
            self.leases.token(shard_of(lane.lane_id)) != token
            or self.leases.remaining < self.policy.call_timeout + self.policy.call_margin
        ):
            raise LeaseTooShort


async def _outcome_of(
    call: Callable[[], Awaitable[Outcome]], spans: Sequence[Span], broken: str, **handle: str
) -> Outcome:
    """Make a call and note on its spans what it came to; `broken` and `handle` are logged if it is our defect."""
    try:
        outcome = await call()
    except NotCalled as stopped:
        for span in spans:
            set_outcome(span, "not_called", stopped.why)
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, one event may not stop the drain.
        # A defect of ours that this event brings to light: it must not stop the drain, nor try for ever.
        _log.exception(broken, **handle, error=type(error).__name__)
        outcome = _defect(error)
    for span in spans:
        set_outcome(span, outcome.name.lower(), outcome.reason.value)
    return outcome


def _trace_id(span: Span) -> bytes | None:
    context = span.get_span_context()
    return context.trace_id.to_bytes(16, "big") if context.is_valid else None


def _defect(error: Exception) -> Retry:
    detail = f"{type(error).__name__} in delivery: a defect of kcsync, see its log"
    return Retry(
        reason=Reason.INTERNAL_ERROR, failure=Failure(blame=Blame.LOCAL, ambiguous=True, detail=detail)
    )
