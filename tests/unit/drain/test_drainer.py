from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import chain

import pytest
import structlog

from consumer.delivery.change import Change
from consumer.delivery.outcome import Blame, Defer, Delivered, Failure, Outcome, Reason, Retry
from consumer.drain.policy import DrainPolicy
from consumer.outbox.errors import CommitUnknown, DatabaseUnavailable
from consumer.outbox.fold import Credential, Fold
from consumer.outbox.lane import lane_id
from consumer.outbox.rows import EntryState
from tests.unit.drain.bench_of_drainers import NOT_APPLIED, POLICY, Bench, settle_down, until
from tests.unit.drain.heads import (
    CONFLICT,
    FORBIDDEN,
    INVALID,
    NOT_KEYCLOAK,
    TIMEOUT,
    UNAVAILABLE,
    UNREACHABLE,
    delivered,
)
from tests.unit.drain.outbox_in_memory import Entry

PENDING, HELD, DELIVERED, DEAD_LETTER, _ = EntryState


@pytest.fixture
def bench() -> Bench:
    return Bench()


def states(*entries: Entry) -> list[EntryState]:
    return [entry.state for entry in entries]


def claimed(entries: Sequence[Entry]) -> int:
    return sum(entry.claimed_at is not None for entry in entries)


def ids(entries: Sequence[Entry]) -> list[str]:
    return [entry.event_id for entry in entries]


class TestOrder:
    async def test_each_users_changes_are_asked_for_in_their_order(self, bench: Bench) -> None:
        bench.instance()
        users = [f"user-{n}" for n in range(12)]
        entries = {user: [] for user in users}  # type: dict[str, list[Entry]]
        for _ in range(10):
            for user in users:
                entries[user].append(bench.database.add(user))

        async with bench.running():
            await bench.done(*chain.from_iterable(entries.values()))

        assert {user: bench.keycloak.order(user) for user in users} == {
            user: ids(known) for user, known in entries.items()
        }

    async def test_is_kept_through_failures(self, bench: Bench) -> None:
        bench.instance()
        entries = [bench.database.add("alice") for _ in range(5)]
        for entry in entries[1:4]:
            bench.keycloak.plans[entry.event_id].extend([CONFLICT, UNAVAILABLE, TIMEOUT])

        async with bench.running():
            await bench.done(*entries)

        first, *middle, last = ids(entries)
        assert bench.keycloak.order("alice") == [first, *(event for event in middle for _ in range(4)), last]

    async def test_goes_on_behind_a_dead_letter(self, bench: Bench) -> None:
        bench.instance()
        entries = [bench.database.add("alice") for _ in range(3)]
        bench.keycloak.plans[entries[1].event_id].append(INVALID)

        async with bench.running():
            await bench.done(*entries)

        assert states(*entries) == [DELIVERED, DEAD_LETTER, DELIVERED]
        assert bench.keycloak.order("alice") == ids(entries)

    async def test_waits_for_the_commit_of_the_write_back(self, bench: Bench) -> None:
        bench.instance()
        first, second = bench.database.add("alice"), bench.database.add("alice")
        gate = bench.database.gates["settle"] = asyncio.Event()

        async with bench.running():
            await until(lambda: bench.keycloak.calls)
            for _ in range(5):
                bench.notify()
                await settle_down()
            assert bench.keycloak.order("alice") == [first.event_id]

            gate.set()
            await bench.done(first, second)

        assert bench.keycloak.order("alice") == ids([first, second])

    @pytest.mark.parametrize("after", [False, True])
    async def test_survives_a_lost_commit(self, bench: Bench, after: bool) -> None:  # noqa: FBT001 - both ways a COMMIT can be lost
        bench.instance()
        faults = bench.database.faults_after if after else bench.database.faults
        faults["settle"].append(CommitUnknown())
        entries = [bench.database.add("alice") for _ in range(3)]

        async with bench.running():
            await bench.done(*entries)

        assert bench.keycloak.order("alice") == ids(entries)


class TestOneLaneDoesNotHoldUpAnother:
    async def test_while_its_call_hangs(self, bench: Bench) -> None:
        bench.instance()
        stuck = bench.database.add("alice")
        bench.keycloak.hold("alice")
        others = [bench.database.add(f"user-{n}") for n in range(30)]

        async with bench.running():
            await until(lambda: set(states(*others)) == {DELIVERED})
            assert stuck.state is PENDING

    async def test_while_it_waits_for_its_next_attempt(self, bench: Bench) -> None:
        bench.instance()
        failing = [bench.database.add("alice") for _ in range(50)]
        bench.keycloak.always["alice"] = UNAVAILABLE
        others = [bench.database.add("bob") for _ in range(5)]

        async with bench.running():
            await until(lambda: set(states(*others)) == {DELIVERED})

        assert set(states(*failing)) == {PENDING}
        assert len(bench.keycloak.order("alice")) == 1

    async def test_by_being_long(self, bench: Bench) -> None:
        bench.instance()
        for user in range(40):
            for _ in range(20):
                bench.database.add(f"long-{user}")
        short = [bench.database.add(f"short-{user}") for user in range(5)]

        async with bench.running():
            await until(lambda: set(states(*short)) == {DELIVERED})

        longest = max(len(bench.keycloak.order(f"long-{user}")) for user in range(40))
        assert longest <= 5

    async def test_while_its_head_is_held(self, bench: Bench) -> None:
        bench.instance()
        held, behind = bench.database.add("alice", state=HELD), bench.database.add("alice")
        other = bench.database.add("bob")

        async with bench.running():
            await until(lambda: other.state is DELIVERED)
            await until(lambda: bench.database.lanes[held.lane_id].state == "HELD")

        assert states(held, behind) == [HELD, PENDING]
        assert bench.keycloak.order("alice") == []

    async def test_while_its_realm_is_at_fault(self, bench: Bench) -> None:
        one = bench.instance()
        one.realm_trouble["broken"] = FORBIDDEN
        waiting = [bench.database.add(f"user-{n}", realm="broken") for n in range(3)]
        for n in range(3):
            bench.keycloak.always[f"user-{n}"] = FORBIDDEN
        others = [bench.database.add("bob") for _ in range(5)]

        async with bench.running():
            await until(lambda: set(states(*others)) == {DELIVERED})
            asked = len(bench.keycloak.calls)
            assert bench.database.realm_faults == {"broken": "forbidden"}
            await bench.advance(20)
            assert len(bench.keycloak.calls) == asked, "the realm rests"

            one.realm_trouble.clear()
            bench.keycloak.always.clear()
            await bench.done(*waiting)

        assert bench.database.realm_faults == {}
        assert {entry.attempts for entry in waiting} == {0}


class TestHowMuchAtOnce:
    async def test_is_what_the_circuit_allows(self, bench: Bench) -> None:
        one = bench.instance()
        one.circuit.allowed_calls = 3
        entries = [bench.database.add(f"user-{n}") for n in range(40)]
        gates = [bench.keycloak.hold(f"user-{n}") for n in range(40)]

        async with bench.running():
            await until(lambda: len(bench.keycloak.calls) == 3)
            bench.notify()
            await settle_down()
            assert len(bench.keycloak.calls) == 3
            # 3 under way, and twice as many that wait for a free place.
            assert claimed(entries) == 9

            for gate in gates:
                gate.set()
            await bench.done(*entries)

        assert bench.keycloak.most_at_once == 3

    async def test_room_for_more_is_used_as_soon_as_a_call_ends(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = bench.instance()
        one.circuit.allowed_calls = 2
        entries = [bench.database.add(f"user-{n}") for n in range(4)]
        gates = {f"user-{n}": bench.keycloak.hold(f"user-{n}") for n in range(4)}

        async with bench.running():
            await until(lambda: len(bench.keycloak.calls) == 2 and claimed(entries) == 4)
            # From here on, only the ends of calls make it look.
            monkeypatch.setattr("consumer.drain.drainer._LOOK_EVERY", 3600.0)
            await bench.advance(1)
            await settle_down()
            bench.database.gates["settle"] = asyncio.Event()
            one.circuit.allowed_calls = 3
            gates[bench.keycloak.calls[0].lane].set()
            await until(lambda: len(bench.keycloak.calls) == 4)

            bench.database.gates.pop("settle").set()
            for gate in gates.values():
                gate.set()
            await bench.done(*entries)

    async def test_more_is_claimed_before_what_waits_has_been_called(self, bench: Bench) -> None:
        """Not only when results are written: until then Keycloak would have nothing to do."""
        one = bench.instance()
        one.circuit.allowed_calls = 3
        entries = [bench.database.add(f"user-{n}") for n in range(40)]
        gates = {f"user-{n}": bench.keycloak.hold(f"user-{n}") for n in range(40)}

        async with bench.running():
            await until(lambda: len(bench.keycloak.calls) == 3)
            writing = bench.database.gates["settle"] = asyncio.Event()
            for made in bench.keycloak.calls[:3]:
                gates[made.lane].set()
            await until(lambda: len(bench.keycloak.calls) == 6)
            await settle_down()
            # 3 to be written, 3 under way, and 15 that wait: a second's worth, of 3 calls in the shortest span.
            assert claimed(entries) == 21

            writing.set()
            for gate in gates.values():
                gate.set()
            await bench.done(*entries)

    async def test_the_next_call_leaves_before_the_other_answers_are_looked_at(self, bench: Bench) -> None:
        one = bench.instance()
        one.circuit.allowed_calls = 2
        first = bench.database.add("first")
        async with bench.running():
            await bench.done(first)
            entries = [bench.database.add(f"user-{n}") for n in range(4)]
            gates = {f"user-{n}": bench.keycloak.hold(f"user-{n}") for n in range(4)}
            await until(lambda: len(bench.keycloak.calls) == 3 and claimed(entries) == 4)
            others: list[int] = []

            async def look(_: Change) -> None:
                others.append(sum(bench.keycloak.under_way.values()))

            bench.keycloak.before_request = look
            # Both are answered in the same moment.
            for made in bench.keycloak.calls[1:]:
                gates[made.lane].set()
            await until(lambda: len(bench.keycloak.calls) == 5)
            assert others == [1, 1]

            for gate in gates.values():
                gate.set()
            await bench.done(*entries)

    async def test_when_all_there_was_is_claimed_the_end_of_a_call_looks_for_no_more(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks = bench.database.reached
        one = bench.instance()
        one.circuit.allowed_calls = 2
        entries = [bench.database.add(f"user-{n}") for n in range(3)]
        gates = [bench.keycloak.hold(f"user-{n}") for n in range(3)]

        async with bench.running():
            await until(lambda: len(bench.keycloak.calls) == 2 and claimed(entries) == 3)
            # From here on, only what it is told makes it look.
            monkeypatch.setattr("consumer.drain.drainer._LOOK_EVERY", 3600.0)
            before = looks["ready_lanes"]
            await until(lambda: looks["ready_lanes"] > before)
            await settle_down()
            writing = bench.database.gates["settle"] = asyncio.Event()
            before = looks["ready_lanes"]
            for gate in gates:
                gate.set()
            await until(lambda: len(bench.keycloak.calls) == 3)
            await settle_down()
            assert looks["ready_lanes"] == before

            writing.set()
            await bench.done(*entries)


class TestTheCircuit:
    async def test_while_open_nothing_is_called_and_claims_are_handed_back(self, bench: Bench) -> None:
        one = bench.instance()
        one.circuit.allowed_calls = 2
        entries = [bench.database.add(f"user-{n}") for n in range(10)]
        gates = [bench.keycloak.hold(f"user-{n}") for n in range(10)]

        async with bench.running():
            await until(lambda: claimed(entries) == 6)
            one.circuit.allowed_calls = 0
            bench.notify()
            await until(lambda: claimed(entries) == 2)
            for gate in gates:
                gate.set()
            await until(lambda: states(*entries).count(DELIVERED) == 2)
            await bench.advance(100)
            assert len(bench.keycloak.calls) == 2

            one.circuit.allowed_calls = 2
            await bench.done(*entries)

        assert {entry.maybe_applied_since for entry in entries} == {None}, (
            "what was handed back was never started"
        )

    async def test_that_closes_lets_go_on_at_once_who_was_tried_in_vain(self, bench: Bench) -> None:
        """Not who waits for another reason, nor who may not be called while its last call may still take effect."""
        one = bench.instance()
        add, doubt = bench.database.add, bench.database.now()
        away = add("away", reason="connection_failed")
        timed_out = add("slow", reason="timeout", maybe_applied_since=doubt)
        in_doubt = add("new", "user_create", reason="timeout", maybe_applied_since=doubt)
        throttled = add("many", reason="throttled")
        for entry in (away, timed_out, in_doubt, throttled):
            entry.calls, entry.due_at = 4, bench.clock() + 300
            lane = bench.database.lanes[entry.lane_id]
            lane.state, lane.due_at = "WAITING", entry.due_at
        one.circuit.allowed_calls = 0
        async with bench.running():
            one.drainer.outage_over()
            await settle_down()
            assert bench.keycloak.calls == []

            one.circuit.allowed_calls = 1
            bench.notify()
            await until(lambda: states(away, timed_out) == [DELIVERED, DELIVERED])
            await settle_down()

        assert states(in_doubt, throttled) == [PENDING, PENDING]
        assert {made.lane for made in bench.keycloak.calls} == {"away", "slow"}

    async def test_that_opens_before_a_request_leaves_stops_it(self, bench: Bench) -> None:
        """Within a turn: between two requests of one delivery, or while it waits for others that share its call."""
        one = bench.instance()
        entry = bench.database.add("alice")

        async def opens(_: Change) -> None:
            one.circuit.allowed_calls = 0

        bench.keycloak.before_request = opens
        async with bench.running():
            await until(lambda: one.circuit.allowed_calls == 0)
            await until(lambda: entry.claimed_at is None)
            assert (bench.keycloak.calls, entry.calls) == ([], 0)

            bench.keycloak.before_request = None
            one.circuit.allowed_calls = 8
            await bench.done(entry)

        assert (entry.state, entry.attempts) == (DELIVERED, 0)

    async def test_that_opens_while_a_failure_is_judged_lets_no_call_through(self, bench: Bench) -> None:
        one = bench.instance()
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].append(CONFLICT)

        async with bench.running():
            await until(lambda: entry.calls == 1)

            def opens() -> None:
                one.circuit.allowed_calls = 0

            one.circuit.while_checking = opens
            await bench.advance(2)
            await until(lambda: one.circuit.checks)
            await settle_down()
            assert len(bench.keycloak.calls) == 1
            await until(lambda: entry.claimed_at is None)

            one.circuit.while_checking = lambda: None
            one.circuit.allowed_calls = 8
            await bench.done(entry)

        assert (entry.state, entry.attempts) == (DELIVERED, 1)

    @pytest.mark.parametrize(
        ("outcome", "failures", "successes"),
        [
            (Delivered(reason=Reason.UPDATED, user_id="x", existed=True), 0, 1),
            (INVALID, 0, 1),
            (CONFLICT, 0, 1),
            (TIMEOUT, 1, 0),
            (UNREACHABLE, 1, 0),
            (UNAVAILABLE, 1, 0),
            (Defer(reason=Reason.UNKNOWN_SEALING_KEY, failure=Failure(blame=Blame.LOCAL)), 0, 0),
            (RuntimeError("a defect"), 0, 0),
        ],
        ids=lambda value: getattr(getattr(value, "reason", None), "value", None),
    )
    async def test_learns_what_speaks_about_keycloak(
        self, bench: Bench, outcome: Outcome | Exception, failures: int, successes: int
    ) -> None:
        one = bench.instance()
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].append(outcome)

        async with bench.running():
            await until(lambda: entry.calls == 1)

        assert (len(one.circuit.failures), len(one.circuit.successes)) == (failures, successes)

    async def test_counts_a_call_in_the_generation_in_which_it_began(self, bench: Bench) -> None:
        one = bench.instance()
        entry = bench.database.add("alice")
        gate = bench.keycloak.hold("alice")
        bench.keycloak.always["alice"] = TIMEOUT

        async with bench.running():
            await until(lambda: bench.keycloak.calls)
            one.circuit.generation = 1
            gate.set()
            await until(lambda: entry.calls == 1)

        assert one.circuit.failures == [(0, entry.lane_id)]


class TestTheSuspectedCause:
    @staticmethod
    async def fail_and_open(bench: Bench, entry: Entry, opening: int) -> None:
        """The entry's call fails, and the circuit opens and closes once."""
        one = bench.instances[0]
        calls = len(bench.keycloak.order("alice"))
        async with asyncio.timeout(5):
            while len(bench.keycloak.order("alice")) == calls or entry.claimed_at is not None:
                await bench.advance(1)
                await asyncio.sleep(0.001)
        one.judge.circuit_opened(one.circuit.generation)
        one.circuit.generation += 2

    async def test_is_held_when_it_was_failing_at_three_openings(self, bench: Bench) -> None:
        bench.instance()
        entry = bench.database.add("alice")
        bench.keycloak.always["alice"] = TIMEOUT

        async with bench.running():
            for opening in range(3):
                await self.fail_and_open(bench, entry, opening)
                assert (entry.state, entry.openings) == (PENDING, opening)
            await bench.done(entry)

        assert (entry.state, entry.reason, entry.openings) == (HELD, "suspected_cause", 3)
        assert entry.attempts == 0, "what fails at an opening is the outage's fault"

    async def test_is_not_who_failed_before_a_success(self, bench: Bench) -> None:
        one = bench.instance()
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].append(UNAVAILABLE)

        async with bench.running():
            await until(lambda: entry.calls == 1)
            other = bench.database.add("bob")
            bench.notify()
            await until(lambda: other.state is DELIVERED)
            one.judge.circuit_opened(one.circuit.generation)
            one.circuit.generation += 2
            bench.keycloak.always["alice"] = UNAVAILABLE
            calls = entry.calls
            async with asyncio.timeout(5):
                while entry.calls == calls:
                    await bench.advance(1)

        assert entry.openings == 0


class TestCharging:
    async def test_an_entry_dies_after_five_charged_attempts(self, bench: Bench) -> None:
        bench.instance()
        entry, behind = bench.database.add("alice"), bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].extend([CONFLICT] * 99)

        async with bench.running():
            await bench.done(entry, behind)

        assert (entry.state, entry.reason, entry.attempts, entry.calls) == (DEAD_LETTER, "conflict", 5, 5)
        assert behind.state is DELIVERED

    async def test_nothing_is_charged_while_keycloak_shows_no_sign_of_life(self, bench: Bench) -> None:
        one = bench.instance()
        one.circuit.control_succeeds = False
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].extend([CONFLICT] * 12)

        async with bench.running():
            await bench.done(entry)

        assert (entry.state, entry.attempts, entry.calls) == (DELIVERED, 0, 13)
        assert one.circuit.checks >= 12, "each time it was asked"

    async def test_another_lanes_success_is_enough(self, bench: Bench) -> None:
        one = bench.instance()
        one.circuit.control_succeeds = False
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].append(CONFLICT)

        async with bench.running():
            await until(lambda: entry.calls == 1)
            bench.clock.advance(0.01)
            other = bench.database.add("bob")
            bench.notify()
            await until(lambda: other.state is DELIVERED)
            await bench.done(entry)

        assert (entry.attempts, one.circuit.checks) == (1, 0)

    async def test_what_times_out_while_keycloak_settles_is_nobodys_fault(self, bench: Bench) -> None:
        one = bench.instance()
        one.circuit.settling = True
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].append(TIMEOUT)

        async with bench.running():
            await until(lambda: entry.calls == 1)
            one.circuit.settling = False
            bench.database.add("bob")
            await bench.done(entry)

        assert (entry.state, entry.attempts) == (DELIVERED, 0)

    async def test_a_pause_that_keycloak_asks_for_is_handed_to_the_circuit(self, bench: Bench) -> None:
        one = bench.instance()
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].append(replace(UNAVAILABLE, not_before_seconds=7.0))

        async with bench.running():
            await bench.done(entry)

        assert one.circuit.asked == [7.0]

    async def test_a_timeout_is_charged_once_in_ten_minutes(self, bench: Bench) -> None:
        bench.instance()
        entry = bench.database.add("alice")
        plain = replace(TIMEOUT, failure=replace(TIMEOUT.failure, ambiguous=False))
        bench.keycloak.always["alice"] = plain

        async with bench.running():
            began = bench.clock()
            async with asyncio.timeout(10):
                while entry.calls < 6:
                    await bench.advance(5)
                    bench.database.add("bob")
                    await asyncio.sleep(0.001)

        assert bench.clock() - began < 600
        assert entry.attempts == 1

    async def test_busy_and_away_are_never_charged(self, bench: Bench) -> None:
        bench.instance()
        throttled = Defer(reason=Reason.THROTTLED, failure=Failure(blame=Blame.KEYCLOAK, status=429))
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].extend([throttled, UNAVAILABLE] * 5)

        async with bench.running():
            await bench.done(entry)

        assert (entry.state, entry.attempts, entry.calls) == (DELIVERED, 0, 11)
        assert {attempt.charged for attempt in entry.recorded} == {False}

    async def test_what_another_process_saw_fail_gets_the_benefit_of_the_doubt(self, bench: Bench) -> None:
        bench.instance()
        entry = bench.database.add("alice", attempts=4, calls=4)

        async with bench.running():
            await bench.done(entry)

        assert (entry.state, entry.attempts, entry.calls) == (DELIVERED, 4, 5)

    @pytest.mark.parametrize(
        ("found", "state", "reason"),
        [
            (delivered(Reason.ALREADY_APPLIED), DELIVERED, "already_applied"),
            (NOT_APPLIED, DEAD_LETTER, "conflict"),
        ],
    )
    async def test_what_may_have_been_applied_is_read_back_before_it_is_given_up(
        self, bench: Bench, found: Outcome, state: EntryState, reason: str
    ) -> None:
        bench.instance()
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].extend([TIMEOUT, *[CONFLICT] * 9])
        bench.keycloak.found[entry.event_id] = found

        async with bench.running():
            await bench.done(entry)

        assert (entry.state, entry.reason) == (state, reason)
        assert bench.keycloak.read == [entry.event_id]
        timed_out, *_, last = entry.recorded
        assert entry.attempts == 5
        assert last.started_at >= timed_out.ended_at

    async def test_a_refusal_of_what_may_have_been_applied_waits_for_the_server_limit(
        self, bench: Bench
    ) -> None:
        bench.instance()
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].extend([TIMEOUT, INVALID, INVALID])
        lost_at = bench.clock()

        async with bench.running():
            await until(lambda: entry.calls == 1)
            await bench.done(entry)

        assert (entry.state, entry.reason) == (DEAD_LETTER, "invalid_data")
        assert bench.keycloak.read == [entry.event_id]
        assert bench.clock() - lost_at >= 59.999

    async def test_a_refusal_is_recorded_though_the_circuit_opens_before_keycloak_is_read(
        self, bench: Bench
    ) -> None:
        one = bench.instance()
        entry = bench.database.add("alice", maybe_applied_since=bench.database.now())
        bench.clock.advance(61)
        bench.keycloak.plans[entry.event_id].extend([INVALID, INVALID])
        refused = bench.keycloak.hold("alice")

        async with bench.running():
            await until(lambda: bench.keycloak.calls)
            one.circuit.allowed_calls = 0
            refused.set()
            await until(lambda: entry.calls == 1)
            assert (entry.state, entry.recorded[0].outcome) == (PENDING, "DEFER")
            assert bench.keycloak.read == []

            one.circuit.allowed_calls = 8
            await bench.done(entry)

        assert (entry.state, entry.reason) == (DEAD_LETTER, "invalid_data")
        assert bench.keycloak.read == [entry.event_id]


class TestDoubtAboutExistence:
    @pytest.mark.parametrize("kind", ["user_create", "user_delete"])
    async def test_blocks_the_lane_until_the_server_limit(self, bench: Bench, kind: str) -> None:
        bench.instance()
        entry, behind = bench.database.add("alice", kind), bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].append(TIMEOUT)
        lost_at = bench.clock()

        async with bench.running():
            await until(lambda: entry.calls == 1)
            await bench.advance(20)
            await bench.advance(20)
            assert bench.keycloak.order("alice") == [entry.event_id]
            await bench.done(entry, behind)

        assert bench.keycloak.order("alice") == [entry.event_id, entry.event_id, behind.event_id]
        assert bench.clock() - lost_at >= 59.999

    async def test_of_a_takeover_is_waited_out_before_any_call(self, bench: Bench) -> None:
        bench.instance()
        entry = bench.database.add("alice", "user_create", claimed_at=bench.database.now(), claim_token=99)
        bench.clock.advance(40)
        taken_over = bench.clock()

        async with bench.running():
            await until(lambda: entry.due_at > taken_over)
            assert bench.keycloak.calls == []
            await bench.done(entry)

        assert entry.state is DELIVERED
        assert bench.clock() - taken_over >= 59.999


class TestHealing:
    async def test_applies_the_fold_again_once_the_server_limit_has_passed(self, bench: Bench) -> None:
        one = bench.instance()
        lost = bench.database.add("alice")
        bench.keycloak.plans[lost.event_id].append(TIMEOUT)

        async with bench.running():
            await until(lambda: lost.calls == 1)
            later = bench.database.add("alice", data={"first_name": "Ada"})
            await bench.done(lost, later)
            assert bench.keycloak.healed == []
            await bench.advance(25)
            await bench.advance(25)
            await bench.advance(25)
            await until(lambda: one.healer.healed == 1)
            await settle_down()

        (known,) = bench.keycloak.healed
        assert known.data == {"email": "1@example.org", "first_name": "Ada"}
        assert known.exists
        assert bench.database.folds[lost.lane_id].suspect_since is None

    async def test_waits_while_an_entry_of_the_lane_is_in_doubt(self, bench: Bench) -> None:
        bench.instance()
        lost = bench.database.add("alice")
        bench.keycloak.always["alice"] = TIMEOUT

        async with bench.running():
            for _ in range(30):
                await bench.advance(10)
            assert lost.state is PENDING

        assert bench.keycloak.healed == []

    async def test_is_marked_before_it_is_asked_for(self, bench: Bench) -> None:
        """A process that dies in the middle of it leaves a doubt that begins again."""
        bench.instance()
        entry = bench.database.add("alice")
        long_ago = bench.database.now()
        bench.database.folds[entry.lane_id] = Fold(
            exists=True, suspect_since=long_ago, suspect_kind="timeout"
        )
        bench.keycloak.heals = TIMEOUT
        async with bench.running():
            await bench.done(entry)
            await bench.advance(20)
            for _ in range(4):
                await bench.advance(20)
            await until(lambda: bench.keycloak.healed)
            await settle_down()

        fold = bench.database.folds[entry.lane_id]
        assert fold.suspect_kind == "heal"
        assert fold.suspect_since is not None
        assert fold.suspect_since > long_ago

    async def test_of_a_realm_that_rests_keeps_no_other_realm_waiting(self, bench: Bench) -> None:
        one = bench.instance()
        one.realms.maintain(frozenset({"broken"}))
        resting = [bench.database.add(f"user{n}", realm="broken") for n in range(50)]
        entry = bench.database.add("alice")
        for each in (*resting, entry):
            bench.database.folds[each.lane_id] = Fold(
                exists=True, suspect_since=bench.database.now(), suspect_kind="timeout"
            )
        async with bench.running():
            await bench.done(entry)
            for _ in range(4):
                await bench.advance(20)
            await until(lambda: one.healer.healed == 1)
            await settle_down()

        assert bench.database.folds[entry.lane_id].suspect_since is None
        assert bench.database.folds[resting[0].lane_id].suspect_since is not None

    async def test_that_keycloak_refuses_is_not_asked_for_again(self, bench: Bench) -> None:
        one = bench.instance()
        entry = bench.database.add("alice")
        bench.database.folds[entry.lane_id] = Fold(
            exists=True, suspect_since=bench.database.now(), suspect_kind="timeout"
        )
        bench.keycloak.heals = INVALID
        async with bench.running():
            await bench.done(entry)
            for _ in range(4):
                await bench.advance(20)
            await until(lambda: one.healer.refused)
            await settle_down()

        fold = bench.database.folds[entry.lane_id]
        assert fold.suspect_since is None
        assert fold.heal_refused == "invalid_data"

    async def test_that_keycloak_refuses_twice_ends_although_a_refusal_might_have_passed(
        self, bench: Bench
    ) -> None:
        one = bench.instance()
        entry = bench.database.add("alice")
        bench.database.folds[entry.lane_id] = Fold(
            exists=True, suspect_since=bench.database.now(), suspect_kind="timeout"
        )
        # Two in a row; what says nothing about the user does not count.
        answers: list[Outcome] = [CONFLICT, CONFLICT, TIMEOUT, CONFLICT, TIMEOUT]
        bench.keycloak.heals = lambda _: answers.pop()
        async with bench.running():
            await bench.done(entry)
            for _ in range(24):
                await bench.advance(20)
            await until(lambda: one.healer.refused)
            await settle_down()

        assert answers == []
        fold = bench.database.folds[entry.lane_id]
        assert (fold.suspect_since, fold.heal_refused) == (None, "conflict")

    @pytest.mark.parametrize("keep", [True, False])
    async def test_forgets_the_password_afterwards_where_none_is_kept(
        self,
        bench: Bench,
        keep: bool,  # noqa: FBT001 - the setting
    ) -> None:
        one = bench.instance(policy=replace(POLICY, keep_passwords=keep))
        entry = bench.database.add("alice")
        bench.database.folds[entry.lane_id] = Fold(
            exists=True,
            credential=Credential(b"{}", "e-0", None),
            suspect_since=bench.database.now(),
            suspect_kind="timeout",
            heal_refused="heal_refused_by_history",
        )
        async with bench.running():
            await bench.done(entry)
            for _ in range(4):
                await bench.advance(20)
            await until(lambda: one.healer.healed)
            await settle_down()

        (known,) = bench.keycloak.healed
        assert known.credential == {}
        fold = bench.database.folds[entry.lane_id]
        assert fold.credential is not None
        assert (fold.credential.sealed is not None) is keep
        assert fold.heal_refused is None


class TestMerging:
    POLICY = replace(POLICY, merge_limit=20)

    async def test_due_updates_share_a_call(self, bench: Bench) -> None:
        bench.instance(policy=self.POLICY)
        entries = [bench.database.add("alice", data={"first_name": str(n), f"f{n}": n}) for n in range(3)]

        async with bench.running():
            await bench.done(*entries)

        (made,) = bench.keycloak.calls
        assert made.change.data == {"first_name": "2", "f0": 0, "f1": 1, "f2": 2}
        fold = bench.database.folds[entries[0].lane_id]
        assert {name: known.position and known.position.offset for name, known in fold.fields.items()} == {
            "first_name": 3,
            "f0": 1,
            "f1": 2,
            "f2": 3,
        }
        assert [entry.calls for entry in entries] == [1, 1, 1]

    async def test_a_refused_merge_is_split_and_charged_to_nobody(self, bench: Bench) -> None:
        bench.instance(policy=self.POLICY)
        entries = [bench.database.add("alice") for _ in range(3)]
        bench.keycloak.plans[entries[0].event_id].append(INVALID)
        bench.keycloak.plans[entries[1].event_id].append(INVALID)

        async with bench.running():
            await bench.done(*entries)

        assert [entry.state for entry in entries] == [DELIVERED, DEAD_LETTER, DELIVERED]
        assert [entry.attempts for entry in entries] == [0, 0, 0]
        merged, *single = bench.keycloak.calls
        assert merged.change.data == entries[2].data
        assert [made.change.data for made in single] == [entry.data for entry in entries]

    async def test_a_merge_refused_for_now_is_split_and_charged_to_nobody(self, bench: Bench) -> None:
        bench.instance(policy=replace(self.POLICY, max_attempts=1))
        entries = [bench.database.add("alice") for _ in range(2)]
        bench.keycloak.plans[entries[0].event_id].append(CONFLICT)

        async with bench.running():
            await bench.done(*entries)

        assert [entry.state for entry in entries] == [DELIVERED, DELIVERED]
        assert [entry.attempts for entry in entries] == [0, 0]

    async def test_is_repeated_as_it_was_while_its_result_is_unknown(self, bench: Bench) -> None:
        bench.instance(policy=self.POLICY)
        entries = [bench.database.add("alice", data={f"f{n}": n}) for n in range(2)]
        bench.keycloak.plans[entries[0].event_id].append(TIMEOUT)

        async with bench.running():
            await until(lambda: entries[0].calls == 1)
            later = bench.database.add("alice", data={"f2": 2})
            await bench.done(*entries, later)

        assert [made.change.data for made in bench.keycloak.calls] == [
            {"f0": 0, "f1": 1},
            {"f0": 0, "f1": 1},
            {"f2": 2},
        ]

    async def test_a_delete_stands_alone(self, bench: Bench) -> None:
        bench.instance(policy=self.POLICY)
        entries = [
            bench.database.add("alice", kind)
            for kind in ("user_update", "user_delete", "user_create", "user_update", "password_change")
        ]

        async with bench.running():
            await bench.done(*entries)

        assert [made.change.kind for made in bench.keycloak.calls] == [
            "user_update",
            "user_delete",
            "user_create",
        ]


class TestLeases:
    async def test_no_call_starts_that_could_outlive_the_lease(self, bench: Bench) -> None:
        one = bench.instance()
        entry = bench.database.add("alice")

        asked = 0

        async def slow(change: Change) -> None:
            nonlocal asked
            asked += 1
            bench.clock.advance(18.1)  # of 30 s; a call may take 10 s, and 2 s must remain

        bench.keycloak.before_request = slow
        async with bench.running():
            await until(lambda: asked and not one.drainer.busy_shards())
            assert bench.keycloak.calls == []
            assert (entry.state, entry.calls, entry.claimed_at) == (PENDING, 0, None)
            assert one.circuit.failures == []

            bench.keycloak.before_request = None
            await bench.done(entry)

        assert entry.recorded[0].outcome == "DELIVERED"

    async def test_a_call_starts_that_ends_in_time(self, bench: Bench) -> None:
        bench.instance()
        entry = bench.database.add("alice")

        async def slow(change: Change) -> None:
            bench.clock.advance(18.0)

        bench.keycloak.before_request = slow
        async with bench.running():
            await until(lambda: entry.state is DELIVERED)

    @pytest.mark.parametrize("comes_back", [False, True])
    async def test_who_was_stopped_for_long_calls_nothing_of_what_it_had_claimed(
        self,
        bench: Bench,
        comes_back: bool,  # noqa: FBT001 - whether the shards are ours again, under another token
    ) -> None:
        zombie, heir = bench.instance("a"), bench.instance("b")
        first, second = bench.database.add("alice"), bench.database.add("alice")
        stopped, went_on = asyncio.Event(), asyncio.Event()

        async def stop(change: Change) -> None:
            stopped.set()
            await went_on.wait()

        bench.keycloak.before_request = stop
        async with zombie.running():
            await stopped.wait()
            bench.keycloak.before_request = None
            bench.clock.advance(31)
            async with heir.running():
                await until(lambda: states(first, second) == [DELIVERED, DELIVERED])
            if comes_back:
                await heir.leases.release_all()
            await zombie.leases.turn()
            assert zombie.leases.remaining == 30.0
            went_on.set()
            await until(lambda: not zombie.drainer.busy_shards())

        assert [(made.by, made.event_id) for made in bench.keycloak.calls] == [
            ("b", first.event_id),
            ("b", second.event_id),
        ]

    async def test_a_call_under_way_keeps_its_shard_and_is_recorded(self, bench: Bench) -> None:
        one, other = bench.instance("a"), bench.instance("b")
        users = [f"user-{n}" for n in range(8)]
        entries = [bench.database.add(user) for user in users]
        gates = [bench.keycloak.hold(user) for user in users]

        async with one.running():
            await until(lambda: len(bench.keycloak.calls) == 8)
            for _ in range(3):
                for instance in bench.instances:
                    await instance.leases.turn()
            assert all(one.leases.token(entry.lane_id[0]) for entry in entries)
            assert not {entry.lane_id[0] for entry in entries} & other.leases.shards.keys()
            for gate in gates:
                gate.set()
            await until(lambda: set(states(*entries)) == {DELIVERED})

        assert len(bench.keycloak.calls) == 8

    async def test_what_was_claimed_and_not_called_is_handed_over(self, bench: Bench) -> None:
        """Of few users each may be claimed ahead: their shards would never be idle."""
        one, other = bench.instance("a"), bench.instance("b")
        users = [f"user-{n}" for n in range(16)]
        entries = [bench.database.add(user) for user in users]
        for user in users:
            bench.keycloak.hold(user)

        async with one.running():
            await until(lambda: len(bench.keycloak.calls) == 8)
            await until(lambda: all(entry.claimed_at for entry in entries))
            for _ in range(2):
                for instance in bench.instances:
                    await instance.leases.turn()
            called = {made.event_id for made in bench.keycloak.calls}
            # The second half of the shards stays with the first instance.
            leaving = [
                e for e in entries if e.lane_id[0] not in one.leases.shards and e.event_id not in called
            ]
            assert leaving
            await until(lambda: not any(entry.claimed_at for entry in leaving))
            for instance in bench.instances:
                await instance.leases.turn()
            assert {entry.lane_id[0] for entry in leaving} <= other.leases.shards.keys()
            assert all(entry.maybe_applied_since is None for entry in leaving)

    async def test_two_instances_share_the_work_and_keep_the_order(self, bench: Bench) -> None:
        bench.instance("a")
        bench.instance("b")
        users = [f"user-{n}" for n in range(30)]
        entries = [bench.database.add(user) for _ in range(5) for user in users]

        async with bench.running():
            for _ in range(3):
                await bench.advance(1)
            await bench.done(*entries)

        assert Counter(made.event_id for made in bench.keycloak.calls) == Counter(ids(entries))
        for user in users:
            assert bench.keycloak.order(user) == ids(
                [e for e in entries if e.lane_id == lane_id("shop", user)]
            )


class TestTakeover:
    async def test_of_a_claim_without_a_record_is_a_call_that_may_have_been_made(self, bench: Bench) -> None:
        bench.instance()
        claimed_at = bench.database.now()
        entry = bench.database.add("alice", claimed_at=claimed_at, claim_token=99)
        bench.clock.advance(40)

        async with bench.running():
            await bench.done(entry)

        (made,) = bench.keycloak.calls
        assert made.change.maybe_applied_since is not None
        assert made.change.maybe_applied_since.replace(tzinfo=None) == claimed_at
        fold = bench.database.folds[entry.lane_id]
        # The doubt begins with the takeover: until then the other may have called.
        assert fold.suspect_since is not None
        assert fold.suspect_since >= claimed_at + timedelta(seconds=40)
        assert fold.suspect_kind == "takeover"

    async def test_stays_in_doubt_through_failures(self, bench: Bench) -> None:
        bench.instance()
        claimed_at = bench.database.now()
        entry = bench.database.add("alice", claimed_at=claimed_at, claim_token=99)
        bench.keycloak.plans[entry.event_id].extend([UNAVAILABLE, CONFLICT])

        async with bench.running():
            await bench.done(entry)

        assert all(made.change.maybe_applied_since is not None for made in bench.keycloak.calls)
        assert bench.database.folds[entry.lane_id].suspect_kind == "takeover"

    async def test_of_what_was_never_claimed_leaves_no_doubt(self, bench: Bench) -> None:
        bench.instance()
        entry = bench.database.add("alice")

        async with bench.running():
            await bench.done(entry)

        assert bench.keycloak.calls[0].change.maybe_applied_since is None
        assert bench.database.folds[entry.lane_id].suspect_since is None


class TestDefects:
    async def test_a_defect_in_delivery_stops_neither_its_lane_for_ever_nor_the_others(
        self, bench: Bench
    ) -> None:
        bench.instance()
        entry, other = bench.database.add("alice"), bench.database.add("bob")
        bench.keycloak.plans[entry.event_id].append(RuntimeError("hunter2"))

        async with bench.running():
            await bench.done(entry, other)

        assert states(entry, other) == [DELIVERED, DELIVERED]
        assert entry.recorded[0].reason == "internal_error"
        assert "hunter2" not in (entry.recorded[0].error or "")

    async def test_a_turn_that_breaks_lets_its_lane_go_and_is_a_takeover_a_minute_later(
        self, bench: Bench
    ) -> None:
        capped = replace(POLICY, kinds={"user_update": replace(POLICY, batch=1)})
        bench.instance(policy=capped)
        # What is told of the realm after a delivery breaks: the call was made, and nobody recorded it.
        bench.database.faults["end_realm_fault"].append(ValueError("a defect of ours"))
        broken = bench.database.add("alice")
        behind = bench.database.add("alice")

        # The traceback in the log, with everything that stands on its frames, takes longer to draw than the test.
        with structlog.testing.capture_logs() as logged:
            async with bench.running():
                await until(lambda: not bench.instances[0].drainer.busy_shards() and bench.keycloak.calls)
                await until(lambda: any(line["event"] == "turn broke" for line in logged))
                await self._go_on(bench, broken, behind)

        assert bench.keycloak.order("alice") == [broken.event_id, broken.event_id, behind.event_id]
        again = bench.keycloak.calls[-2].change
        assert again.maybe_applied_since is not None

    @staticmethod
    async def _go_on(bench: Bench, broken: Entry, behind: Entry) -> None:
        other = bench.database.add("bob")
        await bench.advance(59.0)
        await until(lambda: other.state is DELIVERED)
        assert bench.keycloak.order("alice") == [broken.event_id]
        assert broken.state is PENDING
        assert broken.claimed_at is not None

        await bench.advance(2.0)
        await bench.done(broken, behind)

    @pytest.mark.parametrize(
        "operation", ["ready_lanes", "heads", "claim", "wake", "hint", "settle", "set_realm_fault"]
    )
    async def test_a_database_that_is_away_for_a_moment_costs_nothing(
        self, bench: Bench, operation: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("consumer.drain.drainer._PAUSE_AFTER_FAULT", 0.0)
        monkeypatch.setattr("consumer.drain.writer.Backoff.next_delay", lambda _: 0.0)
        bench.instance()
        bench.database.faults[operation].extend([DatabaseUnavailable()] * 2)
        entries = [bench.database.add(f"user-{n}") for n in range(3) for _ in range(3)]
        bench.keycloak.plans[entries[0].event_id].append(UNAVAILABLE)

        async with bench.running():
            await bench.done(*entries)

        assert set(states(*entries)) == {DELIVERED}
        assert not bench.instances[0].drainer.busy_shards()

    async def test_claims_that_cannot_be_handed_back_do_not_strand_their_lanes(self, bench: Bench) -> None:
        one = bench.instance()
        one.circuit.allowed_calls = 2
        entries = [bench.database.add(f"user-{n}") for n in range(4)]
        gates = [bench.keycloak.hold(f"user-{n}") for n in range(4)]

        async with bench.running():
            await until(lambda: claimed(entries) == 4)
            bench.database.faults["hand_back"].append(DatabaseUnavailable())
            one.circuit.allowed_calls = 0
            bench.notify()
            await until(lambda: not bench.database.faults["hand_back"])
            one.circuit.allowed_calls = 2
            for gate in gates:
                gate.set()
            await bench.done(*entries)

        assert set(states(*entries)) == {DELIVERED}

    async def test_a_claim_whose_commit_was_lost_is_made_again(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("consumer.drain.drainer._PAUSE_AFTER_FAULT", 0.0)
        bench.instance()
        bench.database.faults_after["claim"].append(CommitUnknown())
        entry = bench.database.add("alice")

        async with bench.running():
            await bench.done(entry)

        assert (entry.state, len(bench.keycloak.calls)) == (DELIVERED, 1)


class TestForbidden:
    async def test_to_one_user_alone_is_charged_to_that_user(self, bench: Bench) -> None:
        bench.instance()
        entry = bench.database.add("alice")
        bench.keycloak.always["alice"] = FORBIDDEN

        async with bench.running():
            await bench.done(entry)

        assert (entry.state, entry.reason, entry.attempts) == (DEAD_LETTER, "forbidden", 5)

    async def test_in_words_that_are_not_keycloaks_is_charged_to_nobody(self, bench: Bench) -> None:
        bench.instance()
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].extend([NOT_KEYCLOAK] * 8)

        async with bench.running():
            await bench.done(entry)

        assert (entry.state, entry.attempts, len(bench.keycloak.calls)) == (DELIVERED, 0, 9)

    async def test_while_keycloak_is_away_is_charged_to_nobody(self, bench: Bench) -> None:
        one = bench.instance()
        one.realm_trouble["shop"] = UNREACHABLE
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].extend([FORBIDDEN] * 6)

        async with bench.running():
            await bench.done(entry)

        assert (entry.state, entry.attempts) == (DELIVERED, 0)


class TestWhatIsTold:
    async def test_of_what_waits_for_somebody_is_told_once(self, bench: Bench) -> None:
        bench.instance()
        entry = bench.database.add("alice")
        wait = Defer(
            reason=Reason.ROLES_UNREADABLE,
            failure=Failure(blame=Blame.LOCAL, status=403, detail="view-realm"),
        )
        bench.keycloak.plans[entry.event_id].extend([wait] * 4)

        with structlog.testing.capture_logs() as lines:
            async with bench.running():
                await bench.done(entry)

        told = [line for line in lines if line["event"] == "a change waits for somebody"]
        assert [(line["event_id"], line["reason"]) for line in told] == [(entry.event_id, "roles_unreadable")]
        assert "view-realm" in told[0]["remedy"]
        assert "alice" not in str(lines)
        assert bench.instances[0].drainer.counts.deferred == 4

    @pytest.mark.parametrize("reason", [Reason.UNKNOWN_SEALING_KEY, Reason.BROKEN_OFF])
    async def test_of_what_others_tell_or_time_ends_nothing_is_told(
        self, bench: Bench, reason: Reason
    ) -> None:
        bench.instance()
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].append(
            Defer(reason=reason, failure=Failure(blame=Blame.LOCAL, detail="later"))
        )

        with structlog.testing.capture_logs() as lines:
            async with bench.running():
                await bench.done(entry)

        assert [line for line in lines if line["log_level"] == "error"] == []

    async def test_a_user_who_was_made_again_is_told_and_counted(self, bench: Bench) -> None:
        bench.instance()
        entry = bench.database.add("alice")
        bench.keycloak.plans[entry.event_id].append(replace(delivered(), reason=Reason.RESTORED))

        with structlog.testing.capture_logs() as lines:
            async with bench.running():
                await bench.done(entry)

        (line,) = [line for line in lines if line["log_level"] == "warning"]
        assert (line["event"], line["event_id"]) == (
            "a user whom Keycloak had lost was made again",
            entry.event_id,
        )
        assert bench.instances[0].drainer.counts.restored == 1


class TestStopping:
    async def test_lets_calls_under_way_finish_and_hands_back_the_rest(self, bench: Bench) -> None:
        one = bench.instance()
        one.circuit.allowed_calls = 2
        entries = [bench.database.add(f"user-{n}") for n in range(10)]
        gates = [bench.keycloak.hold(f"user-{n}") for n in range(10)]

        async with bench.running():
            await until(lambda: claimed(entries) == 6)
            stopping = asyncio.create_task(one.drainer.stop(grace=5))
            await settle_down()
            assert not stopping.done()
            for gate in gates:
                gate.set()
            await stopping

        assert len(bench.keycloak.calls) == 2
        assert states(*entries).count(DELIVERED) == 2
        assert [entry.claimed_at for entry in entries if entry.state is PENDING] == [None] * 8

    async def test_hands_back_what_was_being_claimed_meanwhile(self, bench: Bench) -> None:
        one = bench.instance()
        entry = bench.database.add("alice")
        gate = bench.database.gates["claim"] = asyncio.Event()

        async with bench.running():
            await until(one.drainer.busy_shards)
            await one.drainer.stop(grace=5)
            gate.set()
            await until(lambda: not one.drainer.busy_shards())

        assert (entry.claimed_at, bench.keycloak.calls) == (None, [])

    async def test_does_not_wait_for_ever(self, bench: Bench) -> None:
        one = bench.instance()
        bench.database.add("alice")
        bench.keycloak.hold("alice")

        async with bench.running():
            await until(lambda: bench.keycloak.calls)
            async with asyncio.timeout(5):
                await one.drainer.stop(grace=0.01)

    async def test_with_the_database_away_is_graceful(self, bench: Bench) -> None:
        one = bench.instance()
        one.circuit.allowed_calls = 1
        entries = [bench.database.add(f"user-{n}") for n in range(3)]
        gate = bench.keycloak.hold("user-0")

        async with bench.running():
            await until(lambda: claimed(entries) == 3)
            bench.database.faults["hand_back"].append(DatabaseUnavailable())
            gate.set()
            await one.drainer.stop(grace=5)


class TestQuiet:
    async def test_is_true_when_all_is_done(self, bench: Bench) -> None:
        one = bench.instance()
        entries = [bench.database.add(f"user-{n}") for n in range(5)]
        assert not one.drainer.quiet

        async with bench.running():
            await bench.done(*entries)
            await until(lambda: one.drainer.quiet)

        assert {row.state for row in bench.database.lanes.values()} == {"IDLE"}

    async def test_is_false_while_a_call_is_under_way(self, bench: Bench) -> None:
        one = bench.instance()
        bench.database.add("alice")
        bench.keycloak.hold("alice")

        async with bench.running():
            await until(lambda: bench.keycloak.calls)
            bench.notify()
            await settle_down()
            assert not one.drainer.quiet

    async def test_ends_when_something_arrives(self, bench: Bench) -> None:
        one = bench.instance()
        async with bench.running():
            await until(lambda: one.drainer.quiet)
            later = bench.database.add("alice")
            bench.notify()
            await bench.done(later)


async def test_counts_say_what_was_done(bench: Bench) -> None:
    one = bench.instance()
    delivered, dead, retried = (bench.database.add(user) for user in ("alice", "bob", "carol"))
    bench.keycloak.plans[dead.event_id].append(INVALID)
    bench.keycloak.plans[retried.event_id].extend([CONFLICT, UNAVAILABLE])

    async with bench.running():
        await bench.done(delivered, dead, retried)
        await until(lambda: one.drainer.counts.processed == 3)

    counts = one.drainer.counts
    assert (counts.delivered, counts.dead, counts.retried, counts.deferred, counts.fenced) == (2, 1, 1, 1, 0)


async def test_a_lane_that_sleeps_although_it_has_work_is_woken_by_the_sweep(bench: Bench) -> None:
    bench.instance(policy=DrainPolicy(sweep_interval=0.01))
    entry = bench.database.add("alice")
    bench.database.lanes[entry.lane_id].state = "IDLE"

    async with bench.running():
        await until(lambda: entry.state is DELIVERED)


async def test_the_next_attempt_waits_at_least_the_floor(bench: Bench) -> None:
    bench.instance()
    entry = bench.database.add("alice")
    bench.keycloak.plans[entry.event_id].append(CONFLICT)

    async with bench.running():
        await until(lambda: entry.calls == 1)
        await bench.advance(POLICY.backoff_floor - 0.01)
        assert len(bench.keycloak.calls) == 1
        await bench.done(entry)


async def test_a_retry_in_detail(bench: Bench) -> None:
    bench.instance()
    entry = bench.database.add("alice")
    retry = Retry(reason=Reason.EMAIL_IN_USE, failure=Failure(blame=Blame.USER, status=409, detail="taken"))
    bench.keycloak.plans[entry.event_id].append(retry)

    async with bench.running():
        await bench.done(entry)

    first, second = entry.recorded
    assert (first.outcome, first.reason, first.http_status, first.error) == (
        "RETRY",
        "email_in_use",
        409,
        "taken",
    )
    assert (second.outcome, second.reason) == ("DELIVERED", "updated")
