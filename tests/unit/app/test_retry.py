from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.retry import Backoff, retry_delay


def low(least: float, _: float) -> float:
    return least


def high(_: float, most: float) -> float:
    return most


class TestBackoff:
    def test_doubles_up_to_its_cap(self) -> None:
        backoff = Backoff(base=0.5, cap=15.0, uniform=high)

        # 0.5 * 2 ** n, until 16 is more than the cap
        assert [backoff.next_delay() for _ in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]

    def test_waits_half_of_it_at_least(self) -> None:
        backoff = Backoff(base=0.5, cap=15.0, uniform=low)

        assert [backoff.next_delay() for _ in range(7)] == [0.25, 0.5, 1, 2, 4, 7.5, 7.5]

    def test_begins_anew_when_the_server_has_answered(self) -> None:
        backoff = Backoff(base=1.0, cap=60.0, uniform=high)
        for _ in range(5):
            backoff.next_delay()

        backoff.reset()

        assert [backoff.next_delay(), backoff.next_delay()] == [1, 2]

    def test_goes_on_for_ever(self) -> None:
        backoff = Backoff(base=1.0, cap=60.0, uniform=high)

        assert {backoff.next_delay() for _ in range(5000)} == {1, 2, 4, 8, 16, 32, 60}

    @settings(deadline=None)
    @given(seed=st.integers(), failures=st.integers(1, 50))
    def test_jitter_stays_between_half_and_whole(self, seed: int, failures: int) -> None:
        jittered = Backoff(base=0.2, cap=5.0, uniform=random.Random(seed).uniform)
        whole = Backoff(base=0.2, cap=5.0, uniform=high)

        for _ in range(failures):
            longest = whole.next_delay()
            assert longest / 2 <= jittered.next_delay() <= longest


class TestRetryDelay:
    # By design.md 3.3: base 1 s, factor 4, cap 5 min.
    @pytest.mark.parametrize(
        ("failures", "whole"),
        [(0, 1), (1, 1), (2, 4), (3, 16), (4, 64), (5, 256), (6, 300), (7, 300), (10**6, 300)],
    )
    def test_lies_between_the_floor_and_the_grown_wait(self, failures: int, whole: float) -> None:
        delays = [retry_delay(failures, base=1, factor=4, cap=300, floor=0.5) for _ in range(300)]

        assert all(0.5 <= delay <= whole for delay in delays)
        # Full jitter: it uses the whole of its span.
        assert min(delays) < 0.5 + 0.1 * (whole - 0.5)
        assert max(delays) > 0.5 + 0.9 * (whole - 0.5)

    def test_is_never_shorter_than_the_floor_even_where_the_wait_is(self) -> None:
        assert retry_delay(1, base=0.1, factor=4, cap=300, floor=0.5) == 0.5

    def test_does_not_grow_with_a_factor_of_one(self) -> None:
        assert all(retry_delay(9, base=2, factor=1, cap=300, floor=0.5) <= 2 for _ in range(100))
