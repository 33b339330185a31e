from __future__ import annotations

from functools import partial

from consumer.drain.ahead import Ahead, claim_ahead

ahead = partial(claim_ahead, waiting=0, at_once=8, pace=0.0, claim_took=0.0, per_second=None, batch=500)


def test_at_first_twice_as_many_as_may_be_under_way_and_again_when_half_of_them_are_left() -> None:
    assert ahead() == Ahead(enough=8, room=16)


def test_as_many_wait_as_are_called_in_a_second() -> None:
    assert ahead(waiting=100, pace=250.0) == Ahead(enough=8, room=150)


def test_never_more_than_the_batch() -> None:
    assert ahead(waiting=400, pace=2_000.0).room == 100


def test_the_slower_claims_are_the_earlier_the_next_one_begins() -> None:
    assert ahead(pace=200.0, claim_took=0.01).enough == 8
    assert ahead(pace=200.0, claim_took=0.25).enough == 100


def test_where_claims_are_slow_as_many_wait_as_are_called_while_three_are_made() -> None:
    assert ahead(waiting=150, pace=200.0, claim_took=0.5) == Ahead(enough=200, room=150)


def test_but_never_more_than_are_called_in_two_seconds() -> None:
    assert ahead(waiting=300, pace=200.0, claim_took=60.0).room == 100


def test_the_next_one_is_a_quarter_of_all_at_least_however_slow() -> None:
    assert ahead(pace=200.0, claim_took=60.0).enough == 300


def test_not_many_more_are_claimed_at_once_than_wait() -> None:
    assert ahead(waiting=5, pace=200.0).room == 32
    assert ahead(waiting=40, pace=200.0).room == 80


def test_of_fast_calls_a_tenth_of_a_seconds_worth_is_claimed_at_least() -> None:
    assert ahead(pace=450.0).room == 45


def test_with_a_cap_on_calls_half_a_seconds_worth_waits() -> None:
    assert ahead(pace=200.0, per_second=20.0) == Ahead(enough=8, room=10)


def test_with_a_cap_of_one_call_a_second_one_waits() -> None:
    assert ahead(per_second=1.0) == Ahead(enough=0, room=1)
