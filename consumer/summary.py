"""The one line that an instance writes each sync interval."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from consumer.durations import format_duration

__all__ = ["Progress", "ingest_line", "outage_line", "summary_line"]


@dataclass(frozen=True, slots=True)
class Progress:
    """What one instance did in one sync interval.

    Attributes:
        processed: Attempts that came to an end in the interval, whatever the outcome.
        total: The same since the start.
        retried: Those of the interval that will be tried again.
        dead: Those of the interval that became dead letters.
        pending: Entries that wait now, of all instances.
        restored: Users of the interval whom Keycloak had lost, and who were made again.
    """

    processed: int
    total: int
    retried: int
    dead: int
    pending: int
    restored: int = 0


def summary_line(progress: Progress) -> str:
    """Write the line of one interval, begun as the polling service's was, so that old searches find it."""
    restored = f", restored: {progress.restored}" if progress.restored else ""
    return (
        f"Processed {progress.processed} sync items (total: {progress.total}, retried: {progress.retried}, "
        f"dead: {progress.dead}, pending: {progress.pending}{restored})"
    )


def outage_line(
    *, state: str, opened_at: datetime | None, now: datetime, asks_in: float, pending: int
) -> str:
    """Write the line of one interval in which nothing can be delivered, begun as the polling service's was.

    Args:
        state: Of the circuit.
        opened_at: When it opened, with an offset.
        now: With the offset of the clocks here.
        asks_in: Seconds until Keycloak is asked again.
        pending: Entries that wait now, of all instances.
    """
    since = ""
    if opened_at is not None:
        here = opened_at.astimezone(now.tzinfo)
        since = f" since {here:%H:%M:%S}" if here.date() == now.date() else f" since {here:%Y-%m-%d %H:%M:%S}"
    again = "asks now"
    if state == "OPEN":
        again = f"asks again in {format_duration(timedelta(seconds=max(1, round(asks_in))))}"
    return f"Keycloak unavailable (circuit {state}{since}, {again}): no sync; pending {pending}"


def ingest_line(*, persisted: int, total: int, pending: int) -> str:
    """Write the line of one interval of a process that only ingests.

    Args:
        persisted: Records persisted in the interval.
        total: The same since the start.
        pending: Entries that wait now, of all instances.
    """
    return f"Persisted {persisted} records (total: {total}, pending: {pending})"
