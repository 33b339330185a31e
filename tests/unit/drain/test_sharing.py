from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consumer.delivery.change import Change
from consumer.delivery.together import LARGEST, WORTH_IT, current_seat
from consumer.drain.healer import Suspect
from consumer.drain.sharing import sharing_a_call
from consumer.drain.turns import Claimed
from consumer.outbox.drain_store import ReadyLane
from consumer.outbox.fold import Fold
from consumer.outbox.lane import lane_id
from tests.unit.drain.bench_of_drainers import POLICY, Bench
from tests.unit.drain.heads import EARLIER as NOW
from tests.unit.drain.heads import head


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
