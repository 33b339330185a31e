from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from consumer.delivery.outcome import Outcome
from consumer.drain.admission import held_back
from consumer.drain.policy import DrainPolicy
from consumer.drain.settle import settle
from consumer.drain.writer import Writer
from consumer.outbox.drain_store import DrainStore, ReadyLane, WriteBack
from consumer.outbox.errors import CommitUnknown, DatabaseUnavailable
from consumer.outbox.rows import EntryState
from tests.unit.drain.heads import CONFLICT, call, delivered, head
from tests.unit.drain.outbox_in_memory import Clock, MemoryDatabase, MemoryDrainStore


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.drain.writer.Backoff.next_delay", lambda _: 0.0)


class Desk:
    """A writer, and entries that were claimed by its instance."""

    def __init__(self, batch: int = 256, gather: float = 0.0) -> None:
        self.database = MemoryDatabase(Clock())
        for lease in self.database.leases.values():
            lease.owner, lease.token, lease.deadline = "a", 5, 2000.0
        self.written: list[tuple[list[int], set[bytes]]] = []
        self.more_comes = False
        store = cast(DrainStore, MemoryDrainStore(self.database, "a"))
        self.writer = Writer(
            store,
            instance="a",
            batch=batch,
            on_written=self._written,
            more_comes=lambda: self.more_comes,
            gather=gather,
        )

    def add(self, count: int = 1) -> list[int]:
        """Results of so many deliveries; the ids of their entries."""
        return [self._add(number) for number in range(count)]

    def add_refused(self) -> int:
        """The result of a call that is tried again later; the id of its entry."""
        return self._add(0, CONFLICT)

    def add_before_more(self) -> int:
        """The result of a delivery behind which more stands in its lane; the id of its entry."""
        return self._add(0, next_priority=5)

    def _add(self, number: int, outcome: Outcome | None = None, next_priority: int | None = None) -> int:
        entry = self.database.add(f"user-{number}", claim_token=5, claimed_at=self.database.now())
        lane = ReadyLane(lane_id=entry.lane_id, realm="shop", username_key="u", arrivals=1, priority=5)
        of = head(entry_id=entry.entry_id, lane=lane, next_priority=next_priority)
        self.writer.add(settle((of,), outcome or delivered(), call(token=5), DrainPolicy(), float))
        return entry.entry_id

    def add_held_back(self) -> int:
        """A head that was not admitted, and so never claimed; the id of its entry."""
        entry = self.database.add("user-held")
        lane = ReadyLane(lane_id=entry.lane_id, realm="shop", username_key="u", arrivals=1, priority=5)
        self.writer.add(held_back(head(entry_id=entry.entry_id, lane=lane), token=5, reason="deletion_guard"))
        return entry.entry_id

    def _written(self, group: Sequence[WriteBack], fenced: set[bytes]) -> None:
        self.written.append(([s.head.entry_id for each in group for s in each.settlements], fenced))

    def states(self, entries: Sequence[int]) -> set[EntryState]:
        return {self.database.entries[number].state for number in entries}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.writer.run())
        try:
            async with asyncio.timeout(5):
                yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_results_that_wait_share_a_transaction_up_to_the_batch() -> None:
    desk = Desk(batch=4)
    entries = desk.add(10)

    async with desk.open():
        await desk.writer.drained()

    assert desk.database.settled == [entries[:4], entries[4:8], entries[8:]]
    assert desk.written == [(entries[:4], set()), (entries[4:8], set()), (entries[8:], set())]


class TestGathering:
    LONG = 3600.0

    async def test_results_wait_for_others_while_calls_are_under_way(self) -> None:
        desk = Desk(gather=self.LONG)
        desk.more_comes = True
        entries = desk.add(1)

        async with desk.open():
            await asyncio.sleep(0.2)
            entries += desk.add(1)
            assert desk.written == []
            desk.more_comes = False
            await desk.writer.drained()

        assert desk.database.settled == [entries]

    async def test_nothing_is_waited_for_after_the_last_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("consumer.drain.writer._MORE_TO_DO", self.LONG)
        desk = Desk(gather=self.LONG)
        desk.more_comes = True
        entries = desk.add(1)

        async with desk.open():
            await asyncio.sleep(0)
            assert desk.written == []
            desk.more_comes = False
            desk.writer.last_came()
            await desk.writer.drained()

        assert desk.database.settled == [entries]

    async def test_a_full_transaction_waits_for_nobody(self) -> None:
        desk = Desk(batch=2, gather=self.LONG)
        desk.more_comes = True
        entries = desk.add(2)

        async with desk.open():
            await desk.writer.drained()

        assert desk.database.settled == [entries]

    async def test_a_lane_with_more_to_do_is_not_kept_waiting(self) -> None:
        desk = Desk(gather=self.LONG)
        desk.more_comes = True
        entries = [*desk.add(1), desk.add_before_more()]

        async with desk.open():
            await desk.writer.drained()

        assert desk.database.settled == [entries]


async def test_nobody_is_told_before_the_commit_is_known() -> None:
    desk = Desk()
    desk.database.gates["settle"] = asyncio.Event()
    entries = desk.add(2)

    async with desk.open():
        for _ in range(20):
            await asyncio.sleep(0)
        assert desk.written == []
        desk.database.gates["settle"].set()
        await desk.writer.drained()

    assert desk.written == [(entries, set())]


async def test_what_is_added_while_writing_comes_next() -> None:
    desk = Desk()
    gate = desk.database.gates["settle"] = asyncio.Event()
    first = desk.add(1)

    async with desk.open():
        for _ in range(20):
            await asyncio.sleep(0)
        second = [desk._add(99)]
        gate.set()
        await desk.writer.drained()

    assert desk.database.settled == [first, second]


async def test_a_database_that_is_away_is_waited_out_with_nothing_lost() -> None:
    desk = Desk()
    desk.database.faults["settle"].extend([DatabaseUnavailable()] * 3)
    entries = desk.add(3)

    async with desk.open():
        await desk.writer.drained()

    assert desk.states(entries) == {EntryState.DELIVERED}
    assert desk.written == [(entries, set())]


async def test_a_lost_commit_that_had_succeeded_is_not_written_again() -> None:
    desk = Desk()
    desk.database.faults_after["settle"].append(CommitUnknown())
    entries = desk.add(3)

    async with desk.open():
        await desk.writer.drained()

    # The store in memory refuses a second write; there was none.
    assert desk.database.settled == [entries]
    assert desk.written == [(entries, set())]


async def test_a_lost_commit_that_had_failed_is_written_again() -> None:
    desk = Desk()
    desk.database.faults["settle"].append(CommitUnknown())
    desk.database.faults["still_pending"].extend([DatabaseUnavailable(), CommitUnknown()])
    entries = desk.add(3)

    async with desk.open():
        await desk.writer.drained()

    assert desk.states(entries) == {EntryState.DELIVERED}
    assert desk.database.settled == [entries]


async def test_after_a_lost_commit_only_what_was_not_recorded_is_written_again() -> None:
    desk = Desk()
    desk.database.faults["settle"].append(CommitUnknown())
    recorded, *rest = desk.add(3)
    desk.database.entries[recorded].state = EntryState.DELIVERED

    async with desk.open():
        await desk.writer.drained()

    assert desk.database.settled == [rest]
    assert desk.states(rest) == {EntryState.DELIVERED}


@pytest.mark.parametrize("committed", [True, False])
async def test_a_head_that_was_held_back_is_written_once_whatever_became_of_a_lost_commit(
    *, committed: bool
) -> None:
    desk = Desk()
    faults = desk.database.faults_after if committed else desk.database.faults
    faults["settle"].append(CommitUnknown())
    held = desk.add_held_back()
    called = desk.add(1)

    async with desk.open():
        await desk.writer.drained()

    # The store in memory refuses a second write; there was none.
    assert desk.database.settled == [[held, *called]]
    assert desk.states([held]) == {EntryState.HELD}
    assert desk.states(called) == {EntryState.DELIVERED}


async def test_after_a_lost_commit_an_attempt_that_was_recorded_is_not_written_again() -> None:
    """Its entry is pending again, but not claimed any more: that tells it from one that was not recorded."""
    desk = Desk()
    desk.database.faults_after["settle"].append(CommitUnknown())
    entry = desk.add_refused()

    async with desk.open():
        await desk.writer.drained()

    assert desk.database.settled == [[entry]]
    assert desk.states([entry]) == {EntryState.PENDING}


async def test_what_was_fenced_is_told() -> None:
    desk = Desk()
    mine, theirs = desk.add(2)
    desk.database.leases[desk.database.entries[theirs].lane_id[0]].token = 6

    async with desk.open():
        await desk.writer.drained()

    assert desk.written == [([mine, theirs], {desk.database.entries[theirs].lane_id})]
    assert desk.states([theirs]) == {EntryState.PENDING}


async def test_drained_is_true_at_once_when_nothing_was_added() -> None:
    async with asyncio.timeout(1):
        await Desk().writer.drained()


async def test_drained_waits_for_all_that_was_added() -> None:
    desk = Desk()
    desk.add(1)

    drained = asyncio.create_task(desk.writer.drained())
    await asyncio.sleep(0)
    assert not drained.done()

    async with desk.open():
        await drained
    assert len(desk.written) == 1
