"""The deletion guard: so many deletes in an hour and realm, and no more without somebody who says so.

A wrong query in an application deletes users one correct event at a time; no single one of them can be told from a
right one, only their number.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from consumer.drain.reasons import DrainReason
from consumer.outbox.deletion_store import DeletionStore
from consumer.outbox.drain_store import Head
from consumer.telemetry.trouble import Trouble

__all__ = ["HELD_BY_GUARD", "DeletionGuard", "GuardPolicy", "limit_of"]

_log = structlog.get_logger(__name__)
_COUNT_EVERY: Final = 60.0
_COUNT_AGAIN_AFTER: Final = 1.0
"""A count older than this refuses nobody: a realm that is being filled knows many more users than a minute ago."""

HELD_BY_GUARD: Final = DrainReason.DELETION_GUARD.value
"""The reason of deletes that were held back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPolicy:
    """How many deletes go through in an hour and realm.

    Attributes:
        deletes: at most so many.
        share: at most this share of the users we know, from 0 to 1.
        floor: the share never allows fewer than this: in a realm of twenty users, five deletes are no accident yet.
    """

    deletes: int = 100
    share: float = 0.2
    floor: int = 10

    @property
    def enough_users(self) -> int:
        """From so many known users on, the share says nothing that the number does not."""
        return math.ceil(self.deletes / self.share)


def limit_of(policy: GuardPolicy, users: int) -> int:
    """How many deletes may go through in an hour, in a realm of so many users.

    Args:
        policy: The numbers.
        users: Those we know, with those who were deleted within the hour; counted up to `policy.enough_users`.
    """
    return min(policy.deletes, max(policy.floor, math.ceil(users * policy.share)))


@dataclass(slots=True, kw_only=True)
class DeletionGuard:
    """Takes a place for each delete before it is called, and holds those that find none.

    Attributes:
        store: the places, shared by all instances.
        policy: how many there are.
        clock: seconds that never go back.
    """

    store: DeletionStore
    policy: GuardPolicy
    clock: Callable[[], float] = time.monotonic
    _users: dict[str, tuple[float, int]] = field(default_factory=dict)
    _trouble: defaultdict[str, Trouble] = field(default_factory=lambda: defaultdict(Trouble))

    async def refused(self, heads: Sequence[Head]) -> Mapping[int, str]:
        """The deletes among these that find no place. Both modes count: either bars a user from everything."""
        # One that was called before has its place, or needs none any more: it may have happened.
        deletes = [
            head
            for head in heads
            if head.kind == "user_delete"
            and not head.calls
            and head.claimed_at is None
            and head.maybe_applied_since is None
        ]
        if not deletes:
            return {}
        admitted = await self.store.let_through([head.entry_id for head in deletes])
        waiting: defaultdict[str, list[int]] = defaultdict(list)
        for head in deletes:
            if head.entry_id not in admitted:
                waiting[head.lane.realm].append(head.entry_id)
        refused: set[int] = set()
        for realm, entries in waiting.items():
            limit = limit_of(self.policy, await self._users_of(realm, no_older_than=_COUNT_EVERY))
            held = set(entries) - await self.store.reserve(realm, sorted(entries), limit=limit)
            if held and limit < self.policy.deletes:
                now = limit_of(self.policy, await self._users_of(realm, no_older_than=_COUNT_AGAIN_AFTER))
                if now > limit:
                    limit = now
                    held -= await self.store.reserve(realm, sorted(held), limit=limit)
            if held and self._trouble[realm].is_news():
                _log.error(
                    "deletion guard: deletes are held until somebody allows them",
                    realm=realm,
                    allowed_in_an_hour=limit,
                    see="kcsync allow-deletes",
                )
            refused |= held
        return dict.fromkeys(refused, HELD_BY_GUARD)

    async def _users_of(self, realm: str, *, no_older_than: float) -> int:
        """Users of a realm, counted within so many seconds."""
        counted_at, users = self._users.get(realm, (-math.inf, 0))
        if self.clock() - counted_at >= no_older_than:
            upto = self.policy.enough_users
            # Whoever was deleted within the hour is no user any more, and was one when the hour began.
            users = await self.store.users(realm, upto=upto) + await self.store.used(realm)
            self._users[realm] = (self.clock(), users)
            await self.store.forget(realm)
        return users
