"""What an outcome makes of its entry and of the lane's fold. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from consumer.delivery.outcome import Blame, DeadLetter, Defer, Delivered, Outcome, Retry
from consumer.delivery.representation import split_name
from consumer.drain.policy import DrainPolicy
from consumer.outbox.drain_store import Attempt, Head, Settlement
from consumer.outbox.fold import Applied, Credential, Fold, fields_of
from consumer.outbox.rows import EntryState

__all__ = ["DELETED_BY", "Call", "data_of", "dead", "fold_after", "settle"]

Delay = Callable[[int], float]

DELETED_BY = "deleted_by"
"""A field of the fold alone: set while a user is disabled because a delete event asked for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that has ended.

    Attributes:
        token: the fencing token it was claimed under.
        claimed_at: when it was claimed, by the database's clock.
        started_at: UTC.
        seconds: how long it took.
        trace_id: of its span, 16 bytes, or None.
        openings: openings of the circuit in a row during which this entry was in flight.
        judged: whether the entry's earlier calls were charged; None if there was none to judge.
    """

    token: int
    claimed_at: datetime
    started_at: datetime
    seconds: float
    trace_id: bytes | None
    openings: int
    judged: bool | None


def settle(head: Head, outcome: Outcome, call: Call, policy: DrainPolicy, delay: Delay) -> Settlement:
    """Turn an outcome into what is written.

    `head.attempts` already counts what was judged before this call. `delay` gives the wait after the n-th failure.
    """
    base = Settlement(
        head=head,
        token=call.token,
        state=EntryState.PENDING,
        reason=outcome.reason.value,
        attempts=head.attempts,
        openings=call.openings,
        charged=call.judged is True,
        judged=call.judged,
        attempt=_attempt(outcome, call),
        maybe_applied_since=head.maybe_applied_since,
    )
    match outcome:
        case Delivered():
            return replace(
                base,
                state=EntryState.DELIVERED,
                openings=0,
                fold=fold_after(head, outcome),
                maybe_applied_since=None,
            )
        case DeadLetter():
            return replace(base, state=EntryState.DEAD_LETTER, fold=_suspect(head, outcome, call))
        case Retry() | Defer() if call.openings >= policy.openings:
            return replace(
                base,
                state=EntryState.HELD,
                reason="suspected_cause",
                maybe_applied_since=_maybe(head, outcome, call),
                fold=_suspect(head, outcome, call),
            )
        case Retry():
            return replace(
                base,
                # By calls, charged or not: a user who always times out must not take a place every second.
                delay=delay(head.calls + 1),
                maybe_applied_since=_maybe(head, outcome, call),
                fold=_suspect(head, outcome, call),
            )
        case Defer():
            # Some waits have no limit in themselves (a key that is not there yet): look again, not too often.
            asked = outcome.not_before_seconds or 0.0
            return replace(
                base,
                delay=max(asked, delay(min(head.calls + 1, 4))),
                maybe_applied_since=_maybe(head, outcome, call),
                fold=_suspect(head, outcome, call),
            )


def dead(head: Head, *, token: int, reason: str) -> Settlement:
    """Give up an entry whose attempts are used up, without another call."""
    return Settlement(
        head=head,
        token=token,
        state=EntryState.DEAD_LETTER,
        reason=reason,
        attempts=head.attempts,
        openings=head.openings,
        charged=True,
        judged=True,
        maybe_applied_since=head.maybe_applied_since,
    )


def data_of(head: Head) -> Mapping[str, Any]:
    """What is to be applied: the event's data, and what the lane's history adds to it.

    A create after a delete that only disabled the user means a user who can log in again. Any other user who is
    disabled stays so: somebody may have barred the login on purpose.
    """
    deleted_by = head.fold.fields.get(DELETED_BY)
    if head.kind == "user_create" and deleted_by is not None and deleted_by.value is not None:
        return {"enabled": True, **head.data}
    return head.data


def fold_after(head: Head, outcome: Delivered) -> Fold:
    """The lane's sum with this delivery in it."""
    if head.kind == "user_delete":
        gone = outcome.user_id is None
        fields = {} if gone else {"enabled": False, DELETED_BY: "disable"}
        applied = Applied(position=head.position, exists=not gone, fields=fields)
    else:
        credential = None
        if head.credential is not None:
            credential = Credential(head.credential, head.event_id, head.position)
        applied = Applied(
            position=head.position, exists=True, fields=_written(head, outcome), credential=credential
        )
    fold = replace(head.fold.join(applied), user_id=outcome.user_id)
    if outcome.credential_date is not None:
        fold = replace(fold, credential_date=outcome.credential_date.replace(tzinfo=None))
    return fold


def _written(head: Head, outcome: Delivered) -> dict[str, Any]:
    """The fields that this delivery set in Keycloak."""
    fields = fields_of(data_of(head))
    if "name" in fields:
        # Keycloak has no such field; kept as one, it would contradict a later first or last name.
        fields["first_name"], fields["last_name"] = split_name(fields.pop("name"))
    if head.credential is not None:
        fields.setdefault("temporary", False)
    if head.kind == "user_create" and not outcome.existed:
        # A user who was there keeps what the event does not name.
        fields.setdefault("enabled", True)
    if head.kind == "user_create" or "enabled" in fields:
        fields[DELETED_BY] = None
    return fields


def _maybe(head: Head, outcome: Retry | Defer, call: Call) -> datetime | None:
    if head.maybe_applied_since is not None or not outcome.failure.ambiguous:
        return head.maybe_applied_since
    return call.claimed_at


def _suspect(head: Head, outcome: Retry | Defer | DeadLetter, call: Call) -> Fold | None:
    """A call whose result is unknown makes its lane suspect: the request may still take effect inside Keycloak."""
    if head.fold.suspect_since is not None:
        # Taken over with a claim that nobody recorded: that doubt stands in no row yet.
        return None if head.claimed_at is None else head.fold
    if not outcome.failure.ambiguous:
        return None
    return replace(head.fold, suspect_since=call.claimed_at, suspect_kind=outcome.reason.value)


def _attempt(outcome: Outcome, call: Call) -> Attempt:
    failure = None if isinstance(outcome, Delivered) else outcome.failure
    name = {Delivered: "DELIVERED", Retry: "RETRY", Defer: "DEFER", DeadLetter: "DEAD_LETTER"}[type(outcome)]
    charged: bool | None = False
    if isinstance(outcome, Retry):
        charged = None  # judged when the entry's turn comes again
    elif isinstance(outcome, DeadLetter):
        charged = outcome.failure.blame is Blame.USER
    return Attempt(
        started_at=call.started_at,
        ended_at=call.started_at + timedelta(seconds=call.seconds),
        outcome=name,
        reason=outcome.reason.value,
        http_status=failure.status if failure else None,
        charged=charged,
        trace_id=call.trace_id,
        error=failure.detail or None if failure else None,
    )
