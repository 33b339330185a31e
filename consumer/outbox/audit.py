"""The audit trail: what operators did, and findings that need an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from consumer.outbox.database import Database
from consumer.outbox.statements import load_statements

__all__ = ["AuditStore"]

_SQL = load_statements("audit")


class AuditStore:
    """Appends to the audit table; nothing is ever changed there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, *, actor: str, action: str, arguments: Mapping[str, Any], outcome: str) -> None:
        """Append one line. Neither arguments nor outcome may hold a secret or a username."""
        parameters = {
            "actor": actor[:255],
            "action": action,
            "arguments": orjson.dumps(arguments).decode(),
            "outcome": outcome[:255],
        }
        await self._database.execute(_SQL["record"], parameters)
