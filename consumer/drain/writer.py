"""Write-backs: the results of many lanes share a transaction, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence

import structlog

from consumer.outbox.drain_store import DrainStore, WriteBack
from consumer.outbox.errors import CommitUnknown, DatabaseUnavailable
from consumer.outbox.rows import EntryState
from consumer.retry import Backoff

__all__ = ["Writer"]

_log = structlog.get_logger(__name__)
_MORE_TO_DO = 0.05
"""Seconds for which a result is kept where its lane has more to do. Every so often it is looked whether one came."""


class Writer:
    """Collects what lanes have to write and writes it in groups; a lane is in flight until its group's COMMIT is known."""

    def __init__(
        self,
        store: DrainStore,
        *,
        instance: str,
        batch: int,
        on_written: Callable[[Sequence[WriteBack], set[bytes]], None],
        more_comes: Callable[[], bool],
        gather: float,
    ) -> None:
        """Prepare the writer.

        Args:
            store: the outbox.
            instance: our name, recorded with each attempt.
            batch: the most lanes in one transaction.
            on_written: told what was written, and the lanes that were fenced; must not block.
            more_comes: whether calls are under way whose results could share a transaction.
            gather: seconds for which these are waited for at most: a transaction costs as much for one as for many. Where
                more stands behind a result in its lane, the lane is kept waiting for `_MORE_TO_DO` only.
        """
        self._store = store
        self._instance = instance
        self._batch = batch
        self._on_written = on_written
        self._more_comes = more_comes
        self._gather = gather
        self._waiting: list[tuple[float, WriteBack]] = []
        """Each with the moment by which it is to be written, by the loop's clock."""
        self._signal = asyncio.Event()
        self._last_came = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, write_back: WriteBack) -> None:
        """Write this soon."""
        wait = min(_MORE_TO_DO, self._gather) if _more_behind(write_back) else self._gather
        self._waiting.append((asyncio.get_running_loop().time() + wait, write_back))
        self._idle.clear()
        self._signal.set()

    def last_came(self) -> None:
        """No call is under way any more: there is nothing to wait for."""
        self._last_came.set()

    async def drained(self) -> None:
        """Return when everything added has been written."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write until cancelled. Faults of MariaDB are waited out: results are kept until they are recorded."""
        backoff = Backoff(base=0.2, cap=5.0, uniform=random.uniform)
        while True:
            await self._signal.wait()
            self._signal.clear()
            while self._waiting:
                await self._gathered()
                group = [write_back for _, write_back in self._waiting[: self._batch]]
                fenced = await self._write(group, backoff)
                del self._waiting[: len(group)]
                self._on_written(group, fenced)
            self._idle.set()

    async def _gathered(self) -> None:
        clock = asyncio.get_running_loop().time
        while (
            len(self._waiting) < self._batch
            and (left := min(by for by, _ in self._waiting) - clock()) > 0
            and self._more_comes()
        ):
            self._last_came.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, _MORE_TO_DO)):
                    await self._last_came.wait()

    async def _write(self, group: Sequence[WriteBack], backoff: Backoff) -> set[bytes]:
        left = list(group)
        fenced: set[bytes] = set()
        while left:
            try:
                fenced |= await self._store.settle(left, instance=self._instance)
                break
            except CommitUnknown:
                # Only what was not committed is written again.
                left = await self._unrecorded(left, backoff)
            except DatabaseUnavailable as error:
                _log.warning("results wait for the database", results=len(left), reason=str(error))
                await asyncio.sleep(backoff.next_delay())
        backoff.reset()
        if fenced:
            _log.warning("write-backs fenced: another instance owns these shards now", lanes=len(fenced))
        return fenced

    async def _unrecorded(self, write_backs: Sequence[WriteBack], backoff: Backoff) -> list[WriteBack]:
        entries = [s.head.entry_id for each in write_backs for s in each.settlements[:1]]
        while True:
            try:
                pending = await self._store.still_pending(entries)
            except (DatabaseUnavailable, CommitUnknown):
                await asyncio.sleep(backoff.next_delay())
                continue
            return [each for each in write_backs if not _recorded(each, pending)]


def _more_behind(write_back: WriteBack) -> bool:
    """Whether the lane may go on as soon as this is written."""
    last = write_back.settlements[-1] if write_back.settlements else None
    return last is None or last.head.next_priority is not None


def _recorded(write_back: WriteBack, pending: Mapping[int, int | None]) -> bool:
    """Tell from the entries that are still pending, with their claims, whether this was committed.

    Entries of a lane were written together or not at all, so the first tells for all. What is another owner's by now
    is written again in vain: it is fenced.
    """
    if not write_back.settlements:
        # A fold alone can be written twice.
        return False
    first = write_back.settlements[0]
    if first.head.entry_id not in pending:
        return True
    # What stays pending was claimed, and writing it ended the claim. What does not would not be pending: a head that
    # was held back never had a claim.
    return first.state is EntryState.PENDING and pending[first.head.entry_id] != write_back.token
