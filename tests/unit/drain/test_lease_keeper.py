from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import cast

import pytest

from consumer.drain.leases import LeaseKeeper
from consumer.outbox.errors import DatabaseUnavailable
from consumer.outbox.lane import SHARDS
from consumer.outbox.lease_store import LeaseStore
from tests.unit.circuit.fixed_limit import fixed_limit
from tests.unit.drain.outbox_in_memory import Clock, MemoryDatabase, MemoryLeaseStore


class Holder:
    """One instance's keeper."""

    def __init__(self, database: MemoryDatabase, name: str) -> None:
        self.busy: set[int] = set()
        self.store = MemoryLeaseStore(database, name)
        self.calls = fixed_limit(8)
        self.keeper = LeaseKeeper(
            cast(LeaseStore, self.store),
            instance=name,
            seconds=30.0,
            busy=self._busy,
            calls=self.calls,
            clock=database.clock,
        )

    def _busy(self) -> Collection[int]:
        return self.busy

    @property
    def shards(self) -> set[int]:
        return set(self.keeper.shards)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(clock: Clock) -> MemoryDatabase:
    return MemoryDatabase(clock)


class TestOwning:
    async def test_alone_it_owns_everything(self, database: MemoryDatabase) -> None:
        alone = Holder(database, "a")

        await alone.keeper.turn()

        assert alone.shards == set(range(SHARDS))
        assert alone.calls.instances == 1

    def test_before_the_first_turn_it_owns_nothing(self, database: MemoryDatabase) -> None:
        assert Holder(database, "a").shards == set()

    async def test_each_taking_has_a_new_token(self, database: MemoryDatabase, clock: Clock) -> None:
        first, second = Holder(database, "a"), Holder(database, "b")
        await first.keeper.turn()
        before = dict(first.keeper.shards)
        clock.advance(31)
        await second.keeper.turn()

        taken = second.keeper.shards
        assert all(taken[shard] == before[shard] + 1 for shard in taken)


class TestTheEndOfALease:
    async def test_is_counted_from_before_the_renewal_was_asked_for(
        self, database: MemoryDatabase, clock: Clock
    ) -> None:
        slow = Holder(database, "a")
        slow.store.before_renewal = lambda: clock.advance(4)

        await slow.keeper.turn()

        # 30 s by the database from its own now on; we asked 4 s before that.
        assert slow.keeper.remaining == 26.0

    async def test_ends_what_we_own_though_nobody_has_told_us(
        self, database: MemoryDatabase, clock: Clock
    ) -> None:
        holder = Holder(database, "a")
        await holder.keeper.turn()

        clock.advance(29.9)
        assert len(holder.shards) == SHARDS
        clock.advance(0.1)
        assert holder.shards == set()

    async def test_is_not_put_off_by_a_renewal_that_failed(
        self, database: MemoryDatabase, clock: Clock
    ) -> None:
        holder = Holder(database, "a")
        await holder.keeper.turn()
        clock.advance(20)
        database.faults["renew"].append(DatabaseUnavailable())

        with pytest.raises(DatabaseUnavailable):
            await holder.keeper.turn()

        assert holder.keeper.remaining == 10.0

    async def test_is_put_off_by_each_renewal(self, database: MemoryDatabase, clock: Clock) -> None:
        holder = Holder(database, "a")
        for _ in range(10):
            await holder.keeper.turn()
            clock.advance(20)

        assert len(holder.shards) == SHARDS

    async def test_takes_shards_away_that_another_has_meanwhile(
        self, database: MemoryDatabase, clock: Clock
    ) -> None:
        stopped, heir = Holder(database, "a"), Holder(database, "b")
        await stopped.keeper.turn()
        clock.advance(31)
        await heir.keeper.turn()

        await stopped.keeper.turn()

        assert stopped.shards & heir.shards == set()


class TestSharing:
    async def test_newcomers_get_their_share_as_soon_as_it_is_given_back(
        self, database: MemoryDatabase
    ) -> None:
        holders = [Holder(database, name) for name in "abc"]
        for _ in range(3):
            for holder in holders:
                await holder.keeper.turn()

        assert sorted(len(holder.shards) for holder in holders) == [85, 85, 86]
        assert set().union(*(holder.shards for holder in holders)) == set(range(SHARDS))
        assert {holder.calls.instances for holder in holders} == {3}

    async def test_a_busy_shard_is_given_back_when_its_call_has_ended(self, database: MemoryDatabase) -> None:
        first, second = Holder(database, "a"), Holder(database, "b")
        await first.keeper.turn()
        tokens = dict(first.keeper.shards)
        first.busy = {7, 200}

        for _ in range(3):
            await second.keeper.turn()
            await first.keeper.turn()

        # Nothing more is claimed in it, but its call may be recorded.
        assert first.shards == set(range(128, 256))
        assert second.shards == set(range(128)) - {7}
        assert first.keeper.token(7) == tokens[7]
        assert first.keeper.token(8) is None

        first.busy = {200}
        await first.keeper.turn()
        await second.keeper.turn()
        assert second.shards == set(range(128))
        assert first.keeper.token(7) is None

    async def test_a_busy_shard_stays_if_the_other_has_gone(self, database: MemoryDatabase) -> None:
        first, second = Holder(database, "a"), Holder(database, "b")
        await first.keeper.turn()
        first.busy = {7}
        await second.keeper.turn()
        await first.keeper.turn()
        assert 7 not in first.shards

        await second.keeper.release_all()
        await first.keeper.turn()

        assert first.shards == set(range(SHARDS))

    async def test_who_leaves_gives_back_too_what_it_was_giving_back(self, database: MemoryDatabase) -> None:
        first, second = Holder(database, "a"), Holder(database, "b")
        await first.keeper.turn()
        first.busy = {7}
        await second.keeper.turn()
        await first.keeper.turn()
        first.busy = set()

        await first.keeper.release_all()
        await second.keeper.turn()

        assert second.shards == set(range(SHARDS))

    async def test_what_is_given_back_is_not_ours_while_the_release_is_under_way(
        self, database: MemoryDatabase
    ) -> None:
        first, second = Holder(database, "a"), Holder(database, "b")
        await first.keeper.turn()
        await second.keeper.turn()
        gate = database.gates["release"] = asyncio.Event()

        turn = asyncio.create_task(first.keeper.turn())
        for _ in range(20):
            await asyncio.sleep(0)

        assert len(first.shards) == 128
        gate.set()
        await turn

    async def test_who_leaves_gives_all_back_at_once(self, database: MemoryDatabase) -> None:
        first, second = Holder(database, "a"), Holder(database, "b")
        await first.keeper.turn()

        await first.keeper.release_all()
        await second.keeper.turn()

        assert first.shards == set()
        assert second.shards == set(range(SHARDS))
        assert second.calls.instances == 1

    async def test_who_leaves_in_the_middle_of_a_call_keeps_its_shard_until_the_lease_ends(
        self, database: MemoryDatabase, clock: Clock
    ) -> None:
        first, second = Holder(database, "a"), Holder(database, "b")
        await first.keeper.turn()
        first.busy = {7}

        await first.keeper.release_all()
        await second.keeper.turn()
        assert first.shards == set()
        assert second.shards == set(range(SHARDS)) - {7}

        clock.advance(31)
        await second.keeper.turn()
        assert second.shards == set(range(SHARDS))


async def test_what_it_gives_back_is_free_as_soon_as_it_is_idle(
    database: MemoryDatabase, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Holder(database, "a"), Holder(database, "b")
    await first.keeper.turn()
    await second.keeper.turn()
    first.busy = {7}
    began = clock.now
    real_sleep = asyncio.sleep

    async def pass_time(seconds: float) -> None:
        if clock.now > began + 1:
            first.busy = set()
        clock.advance(seconds)
        await real_sleep(0)

    monkeypatch.setattr("consumer.drain.leases.asyncio.sleep", pass_time)
    running = asyncio.create_task(first.keeper.run())
    async with asyncio.timeout(5):
        while first.keeper.token(7) is not None:
            await real_sleep(0)
    given_back_at = clock.now
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    # Long before the next renewal, after 10 s.
    assert given_back_at - began < 3


async def test_it_renews_while_running_and_waits_a_lost_database_out(
    database: MemoryDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = Holder(database, "a")
    database.faults["renew"].append(DatabaseUnavailable())
    slept: list[float] = []
    real_sleep = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        slept.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr("consumer.drain.leases.asyncio.sleep", no_sleep)
    running = asyncio.create_task(holder.keeper.run())
    async with asyncio.timeout(5):
        while not holder.shards:
            await real_sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    # Three times in a lease of 30 s.
    assert 10.0 in slept
