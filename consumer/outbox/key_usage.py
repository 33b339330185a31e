"""What in the outbox is sealed to which key."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from consumer.outbox.database import Database, Transaction
from consumer.outbox.rows import EntryState
from consumer.outbox.statements import load_statements

__all__ = ["KeyUsage", "read_key_usage"]

_SQL = load_statements("keys")


@dataclass(slots=True, kw_only=True)
class KeyUsage:
    """How much is sealed to one key.

    Attributes:
        pending: passwords of entries PENDING.
        held: passwords of entries HELD.
        unread: held events of unknown kinds, sealed whole.
        kept: last passwords that folds keep.
        poison: records that are no event.
        dead_letters: passwords of entries DEAD_LETTER: needed only if somebody tries one again.
    """

    pending: int = 0
    held: int = 0
    unread: int = 0
    kept: int = 0
    poison: int = 0
    dead_letters: int = 0

    @property
    def waiting(self) -> int:
        """What waits, and cannot be delivered without the key."""
        return self.pending + self.held + self.unread

    @property
    def in_use(self) -> dict[str, int]:
        """What would be lost with the key, in words for people; empty if nothing."""
        named = {
            "pending entries": self.pending,
            "held entries": self.held,
            "held events of unknown kinds": self.unread,
            "kept passwords": self.kept,
            "poison records": self.poison,
        }
        return {what: count for what, count in named.items() if count}


async def read_key_usage(database: Database) -> dict[str, KeyUsage]:
    """How much is sealed to each key, by its id."""

    async def work(tx: Transaction) -> dict[str, KeyUsage]:
        usage: defaultdict[str, KeyUsage] = defaultdict(KeyUsage)
        for row in await tx.fetch(_SQL["entries_by_key"]):
            match EntryState(row["state"]):
                case EntryState.PENDING:
                    usage[row["kid"]].pending = row["n"]
                case EntryState.HELD:
                    usage[row["kid"]].held = row["n"]
                case _:
                    usage[row["kid"]].dead_letters = row["n"]
        for row in await tx.fetch(_SQL["unread_by_key"]):
            usage[row["kid"]].unread = row["n"]
        for row in await tx.fetch(_SQL["folds_by_key"]):
            usage[row["kid"]].kept = row["n"]
        for row in await tx.fetch(_SQL["poison_by_key"]):
            usage[row["kid"]].poison = row["n"]
        return dict(usage)

    return await database.transact(work)
