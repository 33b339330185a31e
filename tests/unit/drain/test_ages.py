"""How old has an entry grown while it could have been delivered?"""

from __future__ import annotations

import pytest

from consumer.drain import ages as module
from consumer.drain.ages import Ages


def ticked(
    ages: Ages, seconds: float, start: float, *, reachable: bool = True, at_fault: tuple[str, ...] = ()
) -> float:
    """Tick each second; where the clock stands then."""
    now = start
    while now < start + seconds:
        now += 1
        ages.tick(now, reachable=reachable, at_fault=at_fault)
    return now


@pytest.fixture
def ages() -> Ages:
    ages = Ages()
    ages.tick(100.0, reachable=True, at_fault=())
    return ages


def test_time_passes_while_keycloak_is_reachable(ages: Ages) -> None:
    ticked(ages, 60, 100.0)

    assert ages.reading("shop") == 60


def test_an_outage_does_not_count(ages: Ages) -> None:
    now = ticked(ages, 60, 100.0)
    now = ticked(ages, 3600, now, reachable=False)
    ticked(ages, 5, now)

    assert ages.reading("shop") == 65


def test_the_fault_of_a_realm_does_not_count_there_and_counts_elsewhere(ages: Ages) -> None:
    now = ticked(ages, 10, 100.0)
    now = ticked(ages, 60, now, at_fault=("shop",))
    ticked(ages, 5, now)

    assert (ages.reading("shop"), ages.reading("club")) == (15, 75)


def test_an_outage_during_a_realms_fault_is_not_taken_off_twice(ages: Ages) -> None:
    now = ticked(ages, 10, 100.0, at_fault=("shop",))
    ticked(ages, 60, now, reachable=False, at_fault=("shop",))

    assert (ages.reading("shop"), ages.reading("club")) == (0, 10)


def test_a_process_that_was_stopped_saw_nothing_meanwhile(ages: Ages) -> None:
    ages.tick(100.0 + 7 * 86_400, reachable=True, at_fault=())

    assert ages.reading("shop") == 30


class TestSinceTheLastCall:
    def test_counts_from_the_last_call_here(self, ages: Ages) -> None:
        ages.called(11, 5, ages.reading("shop"))
        ticked(ages, 20, 100.0)

        assert ages.since_last_call(11, 5, ages.reading("shop")) == 20

    def test_is_nothing_before_the_first_call(self, ages: Ages) -> None:
        ticked(ages, 20, 100.0)

        assert ages.since_last_call(11, 5, ages.reading("shop")) == 0

    def test_is_nothing_after_a_take_over_and_back(self, ages: Ages) -> None:
        """The other owner counted it."""
        ages.called(11, 5, ages.reading("shop"))
        ticked(ages, 20, 100.0)

        assert ages.since_last_call(11, 7, ages.reading("shop")) == 0

    def test_is_nothing_after_the_entry_was_held(self, ages: Ages) -> None:
        ages.called(11, 5, ages.reading("shop"))
        ages.forget(11)
        ticked(ages, 20, 100.0)

        assert ages.since_last_call(11, 5, ages.reading("shop")) == 0

    def test_is_remembered_of_a_bounded_number(self, ages: Ages, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_MOST_REMEMBERED", 2)
        for entry in (1, 2, 1, 3):
            ages.called(entry, 5, 0.0)
        ticked(ages, 20, 100.0)

        assert [ages.since_last_call(entry, 5, 20.0) for entry in (1, 2, 3)] == [20, 0, 20]
