"""Places for deletes: how many of a realm may go through within an hour, counted across all instances."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from consumer.outbox.bulk import multi_row_statements
from consumer.outbox.database import Database, Transaction
from consumer.outbox.statements import load_statements

__all__ = ["DeletionStore"]

_SQL = load_statements("deletion")


class DeletionStore:
    """Reservations of deletes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def let_through(self, entries: Collection[int]) -> set[int]:
        """Which of these entries have a place already."""
        rows = await self._database.fetch(_SQL["let_through"], {"entries": tuple(entries)})
        return {row["entry_id"] for row in rows}

    async def used(self, realm: str) -> int:
        """Places of a realm that were taken within the last hour."""
        row = await self._database.fetch_one(_SQL["used"], {"realm": realm})
        return 0 if row is None else int(row["n"])

    async def reserve(self, realm: str, entries: Sequence[int], *, limit: int) -> set[int]:
        """Take places for as many of these as the limit leaves, in their order; those that have one now.

        An entry that has a place already keeps it and needs no other: the COMMIT of an earlier try may have been late,
        after `let_through` was asked.
        """

        async def work(tx: Transaction) -> set[int]:
            parameters = {"realm": realm}
            await tx.execute(_SQL["ensure_realm"], parameters)
            await tx.fetch(_SQL["lock_realm"], parameters)
            placed = {
                row["entry_id"] for row in await tx.fetch(_SQL["let_through"], {"entries": tuple(entries)})
            }
            used = await tx.fetch_one(_SQL["used"], parameters)
            room = max(0, limit - (0 if used is None else used["n"]))
            taken = [entry for entry in entries if entry not in placed][:room]
            await tx.execute_all(multi_row_statements(_SQL["reserve"], [(entry, realm) for entry in taken]))
            return placed.union(taken)

        return await self._database.transact(work)

    async def users(self, realm: str, *, upto: int) -> int:
        """Users of a realm who exist as far as we know, counted no further than `upto`."""
        row = await self._database.fetch_one(_SQL["users"], {"realm": realm, "limit": upto})
        return 0 if row is None else int(row["n"])

    async def forget(self, realm: str) -> None:
        """Remove places that say nothing any more."""
        await self._database.execute(_SQL["forget"], {"realm": realm})
