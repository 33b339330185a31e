"""What operators do to lanes, told over whole drainers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from consumer.outbox.command_store import Action, Verdict
from consumer.outbox.errors import CommitUnknown
from consumer.outbox.rows import EntryState
from tests.unit.drain.bench_of_drainers import POLICY, Bench, settle_down, until
from tests.unit.drain.heads import INVALID, UNAVAILABLE
from tests.unit.drain.outbox_in_memory import Entry, QueuedCommand

PENDING, HELD, DELIVERED, DEAD_LETTER, _ = EntryState
DONE, REFUSED, EXPIRED = Verdict


@pytest.fixture
def bench() -> Bench:
    return Bench()


def states(*entries: Entry) -> list[EntryState]:
    return [entry.state for entry in entries]


async def answered(bench: Bench, *commands: QueuedCommand) -> None:
    for _ in range(20):
        if all(command.answer for command in commands):
            return
        await bench.advance(0.5)
    raise AssertionError("commands without an answer")


class TestCommands:
    async def test_a_released_entry_is_delivered_and_what_stands_behind_it_after_it(
        self, bench: Bench
    ) -> None:
        bench.instance()
        held = bench.database.add("alice", state=HELD, reason="suspected_cause", openings=3)
        behind = bench.database.add("alice")

        async with bench.running():
            await until(lambda: bench.database.lanes[held.lane_id].state == "HELD")
            command = bench.database.ask(Action.RELEASE, held)
            await answered(bench, command)
            await bench.done(held, behind)

        assert command.answer is DONE
        assert bench.keycloak.order("alice") == [held.event_id, behind.event_id]
        assert held.openings == 0

    async def test_a_dropped_entry_is_never_called_and_the_next_goes_on(self, bench: Bench) -> None:
        bench.instance()
        held, behind = bench.database.add("alice", state=HELD), bench.database.add("alice")

        async with bench.running():
            command = bench.database.ask(Action.DROP, held)
            await answered(bench, command)
            await bench.done(behind)

        assert (held.state, held.reason) == (DEAD_LETTER, "dropped")
        assert bench.keycloak.order("alice") == [behind.event_id]

    async def test_are_executed_between_two_calls_of_their_lane(self, bench: Bench) -> None:
        """A lane with work without end gives way to what is asked of it."""
        bench.instance()
        entries = [bench.database.add("alice") for _ in range(30)]
        last = bench.database.add("alice", state=HELD)
        gate = bench.keycloak.hold("alice")

        async with bench.running():
            await until(lambda: bench.keycloak.calls)
            command = bench.database.ask(Action.DROP, last)
            await bench.advance(1)
            assert not command.answer
            slow = bench.database.gates["settle_commands"] = asyncio.Event()
            gate.set()
            for _ in range(3):
                await bench.advance(1)
            assert len(bench.keycloak.calls) == 1

            slow.set()
            await answered(bench, command)
            await bench.done(*entries)

        assert command.answer is DONE
        assert len(bench.keycloak.calls) == 30

    async def test_leave_alone_what_has_changed_since_they_were_looked_at(self, bench: Bench) -> None:
        """What is held for want of a newer version may be released, or refused, while its lane is in hand."""
        instance = bench.instance()
        held = bench.database.add("alice", state=HELD, reason="kind_unregistered")
        writing = bench.database.gates["settle_commands"] = asyncio.Event()

        async with bench.running():
            command = bench.database.ask(Action.DROP, held)
            await bench.advance(1)
            await until(instance.drainer.busy_shards)
            held.state, held.reason = DEAD_LETTER, "invalid_data"
            writing.set()
            await answered(bench, command)

        assert (command.answer, held.reason) == (REFUSED, "invalid_data")

    async def test_are_executed_while_the_circuit_is_open(self, bench: Bench) -> None:
        instance = bench.instance()
        instance.circuit.allowed_calls = 0
        held = bench.database.add("alice", state=HELD)

        async with bench.running():
            command = bench.database.ask(Action.RELEASE, held)
            await answered(bench, command)

        assert (command.answer, held.state) == (DONE, PENDING)
        assert not bench.keycloak.calls

    async def test_many_of_one_lane_are_executed_one_after_the_other(self, bench: Bench) -> None:
        bench.instance()
        held = [bench.database.add("alice", state=HELD) for _ in range(5)]

        async with bench.running():
            commands = [bench.database.ask(Action.RELEASE, entry) for entry in held]
            await answered(bench, *commands)
            await bench.done(*held)

        assert {command.answer for command in commands} == {DONE}
        assert bench.keycloak.order("alice") == [entry.event_id for entry in held]

    async def test_that_come_too_late_are_answered_so(self, bench: Bench) -> None:
        bench.instance()
        held = bench.database.add("alice", state=HELD)
        command = bench.database.ask(Action.RELEASE, held)
        bench.clock.advance(3600)

        async with bench.running():
            await answered(bench, command)

        assert (command.answer, held.state) == (EXPIRED, HELD)

    async def test_survive_a_lost_commit(self, bench: Bench) -> None:
        bench.instance()
        bench.database.faults_after["settle_commands"].append(CommitUnknown())
        held = bench.database.add("alice", state=HELD)

        async with bench.running():
            command = bench.database.ask(Action.RELEASE, held)
            await answered(bench, command)

        assert command.answer is DONE

    async def test_of_a_shard_that_was_lost_change_nothing(self, bench: Bench) -> None:
        bench.instance()
        held = bench.database.add("alice", state=HELD)

        async with bench.running():
            await settle_down()
            for lease in bench.database.leases.values():
                lease.owner, lease.token = "another", lease.token + 1
            command = bench.database.ask(Action.RELEASE, held)
            bench.clock.advance(1)
            bench.notify()
            await settle_down()

        assert (command.answer, held.state) == (None, HELD)

    async def test_hurry_an_entry_that_waits_for_its_next_attempt(self, bench: Bench) -> None:
        bench.instance(policy=replace(POLICY, backoff_floor=20.0, backoff_base=20.0, backoff_cap=20.0))
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].append(UNAVAILABLE)

        async with bench.running():
            await until(lambda: entry.calls == 1)
            began = bench.clock()
            command = bench.database.ask(Action.HURRY, entry)
            await answered(bench, command)
            await until(lambda: entry.state is DELIVERED)

        assert bench.clock() - began < 20


class TestHolds:
    async def test_a_create_that_dies_holds_its_lane_until_it_is_released(self, bench: Bench) -> None:
        bench.instance()
        create, behind = bench.database.add("alice", "user_create"), bench.database.add("alice")
        other = bench.database.add("bob")
        bench.keycloak.plans[create.event_id].append(INVALID)

        async with bench.running():
            await bench.done(create, other)
            await bench.advance(5)
            assert bench.database.lanes[create.lane_id].state == "HELD"
            fold = bench.database.folds[create.lane_id]
            assert (fold.held_by_entry, fold.held_reason) == (create.entry_id, "invalid_data")
            assert states(create, behind, other) == [DEAD_LETTER, PENDING, DELIVERED]

            await answered(bench, bench.database.ask(Action.RELEASE_LANE, create))
            await bench.done(behind)

        assert bench.keycloak.order("alice") == [create.event_id, behind.event_id]
        assert bench.database.folds[create.lane_id].held_by_entry is None

    async def test_a_held_lane_stays_held_through_sweeps_arrivals_and_restarts(self, bench: Bench) -> None:
        bench.instance("a", policy=replace(POLICY, sweep_interval=0.01))
        create, behind = bench.database.add("alice", "user_create"), bench.database.add("alice")
        bench.keycloak.plans[create.event_id].append(INVALID)

        async with bench.running():
            await bench.done(create)
            later = bench.database.add("alice")
            for _ in range(5):
                await bench.advance(1)
        # Another process finds the lane as a lost hint would leave it.
        bench.database.lanes[create.lane_id].state = "READY"
        bench.instances.clear()
        bench.instance("b")
        bench.clock.advance(31)
        async with bench.running():
            await bench.advance(5)

        assert states(behind, later) == [PENDING, PENDING]
        assert bench.keycloak.order("alice") == [create.event_id]
        assert bench.database.lanes[create.lane_id].state == "HELD"

    async def test_an_update_that_dies_holds_nothing_unless_that_is_wanted(self, bench: Bench) -> None:
        bench.instance(policy=replace(POLICY, holding=frozenset({"user_update"})))
        update, behind = bench.database.add("alice"), bench.database.add("alice")
        create, after = bench.database.add("bob", "user_create"), bench.database.add("bob")
        for entry in (update, create):
            bench.keycloak.plans[entry.event_id].append(INVALID)

        async with bench.running():
            await bench.done(update, create, after)
            await bench.advance(5)

        assert states(update, behind) == [DEAD_LETTER, PENDING]
        assert states(create, after) == [DEAD_LETTER, DELIVERED]
