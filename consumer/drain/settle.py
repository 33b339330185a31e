"""What an outcome makes of its entry and of the lane's fold. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from consumer.delivery.outcome import (
    DETAIL_LIMIT,
    NEEDS_REPAIR,
    TAKEN,
    Blame,
    DeadLetter,
    Defer,
    Delivered,
    NotDelivered,
    Outcome,
    Reason,
    Retry,
)
from consumer.delivery.representation import split_name, written_out
from consumer.drain.policy import DrainPolicy
from consumer.drain.reasons import DrainReason
from consumer.frozen import quick_dataclass
from consumer.outbox.doubt import Doubt
from consumer.outbox.drain_store import Attempt, Head, Settlement, WriteBack
from consumer.outbox.fold import EVERY_OTHER_ATTRIBUTE, Applied, Credential, Fold, fields_of
from consumer.outbox.rows import EntryState
from producer_lib import kinds

__all__ = [
    "DELETED_BY",
    "EXISTENCE_KINDS",
    "FEDERATION",
    "Call",
    "carried_fields",
    "data_of",
    "dead",
    "event_fields",
    "fold_after",
    "fold_after_all",
    "leave_others",
    "leaves_traces",
    "settle",
    "split_apart",
    "wait_for_read_back",
]

Delay = Callable[[int], float]

EXISTENCE_KINDS: Final = frozenset({"user_create", "user_delete"})
"""Kinds that make a user exist or not: doubt about one blocks its lane until the server limit has passed."""

DELETED_BY: Final = "deleted_by"
"""A field of the fold alone: set while a user is disabled because a delete event asked for that."""

FEDERATION: Final = "federation"
"""A field of the fold alone: the id of the user federation that the user was seen to come from."""


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that has ended.

    Attributes:
        token: the fencing token it was claimed under.
        claimed_at: when it was claimed, by the database's clock.
        ended_at: when it ended, by the same clock.
        started_at: UTC, by ours.
        seconds: how long it took.
        trace_id: of its span, 16 bytes, or None.
        openings: openings of the circuit in a row during which this entry was in flight.
        judged: whether the entry's earlier calls were charged; None if there was none to judge.
        leaves: what it may still leave, where its result is unknown.
    """

    token: int
    claimed_at: datetime
    ended_at: datetime
    started_at: datetime
    seconds: float
    trace_id: bytes | None
    openings: int
    judged: bool | None
    leaves: Doubt | None = None


def settle(
    group: Sequence[Head], outcome: Outcome, call: Call, policy: DrainPolicy, delay: Delay
) -> WriteBack:
    """Turn the outcome of one call into what is written of its lane.

    Args:
        group: The entries that the call was made for, in the lane's order: one, or a merge group. Their `attempts`
            already count what was judged before this call.
        outcome: What the call came to.
        call: The call.
        policy: The drain's numbers.
        delay: Gives the wait in seconds after the n-th failure.
    """
    head = group[0]
    if isinstance(outcome, Delivered):
        fold = _with_password_as_kept(fold_after_all(group, outcome), head.fold, call, policy)
        attempt = _attempt(outcome, call)
        return WriteBack(
            lane=head.lane,
            token=call.token,
            settlements=tuple(_delivered(member, outcome, call, attempt) for member in group),
            fold=fold,
        )
    failed = _failed(head, outcome, call, policy, delay)
    maybe = call.claimed_at if leaves_traces(outcome) else None
    return WriteBack(
        lane=head.lane,
        token=call.token,
        settlements=(failed, *(_left(member, maybe) for member in group[1:])),
        fold=_suspect(head, outcome, call),
    )


def split_apart(group: Sequence[Head], outcome: NotDelivered, call: Call) -> WriteBack:
    """Leave a group whose merged call was refused as it was: its members are called singly next, none is charged.

    What the call did before it was refused, each may find done already, and is put right if none of them does it.
    """
    head = group[0]
    maybe = call.claimed_at if leaves_traces(outcome) else None
    attempt = replace(_attempt(outcome, call), outcome="DEFER", charged=False)
    split = replace(_left(head, maybe), reason=DrainReason.MERGE_REFUSED.value, attempt=attempt)
    followers = (_left(member, maybe) for member in group[1:])
    return WriteBack(
        lane=head.lane,
        token=call.token,
        settlements=(split, *followers),
        fold=_suspect(head, outcome, call),
    )


def leave_others(write_back: WriteBack, group: Sequence[Head]) -> WriteBack:
    """Let those of a claimed group that were not called wait behind the others, unclaimed."""
    written = {settlement.head.entry_id for settlement in write_back.settlements}
    left = tuple(_left(member, None) for member in group if member.entry_id not in written)
    return replace(write_back, settlements=write_back.settlements + left) if left else write_back


def wait_for_read_back(
    head: Head, token: int, seconds: float, *, reason: str, judged: bool | None
) -> WriteBack:
    """Put an entry in doubt off until the server limit has passed, without a call."""
    settlement = replace(_judged(head, judged), reason=reason, delay=seconds)
    # A doubt that was just found, at a takeover, stands in no row yet.
    fold = head.fold if head.claimed_at is not None else None
    return WriteBack(lane=head.lane, token=token, settlements=(settlement,), fold=fold)


def dead(head: Head, *, token: int, reason: str, judged: bool | None) -> WriteBack:
    """Give up an entry whose attempts are used up, without another call."""
    settlement = replace(_judged(head, judged), state=EntryState.DEAD_LETTER, reason=reason)
    return WriteBack(lane=head.lane, token=token, settlements=(settlement,))


def _delivered(head: Head, outcome: Delivered, call: Call, attempt: Attempt) -> Settlement:
    return Settlement(
        head=head,
        state=EntryState.DELIVERED,
        reason=outcome.reason.value,
        attempts=head.attempts,
        charged=call.judged is True,
        judged=call.judged,
        attempt=attempt,
    )


def _failed(head: Head, outcome: NotDelivered, call: Call, policy: DrainPolicy, delay: Delay) -> Settlement:
    base = replace(
        _judged(head, call.judged),
        reason=outcome.reason.value,
        openings=call.openings,
        attempt=_attempt(outcome, call),
        holder=outcome.failure.holder,
    )
    if isinstance(outcome, DeadLetter):
        return replace(base, state=EntryState.DEAD_LETTER)
    base = replace(base, maybe_applied_since=_maybe(head, outcome, call))
    if call.openings >= policy.openings:
        return replace(base, state=EntryState.HELD, reason=DrainReason.SUSPECTED_CAUSE.value)
    if outcome.reason is Reason.RENAMED:
        # Whoever is meant: only somebody who knows both people can say.
        return replace(base, state=EntryState.HELD)
    if isinstance(outcome, Retry) or outcome.reason in NEEDS_REPAIR:
        # By calls, charged or not: a user who always times out must not take a place every second, nor must the many of
        # a realm that somebody has to repair.
        wait = delay(head.calls + 1)
    else:
        # Some waits have no limit in themselves (a key that is not there yet): look again, not too often.
        wait = max(outcome.not_before_seconds or 0.0, delay(min(head.calls + 1, 4)))
    if outcome.failure.ambiguous and head.kind in EXISTENCE_KINDS:
        wait = max(wait, policy.server_limit)
    return replace(base, delay=wait)


def _left(head: Head, maybe: datetime | None) -> Settlement:
    """A member of a group whose call failed: it waits behind its head."""
    return replace(_as_it_is(head), maybe_applied_since=head.maybe_applied_since or maybe)


def _as_it_is(head: Head) -> Settlement:
    """An entry that stays open as it stands, unclaimed: what a call makes of it is said as a difference."""
    return Settlement(
        head=head,
        state=EntryState.PENDING,
        reason=None,
        attempts=head.attempts,
        openings=head.openings,
        maybe_applied_since=head.maybe_applied_since,
    )


def _judged(head: Head, judged: bool | None) -> Settlement:  # noqa: FBT001 - a finding, not an option.
    """The same, with what was found of its earlier calls."""
    return replace(_as_it_is(head), charged=judged is True, judged=judged)


def data_of(head: Head) -> Mapping[str, Any]:
    """What is to be applied: the event's data, written out, and what the lane's history adds to it.

    A create after a delete that only disabled the user means a user who can log in again. Any other user who is
    disabled stays so: somebody may have barred the login on purpose.
    """
    deleted_by = head.fold.fields.get(DELETED_BY)
    if head.kind == "user_create" and deleted_by is not None and deleted_by.value is not None:
        return written_out({"enabled": True, **head.data})
    return written_out(head.data)


def fold_after_all(group: Sequence[Head], outcome: Delivered) -> Fold:
    """The lane's sum with a delivery in it that was made for all of a group."""
    fold = fold_after(group[0], outcome)
    if len(group) > 1:
        # What a new user is beside what the events say, the first alone has made.
        later = replace(outcome, existed=True)
        for member in group[1:]:
            fold = _sum(fold, member, later)
    return fold


def fold_after(head: Head, outcome: Delivered) -> Fold:
    """The lane's sum with this delivery in it."""
    before = head.fold
    if outcome.anew:
        # Of somebody else; only the doubt stays, for a late call of ours may still find the name.
        before = Fold(suspect_since=before.suspect_since, suspect_kind=before.suspect_kind)
    return _sum(before, head, outcome)


def _sum(fold: Fold, entry: Head, outcome: Delivered) -> Fold:
    """What is known of the lane, `fold`, with the delivery of one of its entries in it."""
    date = outcome.credential_date
    credential_date = None if date is None else date.replace(tzinfo=None)
    if entry.kind not in kinds():
        # Of a custom kind only its handler knows what it wrote.
        if not outcome.wrote:
            return replace(fold, user_id=outcome.user_id or fold.user_id)
        if entry.maybe_applied_since is not None:
            # An earlier call of it wrote the same, and may do so late.
            fold = fold.doubting(Doubt(fields=carried_fields(written_out(outcome.wrote))))
        applied = Applied(
            position=entry.position,
            exists=True,
            fields=event_fields(written_out(outcome.wrote)),
            user_id=outcome.user_id,
        )
    elif entry.kind == "user_delete":
        gone = outcome.user_id is None
        applied = Applied(
            position=entry.position,
            exists=not gone,
            fields={} if gone else {"enabled": False, DELETED_BY: "disable"} | _where_from(entry, outcome),
            user_id=outcome.user_id,
        )
    else:
        if fold.exists and not outcome.existed and outcome.reason is Reason.CREATED:
            # Somebody else had deleted the user, and this is another one: nothing of the former is theirs.
            fold = fold.join(Applied(position=entry.position, exists=False))
        credential = None
        if entry.credential is not None:
            credential = Credential(entry.credential, entry.event_id, entry.position)
        applied = Applied(
            position=entry.position,
            exists=True,
            fields=_written(entry, outcome),
            credential=credential,
            user_id=outcome.user_id,
            credential_date=credential_date,
        )
    after = fold.join(applied)
    return after if after.heal_refused is None else _refused_still(fold, after)


def _refused_still(before: Fold, after: Fold) -> Fold:
    """Forget that a heal was refused once Keycloak has taken another value of what it refused."""
    if before.heal_refused in TAKEN:
        same = after.fields.get("email") is before.fields.get("email")
    else:
        same = after.credential is before.credential
    return after if same else replace(after, heal_refused=None)


def _with_password_as_kept(fold: Fold, before: Fold, call: Call, policy: DrainPolicy) -> Fold:
    """Note when a new password was delivered; forget it at once where it is not to be kept and no doubt needs it."""
    if fold.credential is None:
        return fold
    if not policy.keep_passwords and fold.suspect_since is None:
        return fold.without_password()
    if fold.credential is before.credential:
        return fold
    return replace(fold, credential=replace(fold.credential, delivered_at=call.ended_at))


def event_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the fold that an event's data, written out, sets."""
    fields = fields_of(data)
    if "name" in fields:
        # Keycloak has no such field; kept as one, it would contradict a later first or last name.
        fields["first_name"], fields["last_name"] = split_name(fields.pop("name"))
    return fields


def carried_fields(data: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Per field of the fold, the value that a write of this data, written out, leaves.

    A write that replaces all attributes takes every other one away, also one that is set in the meantime: of it stand the
    names that it keeps.
    """
    fields: dict[str, tuple[Any, ...]] = {name: (value,) for name, value in event_fields(data).items()}
    if EVERY_OTHER_ATTRIBUTE in fields:
        fields[EVERY_OTHER_ATTRIBUTE] = (sorted(data.get("attributes") or {}),)
    return fields


def _written(head: Head, outcome: Delivered) -> dict[str, Any]:
    """The fields that this delivery set in Keycloak."""
    fields = event_fields(data_of(head))
    if head.credential is not None:
        fields.setdefault("temporary", False)
    if not outcome.existed:
        # A user who was there keeps what the event does not name.
        fields.setdefault("enabled", True)
    if head.kind == "user_create" or "enabled" in fields:
        fields[DELETED_BY] = None
    return fields | _where_from(head, outcome)


def _where_from(head: Head, outcome: Delivered) -> dict[str, Any]:
    """Which federation the user was seen to come from; of a user who was made anew, none any more."""
    if outcome.federation is not None:
        return {FEDERATION: outcome.federation}
    return {FEDERATION: None} if not outcome.existed and FEDERATION in head.fold.fields else {}


def _maybe(head: Head, outcome: Retry | Defer, call: Call) -> datetime | None:
    if head.maybe_applied_since is not None or not leaves_traces(outcome):
        return head.maybe_applied_since
    return call.claimed_at


def _suspect(head: Head, outcome: NotDelivered, call: Call) -> Fold | None:
    """A call whose result is unknown makes its lane suspect: the request may still take effect inside Keycloak.

    So does one that was broken off after a first request: part of it is there, and the rest may never come.
    The latest such call counts: the server limit runs from its end.
    """
    if leaves_traces(outcome):
        return replace(
            head.fold.doubting(call.leaves),
            suspect_since=call.ended_at,
            suspect_kind=outcome.reason.value,
            look_at=None,
        )
    # Taken over with a claim that nobody recorded: that doubt stands in no row yet.
    return head.fold if head.claimed_at is not None and head.fold.suspect_since is not None else None


def leaves_traces(outcome: Outcome) -> bool:
    """Whether a call that came to this may have effects that are recorded nowhere."""
    if isinstance(outcome, Delivered):
        return False
    return outcome.failure.ambiguous or outcome.failure.partial


def _attempt(outcome: Outcome, call: Call) -> Attempt:
    failure = None if isinstance(outcome, Delivered) else outcome.failure
    charged: bool | None = False
    if isinstance(outcome, Retry):
        charged = None  # judged when the entry's turn comes again
    elif isinstance(outcome, DeadLetter):
        charged = outcome.failure.blame is Blame.USER
    return Attempt(
        started_at=call.started_at,
        ended_at=call.started_at + timedelta(seconds=call.seconds),
        outcome=outcome.name,
        reason=outcome.reason.value,
        http_status=failure.status if failure else None,
        charged=charged,
        trace_id=call.trace_id,
        error=_not_kept(outcome) if isinstance(outcome, Delivered) else outcome.failure.detail or None,
    )


def _not_kept(outcome: Delivered) -> str | None:
    """What of a delivered change is not in Keycloak all the same."""
    if not outcome.dropped:
        return None
    named = ", ".join(f"attributes.{name} ({why})" for name, why in sorted(outcome.dropped.items()))
    return f"Keycloak did not keep {named}"[:DETAIL_LIMIT]
