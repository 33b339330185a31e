from __future__ import annotations

from typing import Any

import orjson
import pytest

from producer_lib import (
    MAX_EVENT_BYTES,
    InvalidEvent,
    NewerSchema,
    NotOurs,
    Recognised,
    UnregisteredKind,
    check_envelope,
    check_event,
    kinds,
    parse_event,
    recognise,
)


def an_event(**more: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/test",
        "type": "kcsync.user_update.v1",
        "subject": "ada",
        "time": "2026-11-21T22:33:44Z",
        "realm": "customers",
        "data": {"enabled": True},
    } | more


class TestRecognise:
    @pytest.mark.parametrize("kind", sorted(kinds()))
    def test_a_known_kind_and_version_is_recognised(self, kind: str) -> None:
        assert Recognised(kind=kind, version=1) == recognise({"type": f"kcsync.{kind}.v1"})

    @pytest.mark.parametrize(("suffix", "version"), [("v2", 2), ("v999999999", 999_999_999)])
    def test_a_later_version_of_a_known_kind_is_newer(self, suffix: str, version: int) -> None:
        assert NewerSchema(kind="user_update", version=version) == recognise(
            {"type": f"kcsync.user_update.{suffix}"}
        )

    def test_another_kind_is_unregistered_whatever_its_version(self) -> None:
        assert UnregisteredKind(kind="user_rename", version=3) == recognise({"type": "kcsync.user_rename.v3"})

    @pytest.mark.parametrize(
        "event",
        [
            {},
            {"type": None},
            {"type": 7},
            {"type": ["kcsync.user_update.v1"]},
            {"type": "com.example.user.v1"},
            {"type": "kcsync.user_update"},
            {"type": "kcsync.user_update.v0"},
            {"type": "kcsync.user_update.v01"},
            {"type": "kcsync.User_Update.v1"},
            {"type": "kcsync.user_update.v1\n"},
            {"type": "kcsync." + "k" * 65 + ".v1"},
        ],
    )
    def test_anything_else_is_not_ours(self, event: dict[str, Any]) -> None:
        assert NotOurs() == recognise(event)


class TestCheckEnvelope:
    def test_accepts_a_newer_event_with_parts_we_do_not_know(self) -> None:
        event = an_event(type="kcsync.user_update.v2", urgency="high", data={"phone": "5550100"})

        check_envelope(event)

        with pytest.raises(InvalidEvent):
            check_event(event)

    @pytest.mark.parametrize(
        "name", ["id", "source", "subject", "realm", "time", "type", "data", "specversion"]
    )
    def test_still_asks_for_what_says_whose_it_is(self, name: str) -> None:
        event = an_event(type="kcsync.user_rename.v1")
        del event[name]

        with pytest.raises(InvalidEvent, match=f"^{name} is missing$"):
            check_envelope(event)

    def test_refuses_a_username_whose_key_is_too_long(self) -> None:
        with pytest.raises(InvalidEvent) as refused:
            check_envelope(an_event(subject="İ" * 128))

        assert refused.value.field == "subject"


class TestCheckEvent:
    def test_reports_what_json_cannot_write_without_showing_it(self) -> None:
        with pytest.raises(InvalidEvent, match="event holds something JSON cannot write") as refused:
            check_event(an_event(data={"first_name": {"hunter2"}}))

        assert refused.value.__context__ is None

    @pytest.mark.parametrize("name", ["hunter2 is my password", "x" * 65, "päss"])
    def test_shows_a_name_only_if_it_looks_like_one(self, name: str) -> None:
        with pytest.raises(InvalidEvent) as refused:
            check_event(an_event(data={name: 1}))

        assert refused.value.field == "data.?"


class TestParseEvent:
    def test_reads_a_json_object(self) -> None:
        assert an_event() == parse_event(orjson.dumps(an_event()))

    @pytest.mark.parametrize("value", [b"", b"{", b"[]", b"null", b'"text"', b"\xff{}", b'{"a": NaN}'])
    def test_refuses_anything_else_without_showing_it(self, value: bytes) -> None:
        with pytest.raises(InvalidEvent) as refused:
            parse_event(value)

        assert refused.value.field == "event"
        assert refused.value.__context__ is None

    def test_refuses_a_message_over_the_limit_unread(self) -> None:
        edge = b"{}" + b" " * (MAX_EVENT_BYTES - 2)

        assert parse_event(edge) == {}
        with pytest.raises(InvalidEvent, match="262,144 bytes or fewer"):
            parse_event(edge + b" ")
