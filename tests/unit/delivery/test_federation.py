from __future__ import annotations

from typing import Any

import pytest

from consumer.delivery.errors import CallFailed
from consumer.delivery.federation import (
    federation_in,
    federation_of,
    ids_of,
    may_be_shown_by_outage,
    one_of,
    passwords_kept,
)
from consumer.delivery.outcome import Blame, Defer, Reason

IMPORTED = {"id": "0b5c", "username": "alice", "federationLink": "TmMwW86ZSzyVDZzRtFnchA"}
NOT_IMPORTED = {"id": "f:Cb3iCI_4QlSy4vI3TSlfoQ:Ada.L", "username": "Ada.L"}
OWN = {"id": "0b5c", "username": "alice"}


class TestWhereAUserComesFrom:
    @pytest.mark.parametrize(
        ("user", "federation"),
        [
            (IMPORTED, "TmMwW86ZSzyVDZzRtFnchA"),
            (NOT_IMPORTED, "Cb3iCI_4QlSy4vI3TSlfoQ"),
            (OWN, None),
            ({**OWN, "federationLink": None}, None),
            ({**OWN, "federationLink": ""}, None),
            ({}, None),
        ],
    )
    def test_stands_in_the_link_or_in_the_id(self, user: dict[str, Any], federation: str | None) -> None:
        assert federation_of(user) == federation

    @pytest.mark.parametrize(
        ("user_id", "federation"),
        [
            ("f:Cb3iCI_4QlSy4vI3TSlfoQ:JDoe", "Cb3iCI_4QlSy4vI3TSlfoQ"),
            ("f:0b5c0b5c-0b5c-4b5c-8b5c-0b5c0b5c0b5c:with:colons", "0b5c0b5c-0b5c-4b5c-8b5c-0b5c0b5c0b5c"),
            ("f:", None),
            ("f0b5c", None),
            ("F:Cb3iCI_4QlSy4vI3TSlfoQ:JDoe", None),
        ],
    )
    def test_of_an_id_alone(self, user_id: str, federation: str | None) -> None:
        assert federation_in(user_id) == federation


class TestWhatAnOutageShows:
    @pytest.mark.parametrize("user", [IMPORTED, NOT_IMPORTED])
    def test_every_user_of_the_directory_as_disabled(self, user: dict[str, Any]) -> None:
        assert may_be_shown_by_outage({**user, "enabled": False})
        assert not may_be_shown_by_outage({**user, "enabled": True})

    def test_nothing_false_of_keycloaks_own(self) -> None:
        assert not may_be_shown_by_outage({**OWN, "enabled": False})


class TestASearchByName:
    def test_finds_who_is_spelt_with_capitals(self) -> None:
        assert ids_of([NOT_IMPORTED], "ada.l") == ["f:Cb3iCI_4QlSy4vI3TSlfoQ:Ada.L"]

    def test_finds_nobody_of_another_name(self) -> None:
        assert ids_of([NOT_IMPORTED, {"id": 5, "username": "ada"}, {"username": "ada"}, "ada"], "ada") == []

    def test_does_not_guess_between_two(self) -> None:
        double = {"id": "0b5c", "username": "ada.l"}

        with pytest.raises(CallFailed) as failed:
            one_of(ids_of([double, NOT_IMPORTED], "ada.l"))

        outcome = failed.value.outcome
        assert isinstance(outcome, Defer)
        assert (outcome.reason, outcome.failure.blame) == (Reason.TWO_USERS, Blame.FEDERATION)

    def test_of_nobody_is_none(self) -> None:
        assert one_of([]) is None


def test_passwords_that_keycloak_keeps_are_told_from_the_directorys() -> None:
    own = {"id": "71", "type": "password", "createdDate": 1796068995135}
    directory = {"type": "password", "createdDate": -1, "federationLink": "TmMwW86ZSzyVDZzRtFnchA"}
    otp = {"id": "72", "type": "otp", "createdDate": 5}

    assert passwords_kept([own, directory, otp, "junk"]) == {("71", 1796068995135)}
