"""Shard leases in MariaDB: owner, fencing token, deadline by the database's clock."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import orjson

from consumer.outbox.database import Database, Row, Transaction
from consumer.outbox.rows import LimitNote
from consumer.outbox.statements import load_statements

__all__ = ["LeaseStore", "LeaseView", "lock_claimable", "lock_tokens"]

_SQL = load_statements("leases")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """What one renewal found: our shards with their tokens, free shards, and the living instances."""

    owned: dict[int, int]
    free: tuple[int, ...]
    alive: tuple[str, ...]


async def lock_tokens(tx: Transaction, shards: Collection[int], *, owner: str) -> dict[int, int]:
    """The tokens of those shards that are this owner's: nobody takes them over before the transaction ends."""
    row = await tx.fetch_one(_SQL["lock_tokens"], {"shards": tuple(shards), "owner": owner})
    return _tokens(row)


async def lock_claimable(
    tx: Transaction, shards: Collection[int], *, owner: str, margin: float
) -> tuple[dict[int, int], datetime]:
    """The same of those whose leases last for `margin` seconds and more, and the database's time."""
    row = await tx.fetch_one(
        _SQL["lock_claimable"], {"shards": tuple(shards), "owner": owner, "margin": margin}
    )
    if row is None:
        raise AssertionError("a sum over no rows is a row, too")
    return _tokens(row), row["locked_at"]


def _tokens(row: Row | None) -> dict[int, int]:
    tokens = orjson.loads(row["tokens"] or b"{}") if row else {}
    return {int(shard): token for shard, token in tokens.items()}


def _noted(calls: LimitNote | None) -> dict[str, float | str | None]:
    return {
        "call_limit": None if calls is None else calls.limit,
        "call_ceiling": None if calls is None else calls.ceiling,
        "calls_per_second": None if calls is None else calls.per_second,
        "limit_why": None if calls is None else calls.why,
        "limit_changed_ago": None if calls is None else calls.changed_ago,
    }


class LeaseStore:
    """Leases of one owner."""

    def __init__(self, database: Database, *, owner: str, roles: str, version: str, seconds: float) -> None:
        self._database = database
        self._owner = owner
        self._parameters = {
            "owner": owner,
            "instance": owner,
            "roles": roles,
            "version": version,
            "seconds": seconds,
        }

    async def renew(self, calls: LimitNote | None = None) -> LeaseView:
        """Say that we are alive and how many calls we make at once, keep our shards, and look at the others."""
        announced = {**self._parameters, **_noted(calls)}

        async def work(tx: Transaction) -> LeaseView:
            await tx.execute(_SQL["announce"], announced)
            await tx.execute(_SQL["renew"], self._parameters)
            return LeaseView(
                owned={r["shard"]: r["token"] for r in await tx.fetch(_SQL["owned"], self._parameters)},
                free=tuple(r["shard"] for r in await tx.fetch(_SQL["free"])),
                alive=tuple(r["instance"] for r in await tx.fetch(_SQL["alive"])),
            )

        return await self._database.transact(work)

    async def announce(self) -> None:
        """Say that we are alive, without taking part in the shards."""
        await self._database.execute(_SQL["announce"], {**self._parameters, **_noted(None)})

    async def acquire(self, shards: Collection[int]) -> dict[int, int]:
        """Take free shards; all shards that are ours now, with their tokens."""

        async def work(tx: Transaction) -> dict[int, int]:
            await tx.execute(_SQL["acquire"], {**self._parameters, "shards": tuple(shards)})
            return {r["shard"]: r["token"] for r in await tx.fetch(_SQL["owned"], self._parameters)}

        return await self._database.transact(work)

    async def release(self, shards: Collection[int]) -> None:
        """Give shards back; others may take them at once."""
        if shards:
            await self._database.execute(_SQL["release"], {**self._parameters, "shards": tuple(shards)})

    async def leave(self) -> None:
        """Forget this instance: its share goes to the others at their next renewal."""

        async def work(tx: Transaction) -> None:
            await tx.execute(_SQL["forget_instance"], self._parameters)
            await tx.execute(_SQL["forget_dead_instances"])

        await self._database.transact(work)
