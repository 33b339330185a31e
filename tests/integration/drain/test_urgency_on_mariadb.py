"""Which lane goes next, by the real tables."""

from __future__ import annotations

import asyncio
from typing import Any

from consumer.delivery.change import Change
from consumer.delivery.outcome import Blame, Defer, Failure, Outcome, Reason
from consumer.outbox.database import Database
from consumer.outbox.drain_store import DrainStore, LaneHint
from tests.integration.support.batches import Writer, update
from tests.integration.support.bench import Bench
from tests.integration.support.draining import DELIVERED, Played, draining
from tests.integration.support.waiting import until

ALL = range(256)
PASSWORD, CREATE, UPDATE, DELETE = 1, 3, 5, 10


def event(event_id: str, username: str, priority: int) -> dict[str, Any]:
    return update(event_id, username, priority=priority)


async def order(database: Database) -> list[str]:
    lanes = await DrainStore(database, owner="me").ready_lanes(ALL, 100)
    return [lane.username_key for lane in lanes]


async def test_lanes_go_by_the_most_urgent_of_all_their_entries(bench: Bench, database: Database) -> None:
    writer = await Writer.take(database)
    await writer.persist([event("d", "dora", DELETE), event("u", "uwe", UPDATE), event("c", "carl", CREATE)])
    await writer.persist([event("p", "paul", PASSWORD)])
    assert await order(database) == ["paul", "carl", "uwe", "dora"]

    await writer.persist([event("d2", "dora", UPDATE), event("d3", "dora", PASSWORD)])

    # As urgent as Paul now, and she has waited longer.
    assert await order(database) == ["dora", "paul", "carl", "uwe"]


async def test_a_lane_that_has_waited_long_goes_before_fresh_urgent_ones(
    bench: Bench, database: Database
) -> None:
    writer = await Writer.take(database)
    await writer.persist(
        [event("d", "dora", DELETE), event("d2", "dan", DELETE), event("p", "paul", PASSWORD)]
    )
    bench.change(
        "UPDATE lanes SET ready_since = NOW(6) - INTERVAL 89 MINUTE WHERE username_key = 'dan'",
    )
    assert await order(database) == ["paul", "dan", "dora"]

    bench.change("UPDATE lanes SET ready_since = NOW(6) - INTERVAL 91 MINUTE WHERE username_key = 'dan'")

    assert await order(database) == ["dan", "paul", "dora"]


class TestALanesPriority:
    async def priority(self, bench: Bench, database: Database, hint_priority: int, *, late: bool) -> int:
        """After a turn whose hint found that the urgent entry has gone."""
        writer = await Writer.take(database)
        await writer.persist(
            [event(f"{n}", "ada", p) for n, p in enumerate((PASSWORD, DELETE, DELETE, UPDATE))]
        )
        store = DrainStore(database, owner="me")
        (lane,) = await store.ready_lanes(ALL, 10)
        bench.change("UPDATE entries SET state = 'DELIVERED' WHERE priority = 1")
        if late:
            await writer.persist([event("late", "ada", CREATE)])
        await store.hint([LaneHint(lane=lane, state="READY", priority=hint_priority, recount=True)])
        return int(bench.value("SELECT priority FROM lanes"))

    async def test_is_counted_again_when_its_urgent_entry_has_gone(
        self, bench: Bench, database: Database
    ) -> None:
        assert await self.priority(bench, database, DELETE, late=False) == UPDATE

    async def test_counts_what_arrived_meanwhile(self, bench: Bench, database: Database) -> None:
        assert await self.priority(bench, database, DELETE, late=True) == CREATE

    async def test_is_right_again_when_the_sweep_finds_the_lane_asleep(
        self, bench: Bench, database: Database
    ) -> None:
        await (await Writer.take(database)).persist([event("1", "ada", UPDATE), event("2", "ada", CREATE)])
        bench.change("UPDATE lanes SET state = 'IDLE', priority = 10")

        assert await DrainStore(database, owner="me").sweep(ALL) == 1

        assert bench.value("SELECT priority FROM lanes") == CREATE


async def test_a_password_overtakes_a_backlog_of_other_users_and_never_its_own(
    bench: Bench, database: Database
) -> None:
    async def answer(_: Change) -> Outcome:
        await asyncio.sleep(0.02)
        return DELIVERED

    keycloak = Played(answer=answer)
    writer = await Writer.take(database)
    await writer.persist([event(f"b{n}", f"user{n}", UPDATE) for n in range(400)])
    await writer.persist([event("a0", "ada", UPDATE)])
    async with draining(database, keycloak, calls=2):
        await until(lambda: len(keycloak.applied) > 20, what="some of the backlog")
        await writer.persist([event("password", "ada", PASSWORD)])
        await until(lambda: bench.settled(402), what="everything delivered", within=40)

    applied = keycloak.applied
    assert [each for each in applied if not each.startswith("b")] == ["a0", "password"]
    # Before each of her turns stood what had been claimed already: half a second's work.
    assert applied.index("password") < 300


async def test_the_hot_query_reads_its_index_in_order(bench: Bench, database: Database) -> None:
    await (await Writer.take(database)).persist([event(f"{n}", f"user{n}", UPDATE) for n in range(2000)])
    bench.change("ANALYZE TABLE lanes")

    (plan,) = bench.rows(
        "EXPLAIN SELECT lane_id, shard, realm, username_key, arrivals, priority FROM lanes"
        " WHERE state = 'READY' AND shard IN %s ORDER BY urgent_at LIMIT 32",
        tuple(ALL),
    )

    assert (plan["key"], "filesort" in plan["Extra"]) == ("urgent", False)


async def test_a_capped_kind_keeps_to_its_cap_and_delays_no_other(bench: Bench, database: Database) -> None:
    under_way: set[str] = set()
    most = 0
    go_on = asyncio.Event()

    async def answer(change: Change) -> Outcome:
        nonlocal most
        if change.kind == "user_delete":
            under_way.add(change.event_id)
            most = max(most, len(under_way))
            await go_on.wait()
            under_way.remove(change.event_id)
        return DELIVERED

    keycloak = Played(answer=answer)
    deletes = [
        update(f"d{n}", f"user{n}", type="kcsync.user_delete.v1", data={}, priority=PASSWORD)
        for n in range(200)
    ]
    writer = await Writer.take(database)
    await writer.persist(deletes)
    await writer.persist([event(f"u{n}", f"other{n}", DELETE) for n in range(100)])
    async with draining(database, keycloak, calls=8, caps={"user_delete": 2}):
        await until(lambda: bench.counts().get("DELIVERED") == 100, what="the others delivered")
        assert bench.value("SELECT COUNT(*) FROM parked") > 0
        go_on.set()
        await until(lambda: bench.settled(300), what="everything delivered")

    assert most == 2
    assert bench.value("SELECT COUNT(*) FROM parked") == 0


async def test_the_time_in_which_an_entry_could_have_been_delivered_is_kept(
    bench: Bench, database: Database
) -> None:
    async def answer(_: Change) -> Outcome:
        return Defer(reason=Reason.UNKNOWN_SEALING_KEY, failure=Failure(blame=Blame.LOCAL))

    await (await Writer.take(database)).persist([event("1", "ada", UPDATE)])
    async with draining(database, Played(answer=answer)):
        await until(lambda: bench.value("SELECT calls FROM entries") >= 2, what="two calls")

    assert bench.value("SELECT eligible_us FROM entries") >= 400_000
