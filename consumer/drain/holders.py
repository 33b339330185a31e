"""Names and e-mail addresses that somebody else has: may a change of theirs still give one up?"""

from __future__ import annotations

from typing import Final, Protocol

from consumer.outbox.drain_store import ReadyLane
from consumer.outbox.errors import OutboxError
from consumer.outbox.lane import lane_id

__all__ = ["Unfinished", "may_be_given_up"]

_LONGEST_CIRCLE: Final = 16
"""Users who wait for each other in a circle of more than this are left to the age of their entries."""


class Unfinished(Protocol):
    """How the drain asks about the lane of another user."""

    async def __call__(self, lane: bytes) -> str | None:
        """As `DrainStore.unfinished`."""


async def may_be_given_up(unfinished: Unfinished, asker: ReadyLane, holder: str) -> bool:
    """Whether the holder, another user of the asker's realm, has a change open that may free what the asker wants.

    Not if that change itself waits for the asker, straight or by way of others: they would wait for each other for ever.
    With the outbox away nobody can tell, and the asker asks again.
    """
    waits_for = holder
    for step in range(_LONGEST_CIRCLE):
        try:
            further = await unfinished(lane_id(asker.realm, waits_for))
        except OutboxError:
            return True
        if further is None:
            # Whoever waits for somebody who has nothing open is tried again, given up in the end, and goes on.
            return step > 0
        if further in {"", asker.username_key}:
            return further == ""
        waits_for = further
    return True
