"""Maintenance as one instance follows it: asked for each second, and told to whoever starts calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from consumer.outbox.errors import OutboxError
from consumer.outbox.maintenance_store import EVERY_REALM, Maintenance, MaintenanceStore
from consumer.telemetry.trouble import Trouble

__all__ = ["MaintenanceWatch"]

_log = structlog.get_logger(__name__)
_READ_EVERY = 1.0


class MaintenanceWatch:
    """Follows what operators have stopped."""

    def __init__(
        self,
        store: MaintenanceStore,
        *,
        on_all: Callable[[bool], None],
        on_realms: Callable[[frozenset[str]], None],
        on_state: Callable[[str], None],
    ) -> None:
        """Follow it.

        Args:
            store: where it stands.
            on_all: told whether everything is stopped, when that changes; must not block.
            on_realms: told which realms are stopped, when that changes; must not block.
            on_state: told each change in one line for people.
        """
        self._store = store
        self._on_all = on_all
        self._on_realms = on_realms
        self._on_state = on_state
        self._stopped: frozenset[str] = frozenset()
        self._trouble = Trouble()

    async def run(self) -> None:
        """Follow until cancelled. What cannot be read stays as it was."""
        while True:
            await asyncio.sleep(_READ_EVERY)
            try:
                await self.turn()
                self._trouble.over()
            except OutboxError as error:
                if self._trouble.is_news():
                    _log.warning("maintenance not readable", reason=str(error))

    async def turn(self) -> None:
        """Read once, and tell what has changed."""
        rows = {row.realm: row for row in await self._store.read()}
        stopped = frozenset(rows)
        began, ended = stopped - self._stopped, self._stopped - stopped
        if not began and not ended:
            return
        self._stopped = stopped
        if EVERY_REALM in began | ended:
            self._on_all(EVERY_REALM in stopped)
        if (began | ended) - {EVERY_REALM}:
            self._on_realms(stopped - {EVERY_REALM})
        for realm in sorted(began):
            self._on_state(f"Maintenance {_of(realm)}: no deliveries, events wait{_by(rows[realm])}")
        for realm in sorted(ended):
            self._on_state(f"Maintenance {_of(realm)} is over: deliveries go on")
            if realm != EVERY_REALM:
                await self._store.rouse(realm)


def _of(realm: str) -> str:
    return "of everything" if realm == EVERY_REALM else f"of realm {realm}"


def _by(row: Maintenance) -> str:
    return f" (by {row.actor}: {row.reason})" if row.reason else f" (by {row.actor})"
