from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.circuit.bucket import Bucket


@given(
    st.sampled_from([1.0, 7.0, 50.0, 1000.0]),
    st.lists(st.floats(0.0, 2.0), min_size=1, max_size=200),
)
def test_in_no_span_more_begin_than_the_rate_and_a_small_burst(rate: float, pauses: list[float]) -> None:
    bucket, now = Bucket(0.0), 0.0
    begun: list[float] = []
    for pause in pauses:
        now += pause
        while bucket.wait(now, rate) == 0 and len(begun) < 5_000:
            bucket.take()
            begun.append(now)

    burst = max(1.0, rate / 10)
    for first in range(0, len(begun), 1 + len(begun) // 20):
        for last in range(first, len(begun), 1 + len(begun) // 20):
            assert last - first + 1 <= burst + rate * (begun[last] - begun[first]) + 1e-4


@given(st.floats(0.5, 5000.0), st.integers(0, 50))
def test_after_the_wait_a_permit_is_there(rate: float, debt: int) -> None:
    bucket = Bucket(0.0)
    for _ in range(debt):
        bucket.take()

    wait = bucket.wait(0.0, rate)

    assert bucket.wait(wait, rate) == 0
    assert wait == pytest.approx(max(0, debt) / rate, abs=1e-5)


def test_the_rate_is_reached() -> None:
    bucket, now = Bucket(0.0), 0.0
    for _ in range(1000):
        now += bucket.wait(now, 50.0)
        bucket.take()

    assert now == pytest.approx(999 / 50.0, rel=0.01)
