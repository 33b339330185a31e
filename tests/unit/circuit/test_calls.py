from __future__ import annotations

from consumer.circuit.calls import CallLimit
from consumer.circuit.limit_policy import LimitPolicy
from consumer.circuit.limiter import Ending
from tests.unit.circuit.circuit_in_memory import Clock

POLICY = LimitPolicy(ceiling=16)


class Caller:
    """One instance that makes turns of several calls each as soon as it may."""

    def __init__(self, *, per_second: int | None, instances: int = 1) -> None:
        self.clock = Clock()
        self.limit = CallLimit(POLICY, per_second=per_second, clock=self.clock)
        self.limit.instances = instances
        self.calls = 0

    def turns(self, turns: int, *, calls: int) -> None:
        for _ in range(turns):
            self.clock.advance(self.limit.wait())
            assert self.limit.wait() == 0
            self.limit.pay()
            for _ in range(calls):
                self.limit.learn(self.limit.begin(), "update", Ending.SERVED)
                self.limit.gone()
                self.calls += 1
            self.limit.turns_left(0)


def test_without_a_cap_nobody_waits() -> None:
    caller = Caller(per_second=None)
    began = caller.clock()

    caller.turns(1000, calls=3)

    assert caller.clock() == began
    assert caller.limit.per_second is None


def test_every_call_counts_and_not_only_the_first_of_a_turn() -> None:
    for calls in (1, 2, 5):
        caller = Caller(per_second=20)
        began = caller.clock()

        caller.turns(100, calls=calls)

        rate = caller.calls / (caller.clock() - began)
        assert 19 <= rate <= 21.5


def test_turns_without_a_call_leave_no_credit() -> None:
    caller = Caller(per_second=20)
    caller.turns(100, calls=0)
    began = caller.clock()

    caller.turns(100, calls=2)

    assert caller.calls / (caller.clock() - began) <= 21.5


def test_the_cap_is_that_of_all_instances_together() -> None:
    caller = Caller(per_second=20, instances=4)
    began = caller.clock()

    caller.turns(100, calls=1)

    assert 4.9 <= caller.calls / (caller.clock() - began) <= 5.2
    assert caller.limit.per_second == 5


def test_the_note_says_how_it_stands_and_why() -> None:
    caller = Caller(per_second=20, instances=2)

    note = caller.limit.note()

    assert (note.limit, note.ceiling, note.per_second) == (4, 16, 10)
    assert (note.why, note.changed_ago) == ("as at the start", None)

    call = caller.limit.begin()
    caller.limit.gone()
    caller.clock.advance(1.0)
    caller.limit.learn(call, "update", Ending.TURNED_AWAY)
    caller.clock.advance(30.0)

    note = caller.limit.note()
    assert (note.limit, note.why, note.changed_ago) == (2, "Keycloak turned calls away", 30.0)
