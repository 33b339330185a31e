from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from consumer.circuit.keeper import CircuitKeeper, ControlAnswer
from consumer.delivery.outcome import Blame, Delivered, Failure, Outcome, Reason, Retry
from consumer.drain.charging import Evidence
from consumer.drain.judge import Judge
from consumer.drain.policy import DrainPolicy
from consumer.outbox.drain_store import Head
from tests.unit.drain.heads import head

REFUSED = Retry(reason=Reason.UNEXPLAINED_REFUSAL, failure=Failure(blame=Blame.UNCLEAR, status=400))
CREATED = Delivered(reason=Reason.CREATED, user_id="id", existed=False)
UPDATED = Delivered(reason=Reason.UPDATED, user_id="id", existed=True)


class Circuit:
    """What the judge sees of the circuit; its control call also writes where that was asked for."""

    def __init__(self) -> None:
        self.generation = 7
        self.settling = False
        self.now = 100.0
        self.takes_writes = True
        self.evidence = Evidence()
        self.judge = Judge(
            circuit=cast(CircuitKeeper, self),
            evidence=self.evidence,
            policy=DrainPolicy(),
            clock=lambda: self.now,
        )
        self.wanted = 0
        self.checks = 0
        self.told: list[str] = []

    def success(self, generation: int, lane: object) -> None:
        self.told.append("success")

    def failure(self, generation: int, lane: object, retry_after: float | None, *, reason: str) -> None:
        self.told.append("failure")

    def want_check(self) -> None:
        self.wanted += 1

    async def check(self) -> ControlAnswer:
        self.checks += 1
        self.now += 1
        if self.evidence.writes_in_doubt(self.now):
            self.judge.write_check_ended(self.now, self.now + 0.1, wrote=self.takes_writes)
            return ControlAnswer(available=self.takes_writes, detail="")
        return ControlAnswer(available=True, detail="")

    def met(self, entry: Head, outcome: Outcome) -> None:
        self.judge.learn(entry, outcome, self.judge.begin())
        self.now += 1


@pytest.fixture
def circuit() -> Circuit:
    return Circuit()


def user(number: int) -> Head:
    found = head()
    lane = replace(found.lane, lane_id=b"lane-%d" % number)
    return replace(found, lane=lane, entry_id=number, calls=1)


class TestARefusalWithoutAReason:
    def test_is_told_to_nobody_as_success_or_failure(self, circuit: Circuit) -> None:
        circuit.met(user(1), REFUSED)

        assert circuit.told == []

    def test_of_three_users_has_keycloak_asked_whether_it_takes_writes(self, circuit: Circuit) -> None:
        for number in (1, 2, 2):
            circuit.met(user(number), REFUSED)
        assert circuit.wanted == 0

        circuit.met(user(3), REFUSED)
        assert circuit.wanted == 1

    @pytest.mark.parametrize("takes_writes", [True, False])
    async def test_is_judged_by_the_write_check(self, circuit: Circuit, *, takes_writes: bool) -> None:
        circuit.takes_writes = takes_writes
        circuit.met(user(1), REFUSED)

        assert await circuit.judge.judge(user(1)) is takes_writes
        assert circuit.checks == 1

    async def test_is_judged_by_what_another_has_surely_written(self, circuit: Circuit) -> None:
        circuit.met(user(1), REFUSED)
        circuit.met(user(2), CREATED)

        assert await circuit.judge.judge(user(1)) is True
        assert circuit.checks == 0

    async def test_an_update_of_another_may_have_written_nothing(self, circuit: Circuit) -> None:
        circuit.takes_writes = False
        circuit.met(user(1), REFUSED)
        circuit.met(user(2), UPDATED)

        assert await circuit.judge.judge(user(1)) is False
        assert circuit.checks == 1

    async def test_of_whom_the_circuit_opened_on_is_not_charged_when_all_is_well_again(
        self, circuit: Circuit
    ) -> None:
        circuit.met(user(1), REFUSED)
        # An answer of somebody else is none to this question.
        circuit.met(user(2), UPDATED)
        circuit.judge.circuit_opened(7)
        circuit.now += 100
        circuit.met(user(3), CREATED)

        assert await circuit.judge.judge(user(1)) is False

    async def test_which_a_write_has_shown_to_be_the_users_stays_that_at_a_later_opening(
        self, circuit: Circuit
    ) -> None:
        circuit.met(user(1), REFUSED)
        circuit.evidence.ask_for_writes()
        await circuit.check()
        circuit.judge.circuit_opened(7)

        assert await circuit.judge.judge(user(1)) is True


class TestWhetherWritesWork:
    async def test_is_asked_once_for_many(self, circuit: Circuit) -> None:
        assert [await circuit.judge.writes_work(b"lane-%d" % n) for n in range(5)] == [True] * 5
        assert circuit.checks == 1

    async def test_is_no_where_the_write_check_fails(self, circuit: Circuit) -> None:
        circuit.takes_writes = False

        assert not await circuit.judge.writes_work(b"lane")
