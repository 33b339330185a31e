from __future__ import annotations

from typing import Any

import pytest

from consumer.drain.commands import decide
from consumer.drain.executor import hints_after
from consumer.outbox.command_store import Action, Answer, Change, Command, Found, Verdict
from consumer.outbox.rows import EntryState
from tests.unit.drain.heads import LANE

PENDING, HELD, DELIVERED, DEAD_LETTER, _ = EntryState
DONE, REFUSED, EXPIRED = Verdict


def command(action: Action, seen: EntryState = HELD) -> Command:
    return Command(
        command_id=3,
        lane=LANE,
        action=action,
        entry_id=11,
        seen_state=seen,
        seen_arrivals=7,
        actor="alice@desk",
        why=None,
    )


def found(**changes: Any) -> Found:
    values: dict[str, Any] = {
        "expired": False,
        "arrivals": 7,
        "state": HELD,
        "reason": "suspected_cause",
        "event_id": "e-1",
        "in_doubt": False,
        "head_id": 11,
        "held_by_entry": None,
    }
    return Found(**{**values, **changes})


def answer(action: Action, seen: EntryState = HELD, **changes: Any) -> Answer:
    return decide(command(action, seen), found(**changes), token=5)


@pytest.mark.parametrize(
    ("action", "seen", "now", "change"),
    [
        (Action.RELEASE, HELD, {}, Change(state=PENDING, reason="released")),
        # Releasing loses nothing, whatever has come since.
        (Action.RELEASE, HELD, {"arrivals": 9}, Change(state=PENDING, reason="released")),
        (Action.DROP, HELD, {}, Change(state=DEAD_LETTER, reason="dropped")),
        (Action.DROP, HELD, {"reason": "schema_newer"}, Change(state=DEAD_LETTER, reason="dropped")),
        (
            Action.RELEASE_LANE,
            DEAD_LETTER,
            {"state": DEAD_LETTER, "held_by_entry": 11},
            Change(ends_hold=True),
        ),
        # The dead letter is gone, and must not hold its lane for ever.
        (Action.RELEASE_LANE, DEAD_LETTER, {"state": None, "held_by_entry": 11}, Change(ends_hold=True)),
        (Action.HURRY, PENDING, {"state": PENDING}, Change(state=PENDING)),
        # What only somebody can bring on may be given up as well.
        (
            Action.DROP,
            PENDING,
            {"state": PENDING, "reason": "roles_unreadable"},
            Change(state=DEAD_LETTER, reason="dropped"),
        ),
    ],
)
def test_what_stands_as_it_was_seen_is_done(
    action: Action, seen: EntryState, now: dict[str, Any], change: Change
) -> None:
    done = answer(action, seen, **now)

    assert (done.verdict, done.change, done.event_id) == (DONE, change, "e-1")
    assert [hint.state for hint in hints_after([done])] == ["READY"]


@pytest.mark.parametrize(
    ("action", "seen", "now", "why"),
    [
        (Action.RELEASE, HELD, {"state": PENDING}, "the entry is PENDING now"),
        (Action.RELEASE, HELD, {"state": None}, "the entry is no more"),
        (Action.RELEASE, PENDING, {"state": PENDING}, "not held"),
        (Action.RELEASE, HELD, {"reason": "schema_newer"}, "cannot read it"),
        (Action.RELEASE, HELD, {"reason": "kind_unregistered"}, "cannot read it"),
        (Action.DROP, HELD, {"arrivals": 8}, "look again"),
        (Action.DROP, PENDING, {"state": PENDING, "reason": "timeout"}, "nor does it wait for somebody"),
        (Action.DROP, PENDING, {"state": PENDING, "reason": None}, "nor does it wait for somebody"),
        (Action.DROP, PENDING, {"state": PENDING, "reason": "group_missing", "head_id": 9}, "not the next"),
        (Action.DROP, PENDING, {"state": PENDING, "reason": "group_missing", "arrivals": 8}, "look again"),
        (
            Action.DROP,
            PENDING,
            {"state": PENDING, "reason": "group_missing", "in_doubt": True},
            "may still take effect",
        ),
        (Action.RELEASE_LANE, DEAD_LETTER, {"state": DEAD_LETTER}, "does not hold its lane"),
        (
            Action.RELEASE_LANE,
            DEAD_LETTER,
            {"state": DEAD_LETTER, "held_by_entry": 12},
            "does not hold its lane",
        ),
        (Action.HURRY, PENDING, {"state": DELIVERED}, "the entry is DELIVERED now"),
        (Action.HURRY, PENDING, {"state": PENDING, "head_id": 9}, "not the next"),
        (Action.HURRY, PENDING, {"state": PENDING, "in_doubt": True}, "may still take effect"),
    ],
)
def test_what_has_changed_is_refused_and_left_as_it_is(
    action: Action, seen: EntryState, now: dict[str, Any], why: str
) -> None:
    refused = answer(action, seen, **now)

    assert (refused.verdict, refused.change) == (REFUSED, None)
    assert why in refused.detail
    assert hints_after([refused]) == []


@pytest.mark.parametrize("action", Action)
def test_what_is_too_old_is_not_done(action: Action) -> None:
    too_old = answer(action, expired=True)

    assert (too_old.verdict, too_old.change) == (EXPIRED, None)
