"""Held for want of a newer version: released by the owner of the lane, as soon as that is the newer version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from consumer.delivery.errors import PasswordUnreadable, UnknownSealingKey
from consumer.drain.leases import LeaseKeeper
from consumer.outbox.errors import OutboxError
from consumer.outbox.rows import EntryState
from consumer.outbox.unknown_store import Reread, UnknownEntry, UnknownStore

__all__ = ["Releaser"]

_log = structlog.get_logger(__name__)
_PIECE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Releaser:
    """Looks for held entries that are known now.

    Attributes:
        store: where they are.
        leases: whose shards are ours.
        versions: the latest version that is known of each kind.
        reread: checks one as if it came now.
        interval: seconds between two looks.
        on_released: told that there may be new work; must not block.
    """

    store: UnknownStore
    leases: LeaseKeeper
    versions: Mapping[str, int]
    reread: Callable[[UnknownEntry], Reread]
    interval: float
    on_released: Callable[[], None]

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except OutboxError as error:
                _log.warning("held entries not looked at", reason=str(error))
            await asyncio.sleep(self.interval)

    async def look(self) -> int:
        """Release what is known now; how many entries."""
        after = released = 0
        while found := await self.store.known_now(
            self.leases.shards, self.versions, after=after, limit=_PIECE
        ):
            after = found[-1].entry_id
            read = [each for entry in found if (each := self._read(entry)) is not None]
            released += await self.store.release(read)
            for each in read:
                if each.state is EntryState.DEAD_LETTER:
                    _log.error("dead letter", event_id=each.entry.event_id, reason=each.reason)
        if released:
            _log.info("held entries released: their kind is known now", entries=released)
            self.on_released()
        return released

    def _read(self, entry: UnknownEntry) -> Reread | None:
        try:
            return self.reread(entry)
        except (PasswordUnreadable, UnknownSealingKey) as error:
            # It stays held: the key may come back.
            _log.warning("held entry cannot be opened", event_id=entry.event_id, reason=str(error))
            return None
