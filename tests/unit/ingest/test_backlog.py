from __future__ import annotations

from typing import cast

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from consumer.ingest.backlog import BacklogWatch, Marks, is_full
from consumer.outbox.backlog_store import Backlog, BacklogStore

MARKS = Marks(high=100, low=80)


class Shared:
    """The outbox's backlog in memory: what is in it, and what was counted last."""

    def __init__(self) -> None:
        self.entries = 0
        self.behind_held = 0
        self.now = 0.0
        self.count_again = 0.0
        self.counted = Backlog(due=0, blocked=0, full=False, stale=True)
        self.rests: list[float] = []
        self.asked_for_blocked = 0

    async def read(self) -> Backlog:
        counted = self.counted
        stale = self.now >= self.count_again
        return Backlog(due=counted.due, blocked=counted.blocked, full=counted.full, stale=stale)

    async def claim(self, *, seconds: float) -> bool:
        if self.now < self.count_again:
            return False
        self.count_again = self.now + seconds
        return True

    async def unfinished(self) -> int:
        return self.entries

    async def blocked(self) -> int:
        self.asked_for_blocked += 1
        return self.behind_held

    async def note(self, *, due: int, blocked: int, full: bool, rest: float) -> None:
        self.counted = Backlog(due=due, blocked=blocked, full=full, stale=False)
        self.count_again = self.now + rest
        self.rests.append(rest)


class Watcher:
    """One instance's watch, and what it told."""

    def __init__(self, shared: Shared, *, seconds_a_count: float = 0.0) -> None:
        self.told: list[bool] = []
        self.said: list[str] = []
        ticks = iter(range(1_000_000))
        self.watch = BacklogWatch(
            cast(BacklogStore, shared),
            marks=MARKS,
            on_change=self.told.append,
            on_state=self.said.append,
            clock=lambda: next(ticks) * seconds_a_count,
        )


@pytest.fixture
def shared() -> Shared:
    return Shared()


async def look(shared: Shared, *watchers: Watcher) -> None:
    """Some time later all look."""
    shared.now += 60
    for watcher in watchers:
        await watcher.watch.turn()


class TestTheMarks:
    @pytest.mark.parametrize(
        ("due", "was_full", "expected"),
        [(99, False, False), (100, False, True), (81, True, True), (80, True, False), (81, False, False)],
    )
    def test_are_a_high_and_a_low_one(self, due: int, *, was_full: bool, expected: bool) -> None:
        assert is_full(due, was_full=was_full, marks=MARKS) is expected

    @given(high=st.integers(1, 1000), low=st.integers(0, 999), full=st.booleans())
    def test_never_hold_what_the_drain_has_emptied(self, high: int, low: int, *, full: bool) -> None:
        marks = Marks(high=max(high, low + 1), low=low)

        assert not is_full(0, was_full=full, marks=marks)


class TestTheBacklog:
    async def test_holds_ingest_from_the_high_mark_down_to_the_low_one(self, shared: Shared) -> None:
        one = Watcher(shared)
        for entries in (0, 99, 100, 150, 81, 80, 99):
            shared.entries = entries
            await look(shared, one)

        assert one.told == [False, True, False]
        assert [line.split(":")[0] for line in one.said] == ["Backlog full", "Backlog well again"]

    async def test_of_blocked_entries_alone_holds_nothing(self, shared: Shared) -> None:
        one = Watcher(shared)
        shared.entries = shared.behind_held = 50_000
        await look(shared, one)

        assert one.told == [False]

    async def test_goes_on_when_only_blocked_entries_remain(self, shared: Shared) -> None:
        one = Watcher(shared)
        shared.entries, shared.behind_held = 50_100, 50_000
        await look(shared, one)
        assert one.told == [True]

        shared.entries = 50_000
        await look(shared, one)
        assert one.told == [True, False]

    async def test_of_blocked_entries_beyond_the_mark_is_an_alarm_once(self, shared: Shared) -> None:
        one = Watcher(shared)
        shared.entries = shared.behind_held = 200
        with structlog.testing.capture_logs() as lines:
            for _ in range(3):
                await look(shared, one)

        assert [line["blocked"] for line in lines] == [200]

    async def test_is_not_searched_for_blocked_entries_while_it_is_small(self, shared: Shared) -> None:
        shared.entries = shared.behind_held = 80
        await look(shared, Watcher(shared))

        assert shared.asked_for_blocked == 0

    async def test_is_never_less_than_nothing(self, shared: Shared) -> None:
        """The two counts are taken one after the other."""
        shared.entries, shared.behind_held = 90, 120
        await look(shared, Watcher(shared))

        assert shared.counted.due == 0


class TestSeveralInstances:
    async def test_one_counts_for_all_and_all_hold(self, shared: Shared) -> None:
        watchers = [Watcher(shared) for _ in range(3)]
        shared.entries = 100
        await look(shared, *watchers)

        assert len(shared.rests) == 1
        assert [watcher.told for watcher in watchers] == [[True]] * 3

    async def test_another_counts_when_the_one_who_wanted_to_has_died(self, shared: Shared) -> None:
        await shared.claim(seconds=60)
        shared.entries = 100
        late = Watcher(shared)
        shared.now = 59
        await late.watch.turn()
        assert late.told == [False]

        shared.now = 60
        await late.watch.turn()
        assert late.told == [False, True]

    @pytest.mark.parametrize(("seconds", "rest"), [(0.001, 2.0), (0.2, 10.0), (5.0, 30.0)])
    async def test_a_count_that_takes_long_is_made_seldom(
        self, shared: Shared, seconds: float, rest: float
    ) -> None:
        await look(shared, Watcher(shared, seconds_a_count=seconds))

        assert shared.rests == [rest]
