from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from compose.demo.expectation import Expectation
from compose.demo.observed import AdminEvent, Login, LoginTrial, Profile
from compose.demo.proof import (
    Check,
    check_deleted,
    check_life_cycles,
    check_new_passwords,
    check_old_passwords,
    check_profiles,
    check_sequences,
)
from compose.demo.story import write_script
from producer_lib import PasswordChange, UserChange, UserCreate, UserDelete, UserUpdate
from tests.unit.demo.ideal_keycloak import IdealKeycloak

ADA = "run-ada"
CHANGES: Sequence[UserChange] = (
    UserCreate(
        username=ADA, email="a@run.example", attributes={"demo_seq": ["1"], "cities": ["Bergen", "Aachen"]}
    ),
    UserCreate(username="run-bob", attributes={"demo_seq": ["1"]}, password="first"),
    UserUpdate(username=ADA, last_name="Lovelace", attributes={"demo_seq": ["2"]}),
    PasswordChange(username="run-bob", password="second"),
    UserUpdate(username=ADA, last_name="Byron", attributes={"demo_seq": ["3"]}),
    UserUpdate(username="run-bob", first_name="Bob", attributes={"demo_seq": ["2"]}),
    UserCreate(username="run-cy", attributes={"demo_seq": ["1"]}),
    UserDelete(username="run-cy"),
    UserCreate(username="run-di", attributes={"demo_seq": ["1"]}),
    UserDelete(username="run-di"),
    UserCreate(username="run-di", attributes={"demo_seq": ["2"]}),
)


def without(change: UserChange) -> list[UserChange]:
    return [other for other in CHANGES if other is not change]


def spread(events: Sequence[AdminEvent]) -> list[AdminEvent]:
    """The same events, each in a millisecond of its own."""
    return [replace(event, time=number) for number, event in enumerate(events)]


@pytest.fixture
def expectation() -> Expectation:
    return Expectation(CHANGES)


@pytest.fixture
def keycloak() -> IdealKeycloak:
    return IdealKeycloak().told(CHANGES)


class TestAFaithfulKeycloak:
    def test_passes_every_check(self, expectation: Expectation, keycloak: IdealKeycloak) -> None:
        trials = [keycloak.trial("run-bob", "second", "first")]
        checks = [
            check_profiles(expectation, keycloak.profiles),
            check_deleted(expectation, keycloak.profiles),
            check_new_passwords(trials),
            check_old_passwords(trials),
            check_life_cycles(expectation, keycloak.events),
            check_sequences(expectation, keycloak.events),
        ]

        assert [(check.what, check.problems) for check in checks if not check.holds] == []

    def test_passes_with_the_whole_script_of_the_demo(self) -> None:
        changes = write_script("run", random.Random(7)).changes
        expectation, keycloak = Expectation(changes), IdealKeycloak().told(changes)

        assert check_profiles(expectation, keycloak.profiles).problems == ()
        assert check_life_cycles(expectation, keycloak.events).problems == ()
        assert check_sequences(expectation, keycloak.events).problems == ()

    def test_may_give_events_of_one_millisecond_in_any_order(
        self, expectation: Expectation, keycloak: IdealKeycloak
    ) -> None:
        shuffled = sorted(keycloak.events, key=lambda event: (event.time, -keycloak.events.index(event)))

        assert shuffled != keycloak.events
        assert check_life_cycles(expectation, shuffled).holds
        assert check_sequences(expectation, shuffled).holds

    def test_may_have_been_asked_twice_for_the_same(
        self, expectation: Expectation, keycloak: IdealKeycloak
    ) -> None:
        asked = [again for event in keycloak.events for again in _twice(event)]

        assert len(asked) > len(keycloak.events)
        assert check_life_cycles(expectation, asked).holds
        assert check_sequences(expectation, asked).holds

    def test_may_know_users_of_other_runs(self, expectation: Expectation, keycloak: IdealKeycloak) -> None:
        foreign = AdminEvent(time=0, operation="UPDATE", user_id="another", written={"enabled": False})

        assert check_life_cycles(expectation, [foreign, *keycloak.events]).holds


def _twice(event: AdminEvent) -> list[AdminEvent]:
    """A create whose answer was lost is followed by an update, and anything but a delete may come again."""
    match event.operation:
        case "CREATE":
            return [event, replace(event, operation="UPDATE")]
        case "DELETE":
            return [event]
        case _:
            return [event, event]


class TestProfiles:
    @pytest.mark.parametrize(
        ("doctored", "problem"),
        [
            ({"last_name": "Lovelace"}, "last_name is 'Lovelace', published was 'Byron'"),
            ({"email": None}, "email is None"),
            ({"enabled": False}, "enabled is False"),
            ({"email_verified": True}, "email_verified is True"),
            ({"attributes": {"demo_seq": frozenset({"3"})}}, "attributes is"),
        ],
    )
    def test_a_field_that_differs_is_told(
        self, expectation: Expectation, keycloak: IdealKeycloak, doctored: dict[str, object], problem: str
    ) -> None:
        profiles = _with(keycloak.profiles, ADA, lambda profile: replace(profile, **doctored))  # type: ignore[arg-type] # fields by name

        (told,) = check_profiles(expectation, profiles).problems

        assert told.startswith(f"{ADA}: {problem}")

    def test_a_lost_update_is_told(self, expectation: Expectation) -> None:
        profiles = IdealKeycloak().told(without(CHANGES[4])).profiles

        assert not check_profiles(expectation, profiles).holds

    def test_a_lost_user_is_told(self, expectation: Expectation, keycloak: IdealKeycloak) -> None:
        profiles = [profile for profile in keycloak.profiles if profile.username != ADA]

        assert check_profiles(expectation, profiles).problems == (f"{ADA} is missing",)

    def test_a_user_nobody_published_is_told(self, expectation: Expectation, keycloak: IdealKeycloak) -> None:
        stranger = replace(keycloak.profiles[0], username="run-eve")

        assert check_profiles(expectation, [*keycloak.profiles, stranger]).problems == (
            "run-eve was never published",
        )

    def test_a_user_who_is_there_twice_is_told(
        self, expectation: Expectation, keycloak: IdealKeycloak
    ) -> None:
        doubled = [*keycloak.profiles, keycloak.profiles[0]]

        assert check_profiles(expectation, doubled).problems == (f"{ADA} is there 2 times",)


def _with(profiles: Sequence[Profile], username: str, doctor: Callable[[Profile], Profile]) -> list[Profile]:
    return [doctor(profile) if profile.username == username else profile for profile in profiles]


class TestDeletedUsers:
    def test_one_who_is_still_there_is_told(self, expectation: Expectation) -> None:
        profiles = IdealKeycloak().told(without(CHANGES[7])).profiles

        assert check_deleted(expectation, profiles).problems == ("run-cy was deleted and is there",)


class TestPasswords:
    def test_an_old_one_that_works_is_told(self) -> None:
        trial = LoginTrial(username="run-bob", current=Login.ACCEPTED, former=Login.ACCEPTED)

        assert check_new_passwords([trial]).holds
        assert check_old_passwords([trial]).problems == ("run-bob: the old password is accepted",)

    def test_a_change_before_the_creation_is_told(
        self, expectation: Expectation, keycloak: IdealKeycloak
    ) -> None:
        events = spread(keycloak.events)
        events[2] = replace(events[2], time=-1)

        assert check_life_cycles(expectation, events).problems == (f"{ADA} was changed before the creation",)

    def test_a_change_after_the_deletion_is_told(
        self, expectation: Expectation, keycloak: IdealKeycloak
    ) -> None:
        events = spread(keycloak.events)
        late = replace(events[6], operation="UPDATE", time=999)

        assert check_life_cycles(expectation, [*events, late]).problems == (
            "run-cy was changed after the deletion",
        )

    def test_a_second_life_before_the_end_of_the_first_is_told(
        self, expectation: Expectation, keycloak: IdealKeycloak
    ) -> None:
        events = spread(keycloak.events)
        events[9] = replace(events[9], time=999)

        assert (
            "run-di was created again before the deletion" in check_life_cycles(expectation, events).problems
        )


class TestSequences:
    def test_changes_in_the_wrong_order_are_told(
        self, expectation: Expectation, keycloak: IdealKeycloak
    ) -> None:
        events = spread(keycloak.events)
        events[2], events[4] = replace(events[2], time=4), replace(events[4], time=2)

        assert check_sequences(expectation, events).problems == (f"{ADA}: the numbers came as 1, 3, 2",)

    def test_an_older_change_that_comes_again_is_told(
        self, expectation: Expectation, keycloak: IdealKeycloak
    ) -> None:
        late = replace(keycloak.events[2], time=9_999)

        assert check_sequences(expectation, [*keycloak.events, late]).problems == (
            f"{ADA}: the numbers came as 1, 2, 3, 2",
        )

    def test_a_last_change_that_was_lost_is_told(self, expectation: Expectation) -> None:
        events = IdealKeycloak().told(without(CHANGES[4])).events

        assert check_sequences(expectation, events).problems == (
            f"{ADA}: the numbers 1, 2 do not end with 3",
        )

    def test_a_change_before_a_delete_that_was_lost_is_told(self) -> None:
        changes = (
            UserCreate(username=ADA, attributes={"demo_seq": ["1"]}),
            UserUpdate(username=ADA, attributes={"demo_seq": ["2"]}),
            UserDelete(username=ADA),
        )
        events = IdealKeycloak().told([changes[0], changes[2]]).events

        assert check_sequences(Expectation(changes), events).problems == (
            f"{ADA}: the numbers 1 do not end with 2",
        )

    def test_without_the_diary_nothing_is_proved(self, expectation: Expectation) -> None:
        assert not check_sequences(expectation, []).holds
        assert not check_life_cycles(expectation, []).holds


class TestACheck:
    def test_that_compared_nothing_does_not_hold(self) -> None:
        assert not Check(what="", source="", looked_at=0).holds
        assert Check(what="", source="", looked_at=1).holds
        assert not Check(what="", source="", looked_at=1, problems=("something",)).holds
