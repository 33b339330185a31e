from __future__ import annotations

from datetime import UTC, datetime, timedelta

from consumer.delivery.keycloak_clock import KeycloakClock

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)


def test_nothing_known_grants_a_second_either_way() -> None:
    clock = KeycloakClock()

    assert (clock.earliest(NOON), clock.latest(NOON)) == (NOON - SECOND, NOON + SECOND)


def test_a_token_tells_it_to_the_second() -> None:
    clock = KeycloakClock()

    # Keycloak is a minute ahead, and rounds down.
    clock.saw(NOON + 60 * SECOND, began=NOON, ended=NOON + SECOND / 2, granularity=SECOND)

    assert clock.earliest(NOON + 60 * SECOND) == NOON - SECOND
    assert clock.latest(NOON + 60 * SECOND) == NOON + SECOND / 2


def test_the_date_of_a_password_of_ours_tells_it_closer() -> None:
    clock = KeycloakClock()
    clock.saw(NOON, began=NOON, ended=NOON, granularity=SECOND)

    clock.saw(NOON, began=NOON - 20 * MILLISECOND, ended=NOON + 10 * MILLISECOND, granularity=MILLISECOND)

    assert NOON - clock.earliest(NOON) <= 21 * MILLISECOND
    assert clock.latest(NOON) - NOON <= 10 * MILLISECOND


def test_a_clock_that_was_set_is_believed_anew() -> None:
    clock = KeycloakClock()
    clock.saw(NOON, began=NOON, ended=NOON, granularity=MILLISECOND)

    clock.saw(NOON + 3600 * SECOND, began=NOON, ended=NOON, granularity=MILLISECOND)

    assert abs(clock.latest(NOON + 3600 * SECOND) - NOON) <= MILLISECOND


def test_what_was_guessed_is_nothing_to_be_narrowed() -> None:
    for ahead in (-2.1, -0.9, 0.0, 0.4, 1.7, 3600.0):
        clock, theirs = KeycloakClock(), NOON + ahead * SECOND
        clock.saw(
            theirs.replace(microsecond=0),
            began=NOON - SECOND / 2,
            ended=NOON + SECOND / 2,
            granularity=SECOND,
        )

        assert clock.earliest(theirs) <= NOON <= clock.latest(theirs), ahead
