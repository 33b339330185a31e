"""Keeps this instance's shard leases: renews, takes its fair share, gives back, and knows how long they last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

import structlog

from consumer.circuit.calls import CallLimit
from consumer.drain.shares import exchange
from consumer.outbox.errors import OutboxError
from consumer.outbox.lease_store import LeaseStore

__all__ = ["LeaseKeeper"]

_log = structlog.get_logger(__name__)


class LeaseKeeper:
    """The shards this process owns, with their fencing tokens."""

    def __init__(
        self,
        store: LeaseStore,
        *,
        instance: str,
        seconds: float,
        busy: Callable[[], Collection[int]],
        calls: CallLimit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep leases.

        Args:
            store: the leases in MariaDB.
            instance: our name.
            seconds: how long a lease lasts without renewal.
            busy: shards with calls under way; they are not given back.
            calls: our limit of calls, which others see, and which depends on how many they are.
            clock: seconds that never go back.
        """
        self._store = store
        self._instance = instance
        self._seconds = seconds
        self._busy = busy
        self._calls = calls
        self._clock = clock
        self._tokens: dict[int, int] = {}
        self._ends_at = float("-inf")

    @property
    def shards(self) -> dict[int, int]:
        """Our shards with their tokens; none once the leases may have ended."""
        return self._tokens if self.remaining > 0 else {}

    @property
    def remaining(self) -> float:
        """Seconds that our leases certainly last: counted from before the renewal was asked for."""
        return self._ends_at - self._clock()

    async def run(self) -> None:
        """Renew until cancelled, three times in a lease."""
        while True:
            try:
                await self.turn()
            except OutboxError as error:
                _log.warning("leases not renewed", reason=str(error), remaining=round(self.remaining, 1))
            await asyncio.sleep(self._seconds / 3)

    async def turn(self) -> None:
        """Renew once and move towards the fair share."""
        began = self._clock()
        view = await self._store.renew(self._calls.note())
        self._take(view.owned, began)
        self._calls.instances = max(len(view.alive), 1)
        step = exchange(
            me=self._instance, owned=view.owned, free=view.free, alive=view.alive, busy=self._busy()
        )
        if step.release:
            # Ours no longer from this moment: nothing is claimed there while the release is under way.
            for shard in step.release:
                self._tokens.pop(shard, None)
            await self._store.release(step.release)
        if step.acquire:
            # The deadline of what was renewed above is the earlier one, and stands for all.
            self._take(await self._store.acquire(step.acquire), began)

    async def release_all(self) -> None:
        """Give everything back, so that others go on at once, but for shards with a call that was cut off.

        Its request may still be under way to Keycloak. Whoever owns such a shard next waits until our lease ends, as
        after a crash.
        """
        busy = self._busy()
        shards, self._tokens = tuple(shard for shard in self._tokens if shard not in busy), {}
        await self._store.release(shards)
        await self._store.leave()

    def _take(self, owned: dict[int, int], began: float) -> None:
        if owned.keys() != self._tokens.keys():
            _log.debug("shards owned", before=len(self._tokens), now=len(owned))
        self._tokens = dict(owned)
        self._ends_at = began + self._seconds
