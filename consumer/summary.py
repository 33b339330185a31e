"""The one line that an instance writes each sync interval."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress", "ingest_line", "summary_line"]


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


def ingest_line(*, persisted: int, total: int, pending: int) -> str:
    """Write the line of one interval of a process that only ingests.

    Args:
        persisted: Records persisted in the interval.
        total: The same since the start.
        pending: Entries that wait now, of all instances.
    """
    return f"Persisted {persisted} records (total: {total}, pending: {pending})"
