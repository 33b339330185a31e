from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.circuit.breaker import CircuitPolicy, CircuitState, Ramp, Step, Tally, next_step

POLICY = CircuitPolicy(threshold=3, cooldown=60, cooldown_cap=600, health_cache=30)


def tally_of(*, lanes: int = 0, checks: int = 0) -> Tally:
    tally = Tally(generation=7)
    for lane in range(lanes):
        tally.failure(7, lane)
    for _ in range(checks):
        tally.check_failed(7)
    return tally


def step(
    state: CircuitState,
    *,
    tally: Tally | None = None,
    retry_in: float | None = None,
    probe_ends_in: float | None = None,
    idle_for: float = 0.0,
    check_asked: bool = False,
) -> Step:
    return next_step(
        state,
        tally=tally or Tally(generation=7),
        policy=POLICY,
        retry_in=retry_in,
        probe_ends_in=probe_ends_in,
        idle_for=idle_for,
        check_asked=check_asked,
    )


class TestWhileClosed:
    @pytest.mark.parametrize(
        ("lanes", "checks", "expected"),
        [
            (0, 0, Step.NOTHING),
            (1, 0, Step.CHECK),
            (2, 0, Step.CHECK),
            (3, 0, Step.OPEN),
            (0, 2, Step.CHECK),
            (0, 3, Step.OPEN),
            (2, 1, Step.OPEN),
            (1, 2, Step.OPEN),
            (1, 1, Step.CHECK),
        ],
    )
    def test_the_threshold_counts_distinct_lanes_and_control_calls(
        self, lanes: int, checks: int, expected: Step
    ) -> None:
        assert step(CircuitState.CLOSED, tally=tally_of(lanes=lanes, checks=checks)) is expected

    @pytest.mark.parametrize(("idle_for", "expected"), [(29.9, Step.NOTHING), (30.0, Step.CHECK)])
    def test_keycloak_is_asked_when_it_has_been_silent_for_the_health_cache(
        self, idle_for: float, expected: Step
    ) -> None:
        assert step(CircuitState.CLOSED, idle_for=idle_for) is expected

    def test_keycloak_is_asked_when_somebody_wants_to_know(self) -> None:
        assert step(CircuitState.CLOSED, check_asked=True) is Step.CHECK

    def test_opening_goes_before_asking(self) -> None:
        assert step(CircuitState.CLOSED, tally=tally_of(lanes=3), check_asked=True) is Step.OPEN


class TestWhileOpen:
    @pytest.mark.parametrize(
        ("retry_in", "expected"),
        [(0.1, Step.NOTHING), (0.0, Step.PROBE), (-5.0, Step.PROBE), (None, Step.PROBE)],
    )
    def test_a_probe_begins_when_the_cooldown_is_over(self, retry_in: float | None, expected: Step) -> None:
        assert step(CircuitState.OPEN, retry_in=retry_in) is expected

    def test_nothing_else_asks_keycloak(self) -> None:
        cold = step(CircuitState.OPEN, retry_in=1, tally=tally_of(lanes=9), idle_for=999, check_asked=True)

        assert cold is Step.NOTHING


class TestWhileHalfOpen:
    @pytest.mark.parametrize(
        ("probe_ends_in", "expected"),
        [(0.1, Step.NOTHING), (0.0, Step.PROBE), (-5.0, Step.PROBE), (None, Step.PROBE)],
    )
    def test_another_probe_begins_only_after_the_deadline_of_the_first(
        self, probe_ends_in: float | None, expected: Step
    ) -> None:
        assert step(CircuitState.HALF_OPEN, probe_ends_in=probe_ends_in) is expected

    def test_nothing_else_asks_keycloak(self) -> None:
        probing = step(
            CircuitState.HALF_OPEN, probe_ends_in=1, tally=tally_of(lanes=9), idle_for=999, check_asked=True
        )

        assert probing is Step.NOTHING


class TestTheCooldown:
    @pytest.mark.parametrize(
        ("openings", "seconds"),
        [(1, 60), (2, 120), (3, 240), (4, 480), (5, 600), (6, 600), (1000, 600)],
    )
    def test_doubles_up_to_its_cap(self, openings: int, seconds: float) -> None:
        assert POLICY.cooldown_of(openings, lambda low, _: low) == seconds

    @settings(deadline=None)
    @given(openings=st.integers(1, 50), seed=st.integers())
    def test_is_never_shorter_than_asked_for_and_a_tenth_longer_at_most(
        self, openings: int, seed: int
    ) -> None:
        whole = POLICY.cooldown_of(openings, lambda low, _: low)

        jittered = POLICY.cooldown_of(openings, random.Random(seed).uniform)

        assert whole <= jittered <= whole * 1.1

    def test_longer_than_the_cap_is_the_cap(self) -> None:
        policy = CircuitPolicy(cooldown=1000, cooldown_cap=600)

        assert [policy.cooldown_of(n, lambda low, _: low) for n in (1, 2)] == [1000, 1000]


class TestTheTally:
    def test_counts_a_lane_once(self) -> None:
        tally = Tally(generation=7)
        for _ in range(100):
            tally.failure(7, "one")

        assert tally.failures == 1

    def test_counts_every_control_call(self) -> None:
        assert tally_of(checks=2).failures == 2

    def test_a_success_of_its_generation_forgets_all(self) -> None:
        tally = tally_of(lanes=2, checks=1)

        tally.success(7)

        assert tally.failures == 0

    @pytest.mark.parametrize("generation", [6, 8])
    def test_calls_of_other_generations_count_for_nothing(self, generation: int) -> None:
        tally = tally_of(lanes=1)

        tally.failure(generation, "other")
        tally.check_failed(generation)
        tally.success(generation)

        assert tally.failures == 1

    def test_a_new_generation_begins_at_nothing(self) -> None:
        tally = tally_of(lanes=2, checks=2)

        tally.begin(8)

        assert (tally.generation, tally.failures) == (8, 0)

    def test_the_same_generation_goes_on(self) -> None:
        tally = tally_of(lanes=2)

        tally.begin(7)

        assert tally.failures == 2


class TestTheRamp:
    def test_doubles_after_as_many_successes_as_it_allows(self) -> None:
        ramp = Ramp(limit=10)
        allowed = []
        for _ in range(15):
            allowed.append(ramp.allowed)
            ramp.success()

        # 1 success, then 2, then 4, then 8: the limit.
        assert allowed == [1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8]
        assert ramp.allowed == 10

    def test_stays_at_the_limit(self) -> None:
        ramp = Ramp(limit=4, allowed=4)
        for _ in range(20):
            ramp.success()

        assert ramp.allowed == 4

    def test_begins_anew_with_one(self) -> None:
        ramp = Ramp(limit=8)
        ramp.success()
        ramp.success()

        ramp.restart()

        assert ramp.allowed == 1
        ramp.success()
        assert ramp.allowed == 2
