from __future__ import annotations

import asyncio

import pytest

from consumer.outbox.database import Database, Transaction
from consumer.outbox.drain_store import DrainStore, Head, LaneHint, Settlement, WriteBack
from consumer.outbox.errors import CommitUnknown
from consumer.outbox.fold import Fold
from consumer.outbox.lease_store import LeaseStore
from consumer.outbox.rows import EntryState
from tests.integration.support.batches import Writer, update
from tests.integration.support.bench import Bench
from tests.integration.support.database_proxy import database_proxy

ALL = range(256)


def leases(database: Database, owner: str, seconds: float = 60.0) -> LeaseStore:
    return LeaseStore(database, owner=owner, roles="drain", version="0", seconds=seconds)


async def own_everything(database: Database, owner: str, seconds: float = 60.0) -> DrainStore:
    store = leases(database, owner, seconds)
    await store.renew()
    assert len(await store.acquire(ALL)) == 256
    return DrainStore(database, owner=owner)


async def heads_of(store: DrainStore) -> list[Head]:
    return await store.heads(await store.ready_lanes(ALL, 100))


def delivered(head: Head, token: int) -> WriteBack:
    settlement = Settlement(head=head, state=EntryState.DELIVERED, reason="updated", attempts=0)
    return WriteBack(lane=head.lane, token=token, settlements=(settlement,), fold=Fold(exists=True))


def take_over(bench: Bench) -> None:
    """What the end of a lease means, without waiting for it."""
    bench.change("UPDATE leases SET deadline = NOW(6) - INTERVAL 1 SECOND")


async def test_the_old_owner_of_a_shard_writes_nothing_back(bench: Bench, database: Database) -> None:
    await (await Writer.take(database)).persist([update("1", "ada"), update("2", "bob")])
    old = await own_everything(database, "old")
    heads = await heads_of(old)
    claims = await old.claim(heads, margin=3)
    take_over(bench)
    await own_everything(database, "new")

    fenced = await old.settle([delivered(head, claims[head.entry_id][0]) for head in heads], instance="old")

    assert fenced == {head.lane.lane_id for head in heads}
    assert bench.counts() == {"PENDING": 2}
    assert bench.value("SELECT COUNT(*) FROM folds") == 0
    assert bench.value("SELECT COUNT(*) FROM attempts") == 0


async def test_only_the_lost_shards_of_a_group_are_fenced(bench: Bench, database: Database) -> None:
    await (await Writer.take(database)).persist([update("1", "ada"), update("2", "bob")])
    old = await own_everything(database, "old")
    lost, kept = await heads_of(old)
    assert lost.shard != kept.shard
    claims = await old.claim([lost, kept], margin=3)
    bench.change("UPDATE leases SET owner = 'new', token = token + 1 WHERE shard = %s", lost.shard)

    fenced = await old.settle(
        [delivered(head, claims[head.entry_id][0]) for head in (lost, kept)], instance="old"
    )

    assert fenced == {lost.lane.lane_id}
    assert bench.rows("SELECT entry_id, state FROM entries ORDER BY state") == [
        {"entry_id": lost.entry_id, "state": "PENDING"},
        {"entry_id": kept.entry_id, "state": "DELIVERED"},
    ]


async def test_a_shard_lost_and_won_again_fences_what_was_claimed_before(
    bench: Bench, database: Database
) -> None:
    """Somebody else may have gone on with the lane in between."""
    await (await Writer.take(database)).persist([update("1", "ada")])
    store = await own_everything(database, "same")
    (head,) = await heads_of(store)
    claims = await store.claim([head], margin=3)
    take_over(bench)
    await own_everything(database, "same")

    token = claims[head.entry_id][0]
    assert await store.settle([delivered(head, token)], instance="same") == {head.lane.lane_id}
    # Nothing was recorded of that claim; to write it again is refused again.
    assert await store.still_pending([head.entry_id]) == {head.entry_id: token}
    assert bench.counts() == {"PENDING": 1}


class TestAClaim:
    async def test_is_refused_near_the_end_of_the_lease(self, bench: Bench, database: Database) -> None:
        await (await Writer.take(database)).persist([update("1", "ada")])
        store = await own_everything(database, "first", seconds=5)
        heads = await heads_of(store)

        assert await store.claim(heads, margin=6) == {}
        assert bench.value("SELECT claimed_at FROM entries") is None
        assert len(await store.claim(heads, margin=3)) == 1

    async def test_is_refused_to_who_does_not_own_the_shard(self, bench: Bench, database: Database) -> None:
        await (await Writer.take(database)).persist([update("1", "ada")])
        first = await own_everything(database, "first")
        heads = await heads_of(first)

        assert await DrainStore(database, owner="second").claim(heads, margin=1) == {}

    async def test_handed_back_leaves_no_doubt(self, bench: Bench, database: Database) -> None:
        await (await Writer.take(database)).persist([update("1", "ada")])
        store = await own_everything(database, "first")
        heads = await heads_of(store)
        claims = await store.claim(heads, margin=1)
        await store.hand_back([(entry, token) for entry, (token, _) in claims.items()])

        assert bench.rows("SELECT claimed_at, claim_token, maybe_applied_since FROM entries") == [
            {"claimed_at": None, "claim_token": None, "maybe_applied_since": None}
        ]

    async def test_of_a_crashed_owner_stays_in_doubt_for_the_next(
        self, bench: Bench, database: Database
    ) -> None:
        await (await Writer.take(database)).persist([update("1", "ada")])
        old = await own_everything(database, "old")
        await old.claim(await heads_of(old), margin=1)
        claimed_at = bench.value("SELECT claimed_at FROM entries")
        take_over(bench)
        new = await own_everything(database, "new")

        (head,) = await heads_of(new)
        await new.claim([head], margin=1)

        assert head.claimed_at == claimed_at
        assert bench.value("SELECT maybe_applied_since FROM entries") == claimed_at


class TestAHint:
    async def test_of_idleness_does_not_hide_what_arrived_meanwhile(
        self, bench: Bench, database: Database
    ) -> None:
        writer = await Writer.take(database)
        await writer.persist([update("1", "ada")])
        store = await own_everything(database, "first")
        (head,) = await heads_of(store)
        claims = await store.claim([head], margin=1)
        await store.settle([delivered(head, claims[head.entry_id][0])], instance="first")
        await writer.persist([update("2", "ada")])

        await store.hint([LaneHint(lane=head.lane, state="IDLE")])

        assert [lane.arrivals for lane in await store.ready_lanes(ALL, 10)] == [2]

    async def test_of_idleness_puts_a_lane_to_sleep_and_an_arrival_wakes_it(
        self, bench: Bench, database: Database
    ) -> None:
        writer = await Writer.take(database)
        await writer.persist([update("1", "ada")])
        store = await own_everything(database, "first")
        (head,) = await heads_of(store)

        await store.hint([LaneHint(lane=head.lane, state="IDLE")])
        assert await store.ready_lanes(ALL, 10) == []
        await writer.persist([update("2", "ada")])
        assert [lane.arrivals for lane in await store.ready_lanes(ALL, 10)] == [2]

    async def test_of_waiting_lasts_until_its_time_even_if_something_arrives(
        self, bench: Bench, database: Database
    ) -> None:
        writer = await Writer.take(database)
        await writer.persist([update("1", "ada")])
        store = await own_everything(database, "first")
        (head,) = await heads_of(store)

        await store.hint([LaneHint(lane=head.lane, state="WAITING", delay=60.0)])
        await writer.persist([update("2", "ada")])
        assert await store.wake(ALL) == 0
        assert await store.ready_lanes(ALL, 10) == []
        bench.change("UPDATE lanes SET due_at = NOW(6) - INTERVAL 1 SECOND")
        assert await store.wake(ALL) == 1
        assert len(await store.ready_lanes(ALL, 10)) == 1

    async def test_only_a_waiting_lane_is_due_at_some_time(self, bench: Bench, database: Database) -> None:
        """Every other would be found again and again by who wakes lanes."""
        await (await Writer.take(database)).persist([update("1", "ada")])
        store = await own_everything(database, "first")
        (head,) = await heads_of(store)
        due = "SELECT COUNT(*) FROM lanes WHERE due_at IS NOT NULL"
        waiting = LaneHint(lane=head.lane, state="WAITING", delay=0.0)
        others = ("READY", "HELD", "IDLE")

        for hint in (LaneHint(lane=head.lane, state=state, delay=60.0) for state in others):
            await store.hint([waiting])
            assert bench.value(due) == 1
            await store.hint([hint])
            assert bench.value(due) == 0
        await store.hint([waiting])
        assert await store.wake(ALL) == 1
        assert bench.value(due) == 0

    async def test_that_came_later_is_the_one_that_counts(self, bench: Bench, database: Database) -> None:
        await (await Writer.take(database)).persist([update("1", "ada")])
        store = await own_everything(database, "first")
        (head,) = await heads_of(store)
        waiting = LaneHint(lane=head.lane, state="WAITING", delay=60.0)
        hurried = LaneHint(lane=head.lane, state="READY")

        await store.hint([waiting, hurried])
        assert len(await store.ready_lanes(ALL, 10)) == 1
        await store.hint([hurried, waiting])
        assert await store.ready_lanes(ALL, 10) == []


async def test_the_sweep_rouses_a_lane_that_sleeps_on_work(bench: Bench, database: Database) -> None:
    await (await Writer.take(database)).persist([update("1", "ada"), update("2", "bob")])
    store = await own_everything(database, "first")
    bench.change("UPDATE lanes SET state = 'IDLE' WHERE username_key = 'ada'")
    assert len(await store.ready_lanes(ALL, 10)) == 1

    assert await store.sweep(ALL) == 1

    assert len(await store.ready_lanes(ALL, 10)) == 2
    assert await store.sweep(ALL) == 0


async def test_the_sweep_lets_a_lane_sleep_whose_head_is_held(bench: Bench, database: Database) -> None:
    """What stands behind a held head has to wait: that is no lost wake-up, and no news at every sweep."""
    await (await Writer.take(database)).persist(
        [update("1", "ada", type="kcsync.later_kind.v1"), update("2", "ada")]
    )
    store = await own_everything(database, "first")
    (head,) = await heads_of(store)
    await store.hint([LaneHint(lane=head.lane, state="HELD")])

    assert await store.sweep(ALL) == 0


@pytest.mark.parametrize("committed", [True, False])
async def test_a_write_back_cut_at_commit_is_known_by_its_claim(
    bench: Bench, database: Database, *, committed: bool
) -> None:
    await (await Writer.take(database)).persist([update("1", "ada")])
    await own_everything(database, "first")
    async with database_proxy(bench.address) as wire:
        through = Database(wire.address)
        try:
            store = DrainStore(through, owner="first")
            (head,) = await heads_of(store)
            claims = await store.claim([head], margin=1)
            settlement = delivered(head, claims[head.entry_id][0])
            wire.cut_next_commit(after=b"INSERT INTO folds", reaches_server=committed)
            with pytest.raises(CommitUnknown):
                await store.settle([settlement], instance="first")

            claim = {head.entry_id: claims[head.entry_id][0]}
            assert await store.still_pending([head.entry_id]) == ({} if committed else claim)
            if not committed:
                assert await store.settle([settlement], instance="first") == set()
        finally:
            await through.aclose()

    assert wire.cuts == 1
    assert bench.counts() == {"DELIVERED": 1}


async def test_what_is_still_pending_is_said_when_a_late_commit_is_through(database: Database) -> None:
    await (await Writer.take(database)).persist([update("1", "ada")])
    store = await own_everything(database, "a")
    (head,) = await heads_of(store)
    await store.claim([head], margin=3)
    written, commit = asyncio.Event(), asyncio.Event()

    async def write_back(tx: Transaction) -> None:
        await tx.execute("UPDATE entries SET state = 'DELIVERED', claim_token = NULL")
        written.set()
        await commit.wait()

    late = asyncio.create_task(database.transact(write_back))
    await written.wait()
    # Its owner has lost the connection at COMMIT, and asks what became of it.
    asked = asyncio.create_task(store.still_pending([head.entry_id]))
    answered, _ = await asyncio.wait({asked}, timeout=0.5)
    commit.set()
    await late

    assert answered == set()
    assert await asked == {}


async def test_who_stands_still_in_a_transaction_does_not_keep_its_leases(
    bench: Bench, database: Database
) -> None:
    await own_everything(database, "stopped")
    stopped = Database(bench.address, timeout=1.0)
    connection = await stopped._open_pool().acquire()
    await connection.begin()
    async with connection.cursor() as cursor:
        # As a write-back begins; and then its process gets SIGSTOP.
        await cursor.execute("SELECT token FROM leases WHERE shard = 7 LOCK IN SHARE MODE")
    take_over(bench)

    heir = leases(database, "heir")
    await heir.renew()

    assert len(await heir.acquire(ALL)) == 256
    connection.close()
    await stopped.aclose()
