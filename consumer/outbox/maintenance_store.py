"""Deliveries that operators have stopped on purpose, and let go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import orjson

from consumer.outbox.database import Database, Transaction
from consumer.outbox.statements import load_statements

__all__ = ["EVERY_REALM", "Maintenance", "MaintenanceStore"]

_SQL = load_statements("maintenance")

EVERY_REALM = ""
"""Stands for a realm where all of them are meant."""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """One stop. `realm` is EVERY_REALM or a realm's name."""

    realm: str
    actor: str
    reason: str | None
    since: datetime


class MaintenanceStore:
    """What is stopped, for all instances."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> list[Maintenance]:
        """What is stopped now."""
        rows = await self._database.fetch(_SQL["read"])
        return [Maintenance(row["realm"], row["actor"], row["reason"], row["since"]) for row in rows]

    async def begin(self, realm: str, *, actor: str, reason: str | None) -> None:
        """Stop deliveries. `reason` must hold neither a secret nor a username."""
        await self._write("begin", realm, actor=actor, reason=reason)

    async def end(self, realm: str, *, actor: str, reason: str | None) -> None:
        """Let deliveries go on."""
        await self._write("end", realm, actor=actor, reason=reason)

    async def rouse(self, realm: str) -> None:
        """Have a realm's waiting lanes looked at again, now that they may go on."""
        await self._database.execute(_SQL["rouse"], {"realm": realm})

    async def _write(self, what: str, realm: str, *, actor: str, reason: str | None) -> None:
        reason = None if reason is None else reason[:255]
        parameters = {
            "realm": realm,
            "actor": actor[:255],
            "reason": reason,
            "action": f"maintenance_{what}",
            "arguments": orjson.dumps({"realm": realm or None, "reason": reason}).decode(),
        }
        change = {"begin": _SQL["begin"], "end": _SQL["end"]}[what]

        async def work(tx: Transaction) -> None:
            await tx.execute(change, parameters)
            await tx.execute(_SQL["record"], parameters)

        await self._database.transact(work)
