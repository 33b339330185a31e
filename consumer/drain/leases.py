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
_LOOK_EVERY = 0.25
"""Seconds between two looks whether a shard that we give back is idle."""


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
            busy: shards with an entry in hand; they are given back when that has ended.
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
        self._leaving: dict[int, int] = {}
        self._ends_at = float("-inf")

    @property
    def shards(self) -> dict[int, int]:
        """Our shards with their tokens, but for those we give back; none once the leases may have ended."""
        return self._tokens if self.remaining > 0 else {}

    def token(self, shard: int) -> int | None:
        """Under which token a shard is ours, given back or not, for what is in hand there; None: it is not ours."""
        return self._tokens.get(shard, self._leaving.get(shard)) if self.remaining > 0 else None

    @property
    def remaining(self) -> float:
        """Seconds that our leases certainly last: counted from before the renewal was asked for."""
        return self._ends_at - self._clock()

    async def run(self) -> None:
        """Renew until cancelled, three times in a lease."""
        while True:
            next_turn = self._clock() + self._seconds / 3
            try:
                await self.turn()
                while self._leaving and self._clock() < next_turn:
                    await asyncio.sleep(_LOOK_EVERY)
                    await self._release_idle()
            except OutboxError as error:
                _log.warning("leases not renewed", reason=str(error), remaining=round(self.remaining, 1))
            await asyncio.sleep(max(0.0, next_turn - self._clock()))

    async def turn(self) -> None:
        """Renew once and move towards the fair share."""
        began = self._clock()
        view = await self._store.renew(self._calls.note())
        self._calls.instances = max(len(view.alive), 1)
        step = exchange(
            me=self._instance, owned=view.owned, free=view.free, alive=view.alive, leaving=self._leaving
        )
        self._take(view.owned, began, leave=step.leave)
        await self._release_idle()
        if step.acquire:
            # The deadline of what was renewed above is the earlier one, and stands for all.
            self._take(await self._store.acquire(step.acquire), began)

    async def _release_idle(self) -> None:
        """Give back what is idle of the shards that leave: a lane is handed over only between two calls."""
        busy = self._busy()
        idle = [shard for shard in self._leaving if shard not in busy]
        for shard in idle:
            # Ours no longer from this moment.
            del self._leaving[shard]
        await self._store.release(idle)

    async def release_all(self) -> None:
        """Give everything back, so that others go on at once, but for shards with a call that was cut off.

        Its request may still be under way to Keycloak. Whoever owns such a shard next waits until our lease ends, as
        after a crash.
        """
        busy = self._busy()
        shards = [shard for shard in (*self._tokens, *self._leaving) if shard not in busy]
        self._tokens, self._leaving = {}, {}
        await self._store.release(shards)
        await self._store.leave()

    def _take(self, owned: dict[int, int], began: float, leave: Collection[int] = ()) -> None:
        """Know what is ours from now on; of what we leave nothing more is claimed."""
        tokens = {shard: token for shard, token in owned.items() if shard not in leave}
        if tokens.keys() != self._tokens.keys():
            _log.debug("shards owned", before=len(self._tokens), now=len(tokens))
        self._tokens = tokens
        self._leaving = {shard: owned[shard] for shard in leave}
        self._ends_at = began + self._seconds
