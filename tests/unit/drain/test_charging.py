from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.drain.charging import Evidence, Unjudged, is_charged

OURS, OTHER, THIRD = b"ours", b"other", b"third"
CLEAR = Unjudged(OURS, ended=100.0, vague=False, reason="conflict")
VAGUE = replace(CLEAR, vague=True, reason="timeout")
UNCLEAR = replace(CLEAR, unclear=True, reason="unexplained_refusal")


def charged(
    failure: Unjudged, evidence: Evidence, *, now: float = 110.0, charged_ago: float | None = None
) -> bool:
    return is_charged(
        failure, evidence, now=now, charged_ago=charged_ago, charge_pause=600.0, charge_share=0.9
    )


def seen(*successes: tuple[bytes, float]) -> Evidence:
    """Successful calls, each as lane and beginning."""
    evidence = Evidence()
    for lane, began in successes:
        evidence.succeeded(lane, began, began + 0.1)
    return evidence


class TestAFailureIsCharged:
    def test_when_another_lanes_call_began_and_succeeded_after_it(self) -> None:
        assert charged(CLEAR, seen((OTHER, 100.1)))

    def test_when_the_control_call_did(self) -> None:
        evidence = Evidence()
        evidence.control_succeeded(100.1)

        assert charged(CLEAR, evidence)


class TestAFailureIsNotCharged:
    def test_without_evidence(self) -> None:
        assert not charged(CLEAR, Evidence())

    def test_for_a_success_of_the_same_lane(self) -> None:
        assert not charged(CLEAR, seen((OURS, 105.0)))

    @pytest.mark.parametrize("began", [99.9, 100.0])
    def test_for_a_success_that_began_before_it_failed(self, began: float) -> None:
        evidence = Evidence()
        evidence.succeeded(OTHER, began, 105.0)
        evidence.control_succeeded(began)

        assert not charged(CLEAR, evidence)

    def test_for_an_older_control_call_that_ends_last(self) -> None:
        evidence = Evidence()
        evidence.control_succeeded(100.1)
        evidence.control_succeeded(90.0)

        assert charged(CLEAR, evidence)


class TestAnotherLanesSuccessIsFound:
    def test_behind_later_ones_of_the_same_lane(self) -> None:
        assert charged(CLEAR, seen((OTHER, 100.1), (OURS, 101.0), (OURS, 102.0)))

    def test_among_many_lanes(self) -> None:
        assert charged(CLEAR, seen((THIRD, 100.1), (OURS, 100.2), (OTHER, 90.0), (OURS, 100.3)))

    @settings(deadline=None)
    @given(
        calls=st.lists(st.tuples(st.sampled_from([OURS, OTHER, THIRD]), st.integers(0, 20)), max_size=12),
        control=st.none() | st.integers(0, 20),
        moment=st.integers(0, 20),
    )
    def test_whatever_the_order_in_which_calls_end(
        self, calls: list[tuple[bytes, int]], control: int | None, moment: int
    ) -> None:
        evidence = seen(*((lane, float(began)) for lane, began in calls))
        if control is not None:
            evidence.control_succeeded(control)

        others = [began for lane, began in calls if lane != OURS] + ([] if control is None else [control])
        assert evidence.available_after(moment, OURS) == any(began > moment for began in others)


class TestAVagueFailure:
    def test_is_charged_while_others_succeed(self) -> None:
        assert charged(VAGUE, seen((OTHER, 101.0)))

    @pytest.mark.parametrize(
        ("charged_ago", "expected"), [(None, True), (0.0, False), (599.9, False), (600.0, True)]
    )
    def test_is_charged_once_in_ten_minutes_at_most(self, charged_ago: float | None, expected: bool) -> None:  # noqa: FBT001 - a row of the table
        assert charged(VAGUE, seen((OTHER, 101.0)), charged_ago=charged_ago) is expected

    def test_of_another_kind_has_no_such_pause(self) -> None:
        assert charged(CLEAR, seen((OTHER, 101.0)), charged_ago=0.0)

    @pytest.mark.parametrize(
        ("succeeded", "failed", "expected"),
        [(1, 0, True), (18, 1, True), (18, 2, True), (18, 3, False), (17, 2, False), (1, 1, False)],
        # 18/19 = 0.947, 18/20 = 0.9, 18/21 = 0.857, 17/19 = 0.895, 1/2
    )
    def test_is_charged_only_while_nine_tenths_of_the_others_succeed(
        self,
        succeeded: int,
        failed: int,
        expected: bool,  # noqa: FBT001 - a row of the table
    ) -> None:
        evidence = seen(*((OTHER, 101.0) for _ in range(succeeded)))
        for _ in range(failed):
            evidence.failed(THIRD, 102.0)

        assert charged(VAGUE, evidence) is expected

    def test_our_own_failures_say_nothing_about_the_others(self) -> None:
        evidence = seen((OTHER, 101.0))
        for _ in range(50):
            evidence.failed(OURS, 102.0)

        assert charged(VAGUE, evidence)

    def test_failures_of_long_ago_are_forgotten(self) -> None:
        evidence = Evidence()
        for _ in range(50):
            evidence.failed(THIRD, 110.0)
        evidence.succeeded(OTHER, 711.0, 711.1)

        assert not charged(VAGUE, evidence, now=710.0)
        assert charged(VAGUE, evidence, now=712.0)

    def test_is_not_charged_where_nobody_else_called(self) -> None:
        """The control call only reads: writes may be failing for everybody."""
        evidence = Evidence()
        evidence.control_succeeded(101.0)

        assert not charged(VAGUE, evidence)

    def test_is_not_charged_in_the_tail_of_an_outage(self) -> None:
        evidence = seen((OTHER, 100.1))

        assert charged(VAGUE, evidence)
        assert not charged(replace(VAGUE, tail=True), evidence)
        assert charged(replace(CLEAR, tail=True), evidence)


class TestARefusalWithoutAReason:
    """It is this user's own where Keycloak takes what others write, and else its database's."""

    def test_is_charged_when_another_lane_has_written_since(self) -> None:
        evidence = Evidence()
        evidence.wrote(OTHER, 100.1)

        assert charged(UNCLEAR, evidence)

    def test_is_charged_when_the_write_check_has_written_since(self) -> None:
        evidence = Evidence()
        evidence.write_check_ended(100.1, 100.2, wrote=True)

        assert charged(UNCLEAR, evidence)

    @pytest.mark.parametrize(("began", "stands"), [(95.1, True), (95.0, False)])
    def test_is_charged_while_a_write_check_stands(self, began: float, *, stands: bool) -> None:
        evidence = Evidence()
        evidence.write_check_ended(began, began + 0.1, wrote=True)

        assert charged(UNCLEAR, evidence) is stands

    def test_is_not_charged_for_what_only_reads(self) -> None:
        evidence = seen((OTHER, 101.0), (THIRD, 102.0))
        evidence.control_succeeded(103.0)

        assert not charged(UNCLEAR, evidence)

    def test_is_not_charged_for_its_own_lanes_writes_or_earlier_ones(self) -> None:
        evidence = Evidence()
        evidence.wrote(OURS, 105.0)
        evidence.wrote(OTHER, 100.0)

        assert not charged(UNCLEAR, evidence)

    @pytest.mark.parametrize("failed_at", [95.5, 100.5, 300.0])
    def test_is_not_charged_when_the_write_check_failed_around_it(self, failed_at: float) -> None:
        evidence = Evidence()
        evidence.write_check_ended(failed_at - 0.1, failed_at, wrote=False)
        evidence.write_check_ended(301.0, 301.1, wrote=True)

        assert not charged(UNCLEAR, evidence)

    def test_is_charged_long_after_the_write_check_failed(self) -> None:
        evidence = Evidence()
        evidence.write_check_ended(60.0, 60.1, wrote=False)
        evidence.write_check_ended(101.0, 101.1, wrote=True)

        assert charged(UNCLEAR, evidence)

    def test_is_not_charged_when_others_were_refused_with_it(self) -> None:
        """Half of Keycloak's connections may lead to a server that takes no writes."""
        evidence = seen((THIRD, 100.2))
        evidence.refused(OURS, 100.0)
        evidence.refused(OTHER, 100.5)
        evidence.wrote(THIRD, 100.2)

        assert not charged(UNCLEAR, evidence)

    def test_of_a_delete_that_timed_out_is_charged_as_seldom_as_other_timeouts(self) -> None:
        slow = replace(UNCLEAR, vague=True, reason="timeout")
        evidence = seen((OTHER, 100.2))
        evidence.wrote(OTHER, 100.2)

        assert charged(slow, evidence)
        assert not charged(slow, evidence, charged_ago=599.0)


class TestWritesAreInDoubt:
    @staticmethod
    def after(*refused: tuple[bytes, float]) -> Evidence:
        evidence = Evidence(threshold=3)
        for lane, at in refused:
            evidence.refused(lane, at)
        return evidence

    def test_when_several_users_were_refused_within_a_minute(self) -> None:
        evidence = self.after((b"a", 100.0), (b"b", 110.0), (b"b", 111.0))
        assert not evidence.writes_in_doubt(111.0)

        evidence.refused(b"c", 159.0)
        assert evidence.writes_in_doubt(159.0)
        assert not evidence.writes_in_doubt(161.0)

    def test_when_somebody_has_to_know(self) -> None:
        evidence = Evidence()
        evidence.ask_for_writes()

        assert evidence.writes_in_doubt(100.0)

    def test_for_as_long_as_the_write_check_fails(self) -> None:
        evidence = Evidence()
        evidence.write_check_ended(100.0, 100.1, wrote=False)
        assert evidence.writes_in_doubt(9000.0)

        evidence.write_check_ended(9000.0, 9000.1, wrote=True)
        assert not evidence.writes_in_doubt(9000.2)

    def test_not_when_somebody_has_written_since(self) -> None:
        evidence = self.after((b"a", 100.0), (b"b", 100.0), (b"c", 100.0))
        evidence.wrote(OTHER, 100.1)

        assert not evidence.writes_in_doubt(101.0)

    def test_not_again_right_after_a_write_check_that_wrote(self) -> None:
        evidence = Evidence()
        evidence.write_check_ended(100.0, 100.1, wrote=True)
        evidence.ask_for_writes()

        assert not evidence.writes_in_doubt(104.9)
        assert evidence.writes_in_doubt(105.0)


def test_memory_is_bounded() -> None:
    evidence = Evidence()
    for number in range(10_000):
        evidence.failed(str(number).encode(), float(number))

    assert len(evidence._calls) == 200


class TestAFailureAtTheBeginningOfAnOutage:
    @staticmethod
    def judged(others_fail: int) -> bool:
        evidence = Evidence()
        for n in range(100):
            evidence.succeeded(b"before%d" % n, began=90.0 + n / 20, ended=90.1 + n / 20)
        evidence.failed(b"alice", 100.0)
        # One answer was on its way when Keycloak died.
        evidence.succeeded(b"late", began=99.9, ended=100.01)
        for n in range(others_fail):
            evidence.failed(b"other%d" % n, 100.05 + n / 100)
        for n in range(400):
            evidence.succeeded(b"after%d" % n, began=160.0 + n / 20, ended=160.1 + n / 20)
        failure = Unjudged(b"alice", 100.0, vague=True, reason="connection_lost")
        return is_charged(
            failure, evidence, now=200.0, charged_ago=None, charge_pause=600.0, charge_share=0.9
        )

    def test_is_not_charged_however_well_calls_go_when_it_is_over(self) -> None:
        assert not self.judged(others_fail=20)

    def test_is_charged_when_nobody_else_failed(self) -> None:
        assert self.judged(others_fail=0)
