from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from consumer.circuit import keeper
from consumer.circuit.breaker import CircuitState, Refusal
from consumer.delivery.presence import Presence
from consumer.outbox.errors import DatabaseUnavailable
from tests.unit.circuit.circuit_in_memory import Clock, Instance, Keycloak, MemoryCircuit, policy

CLOSED, OPEN, HALF_OPEN = CircuitState


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> MemoryCircuit:
    return MemoryCircuit(clock)


@pytest.fixture
def keycloak(clock: Clock) -> Keycloak:
    return Keycloak(clock)


@pytest.fixture
async def one(circuit: MemoryCircuit, keycloak: Keycloak) -> Instance:
    """One instance that has found the circuit closed and Keycloak well."""
    instance = Instance(circuit, keycloak)
    await instance.turn()
    return instance


async def open_circuit(one: Instance) -> None:
    one.fail("x", "y", "z")
    await one.turn()
    assert one.keeper.state is OPEN


@asynccontextmanager
async def running(*instances: Instance) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(instance.keeper.run()) for instance in instances]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TestOpening:
    async def test_three_lanes_open_it(self, circuit: MemoryCircuit, one: Instance) -> None:
        one.fail("x", "y", "z")
        await one.turn()

        assert (circuit.state, one.keeper.state, one.keeper.allowed_calls) == ("OPEN", OPEN, 0)

    async def test_a_hundred_failures_of_one_lane_do_not(
        self, circuit: MemoryCircuit, one: Instance, clock: Clock
    ) -> None:
        for _ in range(100):
            one.fail("x")
            await one.turn()
            clock.advance(1)

        assert circuit.history == ["CLOSED"]

    async def test_two_lanes_then_a_success_then_two_others_do_not(
        self, circuit: MemoryCircuit, one: Instance
    ) -> None:
        one.fail("w", "x")
        one.keeper.success(one.keeper.generation)
        one.fail("y", "z")
        await one.turn()

        assert circuit.state == "CLOSED"

    async def test_control_calls_that_fail_open_it_without_any_delivery(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        keycloak.available = False
        clock.advance(30)
        for _ in range(4):
            await one.turn()
            clock.advance(1)

        assert circuit.state == "OPEN"
        assert circuit.checks == [True, False, False, False]

    async def test_three_users_in_trouble_in_a_quiet_hour_do_not(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        """Nobody else's change goes through in between; each of them is tried again every five minutes."""
        for second in range(3 * 3600):
            for lane, since in (("x", 0), ("y", 700), ("z", 1800)):
                if second >= since and (second - since) % 300 == 0:
                    one.fail(lane)
            await one.turn()
            clock.advance(1)

        assert circuit.history == ["CLOSED"]

    async def test_lanes_that_begin_to_fail_while_the_control_call_succeeds_do(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        """Keycloak can be read and not written: its database is full, say."""
        for lane in range(3):
            one.fail(lane)
            for _ in range(20):
                await one.turn()
                clock.advance(1)

        assert circuit.state == "OPEN"
        assert set(circuit.checks) == {True}

    async def test_control_calls_that_find_writes_refused_do_whatever_else_is_answered(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        keycloak.takes_writes = False
        one.keeper.want_check()
        for _ in range(5):
            await one.turn()
            one.keeper.success(one.keeper.generation, "reads")
            clock.advance(1)

        assert circuit.state == "OPEN"
        assert circuit.reason is not None
        assert circuit.reason.endswith("writes_refused: read-only")

    async def test_a_failure_that_is_no_news_still_has_keycloak_asked(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        one.fail("x")
        clock.advance(200)
        one.keeper.success(one.keeper.generation)
        keycloak.available = False
        for _ in range(4):
            one.fail("x")
            await one.turn()
            clock.advance(1)

        assert circuit.state == "OPEN"

    async def test_of_several_instances_one_opens_it_once(
        self, circuit: MemoryCircuit, keycloak: Keycloak
    ) -> None:
        instances = [Instance(circuit, keycloak, name=name) for name in "abc"]
        await asyncio.gather(*(instance.turn() for instance in instances))
        for instance in instances:
            instance.fail("x", "y", "z")

        await asyncio.gather(*(instance.turn() for instance in instances))

        assert circuit.history == ["CLOSED", "OPEN"]
        assert (circuit.generation, circuit.openings) == (1, 1)

    async def test_failures_that_began_before_it_lengthen_nothing(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        before = one.keeper.generation
        await open_circuit(one)
        retry_at = circuit.retry_at

        one.fail("p", "q", "r", generation=before)
        await one.turn()
        assert (circuit.retry_at, circuit.history) == (retry_at, ["CLOSED", "OPEN"])

        clock.advance(60)
        await one.turn()
        assert circuit.state == "CLOSED"
        one.fail("s", "t", "u", generation=before)
        await one.turn()
        assert circuit.state == "CLOSED"


class TestTheCooldown:
    async def test_is_kept(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        asked = len(keycloak.began)

        clock.advance(59.9)
        await one.turn()
        assert (len(keycloak.began), circuit.state) == (asked, "OPEN")

        clock.advance(0.2)
        await one.turn()
        assert (len(keycloak.began), circuit.state) == (asked + 1, "CLOSED")

    async def test_grows_while_probes_fail(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        keycloak.available = False
        waits = []
        for _ in range(6):
            assert circuit.retry_at is not None
            waits.append(circuit.retry_at - clock())
            clock.now = circuit.retry_at
            await one.turn()

        assert waits == [60, 120, 240, 300, 300, 300]

    @pytest.mark.parametrize(("closed_for", "cooldown"), [(299, 120), (300, 60)])
    async def test_is_short_again_only_after_a_stable_while(
        self, circuit: MemoryCircuit, one: Instance, clock: Clock, closed_for: float, cooldown: float
    ) -> None:
        await open_circuit(one)
        clock.advance(60)
        await one.turn()
        clock.advance(closed_for)

        await open_circuit(one)

        assert circuit.retry_at == clock() + cooldown

    @pytest.mark.parametrize(("retry_after", "cooldown"), [(30, 60), (200, 200), (90_000, 3600)])
    async def test_is_as_long_as_deliveries_were_told_to_wait(
        self, circuit: MemoryCircuit, one: Instance, clock: Clock, retry_after: float, cooldown: float
    ) -> None:
        one.fail("x", retry_after=retry_after)
        await open_circuit(one)

        assert circuit.retry_at == clock() + cooldown

    async def test_is_as_long_as_the_probe_was_told_to_wait(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        keycloak.available, keycloak.retry_after = False, 900
        clock.advance(60)
        await one.turn()

        assert circuit.retry_at == clock() + 900


class TestTheProbe:
    async def test_that_succeeds_closes_it_and_deliveries_ramp_up(
        self, circuit: MemoryCircuit, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        clock.advance(60)
        await one.turn()

        assert circuit.history == ["CLOSED", "OPEN", "HALF_OPEN", "CLOSED"]
        assert one.keeper.allowed_calls == 1
        one.keeper.success(one.keeper.generation)
        assert one.keeper.allowed_calls == 2

    async def test_answers_nobody_who_asked_after_it_began(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        clock.advance(60)
        keycloak.slow = True
        early = asyncio.create_task(one.keeper.check())
        await asyncio.sleep(0)
        turn = asyncio.create_task(one.turn())
        while not keycloak.pending:
            await asyncio.sleep(0)
        late = asyncio.create_task(one.keeper.check())
        await asyncio.sleep(0)

        keycloak.answer(available=True)
        await turn
        assert (await early).available
        assert not late.done()

        keycloak.slow, keycloak.available = False, False
        clock.advance(1)
        await one.turn()
        assert not (await late).available

    async def test_whose_result_cannot_be_recorded_answers_those_who_asked(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        clock.advance(60)
        keycloak.slow = True
        asked = asyncio.create_task(one.keeper.check())
        await asyncio.sleep(0)
        turn = asyncio.create_task(one.turn())
        while not keycloak.pending:
            await asyncio.sleep(0)
        circuit.fault = DatabaseUnavailable()
        keycloak.answer(available=True)

        with pytest.raises(DatabaseUnavailable):
            await turn
        assert (await asked).available

    async def test_deliveries_that_began_before_the_outage_do_not_ramp_up(
        self, circuit: MemoryCircuit, one: Instance, clock: Clock
    ) -> None:
        before = one.keeper.generation
        await open_circuit(one)
        clock.advance(60)
        await one.turn()
        for _ in range(20):
            one.keeper.success(before)

        assert one.keeper.allowed_calls == 1

    async def test_is_made_by_exactly_one_of_several(
        self, circuit: MemoryCircuit, keycloak: Keycloak, clock: Clock
    ) -> None:
        instances = [Instance(circuit, keycloak, name=name) for name in "abcd"]
        await asyncio.gather(*(instance.turn() for instance in instances))
        await open_circuit(instances[0])
        asked = len(keycloak.began)
        clock.advance(60)
        keycloak.slow = True

        turns = [asyncio.create_task(instance.turn()) for instance in instances]
        for _ in range(50):
            await asyncio.sleep(0)

        assert len(keycloak.began) == asked + 1
        assert {instance.keeper.allowed_calls for instance in instances} == {0}
        keycloak.answer(available=True)
        await asyncio.gather(*turns)
        assert circuit.state == "CLOSED"

    async def test_whose_owner_died_is_made_by_another_after_its_deadline(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        clock.advance(60)
        keycloak.slow = True
        dying = asyncio.create_task(one.turn())
        while not keycloak.pending:
            await asyncio.sleep(0)
        dying.cancel()
        with suppress(asyncio.CancelledError):
            await dying
        keycloak.slow = False
        other = Instance(circuit, keycloak, name="b")

        clock.advance(29)
        await other.turn()
        assert (circuit.state, circuit.probe_owner) == ("HALF_OPEN", "a")

        clock.advance(1)
        await other.turn()
        assert circuit.state == "CLOSED"

    async def test_that_ends_after_another_took_over_changes_nothing(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        clock.advance(60)
        keycloak.slow = True
        stalled = asyncio.create_task(one.turn())
        while not keycloak.pending:
            await asyncio.sleep(0)
        keycloak.slow, keycloak.available = False, False
        clock.advance(30)
        await Instance(circuit, keycloak, name="b").turn()
        assert circuit.state == "OPEN"
        generation = circuit.generation

        keycloak.answer(available=True)
        await stalled

        assert (circuit.state, circuit.generation) == ("OPEN", generation)


class TestWhoIsTold:
    async def test_each_change_once_with_its_reason(
        self, circuit: MemoryCircuit, one: Instance, clock: Clock
    ) -> None:
        for _ in range(3):
            await one.turn()
        await open_circuit(one)
        for _ in range(3):
            await one.turn()
        clock.advance(60)
        for _ in range(3):
            await one.turn()

        reason = "3 failures in a row: server_error (3)"
        assert one.told == [(CLOSED, None), (OPEN, reason), (HALF_OPEN, reason), (CLOSED, None)]

    async def test_what_another_instance_did(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance
    ) -> None:
        other = Instance(circuit, keycloak, name="b")
        await other.turn()
        await open_circuit(one)

        await other.turn()

        assert other.states == [CLOSED, OPEN]

    async def test_an_opening_that_passed_between_two_readings(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        other = Instance(circuit, keycloak, name="b")
        await other.turn()
        await open_circuit(one)
        clock.advance(60)
        await one.turn()
        assert circuit.state == "CLOSED"

        await other.turn()

        assert other.states == [CLOSED, OPEN, CLOSED]
        assert other.keeper.allowed_calls == 1

    async def test_nothing_is_called_before_the_first_reading(
        self, circuit: MemoryCircuit, keycloak: Keycloak
    ) -> None:
        unread = Instance(circuit, keycloak).keeper

        assert (unread.state, unread.allowed_calls) == (OPEN, 0)

    async def test_who_finds_it_closed_at_start_need_not_ramp_up(self, one: Instance) -> None:
        assert one.keeper.allowed_calls == 8


class TestChecks:
    async def test_callers_at_the_same_time_share_a_control_call(
        self, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        clock.advance(1)
        asked = len(keycloak.began)
        waiting = [asyncio.create_task(one.keeper.check()) for _ in range(50)]
        await asyncio.sleep(0)

        await one.turn()

        assert {(await task).available for task in waiting} == {True}
        assert len(keycloak.began) == asked + 1

    async def test_who_asks_while_one_is_under_way_gets_one_that_began_later(
        self, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        clock.advance(1)
        keycloak.slow = True
        first = asyncio.create_task(one.keeper.check())
        await asyncio.sleep(0)
        turn = asyncio.create_task(one.turn())
        while not keycloak.pending:
            await asyncio.sleep(0)
        late = asyncio.create_task(one.keeper.check())
        await asyncio.sleep(0)

        keycloak.answer(available=True)
        await turn
        assert (await first).available
        assert not late.done()

        clock.advance(1)
        turn = asyncio.create_task(one.turn())
        while not keycloak.pending:
            await asyncio.sleep(0)
        keycloak.answer(available=False)
        await turn
        assert not (await late).available

    async def test_there_is_one_in_a_second_at_most(
        self, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        asked = len(keycloak.began)
        clock.advance(1)
        for _ in range(10):
            one.fail("x")
            await one.turn()
            clock.advance(0.1)

        assert len(keycloak.began) == asked + 1

    async def test_while_open_the_answer_is_no_without_a_call(
        self, keycloak: Keycloak, one: Instance
    ) -> None:
        await open_circuit(one)
        asked = len(keycloak.began)
        waiting = asyncio.create_task(one.keeper.check())
        await asyncio.sleep(0)

        await one.turn()

        assert not (await waiting).available
        assert len(keycloak.began) == asked

    async def test_a_caller_who_gave_up_is_no_trouble(self, one: Instance, clock: Clock) -> None:
        clock.advance(1)
        waiting = asyncio.create_task(one.keeper.check())
        await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting

        await one.turn()

        assert one.keeper.state is CLOSED

    async def test_an_idle_keycloak_is_asked_once_in_the_health_cache(
        self, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        asked = len(keycloak.began)
        for _ in range(90):
            clock.advance(1)
            await one.turn()

        assert len(keycloak.began) == asked + 3

    async def test_a_keycloak_that_answers_deliveries_is_not_asked(
        self, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        asked = len(keycloak.began)
        for _ in range(90):
            clock.advance(1)
            one.keeper.success(one.keeper.generation)
            await one.turn()

        assert len(keycloak.began) == asked


class TestTheTailOfAnOutage:
    async def test_lasts_a_minute_from_the_closing(
        self, circuit: MemoryCircuit, one: Instance, clock: Clock
    ) -> None:
        seen = [one.keeper.settling]
        await open_circuit(one)
        clock.advance(60)
        await one.turn()
        for seconds in (0, 59.9, 0.1):
            clock.advance(seconds)
            seen.append(one.keeper.settling)

        assert seen == [False, True, True, False]

    @pytest.mark.parametrize(("after", "settling", "calls"), [(30, True, 1), (90, False, 8)])
    async def test_is_met_softly_also_by_who_starts_into_it(
        self,
        circuit: MemoryCircuit,
        keycloak: Keycloak,
        one: Instance,
        clock: Clock,
        after: float,
        settling: bool,  # noqa: FBT001 - a row of a table
        calls: int,
    ) -> None:
        await open_circuit(one)
        clock.advance(60)
        await one.turn()
        clock.advance(after)
        late = Instance(circuit, keycloak, name="b")
        await late.turn()

        assert (late.keeper.settling, late.keeper.allowed_calls) == (settling, calls)


class TestMaintenance:
    async def test_stops_deliveries_and_questions(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        asked = len(keycloak.began)
        one.keeper.maintain(on=True)
        keycloak.available = False
        for _ in range(100):
            one.fail("x", "y", "z")
            clock.advance(1)
            await one.turn()

        assert (one.keeper.refusal, one.keeper.allowed_calls) == (Refusal.MAINTENANCE, 0)
        assert (len(keycloak.began), circuit.history) == (asked, ["CLOSED"])

    async def test_answers_those_who_ask_meanwhile(self, one: Instance) -> None:
        one.keeper.maintain(on=True)
        waiting = asyncio.create_task(one.keeper.check())
        await asyncio.sleep(0)
        await one.turn()

        assert (await waiting).detail == "maintenance"

    async def test_ends_with_a_ramp_once(self, one: Instance, clock: Clock) -> None:
        one.keeper.maintain(on=False)
        assert one.keeper.allowed_calls == 8
        one.keeper.maintain(on=True)
        clock.advance(3600)
        one.keeper.maintain(on=False)
        assert (one.keeper.allowed_calls, one.keeper.settling) == (1, True)

        one.keeper.success(one.keeper.generation)
        one.keeper.maintain(on=False)
        assert one.keeper.allowed_calls == 2

    async def test_leaves_an_open_circuit_open_until_a_probe(
        self, circuit: MemoryCircuit, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        one.keeper.maintain(on=True)
        clock.advance(3600)
        await one.turn()
        assert circuit.state == "OPEN"

        one.keeper.maintain(on=False)
        assert one.keeper.refusal is Refusal.CIRCUIT
        await one.turn()
        assert circuit.state == "CLOSED"

    async def test_that_begins_while_a_probe_is_announced_lets_it_not_be_made(
        self,
        circuit: MemoryCircuit,
        keycloak: Keycloak,
        one: Instance,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        await open_circuit(one)
        clock.advance(3600)
        asked, announce = len(keycloak.began), circuit.change

        async def change(*arguments: Any, **named: Any) -> bool:
            one.keeper.maintain(on=True)
            return await announce(*arguments, **named)

        with monkeypatch.context() as patched:
            patched.setattr(circuit, "change", change)
            await one.turn()
        assert (circuit.state, len(keycloak.began)) == ("HALF_OPEN", asked)

        one.keeper.maintain(on=False)
        clock.advance(policy().probe_timeout + 1)
        await one.turn()
        assert circuit.state == "CLOSED"


class TestTheQuestionWhetherItIsThere:
    """Seconds pass one by one; what is asked of Keycloak is counted."""

    @staticmethod
    async def pass_by(seconds: int, clock: Clock, *instances: Instance) -> None:
        for _ in range(seconds):
            clock.advance(1)
            for instance in instances:
                await instance.turn()

    async def test_closes_a_circuit_long_before_the_cooldown_is_over(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        keycloak.presence = Presence.AWAY
        await open_circuit(one)
        asked = len(keycloak.began)
        await self.pass_by(20, clock, one)
        assert (circuit.state, len(keycloak.looked), len(keycloak.began)) == ("OPEN", 20, asked)

        keycloak.presence = Presence.THERE
        await self.pass_by(2, clock, one)

        assert (circuit.state, len(keycloak.began)) == ("CLOSED", asked + 1)

    async def test_spends_no_control_call_where_nobody_listens_however_long(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        keycloak.presence, keycloak.available = Presence.AWAY, False
        await open_circuit(one)
        await one.turn()
        asked = len(keycloak.began)

        await self.pass_by(3600, clock, one)

        assert (len(keycloak.began) - asked, circuit.openings) == (0, 1)

    async def test_that_is_not_answered_as_it_should_be_leaves_the_cooldown(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        """A proxy may keep the document from us, and let control calls through."""
        keycloak.presence = Presence.UNCLEAR
        await open_circuit(one)
        await self.pass_by(59, clock, one)
        assert circuit.state == "OPEN"

        await self.pass_by(2, clock, one)

        assert circuit.state == "CLOSED"

    async def test_that_was_answered_all_the_time_shortens_nothing(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        """A database that is read-only, say: Keycloak is there, and its control call fails."""
        keycloak.available = False
        await open_circuit(one)
        began = len(keycloak.began)

        await self.pass_by(900, clock, one)

        times = [at - circuit.changed[1] for at in keycloak.began[began:]]
        assert times == [60, 180, 420, 720]

    async def test_is_news_after_an_opening_by_calls_that_reached_nobody(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        """It was back before the first question."""
        one.fail("x", "y", "z", reason="connection_failed")
        await one.turn()
        assert circuit.state == "OPEN"

        await self.pass_by(2, clock, one)

        assert circuit.state == "CLOSED"

    async def test_is_asked_by_one_of_several_and_by_another_when_that_one_died(
        self, keycloak: Keycloak, circuit: MemoryCircuit, clock: Clock
    ) -> None:
        keycloak.presence = Presence.AWAY
        first, second, third = (Instance(circuit, keycloak, name=name) for name in "abc")
        for each in (first, second, third):
            await each.turn()
        await open_circuit(first)
        await self.pass_by(30, clock, first, second, third)
        assert (len(keycloak.looked), circuit.asker) == (30, "a")

        await self.pass_by(4, clock, second, third)
        assert len(keycloak.looked) == 30

        keycloak.presence = Presence.THERE
        await self.pass_by(3, clock, second, third)
        assert (circuit.asker, circuit.state) == ("b", "CLOSED")

    async def test_that_says_yes_to_a_keycloak_that_fails_is_worth_less_each_time(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        """It is there again, and its control call fails: six calls in a minute, then the cooldown as ever."""
        keycloak.presence, keycloak.available = Presence.AWAY, False
        await open_circuit(one)
        await self.pass_by(10, clock, one)
        began, keycloak.presence = len(keycloak.began), Presence.THERE
        back_at = clock() + 1

        await self.pass_by(400, clock, one)

        times = [at - back_at for at in keycloak.began[began:]]
        assert [round(at) for at in times] == [1, 3, 7, 15, 31, 91, 211]

    async def test_is_as_good_as_ever_after_each_true_recovery(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        """Ten outages in a row, each within a minute of the last."""
        for _ in range(10):
            keycloak.presence, keycloak.available = Presence.AWAY, False
            await open_circuit(one)
            await self.pass_by(20, clock, one)
            assert circuit.state == "OPEN"
            keycloak.presence, keycloak.available = Presence.THERE, True
            await self.pass_by(2, clock, one)
            assert circuit.state == "CLOSED"
            clock.advance(6)
            one.keeper.success(one.keeper.generation, "x")
            await one.turn()

        assert circuit.openings == 10

    async def test_costs_a_keycloak_that_comes_and_goes_and_serves_nobody_less_and_less(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        began = len(keycloak.began)
        for _ in range(60):
            for presence in (Presence.AWAY, Presence.THERE):
                keycloak.presence = presence
                await self.pass_by(5, clock, one)
                if circuit.state == "CLOSED":
                    await open_circuit(one)

        # Ten minutes, sixty times back: 0, 2, 4, 8, 16, 32, 64, 128 and 256 s after the last.
        assert len(keycloak.began) - began <= 12

    @pytest.mark.parametrize("asks", ["delivery", "look", "control call"])
    async def test_is_not_asked_before_keycloak_allows_it(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock, asks: str
    ) -> None:
        keycloak.presence, keycloak.available = Presence.UNCLEAR, False
        if asks == "delivery":
            one.fail("x", retry_after=900)
        await open_circuit(one)
        await self.pass_by(1, clock, one)
        if asks == "look":
            keycloak.look_retry_after = 900
            await self.pass_by(1, clock, one)
        if asks == "control call":
            keycloak.presence, keycloak.retry_after = Presence.THERE, 900
            await self.pass_by(2, clock, one)
        keycloak.look_retry_after, keycloak.retry_after = None, None
        looked, began = len(keycloak.looked), len(keycloak.began)
        keycloak.presence, keycloak.available = Presence.THERE, True

        await self.pass_by(897, clock, one)
        assert (len(keycloak.looked), len(keycloak.began)) == (looked, began)

        await self.pass_by(8, clock, one)
        assert circuit.state == "CLOSED"

    async def test_answers_those_who_want_a_control_call_with_no(
        self, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        keycloak.presence = Presence.AWAY
        await open_circuit(one)
        clock.advance(1)
        asking = asyncio.create_task(one.keeper.check())
        await asyncio.sleep(0)
        await one.turn()

        assert keycloak.looked
        assert not (await asking).available

    async def test_acts_on_news_without_waiting_for_the_next_look(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        keycloak.presence = Presence.AWAY
        await open_circuit(one)
        await self.pass_by(2, clock, one)
        keycloak.presence = Presence.THERE
        clock.advance(1)
        before = asyncio.get_running_loop().time()
        async with running(one), asyncio.timeout(5):
            while circuit.state != "CLOSED":
                await asyncio.sleep(0.001)

        assert asyncio.get_running_loop().time() - before < 0.8

    async def test_is_not_asked_in_maintenance_nor_by_who_learns_of_it_meanwhile(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        keycloak.presence = Presence.AWAY
        await open_circuit(one)
        take = circuit.take_questions

        async def then_maintenance(*arguments: Any, **named: Any) -> bool:
            taken = await take(*arguments, **named)
            one.keeper.maintain(on=True)
            return taken

        circuit.take_questions = then_maintenance  # type: ignore[method-assign]
        await self.pass_by(100, clock, one)

        assert keycloak.looked == []


class TestSomebodyWhoWantsToKnow:
    async def test_is_answered_before_the_cooldown_is_over(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        assert await circuit.want(circuit.generation)
        await one.turn()

        assert (circuit.state, circuit.wanted) == ("CLOSED", False)

    async def test_makes_nobody_wait_longer(
        self, circuit: MemoryCircuit, keycloak: Keycloak, one: Instance, clock: Clock
    ) -> None:
        await open_circuit(one)
        keycloak.available = False
        clock.advance(20)
        retry_at = circuit.retry_at
        for _ in range(5):
            await circuit.want(circuit.generation)
            await one.turn()

        assert (circuit.state, circuit.retry_at, circuit.openings) == ("OPEN", retry_at, 1)

    async def test_asks_nothing_of_a_closed_circuit(self, circuit: MemoryCircuit, one: Instance) -> None:
        assert not await circuit.want(circuit.generation)


class TestRunning:
    async def test_a_database_that_is_away_is_waited_out(
        self, circuit: MemoryCircuit, keycloak: Keycloak
    ) -> None:
        circuit.fault = DatabaseUnavailable()
        instance = Instance(circuit, keycloak)

        async with running(instance), asyncio.timeout(5):
            await asyncio.sleep(0)
            circuit.fault = None
            instance.fail("x")  # wakes it at once
            while instance.states != [CLOSED]:
                await asyncio.sleep(0.005)

    async def test_failures_are_acted_on_without_waiting_for_the_next_look(
        self, circuit: MemoryCircuit, keycloak: Keycloak, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keeper, "_READ_EVERY", 3600.0)
        instance = Instance(circuit, keycloak)
        async with running(instance), asyncio.timeout(5):
            while not instance.states:
                await asyncio.sleep(0)
            instance.fail("x", "y", "z")
            while instance.states != [CLOSED, OPEN]:
                await asyncio.sleep(0.005)

    async def test_check_is_answered(self, circuit: MemoryCircuit, keycloak: Keycloak) -> None:
        instance = Instance(circuit, keycloak)
        async with running(instance), asyncio.timeout(5):
            while not instance.states:
                await asyncio.sleep(0)
            circuit.clock.advance(1)
            assert (await instance.keeper.check()).available


async def test_the_last_success_is_noted_but_not_each(
    circuit: MemoryCircuit, one: Instance, clock: Clock
) -> None:
    for _ in range(10):
        clock.advance(1)
        one.keeper.success(one.keeper.generation)
        await one.turn()

    assert circuit.successes == [1001, 1006]


async def test_a_threshold_of_one_opens_on_the_first_failure(
    circuit: MemoryCircuit, keycloak: Keycloak
) -> None:
    instance = Instance(circuit, keycloak, policy=policy(threshold=1))
    await instance.turn()
    instance.fail("x")

    await instance.turn()

    assert circuit.state == "OPEN"
