"""What becomes of a command, by what is found when its turn comes. Pure.

A new command is an `Action` and a rule here; queueing, fencing, answering and the audit are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from consumer.delivery.outcome import Reason
from consumer.drain.guard import HELD_BY_GUARD
from consumer.drain.reasons import FOR_SOMEBODY, DrainReason
from consumer.outbox.command_store import Action, Answer, Change, Command, Found, Verdict
from consumer.outbox.rows import EntryState

__all__ = ["decide"]

_UNREADABLE: Final = frozenset({DrainReason.SCHEMA_NEWER, Reason.KIND_UNREGISTERED})
"""Reasons of entries whose data this version cannot read: there is nothing that it could deliver."""

Rule = Callable[[Command, Found], Change | str]


def decide(command: Command, found: Found, *, token: int) -> Answer:
    """Say what a command comes to, once what its asker saw has been looked at again.

    Args:
        command: The command.
        found: How things stand while its lane is in hand.
        token: Of the shard's lease.
    """
    verdict, detail, change = Verdict.DONE, "", None
    if found.expired:
        verdict, detail = Verdict.EXPIRED, "nobody could do it within an hour"
    elif found.state is not command.seen_state and found.held_by_entry != command.entry_id:
        now = "no more" if found.state is None else f"{found.state} now"
        verdict, detail = Verdict.REFUSED, f"the entry is {now}"
    else:
        ruling = _RULES[command.action](command, found)
        if isinstance(ruling, str):
            verdict, detail = Verdict.REFUSED, ruling
        else:
            change = ruling
    return Answer(
        command=command,
        token=token,
        event_id=found.event_id,
        verdict=verdict,
        detail=detail,
        change=change,
    )


def _release(_command: Command, found: Found) -> Change | str:
    if found.state is not EntryState.HELD:
        return "the entry is not held"
    if found.reason in _UNREADABLE:
        return f"{found.reason}: this version cannot read it; start one that can, or drop it"
    # An operator's word is a place: the guard does not ask again.
    return Change(
        state=EntryState.PENDING,
        reason=DrainReason.RELEASED.value,
        allows_delete=found.reason == HELD_BY_GUARD,
    )


def _drop(command: Command, found: Found) -> Change | str:
    if found.state is EntryState.PENDING and found.reason in FOR_SOMEBODY:
        if (refused := _not_next(command, found)) is not None:
            return refused
    elif found.state is not EntryState.HELD:
        return "the entry is not held, nor does it wait for somebody"
    if found.arrivals != command.seen_arrivals:
        # What comes behind a dropped event is applied without it: whoever drops has to have seen it.
        return "more events of that user have come since: look again"
    return Change(state=EntryState.DEAD_LETTER, reason=DrainReason.DROPPED.value)


def _release_lane(command: Command, found: Found) -> Change | str:
    if found.held_by_entry != command.entry_id:
        return "that dead letter does not hold its lane"
    return Change(ends_hold=True)


def _hurry(command: Command, found: Found) -> Change | str:
    return _not_next(command, found) or Change(state=EntryState.PENDING)


def _not_next(command: Command, found: Found) -> str | None:
    """Why a pending entry can be neither tried now nor given up; None if it can."""
    if found.state is not EntryState.PENDING or found.head_id != command.entry_id:
        return "the entry is not the next of its user"
    if found.in_doubt:
        return "its last call may still take effect: it waits for the server limit"
    return None


_RULES: Final[Mapping[Action, Rule]] = {
    Action.RELEASE: _release,
    Action.DROP: _drop,
    Action.RELEASE_LANE: _release_lane,
    Action.HURRY: _hurry,
}
