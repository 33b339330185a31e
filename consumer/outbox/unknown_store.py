"""Held entries whose kind or version was unknown when they came."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from consumer.outbox.bulk import multi_row_statements
from consumer.outbox.database import Database, Transaction
from consumer.outbox.rows import EntryState, Position
from consumer.outbox.statements import load_statements

__all__ = ["Reread", "UnknownEntry", "UnknownStore"]

_SQL = load_statements("unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEntry:
    """A held entry as it came; its data is sealed to our own key."""

    entry_id: int
    lane_id: bytes
    shard: int
    position: Position
    kind: str
    version: int
    realm: str
    source: str
    event_id: str
    username: str
    event_time: datetime
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reread:
    """What such an entry is, now that its kind is known: PENDING with its data, or DEAD_LETTER with a reason."""

    entry: UnknownEntry
    state: EntryState
    reason: str | None = None
    data: bytes | None = field(default=None, repr=False)
    credential: bytes | None = field(default=None, repr=False)


class UnknownStore:
    """Reads and releases them, as the owner of their shards."""

    def __init__(self, database: Database, *, owner: str) -> None:
        self._database = database
        self._owner = owner

    async def known_now(
        self, shards: Collection[int], versions: Mapping[str, int], *, after: int, limit: int
    ) -> list[UnknownEntry]:
        """Held entries of these shards that are known now, in the order of their ids.

        Args:
            shards: whose.
            versions: the latest version that is known of each kind.
            after: entries with greater ids only.
            limit: how many at most.
        """
        if not shards:
            return []
        known = orjson.dumps([{"kind": kind, "version": version} for kind, version in versions.items()])
        parameters = {"known": known.decode(), "shards": tuple(shards), "after": after, "limit": limit}
        return [
            UnknownEntry(
                entry_id=row["entry_id"],
                lane_id=row["lane_id"],
                shard=row["shard"],
                position=Position(row["topic_id"], row["partition_no"], row["log_offset"]),
                kind=row["kind"],
                version=row["schema_version"],
                realm=row["realm"],
                source=row["source"],
                event_id=row["event_id"],
                username=row["username"],
                event_time=row["event_time"],
                sealed=row["data"],
            )
            for row in await self._database.fetch(_SQL["known_now"], parameters)
        ]

    async def release(self, read: Sequence[Reread]) -> int:
        """Write what entries are, where their shards are ours still; how many."""
        if not read:
            return 0

        async def work(tx: Transaction) -> int:
            shards = {"shards": tuple({each.entry.shard for each in read}), "owner": self._owner}
            ours = {row["shard"] for row in await tx.fetch(_SQL["lock_ours"], shards)}
            written = [each for each in read if each.entry.shard in ours]
            if not written:
                return 0
            rows = [
                {
                    "entry_id": each.entry.entry_id,
                    "state": each.state.value,
                    "reason": each.reason,
                    "data": None if each.data is None else each.data.hex(),
                    "credential": None if each.credential is None else each.credential.hex(),
                }
                for each in written
            ]
            released = await tx.execute(_SQL["release"], {"rows": orjson.dumps(rows).decode()})
            await tx.execute_all(
                multi_row_statements(
                    _SQL["mark_dead"],
                    [
                        (p.topic_id, p.partition, p.offset, "dead", each.entry.lane_id)
                        for each in written
                        if each.state is EntryState.DEAD_LETTER and (p := each.entry.position)
                    ],
                )
            )
            await tx.execute(_SQL["look_again"], {"lanes": tuple({each.entry.lane_id for each in written})})
            return released

        return await self._database.transact(work)
