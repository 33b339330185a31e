"""Heads of lanes, calls and outcomes, for tests of the drain's decisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from consumer.delivery.outcome import Blame, DeadLetter, Defer, Delivered, Failure, Reason, Retry
from consumer.drain.settle import Call
from consumer.outbox.drain_store import Head, ReadyLane
from consumer.outbox.fold import Fold
from consumer.outbox.lane import lane_id
from consumer.outbox.rows import EntryState, Position

CLAIMED_AT = datetime(2026, 11, 21, 22, 33, 44)  # noqa: DTZ001 - naive UTC, as stored
ENDED_AT = datetime(2026, 11, 21, 22, 33, 46)  # noqa: DTZ001 - naive UTC, as stored
STARTED_AT = datetime(2026, 11, 21, 22, 33, 45)  # noqa: DTZ001 - naive UTC, as stored
EARLIER = datetime(2026, 11, 21, 22, 0, 0)  # noqa: DTZ001 - naive UTC, as stored

LANE = ReadyLane(lane_id=lane_id("shop", "alice"), realm="shop", username_key="alice", arrivals=7, priority=5)


def position(offset: int = 42) -> Position:
    return Position(1, 2, offset)


def head(kind: str = "user_update", **changes: Any) -> Head:
    values: dict[str, Any] = {
        "lane": LANE,
        "entry_id": 11,
        "position": position(),
        "origin": "live",
        "kind": kind,
        "source": "/accounts",
        "event_id": "e-1",
        "username": "Alice",
        "priority": 5,
        "traceparent": None,
        "tracestate": None,
        "data": {"email": "alice@example.org"} if kind == "user_update" else {},
        "credential": None,
        "state": EntryState.PENDING,
        "state_reason": None,
        "attempts": 0,
        "calls": 0,
        "openings": 0,
        "charged_ago": None,
        "due_in": 0.0,
        "claimed_at": None,
        "maybe_applied_since": None,
        "eligible": 0.0,
        "next_priority": None,
        "fold": Fold(),
    }
    return Head(**{**values, **changes})


def call(**changes: Any) -> Call:
    values: dict[str, Any] = {
        "token": 5,
        "claimed_at": CLAIMED_AT,
        "ended_at": ENDED_AT,
        "started_at": STARTED_AT,
        "seconds": 1.5,
        "trace_id": b"t" * 16,
        "openings": 0,
        "judged": None,
    }
    return Call(**{**values, **changes})


def delivered(reason: Reason = Reason.UPDATED, **changes: Any) -> Delivered:
    return Delivered(**{"reason": reason, "user_id": "0b5c", "existed": True, **changes})


def failure(blame: Blame = Blame.USER, *, ambiguous: bool = False, status: int | None = 409) -> Failure:
    return Failure(blame=blame, status=status, ambiguous=ambiguous, detail="why it failed")


CONFLICT = Retry(reason=Reason.CONFLICT, failure=failure())
TIMEOUT = Retry(reason=Reason.TIMEOUT, failure=failure(Blame.KEYCLOAK, ambiguous=True, status=None))
UNREACHABLE = Retry(reason=Reason.CONNECTION_FAILED, failure=failure(Blame.KEYCLOAK, status=None))
UNAVAILABLE = Defer(reason=Reason.UNAVAILABLE, failure=failure(Blame.KEYCLOAK, status=503))
FORBIDDEN = Defer(reason=Reason.FORBIDDEN, failure=failure(Blame.CONFIGURATION, status=403))
NOT_KEYCLOAK = Defer(reason=Reason.NOT_KEYCLOAK, failure=failure(Blame.CONFIGURATION, status=200))
NO_KEY = Defer(reason=Reason.UNKNOWN_SEALING_KEY, failure=failure(Blame.LOCAL, status=None))
INVALID = DeadLetter(reason=Reason.INVALID_DATA, failure=failure(status=400))
UNREADABLE = DeadLetter(reason=Reason.PASSWORD_UNREADABLE, failure=failure(Blame.LOCAL, status=None))
