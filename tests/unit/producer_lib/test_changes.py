from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from producer_lib import (
    SEALING_ALG,
    InvalidEvent,
    Membership,
    PasswordChange,
    UserChange,
    UserCreate,
    UserDelete,
    UserUpdate,
    check_event,
)
from producer_lib._changes import as_event

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SEALED = {"sealed": {"kid": "k1", "alg": SEALING_ALG, "ciphertext": "A" * 66}}
EACH = [
    UserCreate(username="Ada", password="hunter2"),
    UserUpdate(username="Ada", email="ada@example.com"),
    PasswordChange(username="Ada", password="hunter2"),
    UserDelete(username="Ada", mode="disable", reason="left"),
]


def event_of(change: UserChange) -> dict[str, Any]:
    return as_event(
        change, source="/test", realm="customers", password=SEALED if hasattr(change, "password") else None
    )


class TestAnEvent:
    @pytest.mark.parametrize("change", EACH, ids=lambda change: change.kind)
    def test_of_each_kind_is_valid(self, change: UserChange) -> None:
        check_event(event_of(change))

    @pytest.mark.parametrize("change", EACH, ids=lambda change: change.kind)
    def test_never_holds_a_password_in_clear(self, change: UserChange) -> None:
        assert "hunter2" not in repr(event_of(change))

    def test_has_exactly_what_was_given(self) -> None:
        change = UserUpdate(
            username="Ada",
            event_id="e-1",
            time=NOON,
            tenant="acme",
            priority=2,
            email_verified=False,
            attributes={"team": ("a", "b")},
        )

        assert event_of(change) == {
            "specversion": "1.0",
            "id": "e-1",
            "source": "/test",
            "type": "kcsync.user_update.v1",
            "subject": "Ada",
            "time": "2026-11-21T12:00:00+00:00",
            "datacontenttype": "application/json",
            "realm": "customers",
            "tenant": "acme",
            "priority": 2,
            "data": {"email_verified": False, "attributes": {"team": ["a", "b"]}},
        }

    def test_says_every_field(self) -> None:
        change = UserUpdate(
            username="Ada",
            enabled=False,
            attributes={},
            attributes_mode="replace",
            clear=("email",),
            required_actions=("VERIFY_EMAIL",),
            groups=Membership(add=("/staff",), remove=("/guests",)),
            realm_roles=Membership(remove=("author",)),
            end_sessions=True,
        )

        check_event(event_of(change))
        assert event_of(change)["data"] == {
            "enabled": False,
            "attributes": {},
            "attributes_mode": "replace",
            "clear": ["email"],
            "required_actions": ["VERIFY_EMAIL"],
            "groups": {"add": ["/staff"], "remove": ["/guests"]},
            "realm_roles": {"remove": ["author"]},
            "end_sessions": True,
        }

    @pytest.mark.parametrize(
        "surplus",
        [
            {"clear": "email"},
            {"groups": ["/staff"]},
            {"groups": Membership()},
            {"required_actions": "VERIFY_EMAIL"},
        ],
        ids=str,
    )
    def test_of_another_shape_is_refused(self, surplus: dict[str, Any]) -> None:
        with pytest.raises(InvalidEvent) as refused:
            check_event(event_of(UserUpdate(username="Ada", first_name="A", **surplus)))

        assert refused.value.field.split(".")[1] == next(iter(surplus))

    def test_keeps_the_offset_of_its_time(self) -> None:
        east = timezone(timedelta(hours=9))

        assert (
            event_of(UserDelete(username="Ada", time=NOON.astimezone(east)))["time"]
            == "2026-11-21T21:00:00+09:00"
        )

    @pytest.mark.parametrize("time", [datetime(2026, 11, 21, 12), "2026-11-21T12:00:00Z", None])  # noqa: DTZ001 - the point
    def test_is_refused_without_an_offset(self, time: Any) -> None:
        with pytest.raises(InvalidEvent) as refused:
            event_of(UserDelete(username="Ada", time=time))

        assert refused.value.field == "time"

    def test_does_not_take_a_text_for_a_list_of_letters(self) -> None:
        attributes: Any = {"team": "red"}

        with pytest.raises(InvalidEvent) as refused:
            check_event(event_of(UserUpdate(username="Ada", attributes=attributes)))

        assert refused.value.field == "data.attributes.team"


class TestAChange:
    @pytest.mark.parametrize("change", EACH, ids=lambda change: change.kind)
    def test_does_not_show_its_password(self, change: UserChange) -> None:
        assert "hunter2" not in f"{change} {change!r} {[change]}"

    def test_shows_that_it_has_a_password_and_nothing_it_has_not(self) -> None:
        change = PasswordChange(username="Ada", password="hunter2", event_id="e-1", time=NOON)

        assert repr(change) == (
            f"PasswordChange(username='Ada', event_id='e-1', time={NOON!r}, password='***', temporary=False)"
        ).replace("'***'", "***")

    def test_has_an_id_of_its_own_that_stays(self) -> None:
        """Publishing the same object again is publishing the same event."""
        first, second = UserDelete(username="Ada"), UserDelete(username="Ada")

        assert first.event_id != second.event_id
        assert event_of(first) == event_of(first)

    def test_has_the_present_time(self) -> None:
        before = datetime.now(UTC)

        assert before <= UserDelete(username="Ada").time <= datetime.now(UTC)

    @pytest.mark.parametrize("change", EACH, ids=lambda change: change.kind)
    def test_cannot_be_altered(self, change: UserChange) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            change.username = "Bob"  # type: ignore[misc]

    def test_is_given_by_name_only(self) -> None:
        with pytest.raises(TypeError):
            UserDelete("Ada")  # type: ignore[call-arg]
