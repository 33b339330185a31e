"""Removing what is past its retention: bounded pieces, short transactions, one process at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Protocol, TypeVar

import structlog

from consumer.outbox.database import Database, Transaction
from consumer.outbox.forget import events_piece, finish_walk, marks_piece, read_horizons, walked_within
from consumer.outbox.horizon import Horizon
from consumer.outbox.rows import EntryState
from consumer.outbox.statements import load_statements

__all__ = ["PurgeStore", "Purged", "Retention"]

_log = structlog.get_logger(__name__)
T = TypeVar("T")
At = TypeVar("At")

_SQL = load_statements("purge")
_LEASES = load_statements("leases")
_PIECE = 1000
# A poison record may be as large as Kafka lets it be.
_POISON_PIECE = 50
# A day, minus what the hourly turns may be early.
_WALK_LEDGER_EVERY = 0.9 * 86_400
_LEASE = 60
_BEGINNING = datetime(1970, 1, 1)  # noqa: DTZ001 - all times of the database are naive UTC


class Purged(StrEnum):
    """What is removed, by the words of the screen."""

    DELIVERED = "completed syncs"
    SUPERSEDED = "superseded entries"
    DEAD_LETTER = "dead letters"
    POISON = "poison records"
    EVENT = "event ids"
    MARK = "marks"
    PASSWORD = "last passwords"  # noqa: S105 - the name of what goes.
    INSTANCE = "silent instances"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many seconds things stay; None is for ever.

    Attributes:
        delivered: DELIVERED and SUPERSEDED entries, since they ended.
        dead_letter: DEAD_LETTER entries since they died, and poison since it was received.
        passwords: the last passwords that folds keep, since they were delivered.
        kinds: kinds whose entries stay for another time.
    """

    delivered: float | None
    dead_letter: float | None
    passwords: float | None = None
    kinds: Mapping[str, Retention] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """Entries of one state that stay for one time: those of `kinds`, or with `only` False of all others."""

    what: Purged
    state: EntryState
    seconds: float
    kinds: tuple[str, ...]
    only: bool

    @property
    def parameters(self) -> dict[str, object]:
        # An empty list is no SQL; no kind is called "".
        return {
            "state": self.state.value,
            "seconds": self.seconds,
            "kinds": self.kinds or ("",),
            "only": int(self.only),
        }


def _delivered(retention: Retention) -> float | None:
    return retention.delivered


def _dead_letter(retention: Retention) -> float | None:
    return retention.dead_letter


def _passes(retention: Retention) -> list[_Pass]:
    """What a purge goes through: all kinds but those with a retention of their own, then each of these.

    By index only state and age are found, so a pass walks over entries that are not its own: those that stay longer than
    their neighbours, at each purge.
    """
    found = []
    for what, state, stays in (
        (Purged.DELIVERED, EntryState.DELIVERED, _delivered),
        (Purged.SUPERSEDED, EntryState.SUPERSEDED, _delivered),
        (Purged.DEAD_LETTER, EntryState.DEAD_LETTER, _dead_letter),
    ):
        usual = stays(retention)
        own = {kind: stays(each) for kind, each in retention.kinds.items() if stays(each) != usual}
        for seconds, kinds, only in (
            (usual, tuple(own), False),
            *((seconds, (kind,), True) for kind, seconds in own.items()),
        ):
            if seconds is not None:
                found.append(_Pass(what=what, state=state, seconds=seconds, kinds=kinds, only=only))
    return found


class _Run(Protocol):
    """Does one piece in a transaction."""

    async def __call__(self, work: Callable[[Transaction], Awaitable[T]], /) -> T: ...


class PurgeStore:
    """Removes terminal entries with their attempts, poison, passwords, instances that are gone, and what nobody can ask for.

    The last is the ledger and the marks before Kafka's log start (horizon.py says when): until then they are what makes
    a replay safe. Folds (but for the password in them) and the audit are kept.
    """

    def __init__(
        self, database: Database, *, owner: str, retention: Retention, remember: timedelta | None
    ) -> None:
        """Prepare a purge.

        Args:
            database: where the outbox is.
            owner: our name; nobody else's.
            retention: how long things stay.
            remember: how long ledger and marks stay at least; None is for ever.
        """
        self._database = database
        self._owner = {"owner": owner, "seconds": _LEASE}
        self._poison = retention.dead_letter
        self._passwords = retention.passwords
        self._passes = _passes(retention)
        self._remember = remember

    async def count(self) -> dict[Purged, int]:
        """How much a purge would remove now."""

        async def work(tx: Transaction) -> dict[Purged, int]:
            found = dict.fromkeys(Purged, 0)
            for each in self._passes:
                found[each.what] += await _number(tx, _SQL["count_expired"], each.parameters)
            if self._poison is not None:
                found[Purged.POISON] = await _number(tx, _SQL["count_poison"], {"seconds": self._poison})
            if self._passwords is not None:
                found[Purged.PASSWORD] = await _number(
                    tx, _SQL["count_kept_passwords"], {"seconds": self._passwords}
                )
            found[Purged.INSTANCE] = await _number(tx, _SQL["count_silent_instances"], {})
            return found

        found = await self._database.transact(work)
        if past := await self._horizons():
            run = self._database.transact
            found[Purged.MARK] = sum([rows async for rows in _forget_marks(past, run, remove=False)])
            found[Purged.EVENT] = sum([rows async for rows in _forget_events(past, run, remove=False)])
        return found

    async def purge(self, *, unless_within: float = 0.0) -> dict[Purged, int] | None:
        """Remove what has expired, resting after each piece for as long as it took.

        Args:
            unless_within: leave it if another process came to the end of it within so many seconds; and the ledger,
                which is gone through from end to end, if that was done within a day. With 0, nothing is left.

        Returns:
            How much was removed; None if another process is at it or has just done it.
        """

        async def begin(tx: Transaction) -> bool:
            await tx.execute(_SQL["ensure"])
            parameters = {**self._owner, "unless_within_us": int(unless_within * 1_000_000)}
            return await tx.execute(_SQL["begin"], parameters) == 1

        if not await self._database.transact(begin):
            return None
        removed = dict.fromkeys(Purged, 0)
        try:
            async for what, rows in self._remove(unless_within):
                removed[what] += rows
        except _ChoreLostError:
            _log.info("cleanup ends early: it took too long, and another process may have begun")
            return removed
        await self._database.execute(_SQL["finish"], self._owner)
        return removed

    async def _remove(self, unless_within: float) -> AsyncIterator[tuple[Purged, int]]:
        for each in self._passes:
            async for rows in _pieces(partial(_remove_entries, each), (_BEGINNING, 0), self._piece):
                yield each.what, rows
        while self._poison is not None and (rows := await self._piece(partial(_remove_poison, self._poison))):
            yield Purged.POISON, rows
        if self._passwords is not None:
            forget = partial(_forget_passwords, self._passwords)
            async for rows in _pieces(forget, (_BEGINNING, b""), self._piece):
                yield Purged.PASSWORD, rows
        yield Purged.INSTANCE, await self._piece(_forget_instances)
        past = await self._horizons()
        async for rows in _forget_marks(past, self._piece, remove=True):
            yield Purged.MARK, rows
        lately = partial(walked_within, _WALK_LEDGER_EVERY)
        if not past or (unless_within and await self._database.transact(lately)):
            return
        async for rows in _forget_events(past, self._piece, remove=True):
            yield Purged.EVENT, rows
        await self._database.transact(finish_walk)

    async def _horizons(self) -> list[Horizon]:
        if self._remember is None:
            return []
        return await self._database.transact(partial(read_horizons, self._remember))

    async def _piece(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Do one piece in a transaction of its own, and rest."""
        began = time.monotonic()

        async def owned(tx: Transaction) -> T:
            if await tx.execute(_SQL["renew"], self._owner) == 0:
                raise _ChoreLostError
            return await work(tx)

        result = await self._database.transact(owned)
        # At most half of the time, so that ingest and drain find the disk free as well.
        await asyncio.sleep(time.monotonic() - began)
        return result


class _ChoreLostError(Exception):
    """The chore is not ours any more."""


async def _pieces(
    piece: Callable[[At, Transaction], Awaitable[tuple[int, At | None]]], first: At, run: _Run
) -> AsyncIterator[int]:
    """Go through a table piece by piece, each from where the one before says: how many rows of each went, or would."""
    at: At | None = first
    while at is not None:
        rows, at = await run(partial(piece, at))
        yield rows


async def _forget_marks(past: Sequence[Horizon], run: _Run, *, remove: bool) -> AsyncIterator[int]:
    for horizon in past:
        for partition in horizon.starts:
            async for rows in _pieces(partial(marks_piece, horizon, partition, remove=remove), 0, run):
                yield rows


def _forget_events(past: Sequence[Horizon], run: _Run, *, remove: bool) -> AsyncIterator[int]:
    return _pieces(partial(events_piece, past, remove=remove), b"", run)


async def _remove_entries(
    of: _Pass, after: tuple[datetime, int], tx: Transaction
) -> tuple[int, tuple[datetime, int] | None]:
    """Remove the next entries of a pass; how many, and where to go on (None: that was all)."""
    ended_at, entry_id = after
    where = {"after": ended_at, "after_id": entry_id, "limit": _PIECE}
    rows = await tx.fetch(_SQL["expired"], of.parameters | where)
    removed = 0
    if entries := tuple(row["entry_id"] for row in rows if not row["kept"]):
        await tx.execute(_SQL["delete_attempts"], {"entries": entries})
        removed = await tx.execute(_SQL["delete_entries"], {"entries": entries, "state": of.state.value})
    return removed, (rows[-1]["ended_at"], rows[-1]["entry_id"]) if rows else None


async def _remove_poison(seconds: float, tx: Transaction) -> int:
    return await tx.execute(_SQL["delete_poison"], {"seconds": seconds, "limit": _POISON_PIECE})


async def _forget_passwords(
    seconds: float, after: tuple[datetime, bytes], tx: Transaction
) -> tuple[int, tuple[datetime, bytes] | None]:
    """Forget the next last passwords whose time is over; how many, and where to go on (None: that was all)."""
    since, lane = after
    where = {"seconds": seconds, "after": since, "after_lane": lane, "limit": _PIECE}
    rows = await tx.fetch(_SQL["kept_passwords"], where)
    forgotten = 0
    if lanes := tuple(row["lane_id"] for row in rows if not row["needed"]):
        forgotten = await tx.execute(_SQL["forget_passwords"], {"lanes": lanes})
    return forgotten, (rows[-1]["credential_at"], rows[-1]["lane_id"]) if rows else None


async def _forget_instances(tx: Transaction) -> int:
    return await tx.execute(_LEASES["forget_dead_instances"])


async def _number(tx: Transaction, sql: str, parameters: dict[str, object]) -> int:
    row = await tx.fetch_one(sql, parameters)
    assert row is not None
    return int(row["n"])
