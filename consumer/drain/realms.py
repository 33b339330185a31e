"""Realms whose configuration is at fault: their lanes rest, everyone else goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

import structlog

from consumer.delivery.advice import explained
from consumer.delivery.keycloak import ControlResult
from consumer.delivery.outcome import Blame
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.errors import OutboxError

__all__ = ["RealmWatch"]

_log = structlog.get_logger(__name__)


class RealmWatch:
    """Tells a realm's fault from one user's: 401, 403 and a missing realm count only if the control call agrees."""

    def __init__(
        self,
        control_call: Callable[[str], Awaitable[ControlResult]],
        store: CircuitStore,
        *,
        pause: float,
        on_state: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch realms.

        Args:
            control_call: the cheap call that stands for no user.
            store: where faults are recorded for `status`.
            pause: seconds that lanes of a realm at fault rest before it is asked again.
            on_state: told each change in one line for people; must not block.
            clock: seconds that never go back.
        """
        self._control_call = control_call
        self._store = store
        self._pause = pause
        self._on_state = on_state
        self._clock = clock
        self._resting_until: dict[str, float] = {}
        self._stopped: frozenset[str] = frozenset()
        self._well: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def at_fault_now(self) -> Collection[str]:
        """Realms whose fault is not over, resting or not, and those in maintenance."""
        return self._resting_until.keys() | self._stopped

    @property
    def resting_now(self) -> Collection[str]:
        """Realms whose lanes should rest."""
        return [realm for realm in self.at_fault_now if self.resting(realm) > 0]

    def resting(self, realm: str) -> float:
        """Seconds that lanes of this realm should still rest."""
        if realm in self._stopped:
            return self._pause
        return max(0.0, self._resting_until.get(realm, 0.0) - self._clock())

    def maintain(self, realms: frozenset[str]) -> None:
        """An operator has stopped these realms on purpose, and no others."""
        self._stopped = realms

    async def at_fault(self, realm: str) -> bool:
        """Ask the realm's control call whether it fails too, so that no user is to blame; callers at once share the answer."""
        async with self._locks.setdefault(realm, asyncio.Lock()):
            if self.resting(realm) > 0:
                return True
            trouble = (await self._control_call(realm)).trouble
            if trouble is None:
                await self.delivered(realm)
                return False
            if trouble.failure.blame is not Blame.CONFIGURATION:
                # Keycloak is away, and with it the answer.
                return True
            detail = explained(trouble)
            if realm not in self._resting_until:
                _log.error("realm at fault", realm=realm, reason=trouble.reason.value, detail=detail)
                self._on_state(f"Realm {realm} is at fault: {detail}")
            self._well.discard(realm)
            self._resting_until[realm] = self._clock() + self._pause
            await self._record(realm, trouble.reason.value, detail)
            return True

    async def delivered(self, realm: str) -> None:
        """The realm took a change: whatever fault stands recorded, by whichever process, is over."""
        if realm in self._well:
            return
        self._well.add(realm)
        if self._resting_until.pop(realm, None) is not None:
            self._on_state(f"Realm {realm}: configuration is well again")
        await self._record(realm, None, None)

    async def _record(self, realm: str, fault: str | None, detail: str | None) -> None:
        try:
            await self._store.set_realm_fault(realm, fault, detail)
        except OutboxError as error:
            # It is for people; the delivery that asked must go on to be recorded.
            _log.warning("fault of a realm not recorded", realm=realm, reason=str(error))
