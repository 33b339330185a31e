"""Where does a partition go on after an assignment? One pure decision over what Kafka and MariaDB remember.

The table is design.md 3.5. The watermark in MariaDB is the truth; what Kafka has committed tells whether somebody
else has had a hand in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Committed", "Finding", "LogRange", "Resume", "decide"]


class Finding(StrEnum):
    """What an assignment found."""

    FIRST_START = "first_start"
    CONTINUED = "continued"
    OFFSETS_LOST = "offsets_lost"
    RESET_BELOW = "reset_below"
    RESET_ABOVE = "reset_above"
    RETENTION_GAP = "retention_gap"
    DATABASE_BEHIND = "database_behind"
    LOG_TRUNCATED = "log_truncated"


@dataclass(frozen=True, slots=True)
class Committed:
    """The group's committed offset, and whether our own stamp is on it."""

    offset: int
    ours: bool


@dataclass(frozen=True, slots=True)
class LogRange:
    """The offsets that Kafka holds: [start, end)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Read on from `offset`; or, where it is None, do not read this partition before an operator has looked."""

    finding: Finding
    offset: int | None
    needs_operator: str | None = None
    missing: tuple[int, int] | None = None


def decide(watermark: int | None, committed: Committed | None, log: LogRange) -> Resume:
    """Decide for one partition.

    Args:
        watermark: the next offset to ingest, or None if the partition was never ingested.
        committed: what the group has committed, or None.
        log: what Kafka holds.
    """
    if watermark is None:
        return _without_watermark(committed, log)
    if watermark > log.end:
        return Resume(
            Finding.LOG_TRUNCATED,
            None,
            f"the log ends at {log.end}, before our watermark {watermark}: the topic was recreated or truncated; "
            "nothing is read until an operator has confirmed what happened",
        )
    if committed is not None and committed.ours and committed.offset > watermark:
        return Resume(
            Finding.DATABASE_BEHIND,
            None,
            f"we have committed {committed.offset}, but the database stands at {watermark}: it was restored from a "
            "backup; nothing is read, because old changes would come after newer ones",
        )
    if watermark < log.start:
        return Resume(
            Finding.RETENTION_GAP,
            log.start,
            f"Kafka's retention has removed offsets {watermark} to {log.start - 1} before they were read: "
            "these events are lost",
            missing=(watermark, log.start),
        )
    if committed is None:
        return Resume(Finding.OFFSETS_LOST, watermark)
    if committed.ours or committed.offset == watermark:
        return Resume(Finding.CONTINUED, watermark)
    if committed.offset < watermark:
        return Resume(
            Finding.RESET_BELOW,
            watermark,
            f"the group's offset was reset to {committed.offset}, below the watermark {watermark}: this version "
            "cannot replay, and goes on from the watermark",
        )
    return Resume(
        Finding.RESET_ABOVE,
        watermark,
        f"the group's offset was set to {committed.offset}, above the watermark {watermark}: skipping events is "
        "refused, and reading goes on from the watermark",
    )


def _without_watermark(committed: Committed | None, log: LogRange) -> Resume:
    if committed is None:
        return Resume(Finding.FIRST_START, log.start)
    if committed.ours:
        return Resume(
            Finding.DATABASE_BEHIND,
            None,
            f"we have committed {committed.offset}, but the database knows nothing of it: it was lost or replaced; "
            "nothing is read, because old changes would come after newer ones",
        )
    return Resume(Finding.FIRST_START, min(max(committed.offset, log.start), log.end))
