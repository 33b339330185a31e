from __future__ import annotations

import pytest

from consumer.drain.pace import Pace


def pace_after(calls: int) -> Pace:
    pace = Pace(100.0)
    for _ in range(calls):
        pace.count()
    return pace


def test_the_calls_of_a_span_that_has_begun_are_those_of_as_fast_a_second() -> None:
    assert pace_after(200).per_second(100.4) == pytest.approx(500)


def test_the_first_moments_of_a_span_say_little() -> None:
    assert pace_after(3).per_second(100.001) == pytest.approx(15)


def test_a_span_that_just_began_is_not_taken_for_a_pause() -> None:
    pace = pace_after(600)
    assert pace.per_second(101.0) == pytest.approx(600)

    pace.count()

    assert pace.per_second(101.3) == pytest.approx(600)


def test_a_second_without_calls_is_one() -> None:
    pace = pace_after(600)
    pace.per_second(101.0)

    assert pace.per_second(102.0) == 0
