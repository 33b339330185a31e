"""The one line that an instance writes each sync interval."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress", "summary_line"]


@dataclass(frozen=True, slots=True)
class Progress:
    """What one instance did in one sync interval.

    Attributes:
        processed: Attempts that came to an end in the interval, whatever the outcome.
        total: The same since the start.
        retried: Those of the interval that will be tried again.
        dead: Those of the interval that became dead letters.
        pending: Entries that wait now, of all instances.
    """

    processed: int
    total: int
    retried: int
    dead: int
    pending: int


def summary_line(progress: Progress) -> str:
    """Write the line of one interval, begun as the polling service's was, so that old searches find it."""
    return (
        f"Processed {progress.processed} sync items (total: {progress.total}, retried: {progress.retried}, "
        f"dead: {progress.dead}, pending: {progress.pending})"
    )
