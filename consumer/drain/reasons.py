"""Reason codes of entries that no answer of Keycloak gave, but the drain and those who operate it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from consumer.delivery.advice import ADVICE, Advice

__all__ = ["DRAIN_ADVICE", "FOR_SOMEBODY", "DrainReason", "advice_of"]


class DrainReason(StrEnum):
    """Why an entry is held, waits or was given up. The values are stored and shown: they do not change."""

    DELETION_GUARD = "deletion_guard"
    SUSPECTED_CAUSE = "suspected_cause"
    SCHEMA_NEWER = "schema_newer"
    MERGE_REFUSED = "merge_refused"
    TAKEN_OVER = "taken_over"
    RELEASED = "released"
    DROPPED = "dropped"
    TOO_OLD = "too_old"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"


DRAIN_ADVICE: Final[dict[DrainReason, Advice]] = {
    DrainReason.DELETION_GUARD: Advice(
        "more deletes than the guard lets through in an hour and realm",
        "look whether they are meant (`kcsync allow-deletes`), then let them through or drop them there",
        somebody=True,
    ),
    DrainReason.SUSPECTED_CAUSE: Advice(
        "the change was being delivered each of the last times that the circuit opened: it may be what brings Keycloak down",
        "see Keycloak's log at those times; then `kcsync held release` tries it again, `kcsync held drop` gives it up",
        somebody=True,
    ),
    DrainReason.SCHEMA_NEWER: Advice(
        "the change is written by a newer schema than this version knows",
        "run the newer version, which takes it by itself; or give it up (`kcsync held drop`)",
        somebody=True,
    ),
    DrainReason.MERGE_REFUSED: Advice(
        "several changes of a user were refused in one call", "nothing: each is tried alone next"
    ),
    DrainReason.TAKEN_OVER: Advice(
        "the process that was delivering it is gone, and its call may still take effect",
        "nothing: it goes on when KCSYNC_SERVER_LIMIT has passed",
    ),
    DrainReason.RELEASED: Advice(
        "somebody let it go on (`kcsync held release`)", "nothing: it is tried next"
    ),
    DrainReason.DROPPED: Advice("somebody gave it up; the audit says who and why", "nothing"),
    DrainReason.TOO_OLD: Advice(
        "it could have been delivered for KCSYNC_PENDING_MAX_AGE, and never was",
        "see the errors in `attempts`; then publish the change again, under a new event id",
    ),
    DrainReason.ATTEMPTS_EXHAUSTED: Advice(
        "its attempts were used up, and the reason of the last is not known any more",
        "see the errors in `attempts`; then publish the change again, under a new event id",
    ),
}
"""What each means and asks for."""

_BY_CODE: Final[dict[str, Advice]] = {
    **{reason.value: advice for reason, advice in ADVICE.items()},
    **{reason.value: advice for reason, advice in DRAIN_ADVICE.items()},
}

FOR_SOMEBODY: Final = frozenset(code for code, advice in _BY_CODE.items() if advice.somebody)
"""Reasons that stay until somebody does something."""


def advice_of(reason: str) -> Advice | None:
    """What any reason of an entry that was not delivered means and asks for; None if no version of ours gives it."""
    return _BY_CODE.get(reason)
