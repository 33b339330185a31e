"""How much waits in the outbox: counted by one instance for all, because counting a million entries is not free."""

from __future__ import annotations

from dataclasses import dataclass

from consumer.outbox.database import Database
from consumer.outbox.statements import load_statements

__all__ = ["Backlog", "BacklogStore"]

_SQL = load_statements("backlog")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What was counted last.

    Attributes:
        due: entries that are not terminal and can become due by themselves.
        blocked: those that somebody must free first: held, behind a held one, or of a realm at fault
            or in maintenance.
        full: whether ingest should hold.
        stale: whether it is time to count again.
    """

    due: int
    blocked: int
    full: bool
    stale: bool


class BacklogStore:
    """The backlog of one outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Backlog:
        """What was counted last; nothing, and stale, before the first time."""
        row = await self._database.fetch_one(_SQL["read"])
        if row is None:
            await self._database.execute(_SQL["ensure"])
            return await self.read()
        return Backlog(
            due=row["due"], blocked=row["blocked"], full=bool(row["is_full"]), stale=bool(row["stale"])
        )

    async def claim(self, *, seconds: float) -> bool:
        """Whether it is ours to count now; nobody else does so for `seconds`."""
        return await self._database.execute(_SQL["claim"], {"seconds": seconds}) == 1

    async def unfinished(self) -> int:
        """Count all entries that are not terminal."""
        return await self._count(_SQL["unfinished"])

    async def blocked(self) -> int:
        """Count those of them that somebody must free first."""
        return await self._count(_SQL["blocked"])

    async def note(self, *, due: int, blocked: int, full: bool, rest: float) -> None:
        """Tell all what was counted; the next count begins after `rest` seconds."""
        await self._database.execute(
            _SQL["note"], {"due": due, "blocked": blocked, "full": int(full), "rest_us": int(rest * 1e6)}
        )

    async def _count(self, sql: str) -> int:
        row = await self._database.fetch_one(sql)
        assert row is not None
        return int(row["entries"])
