from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.circuit.breaker import (
    CircuitPolicy,
    CircuitState,
    Ramp,
    Refusal,
    Step,
    Tally,
    WhileOpen,
    next_step,
    refusal,
)
from consumer.delivery.outcome import Reason
from consumer.delivery.presence import Presence

POLICY = CircuitPolicy(
    threshold=3, window=60, lane_memory=3600, cooldown=60, cooldown_cap=600, retry_after_cap=3600
)


NOW = 1000.0


def tally_of(*, lanes: int = 0, checks: int = 0) -> Tally:
    tally = Tally(POLICY, generation=7)
    for lane in range(lanes):
        tally.failure(7, lane, NOW, reason="timeout")
    for _ in range(checks):
        tally.check_failed(7, NOW, reason="timeout")
    return tally


def step(
    state: CircuitState,
    *,
    failures: int = 0,
    while_open: WhileOpen = WhileOpen(),  # noqa: B008 - frozen
    probe_ends_in: float | None = None,
    idle_for: float = 0.0,
    check_asked: bool = False,
    maintenance: bool = False,
) -> Step:
    return next_step(
        state,
        failures=failures,
        policy=POLICY,
        while_open=while_open,
        probe_ends_in=probe_ends_in,
        idle_for=idle_for,
        check_asked=check_asked,
        maintenance=maintenance,
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
        failures = tally_of(lanes=lanes, checks=checks).failures(NOW)

        assert step(CircuitState.CLOSED, failures=failures) is expected

    @pytest.mark.parametrize(("idle_for", "expected"), [(29.9, Step.NOTHING), (30.0, Step.CHECK)])
    def test_keycloak_is_asked_when_it_has_been_silent_for_the_health_cache(
        self, idle_for: float, expected: Step
    ) -> None:
        assert step(CircuitState.CLOSED, idle_for=idle_for) is expected

    def test_keycloak_is_asked_when_somebody_wants_to_know(self) -> None:
        assert step(CircuitState.CLOSED, check_asked=True) is Step.CHECK

    def test_opening_goes_before_asking(self) -> None:
        assert step(CircuitState.CLOSED, failures=3, check_asked=True) is Step.OPEN


def open_step(**stands: Any) -> Step:
    """What is done while it is open: no cooldown is over unless that is said."""
    return step(CircuitState.OPEN, while_open=WhileOpen(**{"retry_in": 40.0, **stands}))


class TestWhileOpen:
    @pytest.mark.parametrize(
        ("retry_in", "expected"), [(0.1, Step.ASK), (0.0, Step.PROBE), (-5.0, Step.PROBE)]
    )
    def test_a_probe_begins_when_the_cooldown_is_over(self, retry_in: float, expected: Step) -> None:
        assert open_step(retry_in=retry_in) is expected

    @pytest.mark.parametrize(
        ("met", "expected"),
        [
            (None, Step.PROBE),
            (Presence.THERE, Step.PROBE),
            (Presence.UNCLEAR, Step.PROBE),
            (Presence.AWAY, Step.ASK),
        ],
    )
    def test_where_nobody_listens_no_control_call_is_made_however_long(
        self, met: Presence | None, expected: Step
    ) -> None:
        assert open_step(retry_in=-9999.0, met=met) is expected

    @pytest.mark.parametrize(
        ("asked_ago", "asks", "expected"),
        [
            (None, True, Step.ASK),
            (0.9, True, Step.ASK),
            (0.8, True, Step.NOTHING),
            (None, False, Step.NOTHING),
            (99.0, False, Step.NOTHING),
        ],
    )
    def test_one_asks_about_each_second(
        self,
        asked_ago: float | None,
        asks: bool,  # noqa: FBT001 - a row of a table
        expected: Step,
    ) -> None:
        assert open_step(asked_ago=asked_ago, asks=asks) is expected

    @pytest.mark.parametrize(
        ("tries", "open_for", "expected"),
        [
            (0, 0.0, Step.PROBE_NEWS),
            (1, 1.9, Step.ASK),
            (1, 2.0, Step.PROBE_NEWS),
            (2, 3.9, Step.ASK),
            (2, 4.0, Step.PROBE_NEWS),
            (5, 31.9, Step.ASK),
            (5, 32.0, Step.PROBE_NEWS),
            (1000, 599.9, Step.ASK),
            (1000, 600.0, Step.PROBE_NEWS),
        ],
    )
    def test_news_is_worth_a_control_call_at_once_and_less_after_each_in_vain(
        self, tries: int, open_for: float, expected: Step
    ) -> None:
        news = open_step(met=Presence.THERE, back_for=1.0, tries=tries, open_for=open_for)

        assert news is expected

    @pytest.mark.parametrize(
        ("back_for", "expected"), [(None, Step.ASK), (59.9, Step.PROBE_NEWS), (60.0, Step.ASK)]
    )
    def test_who_was_there_all_the_time_is_no_news_nor_who_is_back_for_a_minute(
        self, back_for: float | None, expected: Step
    ) -> None:
        assert open_step(met=Presence.THERE, back_for=back_for, open_for=99.0) is expected

    @pytest.mark.parametrize(
        "stands",
        [{}, {"retry_in": -1.0}, {"wanted": True}, {"met": Presence.THERE, "back_for": 1.0}],
    )
    def test_nothing_is_asked_while_keycloak_wants_to_be_left_alone(self, stands: dict[str, Any]) -> None:
        assert open_step(rest_in=0.1, **stands) is Step.NOTHING
        assert open_step(rest_in=0.0, **stands) is not Step.NOTHING

    def test_somebody_who_wants_to_know_is_answered_whatever_was_met(self) -> None:
        assert open_step(wanted=True, met=Presence.AWAY, asks=False) is Step.PROBE_WANTED

    def test_nothing_else_asks_keycloak(self) -> None:
        cold = step(
            CircuitState.OPEN,
            while_open=WhileOpen(retry_in=1.0, asked_ago=0.1),
            failures=9,
            idle_for=999,
            check_asked=True,
        )

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
        probing = step(CircuitState.HALF_OPEN, probe_ends_in=1, failures=9, idle_for=999, check_asked=True)

        assert probing is Step.NOTHING


@pytest.mark.parametrize("state", list(CircuitState))
def test_in_maintenance_keycloak_is_left_alone(state: CircuitState) -> None:
    alone = step(
        state,
        failures=9,
        while_open=WhileOpen(wanted=True),
        probe_ends_in=-1,
        idle_for=999,
        check_asked=True,
        maintenance=True,
    )

    assert alone is Step.NOTHING


class TestWhyNothingIsCalled:
    @pytest.mark.parametrize(
        ("state", "maintenance", "expected"),
        [
            (None, False, Refusal.UNKNOWN),
            (None, True, Refusal.UNKNOWN),
            (CircuitState.CLOSED, False, None),
            (CircuitState.OPEN, False, Refusal.CIRCUIT),
            (CircuitState.HALF_OPEN, False, Refusal.CIRCUIT),
            (CircuitState.CLOSED, True, Refusal.MAINTENANCE),
            (CircuitState.OPEN, True, Refusal.MAINTENANCE),
        ],
    )
    def test_is_decided_by_state_and_maintenance(
        self,
        state: CircuitState | None,
        maintenance: bool,  # noqa: FBT001 - a row of a table
        expected: Refusal | None,
    ) -> None:
        assert refusal(state, maintenance=maintenance) is expected


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

    @pytest.mark.parametrize(
        ("asked_for", "seconds"), [(0, 60), (59, 60), (61, 61), (3600, 3600), (86400, 3600)]
    )
    def test_is_as_long_as_keycloak_asked_for_within_reason(self, asked_for: float, seconds: float) -> None:
        assert POLICY.cooldown_of(1, lambda low, _: low, asked_for=asked_for) == seconds


class TestTheTally:
    def test_counts_a_lane_once(self) -> None:
        tally = Tally(POLICY, generation=7)
        for _ in range(100):
            tally.failure(7, "one", NOW, reason="timeout")

        assert tally.failures(NOW) == 1

    def test_counts_together_only_what_began_to_fail_within_the_window(self) -> None:
        tally = Tally(POLICY, generation=7)
        for lane, at in enumerate((0.0, 30.0, 61.0)):
            tally.failure(7, lane, at, reason="timeout")

        assert [tally.failures(at) for at in (61.0, 91.0, 122.0)] == [2, 1, 0]

    def test_a_lane_that_fails_again_and_again_is_no_news(self) -> None:
        """Three users in trouble at different times of an hour, each tried again every five minutes."""
        tally = Tally(POLICY, generation=7)
        most = 0
        for second in range(0, 7200, 20):
            for lane, since in ((0, 0), (1, 1200), (2, 2400)):
                if second >= since and (second - since) % 300 == 0:
                    tally.failure(7, lane, float(second), reason="timeout")
            most = max(most, tally.failures(float(second)))

        assert most == 1

    def test_a_lane_is_news_again_after_its_own_success_but_not_after_anothers(self) -> None:
        tally = tally_of(lanes=1)
        tally.success(7, "other")
        tally.failure(7, 0, NOW + 1, reason="timeout")
        assert tally.failures(NOW + 1) == 0

        tally.success(7, 0)
        tally.failure(7, 0, NOW + 2, reason="timeout")
        assert tally.failures(NOW + 2) == 1

    def test_a_lane_is_news_again_after_a_long_time(self) -> None:
        tally = tally_of(lanes=1)
        tally.failure(7, 0, NOW + 3601, reason="timeout")

        assert tally.failures(NOW + 3601) == 1

    def test_remembers_a_bounded_number_of_lanes(self) -> None:
        tally = Tally(POLICY, generation=7)
        for lane in range(10_001):
            tally.failure(7, lane, NOW, reason="timeout")
        tally.success(7)
        tally.failure(7, 0, NOW, reason="timeout")
        tally.failure(7, 10_000, NOW, reason="timeout")

        # The oldest was forgotten, and is news.
        assert tally.failures(NOW) == 1

    def test_keeps_the_longest_pause_that_was_asked_for_until_it_is_over(self) -> None:
        tally = Tally(POLICY, generation=7)
        tally.failure(7, "one", NOW, retry_after=120, reason="timeout")
        tally.failure(7, "two", NOW + 10, retry_after=5, reason="timeout")
        tally.check_failed(7, NOW + 10, reason="timeout")

        assert [tally.asked_for(NOW + after) for after in (20, 130)] == [100, 0]

    def test_a_success_ends_the_pause_that_was_asked_for(self) -> None:
        tally = Tally(POLICY, generation=7)
        tally.check_failed(7, NOW, retry_after=120, reason="timeout")
        tally.success(7)

        assert tally.asked_for(NOW) == 0

    def test_names_what_failed_since_the_last_success(self) -> None:
        tally = Tally(POLICY, generation=7)
        tally.failure(7, "one", NOW, reason="throttled")
        for lane in "abc":
            tally.failure(7, lane, NOW, reason="timeout")
        tally.check_failed(7, NOW, reason="timeout")
        assert (tally.why, tally.out_of_reach) == ("timeout (4), throttled", False)

        tally.success(7)
        tally.failure(7, "one", NOW, reason="connection_failed")

        assert (tally.why, tally.out_of_reach) == ("connection_failed", True)

    def test_counts_every_control_call(self) -> None:
        assert tally_of(checks=2).failures(NOW) == 2

    def test_what_answers_does_not_outweigh_a_keycloak_that_takes_no_writes(self) -> None:
        tally = tally_of(lanes=1)
        tally.check_failed(7, NOW, reason=Reason.WRITES_REFUSED)
        tally.check_failed(6, NOW, reason=Reason.WRITES_REFUSED)
        tally.success(7)
        assert tally.failures(NOW) == 1

        tally.check_succeeded()
        assert tally.failures(NOW) == 0

    def test_a_success_of_its_generation_forgets_all(self) -> None:
        tally = tally_of(lanes=2, checks=1)

        tally.success(7)

        assert tally.failures(NOW) == 0

    @pytest.mark.parametrize("generation", [6, 8])
    def test_calls_of_other_generations_count_for_nothing(self, generation: int) -> None:
        tally = tally_of(lanes=1)

        tally.failure(generation, "other", NOW, reason="timeout")
        tally.check_failed(generation, NOW, reason="timeout")
        tally.success(generation)

        assert tally.failures(NOW) == 1

    def test_a_new_generation_begins_at_nothing(self) -> None:
        tally = tally_of(lanes=2, checks=2)

        tally.begin(8)

        assert (tally.generation, tally.failures(NOW)) == (8, 0)

    def test_the_same_generation_goes_on(self) -> None:
        tally = tally_of(lanes=2)

        tally.begin(7)

        assert tally.failures(NOW) == 2


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
