"""Does the outbox hold more than it should? Then Kafka keeps the rest until the drain has caught up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from consumer.outbox.backlog_store import BacklogStore
from consumer.outbox.errors import OutboxError
from consumer.telemetry.trouble import Trouble

__all__ = ["BacklogWatch", "Marks", "is_full"]

_log = structlog.get_logger(__name__)
_READ_EVERY = 1.0
_COUNT_WITHIN = 60.0
_SHORTEST_REST = 2.0
_LONGEST_REST = 30.0
_REST_PER_WORK = 50.0
"""Counting takes a fiftieth of MariaDB's time at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Entries, not terminal, that can become due by themselves: from `high` on ingest holds, down to `low`."""

    high: int
    low: int


def is_full(due: int, *, was_full: bool, marks: Marks) -> bool:
    """Whether ingest should hold.

    Only what the drain can take away by itself counts, so the drain always gets below the low mark, and what waits for
    somebody's decision can hold nothing up.
    """
    return due > marks.low if was_full else due >= marks.high


class BacklogWatch:
    """Follows the backlog that all instances share, and counts it when it is this one's turn."""

    def __init__(
        self,
        store: BacklogStore,
        *,
        marks: Marks,
        on_change: Callable[[bool], None],
        on_state: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch.

        Args:
            store: the shared count.
            marks: from where to where ingest holds.
            on_change: told whether the backlog is full, at first and when it changes; must not block.
            on_state: told the same in one line for people; must not block.
            clock: seconds that never go back.
        """
        self._store = store
        self._marks = marks
        self._on_change = on_change
        self._on_state = on_state
        self._clock = clock
        self._full: bool | None = None
        self._blocked_alarm = False
        self._trouble = Trouble()

    async def run(self) -> None:
        """Follow it until cancelled."""
        while True:
            try:
                await self.turn()
                self._trouble.over()
            except OutboxError as error:
                if self._trouble.is_news():
                    _log.warning("backlog not known", reason=str(error))
            await asyncio.sleep(_READ_EVERY)

    async def turn(self) -> None:
        """Look once, and count if nobody has done so lately."""
        backlog = await self._store.read()
        if backlog.stale and await self._store.claim(seconds=_COUNT_WITHIN):
            await self._count(was_full=backlog.full)
            backlog = await self._store.read()
        if backlog.full is not self._full:
            if backlog.full:
                self._on_state(
                    f"Backlog full: {backlog.due:,} entries are undelivered, the mark is {self._marks.high:,}; "
                    f"ingest goes on below {self._marks.low:,}"
                )
            elif self._full:
                self._on_state(f"Backlog well again: {backlog.due:,} entries are undelivered")
            self._full = backlog.full
            self._on_change(backlog.full)

    async def _count(self, *, was_full: bool) -> None:
        began = self._clock()
        unfinished = await self._store.unfinished()
        blocked = 0
        # What is blocked matters only where it could make the difference.
        if unfinished > self._marks.low:
            blocked = await self._store.blocked()
        # Counted one after the other, so that more may seem blocked than there was.
        due = max(0, unfinished - blocked)
        self._tell_of_blocked(blocked)
        worked = self._clock() - began
        await self._store.note(
            due=due,
            blocked=blocked,
            full=is_full(due, was_full=was_full, marks=self._marks),
            rest=min(max(worked * _REST_PER_WORK, _SHORTEST_REST), _LONGEST_REST),
        )

    def _tell_of_blocked(self, blocked: int) -> None:
        """Nothing holds what is blocked, so somebody must hear of it before the disk is full."""
        alarm = blocked >= self._marks.high
        if alarm and not self._blocked_alarm:
            _log.error(
                "blocked entries alone are beyond the high water mark",
                blocked=blocked,
                mark=self._marks.high,
                detail="they wait behind held entries, or for a realm that is at fault or in maintenance; ingest goes on",
            )
        self._blocked_alarm = alarm
