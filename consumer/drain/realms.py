"""Realms whose configuration is at fault: their lanes rest, everyone else goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

import structlog

from consumer.delivery.advice import explained
from consumer.delivery.keycloak import ControlResult
from consumer.delivery.outcome import Blame, Reason
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.errors import OutboxError
from consumer.telemetry.trouble import Trouble

__all__ = ["RealmWatch"]

_log = structlog.get_logger(__name__)
_LOOKS_IN_A_PAUSE = 3


class RealmWatch:
    """Tells a realm's fault from one user's: 401, 403 and a missing realm count only if the control call agrees."""

    def __init__(
        self,
        control_call: Callable[[str], Awaitable[ControlResult]],
        store: CircuitStore,
        *,
        instance: str,
        may_ask: Callable[[], bool],
        pause: float,
        on_state: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch realms.

        Args:
            control_call: the cheap call that stands for no user.
            store: where faults are recorded for `status`.
            instance: our name.
            may_ask: whether Keycloak may be asked now: not while the circuit is open, nor in maintenance.
            pause: seconds that lanes of a realm at fault rest before it is asked again.
            on_state: told each change in one line for people; must not block.
            clock: seconds that never go back.
        """
        self._control_call = control_call
        self._store = store
        self._instance = instance
        self._may_ask = may_ask
        self._pause = pause
        self._on_state = on_state
        self._clock = clock
        self._resting_until: dict[str, float] = {}
        self._stopped: frozenset[str] = frozenset()
        self._well: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._trouble = Trouble()

    async def run(self) -> None:
        """Ask realms at fault again until they are well, whether or not somebody's change waits there; until cancelled."""
        while True:
            try:
                await self.look()
                self._trouble.over()
            except OutboxError as error:
                if self._trouble.is_news():
                    _log.warning("faults of realms not looked at", reason=str(error))
            await asyncio.sleep(self._pause / _LOOKS_IN_A_PAUSE)

    async def look(self) -> None:
        """Ask each realm at fault that has rested, also one whose fault was recorded by a process that is no more."""
        if not self._may_ask():
            return
        recorded = await self._store.realm_faults_to_ask(instance=self._instance)
        for realm in sorted({*recorded, *self._resting_until}):
            await self._ask(realm, somebody_waits=realm in self._resting_until)

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
        return await self._ask(realm, somebody_waits=True)

    async def _ask(self, realm: str, *, somebody_waits: bool) -> bool:
        async with self._locks.setdefault(realm, asyncio.Lock()):
            if self.resting(realm) > 0:
                return True
            trouble = (await self._control_call(realm)).trouble
            if trouble is None:
                # A fault may have been recorded since it was last found well.
                self._well.discard(realm)
                await self.well(realm)
                return False
            if trouble.reason is Reason.REALM_NOT_SERVED and not somebody_waits:
                # Taken out of the settings, perhaps for the very fault that stands recorded.
                await self._store.end_realm_fault(realm, instance=self._instance)
                return True
            if trouble.failure.blame is not Blame.CONFIGURATION:
                # Keycloak is away, and with it the answer.
                return True
            detail = explained(trouble)
            if realm not in self._resting_until:
                _log.error("realm at fault", realm=realm, reason=trouble.reason.value, detail=detail)
                self._on_state(f"Realm {realm} is at fault: {detail}")
            self._well.discard(realm)
            self._resting_until[realm] = self._clock() + self._pause
            try:
                await self._store.set_realm_fault(
                    realm, trouble.reason.value, detail, instance=self._instance
                )
            except OutboxError as error:
                # It is for people; the delivery that asked must go on to be recorded.
                _log.warning("fault of a realm not recorded", realm=realm, reason=str(error))
            return True

    async def well(self, realm: str) -> None:
        """The realm took a change or answered a control call: its fault is over, ours or of a process that is no more."""
        if realm in self._well:
            return
        self._well.add(realm)
        rested = self._resting_until.pop(realm, None) is not None
        recorded = False
        try:
            recorded = await self._store.end_realm_fault(realm, instance=self._instance)
        except OutboxError as error:
            self._well.discard(realm)
            _log.warning("end of a realm's fault not recorded", realm=realm, reason=str(error))
        if rested or recorded:
            self._on_state(f"Realm {realm}: configuration is well again")
