from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from consumer.drain.guard import HELD_BY_GUARD, DeletionGuard, GuardPolicy, limit_of
from consumer.outbox.command_store import Action
from consumer.outbox.deletion_store import DeletionStore
from consumer.outbox.drain_store import Head
from consumer.outbox.errors import DatabaseUnavailable
from consumer.outbox.rows import EntryState
from tests.unit.drain.bench_of_drainers import Bench, until
from tests.unit.drain.heads import CLAIMED_AT, head
from tests.unit.drain.outbox_in_memory import Clock

PENDING, HELD, DELIVERED, DEAD_LETTER, _ = EntryState


@pytest.mark.parametrize(
    ("users", "limit"),
    [
        (0, 10),  # the floor
        (50, 10),  # 20 % are 10
        (51, 11),  # rounded up
        (200, 40),
        (500, 100),  # 20 % are 100
        (1_000_000, 100),  # the number
    ],
)
def test_the_limit_is_the_number_or_the_share_with_a_floor(users: int, limit: int) -> None:
    assert limit_of(GuardPolicy(), users) == limit


def test_a_number_below_the_floor_counts() -> None:
    assert limit_of(GuardPolicy(deletes=3), 1000) == 3


@dataclass
class Places:
    """What `DeletionStore` does, for one realm."""

    known: int = 0
    taken: set[int] = field(default_factory=set)
    counted: int = 0
    locked: int = 0

    async def let_through(self, entries: Collection[int]) -> set[int]:
        return self.taken & set(entries)

    async def used(self, realm: str) -> int:
        return len(self.taken)

    async def reserve(self, realm: str, entries: Sequence[int], *, limit: int) -> set[int]:
        self.locked += 1
        placed = self.taken & set(entries)
        free = [each for each in entries if each not in placed][: max(0, limit - len(self.taken))]
        self.taken |= set(free)
        return placed.union(free)

    async def users(self, realm: str, *, upto: int) -> int:
        self.counted += 1
        return min(self.known, upto)

    async def forget(self, realm: str) -> None:
        pass


def guard(places: Places, clock: Clock, **policy: int) -> DeletionGuard:
    return DeletionGuard(
        store=cast(DeletionStore, places), policy=GuardPolicy(**{"deletes": 2, **policy}), clock=clock
    )


def delete(number: int, **changes: object) -> Head:
    return head("user_delete", entry_id=number, event_id=f"e-{number}", **changes)


class TestPlaces:
    async def test_are_taken_oldest_first(self) -> None:
        places = Places()

        refused = await guard(places, Clock()).refused([delete(3), delete(1), delete(2)])

        assert refused == {3: HELD_BY_GUARD}
        assert places.taken == {1, 2}

    async def test_are_not_taken_twice(self) -> None:
        places = Places()
        ours = guard(places, Clock())
        for _ in range(3):
            assert await ours.refused([delete(1), delete(2)]) == {}

        assert places.locked == 1

    @pytest.mark.parametrize(
        "changes", [{"calls": 1}, {"claimed_at": CLAIMED_AT}, {"maybe_applied_since": CLAIMED_AT}]
    )
    async def test_are_not_asked_for_by_what_was_called_before(self, changes: Mapping[str, object]) -> None:
        places = Places(taken={1, 2})

        assert await guard(places, Clock()).refused([delete(3, **changes)]) == {}

    async def test_are_for_deletes_alone(self) -> None:
        places = Places(taken={1, 2})

        assert await guard(places, Clock()).refused([head(entry_id=5), head("user_create")]) == {}
        assert places.locked == 0

    async def test_of_many_users_are_counted_once_a_minute(self) -> None:
        places, clock = Places(known=1000), Clock()
        ours = guard(places, clock)
        for number in range(5):
            await ours.refused([delete(number)])
        clock.advance(60)
        await ours.refused([delete(9)])

        assert places.counted == 2

    async def test_are_refused_by_no_count_of_users_that_is_old(self) -> None:
        """A realm that is being filled: ten users a minute ago are fifty by now."""
        places, clock = Places(known=10), Clock()
        ours = guard(places, clock, deletes=100)
        assert await ours.refused([delete(number) for number in range(10)]) == {}
        places.known = 50
        clock.advance(2)

        assert len(await ours.refused([delete(number) for number in range(10, 20)])) == 8
        assert len(places.taken) == 12
        # They are held for good now: another count within a second would change nothing.
        assert await ours.refused([delete(20)]) == {20: HELD_BY_GUARD}
        assert places.counted == 2


class TestInTheDrain:
    async def test_a_delete_without_a_place_is_held_and_nobody_else_waits(self) -> None:
        bench, places = Bench(), Places()
        bench.instance(admissions=[guard(places, bench.clock)])
        deletes = [bench.database.add(f"user-{n}", "user_delete") for n in range(5)]
        behind = bench.database.add("user-4")
        others = [bench.database.add(f"other-{n}") for n in range(5)]

        async with bench.running():
            await bench.done(*deletes, *others)
            await bench.advance(5)

        assert [entry.state for entry in deletes] == [DELIVERED] * 2 + [HELD] * 3
        assert {entry.reason for entry in deletes[2:]} == {HELD_BY_GUARD}
        assert {entry.calls for entry in deletes[2:]} == {0}
        assert behind.state is PENDING
        assert {entry.state for entry in others} == {DELIVERED}
        assert bench.database.lanes[behind.lane_id].state == "HELD"

    async def test_one_that_an_operator_lets_through_is_called(self) -> None:
        bench, places = Bench(), Places(taken={98, 99})
        bench.instance(admissions=[guard(places, bench.clock)])
        entry = bench.database.add("alice", "user_delete")
        bench.database.allow = places.taken.add

        async with bench.running():
            await until(lambda: entry.state is HELD)
            command = bench.database.ask(Action.RELEASE, entry)
            while not command.answer:
                await bench.advance(0.5)
            await bench.done(entry)

        assert entry.state is DELIVERED

    async def test_nothing_is_called_while_places_cannot_be_taken(self) -> None:
        bench, places = Bench(), Places()
        bench.instance(admissions=[guard(places, bench.clock)])
        entry = bench.database.add("alice", "user_delete")
        # The claim fails after a place was taken: it is the same place the next time.
        bench.database.faults["claim"].append(DatabaseUnavailable("away"))

        async with bench.running():
            await bench.done(entry)

        assert entry.state is DELIVERED
        assert places.taken == {entry.entry_id}
