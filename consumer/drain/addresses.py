"""E-mail addresses that somebody else has: may a change of theirs still give one up?"""

from __future__ import annotations

from typing import Protocol

from consumer.outbox.drain_store import ReadyLane
from consumer.outbox.errors import OutboxError
from consumer.outbox.lane import lane_id

__all__ = ["Unfinished", "may_be_given_up"]


class Unfinished(Protocol):
    """How the drain asks about the lane of another user."""

    async def __call__(self, lane: bytes, *, asker: str) -> bool:
        """As `DrainStore.unfinished`."""


async def may_be_given_up(unfinished: Unfinished, asker: ReadyLane, holder: str) -> bool:
    """Whether the holder, another user of the asker's realm, has a change open that may free their address.

    With the outbox away nobody can tell, and the asker asks again.
    """
    try:
        return await unfinished(lane_id(asker.realm, holder), asker=asker.username_key)
    except OutboxError:
        return True
