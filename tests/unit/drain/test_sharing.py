from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from consumer.delivery.change import Change
from consumer.delivery.errors import GoesAlone
from consumer.delivery.together import LARGEST, WORTH_IT, current_seat
from consumer.drain.healer import Suspect
from consumer.drain.sharing import sharing_a_call
from consumer.drain.turns import Claimed
from consumer.outbox.drain_store import ReadyLane
from consumer.outbox.fold import Fold
from consumer.outbox.lane import lane_id
from consumer.outbox.rows import EntryState
from tests.unit.drain.bench_of_drainers import POLICY, Bench, settle_down, until
from tests.unit.drain.heads import EARLIER as NOW
from tests.unit.drain.heads import head
from tests.unit.drain.outbox_in_memory import Entry


def claimed(number: int, *, realm: str = "shop", **changes: Any) -> Claimed:
    user = f"user-{number}"
    lane = ReadyLane(lane_id=lane_id(realm, user), realm=realm, username_key=user, arrivals=1, priority=3)
    return Claimed(
        (head(**{"kind": "user_create", "lane": lane, "entry_id": number, **changes}),), 1, NOW, 0.0
    )


def test_creates_of_new_users_share_a_call() -> None:
    waiting = [claimed(number) for number in range(WORTH_IT)]

    assert sharing_a_call(waiting) == waiting


def test_too_few_go_by_themselves() -> None:
    assert sharing_a_call([claimed(number) for number in range(WORTH_IT - 1)]) == []


def test_a_call_has_its_limit() -> None:
    waiting = [claimed(number) for number in range(LARGEST + 5)]

    assert sharing_a_call(waiting) == waiting[:LARGEST]


def test_the_first_that_waits_goes_first() -> None:
    update = claimed(0, kind="user_update")

    assert sharing_a_call([update, *(claimed(number) for number in range(1, 10))]) == []


def test_a_heal_goes_by_itself() -> None:
    lane: ReadyLane = claimed(0).head.lane
    suspect = Suspect(lane, Fold(), 1, NOW)

    assert sharing_a_call([suspect, *(claimed(number) for number in range(1, 10))]) == []


def test_other_realms_and_other_kinds_are_passed_by() -> None:
    waiting = [
        claimed(
            number,
            realm="shop" if number % 3 else "other",
            kind="user_create" if number % 5 else "user_update",
        )
        for number in range(1, 30)
    ]

    chosen = sharing_a_call(waiting)

    assert chosen == [
        work for work in waiting if work.head.lane.realm == "shop" and work.head.kind == "user_create"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"calls": 1}, id="called before"),
        pytest.param({"claimed_at": NOW}, id="taken over"),
        pytest.param({"maybe_applied_since": NOW}, id="in doubt"),
        pytest.param({"fold": Fold(exists=True)}, id="known to be there"),
        pytest.param({"fold": Fold(exists=False)}, id="deleted before"),
    ],
)
def test_whoever_is_not_new_goes_alone(changes: dict[str, Any]) -> None:
    assert sharing_a_call([claimed(number, **changes) for number in range(10)]) == []


def test_one_that_a_shared_call_did_not_serve_goes_alone() -> None:
    waiting = [claimed(number) for number in range(10)]
    waiting[4].alone = True

    assert sharing_a_call(waiting) == [work for work in waiting if not work.alone]
    assert sharing_a_call(waiting[4:]) == []


@pytest.mark.parametrize(("bulk", "seated"), [(True, 30), (False, 0)])
async def test_creates_that_wait_are_delivered_together_only_when_asked_for(bulk: bool, seated: int) -> None:  # noqa: FBT001 - a table.
    bench = Bench()
    bench.instance(policy=replace(POLICY, bulk_creates=bulk))
    entries = [bench.database.add(f"user{number}", "user_create", priority=3) for number in range(30)]
    other = bench.database.add("other", "user_update", priority=1)
    seats: list[str] = []

    async def look(change: Change) -> None:
        if current_seat() is not None:
            seats.append(change.kind)

    bench.keycloak.before_request = look
    async with bench.running():
        await bench.done(*entries, other)

    assert seats == ["user_create"] * seated


class TestOnesThatASharedCallDidNotServe:
    @staticmethod
    def bench(limit: int, *, entries: int = 30) -> tuple[Bench, list[Entry]]:
        bench = Bench()
        instance = bench.instance(policy=replace(POLICY, bulk_creates=True))
        instance.circuit.allowed_calls = limit

        async def refuse(_: Change) -> None:
            if current_seat() is not None:
                raise GoesAlone

        bench.keycloak.before_request = refuse
        return bench, [
            bench.database.add(f"user{number}", "user_create", priority=3) for number in range(entries)
        ]

    async def test_go_by_themselves_within_the_limit(self) -> None:
        bench, entries = self.bench(2)

        async with bench.running():
            await bench.done(*entries)

        assert {entry.state for entry in entries} == {EntryState.DELIVERED}
        assert bench.keycloak.most_at_once == 2
        assert {entry.calls for entry in entries} == {1}

    async def test_are_handed_back_when_no_calls_are_allowed_any_more(self) -> None:
        bench, entries = self.bench(2)
        (instance,) = bench.instances
        gates = [bench.keycloak.hold(f"user{number}") for number in range(30)]

        async with bench.running():
            await until(lambda: len(bench.keycloak.calls) == 2)
            instance.circuit.allowed_calls = 0
            for gate in gates:
                gate.set()
            await until(lambda: all(entry.claimed_at is None for entry in entries))

            assert len(bench.keycloak.calls) == 2
            instance.circuit.allowed_calls = 2
            await bench.done(*entries)

    async def test_are_handed_back_when_the_drain_stops(self) -> None:
        bench, entries = self.bench(2, entries=4)
        (instance,) = bench.instances
        arrived, go_on = 0, asyncio.Event()

        async def refuse_later(_: Change) -> None:
            nonlocal arrived
            arrived += 1
            await go_on.wait()
            raise GoesAlone

        bench.keycloak.before_request = refuse_later
        async with bench.running():
            await until(lambda: arrived == 4)
            stopping = asyncio.create_task(instance.drainer.stop(5.0))
            await settle_down()
            go_on.set()
            await stopping

        assert {(entry.state, entry.claimed_at, entry.calls) for entry in entries} == {
            (EntryState.PENDING, None, 0)
        }
        assert bench.keycloak.calls == []
