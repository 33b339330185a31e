"""Removing entries whose retention has passed, a bounded piece at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consumer.outbox.database import Database, Transaction
from consumer.outbox.rows import EntryState
from consumer.outbox.statements import load_statements

__all__ = ["PurgeStore"]

_SQL = load_statements("purge")
_PIECE = 1000


class PurgeStore:
    """Removes terminal entries with their attempts. What replay needs (ledger, marks, folds) is kept."""

    def __init__(self, database: Database, retention: Mapping[EntryState, float]) -> None:
        """Prepare a purge.

        Args:
            database: where the outbox is.
            retention: seconds that entries of a terminal state stay, counted from when they reached it.
        """
        self._database = database
        self._retention = retention

    async def count(self) -> dict[EntryState, int]:
        """How many entries a purge would remove now, by state."""
        counts = {}
        for state, seconds in self._retention.items():
            row = await self._database.fetch_one(
                _SQL["count_expired"], {"state": state.value, "seconds": seconds}
            )
            assert row is not None
            counts[state] = row["n"]
        return counts

    async def purge(self) -> dict[EntryState, int]:
        """Remove what has expired; how many entries, by state. Short transactions: nobody waits for them long."""
        removed = {}
        for state, seconds in self._retention.items():
            removed[state] = 0
            while piece := await self._purge_piece(
                {"state": state.value, "seconds": seconds, "limit": _PIECE}
            ):
                removed[state] += piece
        return removed

    async def _purge_piece(self, parameters: dict[str, Any]) -> int:
        async def work(tx: Transaction) -> int:
            rows = await tx.fetch(_SQL["expired"], parameters)
            if not rows:
                return 0
            entries = {**parameters, "entries": tuple(row["entry_id"] for row in rows)}
            await tx.execute(_SQL["delete_attempts"], entries)
            return await tx.execute(_SQL["delete_entries"], entries)

        return await self._database.transact(work)
