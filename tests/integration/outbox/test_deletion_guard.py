from __future__ import annotations

import asyncio

from consumer.drain.guard import DeletionGuard, GuardPolicy
from consumer.outbox.command_store import Action, CommandStore, Order
from consumer.outbox.database import Database
from consumer.outbox.deletion_store import DeletionStore
from consumer.outbox.held import Which, read_held
from consumer.outbox.rows import EntryState
from tests.integration.support.batches import REALM, Writer, update
from tests.integration.support.bench import Bench
from tests.integration.support.draining import Played, draining
from tests.integration.support.waiting import until


async def test_places_are_never_given_twice_however_many_ask_at_once(
    bench: Bench, database: Database
) -> None:
    store = DeletionStore(database)
    askers = [store.reserve("shop", range(10 * n, 10 * n + 10), limit=33) for n in range(12)]

    given = await asyncio.gather(*askers)

    assert sum(len(each) for each in given) == 33
    assert bench.value("SELECT COUNT(*) FROM deletions") == 33
    assert await store.let_through(range(200)) == set().union(*given)
    assert await store.reserve("other", [500, 501], limit=33) == {500, 501}


async def test_a_place_taken_by_a_commit_that_came_late_is_the_entrys_own(
    bench: Bench, database: Database
) -> None:
    store = DeletionStore(database)
    await store.reserve("shop", [1, 2], limit=3)
    # Asked again by somebody who never heard of that COMMIT, of 2 and of others: one place is left.
    assert await store.reserve("shop", [2, 3, 4], limit=3) == {2, 3}
    assert await store.reserve("shop", [1, 2, 3, 4], limit=3) == {1, 2, 3}

    assert bench.value("SELECT COUNT(*) FROM deletions") == 3


async def test_places_come_free_after_an_hour_and_are_forgotten_after_a_day(
    bench: Bench, database: Database
) -> None:
    store = DeletionStore(database)
    await store.reserve("shop", range(10), limit=10)
    assert await store.reserve("shop", [11], limit=10) == set()
    bench.change("UPDATE deletions SET reserved_at = NOW(6) - INTERVAL 61 MINUTE WHERE entry_id < 3")
    assert await store.used("shop") == 7
    assert await store.reserve("shop", [11, 12, 13, 14], limit=10) == {11, 12, 13}
    bench.change("UPDATE deletions SET reserved_at = NOW(6) - INTERVAL 25 HOUR WHERE entry_id < 5")

    await store.forget("shop")

    assert bench.value("SELECT MIN(entry_id) FROM deletions") == 5


async def test_users_are_counted_no_further_than_needed(bench: Bench, database: Database) -> None:
    bench.change(
        "INSERT INTO lanes (lane_id, shard, realm, username_key, home_topic_id, home_partition, priority)"
        " SELECT UNHEX(LPAD(HEX(seq), 32, '0')), 0, IF(seq <= 30, 'shop', 'other'), seq, 1, 0, 5 FROM seq_1_to_40"
    )
    bench.change(
        "INSERT INTO folds (lane_id, shard, fields, user_exists) SELECT lane_id, 0, '{}', username_key > 5 FROM lanes"
    )
    store = DeletionStore(database)

    assert await store.users("shop", upto=500) == 25
    assert await store.users("shop", upto=20) == 20
    assert await store.users("other", upto=500) == 10
    assert await store.users("third", upto=500) == 0


async def test_deletes_beyond_the_limit_are_held_until_they_are_let_through(
    bench: Bench, database: Database
) -> None:
    events = [
        {**update(f"d:{n}", f"user{n}"), "type": "kcsync.user_delete.v1", "data": {}} for n in range(20)
    ]
    await (await Writer.take(database)).persist(events)
    keycloak = Played()
    guards = [
        DeletionGuard(store=DeletionStore(database), policy=GuardPolicy(deletes=12, floor=12)) for _ in "ab"
    ]
    async with (
        draining(database, keycloak, admissions=[guards[0]]),
        draining(database, keycloak, instance="second", admissions=[guards[1]]),
    ):
        await until(lambda: bench.counts() == {"DELIVERED": 12, "HELD": 8}, what="eight held")
        held = await read_held(database, Which(reason="deletion_guard", realm=REALM), limit=3)
        orders = [
            Order(
                lane_id=each.lane_id,
                action=Action.RELEASE,
                entry_id=each.entry_id,
                state=EntryState.HELD,
                arrivals=each.arrivals,
            )
            for each in held
        ]
        await CommandStore(database, owner="nobody").queue(orders, actor="alice@desk", why=None)
        await until(lambda: bench.counts() == {"DELIVERED": 15, "HELD": 5}, what="three let through")

    assert len(keycloak.applied) == len(set(keycloak.applied)) == 15
    assert bench.value("SELECT COUNT(*) FROM deletions WHERE allowed_by = 'alice@desk'") == 3
    # What was allowed took nobody's place.
    assert await DeletionStore(database).used(REALM) == 12
