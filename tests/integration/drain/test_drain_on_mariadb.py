from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest
import structlog

from consumer.delivery.change import Change
from consumer.delivery.outcome import Blame, Failure, Outcome, Reason, Retry
from consumer.outbox.database import Database
from tests.integration.support.batches import Writer, update
from tests.integration.support.bench import Bench
from tests.integration.support.database_proxy import database_proxy
from tests.integration.support.draining import DELIVERED, Played, draining
from tests.integration.support.waiting import until


def events(count: int, users: int, start: int = 0) -> list[dict[str, Any]]:
    """Events `user:number`, round the users."""
    return [update(f"{n % users}:{n}", f"user{n % users}") for n in range(start, start + count)]


def by_user(applied: list[str]) -> dict[str, list[int]]:
    seen: dict[str, list[int]] = defaultdict(list)
    for event_id in applied:
        user, _, number = event_id.partition(":")
        seen[user].append(int(number))
    return seen


def without_adjacent_repeats(numbers: list[int]) -> list[int]:
    """A call whose result was unknown may be made again, before anything else of that user."""
    return [n for at, n in enumerate(numbers) if at == 0 or numbers[at - 1] != n]


def in_order(applied: list[str], count: int, users: int) -> bool:
    return {user: without_adjacent_repeats(numbers) for user, numbers in by_user(applied).items()} == {
        str(user): list(range(user, count, users)) for user in range(users)
    }


async def settled(bench: Bench, delivered: int, within: float = 40.0) -> None:
    await until(lambda: bench.settled(delivered), what=f"{delivered} delivered, nothing else", within=within)


async def test_entries_of_a_user_are_applied_one_after_the_other_in_order(
    bench: Bench, database: Database
) -> None:
    under_way: set[str] = set()

    async def answer(change: Change) -> Outcome:
        assert change.username not in under_way
        under_way.add(change.username)
        await asyncio.sleep(0.002)
        under_way.remove(change.username)
        return DELIVERED

    keycloak = Played(answer=answer)
    await (await Writer.take(database)).persist(events(300, users=10))
    async with draining(database, keycloak):
        await settled(bench, 300)

    assert by_user(keycloak.applied) == {str(user): list(range(user, 300, 10)) for user in range(10)}


async def test_two_owners_share_the_users_and_keep_the_order_of_each(
    bench: Bench, database: Database
) -> None:
    """Shards change hands while both work: the second comes later, and goes first."""
    keycloak = Played()
    delivered_by: dict[str, int] = {}

    async def answer(change: Change) -> Outcome:
        await asyncio.sleep(0.01)
        return DELIVERED

    keycloak.answer = answer
    writer = await Writer.take(database)
    await writer.persist(events(400, users=40))
    async with draining(database, keycloak, instance="first", lease=4.0) as first:
        await until(lambda: first.drainer.counts.delivered > 20, what="the first at work")
        async with draining(database, keycloak, instance="second", lease=4.0) as second:
            await until(lambda: len(second.leases.shards) == 128, what="an equal share")
            await writer.persist(events(400, users=40, start=400))
            await until(lambda: second.drainer.counts.delivered > 20, what="the second at work")
            delivered_by["second"] = second.drainer.counts.delivered
        await settled(bench, 800)

    assert by_user(keycloak.applied) == {str(user): list(range(user, 800, 40)) for user in range(40)}
    assert bench.value("SELECT COUNT(*) FROM leases WHERE owner IS NOT NULL") == 0
    assert delivered_by["second"] > 20


async def test_who_failed_in_an_outage_goes_on_when_it_is_over(bench: Bench, database: Database) -> None:
    """An hour too early for its next attempt; others wait for other things, or in doubt about whether the user exists."""
    keycloak = Played()
    outcomes = {
        "away": Retry(reason=Reason.CONNECTION_FAILED, failure=Failure(blame=Blame.KEYCLOAK)),
        "broken": Retry(reason=Reason.SERVER_ERROR, failure=Failure(blame=Blame.KEYCLOAK)),
        "taken": Retry(reason=Reason.CONFLICT, failure=Failure(blame=Blame.USER)),
    }

    async def answer(change: Change) -> Outcome:
        return outcomes[change.username]

    keycloak.answer = answer
    await (await Writer.take(database)).persist([update(f"{name}:1", name) for name in outcomes])
    async with draining(database, keycloak) as drain:
        await until(lambda: bench.value("SELECT MIN(calls) FROM entries") >= 1, what="each tried once")
        bench.change("UPDATE entries SET next_attempt_at = NOW(6) + INTERVAL 1 HOUR")
        keycloak.answer = None
        wait = "SELECT COUNT(*) FROM lanes WHERE state = 'WAITING' AND due_at > NOW(6) + INTERVAL 30 MINUTE"
        await until(lambda: bench.value(wait) == 3, what="all three waiting")

        drain.drainer.outage_over()
        await until(lambda: bench.counts().get("DELIVERED") == 2, what="two delivered")

    assert bench.rows("SELECT state_reason FROM entries WHERE state = 'PENDING'") == [
        {"state_reason": "conflict"}
    ]


class TestAHeldHead:
    async def test_blocks_its_own_user_and_nobody_else(self, bench: Bench, database: Database) -> None:
        keycloak = Played()
        await (await Writer.take(database)).persist(
            [
                update("later", "ada", type="kcsync.later_kind.v1"),
                update("behind", "ada"),
                *events(50, users=5),
            ]
        )

        async with draining(database, keycloak, sweep=0.2):
            await until(lambda: bench.counts().get("DELIVERED") == 50, what="the others delivered")
            # It is looked at again at each sweep, and still not passed.
            await asyncio.sleep(0.6)

        assert bench.counts() == {"DELIVERED": 50, "HELD": 1, "PENDING": 1}
        assert "behind" not in keycloak.applied

    async def test_that_is_released_lets_the_rest_go_on(self, bench: Bench, database: Database) -> None:
        keycloak = Played()
        await (await Writer.take(database)).persist(
            [update("later", "ada", type="kcsync.later_kind.v1"), update("behind", "ada")]
        )

        async with draining(database, keycloak, sweep=0.2):
            await until(lambda: bench.value("SELECT state FROM lanes") == "HELD", what="a held lane")
            await bench.change_beside(
                "UPDATE entries SET state = 'PENDING', state_reason = NULL WHERE state = 'HELD'"
            )
            await settled(bench, 2)

        assert keycloak.applied == ["later", "behind"]


async def test_who_asks_for_the_email_of_another_waits_for_that_users_changes(
    bench: Bench, database: Database
) -> None:
    taken = Failure(blame=Blame.USER, status=409, detail="same email", holder="bob")

    async def answer(change: Change) -> Outcome:
        return Retry(reason=Reason.EMAIL_IN_USE, failure=taken) if change.event_id == "asks" else DELIVERED

    keycloak = Played(answer=answer)
    await (await Writer.take(database)).persist(
        [update("gives up", "bob", type="kcsync.later_kind.v1"), update("asks", "ada")]
    )

    async with draining(database, keycloak):
        await until(lambda: keycloak.applied.count("asks") >= 2, what="asked twice")
        assert bench.rows(
            "SELECT attempts, state_reason, email_holder FROM entries WHERE event_id = 'asks'"
        ) == [{"attempts": 0, "state_reason": "email_in_use", "email_holder": "bob"}]
        await bench.change_beside(
            "UPDATE entries SET state = 'SUPERSEDED', ended_at = NOW(6) WHERE event_id = 'gives up'"
        )
        await bench.change_beside("UPDATE entries SET next_attempt_at = NULL WHERE event_id = 'asks'")
        await bench.change_beside("UPDATE lanes SET due_at = NOW(6)")
        await until(
            lambda: bench.value("SELECT COUNT(*) FROM attempts WHERE outcome = 'RETRY'"),
            what="an attempt that counts",
        )

    assert [row["outcome"] for row in bench.rows("SELECT outcome FROM attempts ORDER BY n")][:2] == [
        "DEFER"
    ] * 2
    assert bench.value("SELECT COUNT(*) FROM attempts WHERE error LIKE '%%bob%%' AND 1 = %s", 1) == 0


async def test_a_lane_that_lost_its_wake_up_is_found_by_the_sweep(bench: Bench, database: Database) -> None:
    keycloak = Played()
    await (await Writer.take(database)).persist(events(3, users=1))
    bench.change("UPDATE lanes SET state = 'IDLE'")

    with structlog.testing.capture_logs() as lines:
        async with draining(database, keycloak, sweep=0.3):
            await settled(bench, 3)

    assert keycloak.applied == ["0:0", "0:1", "0:2"]
    assert [line["lanes"] for line in lines if "sleeping lanes" in line["event"]] == [1]


class TestALostLease:
    async def test_fences_the_result_of_a_call_under_way_and_the_new_owner_repeats_it(
        self, bench: Bench, database: Database
    ) -> None:
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_: Change) -> Outcome:
            reached.set()
            await go_on.wait()
            return DELIVERED

        old, new = Played(answer=slow), Played()
        await (await Writer.take(database)).persist(events(2, users=1))
        async with draining(database, old, instance="old", renewing=False) as first:
            await asyncio.wait_for(reached.wait(), 10)
            await bench.change_beside("UPDATE leases SET deadline = NOW(6) - INTERVAL 1 SECOND")
            async with draining(database, new, instance="new"):
                await settled(bench, 2)
                go_on.set()
                await until(lambda: first.drainer.counts.fenced == 1, what="the old result fenced")
                assert bench.settled(2)

        assert old.applied == ["0:0"]
        assert new.applied == ["0:0", "0:1"]
        assert bench.rows("SELECT n, instance FROM attempts ORDER BY entry_id") == [
            {"n": 1, "instance": "new"},
            {"n": 1, "instance": "new"},
        ]

    async def test_stops_claimed_entries_from_being_called_under_a_later_lease(
        self, bench: Bench, database: Database
    ) -> None:
        """A process that slept through its lease and took another must not call for what it had claimed before."""
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_: Change) -> Outcome:
            reached.set()
            await go_on.wait()
            return DELIVERED

        keycloak = Played(answer=slow)
        await (await Writer.take(database)).persist(events(2, users=2))
        async with draining(
            database, keycloak, instance="sleeper", lease=60.0, renewing=False, calls=1
        ) as first:
            await asyncio.wait_for(reached.wait(), 10)
            await until(
                lambda: bench.value("SELECT COUNT(*) FROM entries WHERE claimed_at IS NOT NULL") == 2,
                what="the next entry claimed",
            )
            await bench.change_beside("UPDATE leases SET deadline = NOW(6) - INTERVAL 1 SECOND")
            await first.leases.turn()
            tokens = {row["token"] for row in bench.rows("SELECT token FROM leases")}
            assert tokens == {2}
            keycloak.answer = None
            go_on.set()
            await settled(bench, 2)

        assert first.drainer.counts.fenced >= 1
        # The second was claimed under the first lease; its first call belongs to the second lease.
        assert keycloak.refused
        assert sorted(set(keycloak.applied)) == ["0:0", "1:1"]

    async def test_stops_calls_when_it_ends_too_soon(self, bench: Bench, database: Database) -> None:
        keycloak = Played()
        writer = await Writer.take(database)
        async with draining(database, keycloak, lease=4.0, call_timeout=1.0, renewing=False):
            await writer.persist(events(1, users=1))
            await settled(bench, 1)
            await asyncio.sleep(1.5)
            # Less than the timeout and its margin is left.
            await writer.persist(events(1, users=1, start=1))
            await asyncio.sleep(1.0)
            assert bench.counts() == {"DELIVERED": 1, "PENDING": 1}

        assert keycloak.applied == ["0:0"]


class TestLostConnections:
    async def test_lose_and_double_nothing_and_keep_the_order(self, bench: Bench, database: Database) -> None:
        async def answer(_: Change) -> Outcome:
            await asyncio.sleep(0.02)
            return DELIVERED

        keycloak = Played(answer=answer)
        await (await Writer.take(database)).persist(events(600, users=20))
        killed = 0
        async with draining(database, keycloak, lease=30.0):
            while bench.counts().get("PENDING", 0) > 100 and killed < 30:
                await asyncio.sleep(0.15)
                killed += bench.kill_connections()
            await settled(bench, 600)

        assert killed > 5
        assert in_order(keycloak.applied, 600, 20)
        assert bench.value("SELECT COUNT(*) FROM attempts WHERE outcome = 'DELIVERED'") == 600

    @pytest.mark.parametrize("committed", [True, False])
    async def test_at_the_commit_of_a_write_back_record_each_result_once(
        self, bench: Bench, database: Database, *, committed: bool
    ) -> None:
        keycloak = Played()
        await (await Writer.take(database)).persist(events(60, users=6))
        async with database_proxy(bench.address) as wire:
            through = Database(wire.address)
            try:
                wire.cut_next_commit(after=b"INSERT INTO attempts", reaches_server=committed)
                async with draining(through, keycloak):
                    await settled(bench, 60)
            finally:
                await through.aclose()

        assert wire.cuts == 1
        assert by_user(keycloak.applied) == {str(user): list(range(user, 60, 6)) for user in range(6)}
        assert bench.value("SELECT COUNT(*) FROM attempts") == 60
