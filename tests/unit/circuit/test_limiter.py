from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.circuit.limit_policy import LimitPolicy
from consumer.circuit.limiter import Call, Ending, Limiter, Why
from tests.unit.circuit.queueing_model import Model, Run

POLICY = LimitPolicy(ceiling=32)
UPDATE = {"update": 0.05}


def run(model: Model, policy: LimitPolicy = POLICY, *, seed: int = 1) -> Run:
    return Run(model, Limiter(policy), seed)


class TestOnAModelOfKeycloak:
    @pytest.mark.parametrize("thrash", [0.0, 0.3])
    @pytest.mark.parametrize("servers", [2, 4, 8, 16, 32])
    @pytest.mark.parametrize("seed", [1, 2])
    def test_it_finds_what_serves_nearly_as_much_as_the_best(
        self, servers: int, thrash: float, seed: int
    ) -> None:
        model = Model(servers, UPDATE, thrash=thrash)
        calling = run(model, seed=seed)
        calling.go(30)

        rate = calling.go(20)

        assert rate >= 0.8 * model.best(POLICY.ceiling)

    @pytest.mark.parametrize("kinds", [4, 6, 8])
    @pytest.mark.parametrize("servers", [4, 16])
    def test_so_many_kinds_that_there_are_few_of_each_do_not_hide_what_serves_more(
        self, servers: int, kinds: int
    ) -> None:
        seconds = {f"kind-{number}": 0.01 * (1 + number) for number in range(kinds)}
        model = Model(servers, seconds, mix=dict.fromkeys(seconds, 1.0))
        calling = run(model, LimitPolicy(ceiling=16))
        calling.go(60)

        rate = calling.go(20)

        assert rate >= 0.8 * model.best(16)

    @pytest.mark.parametrize("gusts", [0.0, 0.15, 0.3])
    @pytest.mark.parametrize("alone", [0.1, 0.3])
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_it_is_not_blown_down_by_a_machine_whose_speed_changes_from_second_to_second(
        self, alone: float, gusts: float, seed: int
    ) -> None:
        """Each further call brings a little less, as from a real Keycloak, and the noise is larger than that."""
        model = Model(64, {"update": 0.005}, alone=alone, gusts=gusts)
        calling = run(model, LimitPolicy(ceiling=16), seed=seed)
        calling.go(30)
        calling.changes[:] = [(calling.now, calling.limiter.standing)]

        calling.go(120)

        stood = calling.stood()
        rate = sum(seconds * model.rate(limit) for limit, seconds in stood.items()) / sum(stood.values())
        assert rate >= 0.9 * model.best(16)

    @pytest.mark.parametrize("servers", [4, 16])
    def test_it_stays_there(self, servers: int) -> None:
        """A trial now and then, and neighbouring limits that are as good; no swinging."""
        calling = run(Model(servers, UPDATE, thrash=0.2))
        calling.go(30)
        began = len(calling.changes) - 1

        calling.go(120)

        stood = [limit for _, limit in calling.changes[began:]]
        assert max(stood) <= 2 * min(stood)
        assert len(stood) <= 1 + 120 / POLICY.rest

    @pytest.mark.parametrize(("before", "after"), [(16, 2), (16, 4), (4, 16), (2, 8)])
    def test_it_follows_when_what_keycloak_can_take_changes(self, before: int, after: int) -> None:
        model = Model(before, UPDATE, thrash=0.2)
        calling = run(model)
        calling.go(30)
        model.servers = after
        calling.go(75)

        rate = calling.go(20)

        assert rate >= 0.8 * model.best(POLICY.ceiling)

    def test_a_collapse_is_met_within_seconds(self) -> None:
        model = Model(16, UPDATE)
        calling = run(model)
        calling.go(30)
        stood = calling.limiter.standing
        model.servers = 2

        calling.go(10)

        assert calling.limiter.standing <= 0.7 * stood
        assert calling.limiter.why in {Why.TOO_SLOW, Why.AS_GOOD}

    def test_slow_password_resets_are_not_taken_for_slow_updates(self) -> None:
        """A hundred times an update's time, and most of all time goes into them: that is what they take."""
        model = Model(16, {"update": 0.005, "password": 0.5}, mix={"update": 1.0, "password": 0.0})
        calling = run(model, LimitPolicy(ceiling=16))
        calling.go(20)
        stood = calling.limiter.standing
        model.mix = {"update": 0.7, "password": 0.3}

        calling.go(60)

        assert min(limit for at, limit in calling.changes if at > 20 or limit == stood) >= 0.6 * stood
        assert calling.limiter.why is not Why.TOO_SLOW

    def test_it_stays_below_where_calls_are_turned_away(self) -> None:
        calling = run(Model(16, UPDATE, turns_away=10))

        calling.go(180)

        assert 5 <= calling.limiter.standing <= 10
        spells = [
            at
            for at, before in zip(calling.turned_away, [-60.0, *calling.turned_away], strict=False)
            if at - before > 5
        ]
        assert len(spells) <= 1 + 180 / POLICY.cut_memory

    def test_what_is_not_used_is_not_raised(self) -> None:
        calling = Run(Model(16, UPDATE), Limiter(dataclasses.replace(POLICY, start=16)), demand=3)

        calling.go(60)

        assert calling.limiter.limit == 16
        assert calling.limiter.why is Why.START

    def test_several_instances_do_not_climb_on_each_others_shoulders(self) -> None:
        """Each would serve more by taking from the others; together they would only queue."""
        model = Model(16, UPDATE, thrash=0.1, busy=24)
        calling = run(model)
        calling.limiter.instances = 4

        calling.go(120)

        assert calling.limiter.standing <= 16


class Hands:
    """Calls made by hand."""

    def __init__(self, policy: LimitPolicy = POLICY) -> None:
        self.limiter = Limiter(policy)
        self.now = 0.0

    def begin(self) -> Call:
        return self.limiter.begin(self.now)

    def end(self, call: Call, ending: Ending, kind: str = "update") -> bool:
        self.limiter.gone()
        return self.limiter.learn(call, kind, ending, self.now)

    def serve(self, calls: int) -> None:
        for _ in range(calls):
            call = self.begin()
            self.now += 0.01
            self.end(call, Ending.SERVED)


class TestACallThatIsTurnedAway:
    def test_halves_the_limit_at_once(self) -> None:
        hands = Hands(dataclasses.replace(POLICY, start=16))
        call = hands.begin()
        hands.now += 0.1

        assert hands.end(call, Ending.TURNED_AWAY)
        assert hands.limiter.limit == hands.limiter.standing == 8
        assert hands.limiter.why is Why.TURNED_AWAY
        assert hands.limiter.changed_at == hands.now

    def test_counts_once_in_a_round_trip(self) -> None:
        hands = Hands(dataclasses.replace(POLICY, start=16))
        calls = [hands.begin() for _ in range(16)]
        hands.now += 0.1

        cuts = [hands.end(call, Ending.TURNED_AWAY) for call in calls]

        assert cuts == [True] + 15 * [False]
        assert hands.limiter.limit == 8

    def test_never_goes_below_the_floor(self) -> None:
        hands = Hands(dataclasses.replace(POLICY, start=16, floor=3))
        for _ in range(10):
            call = hands.begin()
            hands.now += 0.1
            hands.end(call, Ending.TURNED_AWAY)

        assert hands.limiter.limit == 3


class TestACallWithoutAnAnswer:
    def test_cuts_the_limit_if_others_are_not_answered_either(self) -> None:
        hands = Hands(dataclasses.replace(POLICY, start=16))
        call = hands.begin()
        hands.now += 10

        assert hands.end(call, Ending.TIMED_OUT)
        assert hands.limiter.limit == 8

    def test_is_its_own_trouble_while_others_are_answered(self) -> None:
        """One user whose calls hang must not make everybody wait."""
        hands = Hands(dataclasses.replace(POLICY, start=16))
        call = hands.begin()
        hands.serve(60)

        assert not hands.end(call, Ending.TIMED_OUT)
        assert hands.limiter.limit == 16

    @pytest.mark.parametrize("ending", [Ending.ANSWERED, Ending.FAILED])
    def test_other_endings_say_nothing(self, ending: Ending) -> None:
        hands = Hands(dataclasses.replace(POLICY, start=2))
        for _ in range(1000):
            call = hands.begin()
            hands.now += 0.01
            assert not hands.end(call, ending)

        assert hands.limiter.limit == 2


class TestAnOldBest:
    @pytest.mark.parametrize("times", [3.5, 10])
    def test_is_forgotten_if_fewer_at_once_are_no_faster(self, times: float) -> None:
        """Every call takes longer from now on, however few there are: a bigger profile, a farther site, a neighbour."""
        model = Model(32, {"update": 0.01})
        calling = run(model, LimitPolicy(ceiling=16))
        calling.go(30)
        model.seconds = {"update": 0.01 * times}
        calling.go(120)

        rate = calling.go(30)

        assert rate >= 0.8 * model.best(16)


POLICIES = st.builds(
    LimitPolicy,
    ceiling=st.integers(1, 64),
    floor=st.integers(1, 8),
    start=st.integers(1, 64),
    fewest=st.integers(1, 30),
    round_trips=st.integers(1, 5),
    shortest=st.just(0.0),
    turns=st.integers(1, 4),
    longest_trial=st.sampled_from([0.0, 1.0]),
    rest=st.sampled_from([0.01, 1.0]),
)


class TestWhateverHappens:
    @given(POLICIES, st.integers(0, 2**32), st.floats(0.0, 0.3))
    def test_the_limit_keeps_its_bounds_and_falls_by_half_at_most(
        self, policy: LimitPolicy, seed: int, trouble: float
    ) -> None:
        rng = random.Random(seed)
        limiter, now = Limiter(policy), 0.0
        under_way: list[Call] = []
        cut_at = float("-inf")
        for _ in range(300):
            now += rng.expovariate(100)
            limiter.instances = rng.randint(1, 4)
            before, tried = limiter.standing, limiter.limit
            if under_way and (len(under_way) >= limiter.limit or rng.random() < 0.3):
                call = under_way.pop(rng.randrange(len(under_way)))
                limiter.gone()
                ending = rng.choice(list(Ending)) if rng.random() < trouble else Ending.SERVED
                if limiter.learn(call, rng.choice("ab"), ending, now):
                    assert call.began >= cut_at
                    cut_at = now
            else:
                under_way.append(limiter.begin(now))

            assert policy.lowest <= limiter.limit <= policy.ceiling
            assert policy.lowest <= limiter.standing <= policy.ceiling
            assert limiter.standing >= max(policy.lowest, min(before, tried) // 2)
            assert limiter.standing <= before + max(1, before // 2)
            assert (limiter.standing == before) or limiter.changed_at == now
