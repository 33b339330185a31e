"""Between the look at a head and its claim: may it be called at all?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from consumer.outbox.drain_store import Head, Settlement, WriteBack
from consumer.outbox.rows import EntryState

__all__ = ["Admission", "held_back"]


class Admission(Protocol):
    """Refuses heads before anything is called."""

    async def refused(self, heads: Sequence[Head]) -> Mapping[int, str]:
        """Those of the heads that are to be held, by entry, each with its reason.

        Raises:
            OutboxError: It cannot be said; nothing is claimed.
        """


def held_back(head: Head, *, token: int, reason: str) -> WriteBack:
    """Hold a head that was not admitted. No call was made, and nothing is charged."""
    settlement = Settlement(
        head=head,
        state=EntryState.HELD,
        reason=reason,
        attempts=head.attempts,
        openings=head.openings,
    )
    return WriteBack(lane=head.lane, token=token, settlements=(settlement,))
