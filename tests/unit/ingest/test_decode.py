from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.ingest.decode import Poison, decode
from consumer.outbox.lane import lane_id
from consumer.outbox.rows import EntryState, NewEntry, Position
from producer_lib import MAX_EVENT_BYTES
from tests.unit.ingest.records import CIPHERTEXT, REALMS, SEALED, entry, event, poison, record

SECRET = "hunter2-in-clear"
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER_TRACE = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"

DATA = orjson.dumps({"email": "alice@example.org"})
ATTRIBUTES = {f"ce_{name}": value.encode() for name, value in event(without=("data",)).items()}
"""What `event()` says, in CloudEvents' binary mode."""


def nested(depth: int) -> bytes:
    head = orjson.dumps(event(type="kcsync.user_update.v2", without=("data",)))
    return head[:-1] + b',"data":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


class TestAnEventBecomesAnEntry:
    def test_with_all_its_parts(self) -> None:
        got = entry(record(event(tenant="north", data={"email": "a@example.org", "enabled": True})))

        assert got.position == Position(1, 2, 3)
        assert (got.realm, got.username, got.username_key) == ("shop", "Alice", "alice")
        assert got.lane_id == lane_id("shop", "alice")
        assert (got.kind, got.source, got.event_id, got.tenant) == (
            "user_update",
            "/accounts",
            "e-1",
            "north",
        )
        assert orjson.loads(got.data) == {"email": "a@example.org", "enabled": True}
        assert got.credential is None
        assert (got.state, got.state_reason) == (EntryState.PENDING, None)

    def test_whose_lane_is_the_username_as_keycloak_stores_it(self) -> None:
        lanes = {
            entry(record(event(subject=subject), key=None)).lane_id for subject in ("Alice", "alice", "ALICE")
        }

        assert len(lanes) == 1

    def test_in_every_realm_that_is_served(self) -> None:
        got = entry(record(event(realm="other")), realms=frozenset({"shop", "other"}))

        assert got.lane_id == lane_id("other", "alice")

    @pytest.mark.parametrize(
        ("time", "utc"),
        [
            ("2026-11-21T22:33:44.5Z", datetime(2026, 11, 21, 22, 33, 44, 500_000)),  # noqa: DTZ001 - naive UTC, as stored
            ("2026-11-21T22:33:44+02:00", datetime(2026, 11, 21, 20, 33, 44)),  # noqa: DTZ001 - the same
            ("2026-11-21T22:33:44.123456789Z", datetime(2026, 11, 21, 22, 33, 44, 123_456)),  # noqa: DTZ001 - the same
        ],
    )
    def test_with_its_time_in_utc(self, time: str, utc: datetime) -> None:
        assert entry(record(event(time=time))).event_time == utc


class TestThePassword:
    def test_moves_out_of_the_data_into_the_credential(self) -> None:
        got = entry(record(event("user_create", data={"email": "a@example.org", "password": SEALED})))

        assert orjson.loads(got.data) == {"email": "a@example.org"}
        assert orjson.loads(got.credential or b"") == SEALED["sealed"]

    def test_is_shown_by_no_repr(self) -> None:
        of = record(event("password_change", data={"password": SEALED}))

        assert CIPHERTEXT not in repr(of) + repr(entry(of))

    def test_in_clear_is_refused_and_not_repeated(self) -> None:
        got = poison(record(event("password_change", data={"password": SECRET})))

        assert got.reason == "invalid"
        assert SECRET not in got.detail


class TestPriority:
    @pytest.mark.parametrize(
        ("kind", "data", "priority"),
        [
            ("password_change", {"password": SEALED}, 1),
            ("user_create", {}, 3),
            ("user_update", {"enabled": True}, 5),
            ("user_delete", {}, 10),
        ],
    )
    def test_comes_from_the_kind(self, kind: str, data: dict[str, Any], priority: int) -> None:
        assert entry(record(event(kind, data=data))).priority == priority

    def test_of_an_unknown_kind_is_in_the_middle(self) -> None:
        assert entry(record(event("user_lock"))).priority == 5

    def test_in_the_event_goes_before_the_kind(self) -> None:
        assert entry(record(event(priority=1))).priority == 1

    def test_is_a_whole_number_also_where_json_writes_it_with_a_point(self) -> None:
        priority = entry(record(event(priority=3.0))).priority

        assert (priority, type(priority)) == (3, int)

    @pytest.mark.parametrize("priority", [0, 11, 2.5, "1", True, None])
    def test_of_any_other_value_is_refused(self, priority: object) -> None:
        assert poison(record(event(priority=priority))).reason == "invalid"


class TestTraceContext:
    def test_comes_from_the_headers(self) -> None:
        got = entry(
            record(event(traceparent=OTHER_TRACE), headers={"traceparent": TRACE, "tracestate": b"a=1"})
        )

        assert (got.traceparent, got.tracestate) == (TRACE, b"a=1")

    def test_comes_from_the_event_where_no_header_has_it(self) -> None:
        got = entry(record(event(traceparent=OTHER_TRACE, tracestate="b=2")))

        assert (got.traceparent, got.tracestate) == (OTHER_TRACE.encode(), b"b=2")

    def test_may_be_absent(self) -> None:
        got = entry(record(event(), headers={"traceparent": None}))

        assert (got.traceparent, got.tracestate) == (None, None)

    def test_that_no_column_holds_is_left_out(self) -> None:
        got = entry(record(event(), headers={"traceparent": b"x" * 56, "tracestate": b"y" * 513}))

        assert (got.traceparent, got.tracestate) == (None, None)


class TestHeldEntries:
    def test_a_newer_schema_is_held(self) -> None:
        got = entry(record(event(type="kcsync.user_update.v2", data={"pronouns": "they"})))

        assert (got.state, got.state_reason) == (EntryState.HELD, "schema_newer")
        assert orjson.loads(got.data) == {"pronouns": "they"}

    def test_an_unregistered_kind_is_held(self) -> None:
        got = entry(record(event("group_join", data={"group": "/a"})))

        assert (got.state, got.state_reason, got.kind) == (EntryState.HELD, "kind_unregistered", "group_join")

    def test_keeps_its_sealed_password_where_its_own_schema_put_it(self) -> None:
        got = entry(record(event(type="kcsync.user_create.v2", data={"password": SEALED})))

        assert orjson.loads(got.data) == {"password": SEALED}
        assert got.credential is None

    def test_must_say_whose_it_is(self) -> None:
        assert poison(record(event("group_join", without=("subject",)))).reason == "invalid"

    def test_of_an_unknown_realm_is_refused(self) -> None:
        assert poison(record(event("group_join", realm="elsewhere"))).reason == "realm_unknown"

    def test_nested_as_deeply_as_can_be_written_again_is_held(self) -> None:
        assert entry(record(nested(250))).state is EntryState.HELD

    @pytest.mark.parametrize("depth", [255, 300, 1000])
    def test_nested_deeper_is_poison(self, depth: int) -> None:
        assert poison(record(nested(depth))).reason == "invalid"


class TestBinaryMode:
    def test_says_the_same_as_structured_mode(self) -> None:
        binary = entry(record(DATA, headers={**ATTRIBUTES, "content-type": b"application/json"}))

        assert binary == entry(record(event()))

    def test_reads_a_priority_as_a_number(self) -> None:
        assert entry(record(DATA, headers={**ATTRIBUTES, "ce_priority": b"1"})).priority == 1

    @pytest.mark.parametrize(
        "changed",
        [
            pytest.param({"ce_priority": "²".encode()}, id="a digit that is no number"),
            pytest.param({"ce_priority": b"9" * 5000}, id="a number beyond all bounds"),
            pytest.param({"ce_subject": b"ali\xffce"}, id="a username that is no UTF-8"),
            pytest.param({"ce_subject": None}, id="no username"),
            pytest.param({"content-type": b"text/plain"}, id="data that is no JSON"),
        ],
    )
    def test_a_broken_attribute_is_poison(self, changed: dict[str, bytes | None]) -> None:
        assert poison(record(DATA, headers={**ATTRIBUTES, **changed})).reason == "invalid"

    def test_a_header_without_a_value_is_as_if_it_were_not_there(self) -> None:
        got = entry(record(DATA, headers={**ATTRIBUTES, "ce_tenant": None, "content-type": None}))

        assert got.tenant is None

    def test_data_that_is_no_json_object_is_poison(self) -> None:
        assert poison(record(b"email=a", headers=ATTRIBUTES)).reason == "not_json"


class TestPoison:
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            pytest.param(None, "tombstone", id="tombstone"),
            pytest.param(b"", "not_json", id="empty"),
            pytest.param(b"{", "not_json", id="broken off"),
            pytest.param(b"[]", "not_json", id="a list"),
            pytest.param(b"\xff\xfe", "not_json", id="no UTF-8"),
            pytest.param(b'{"a":"\\ud800"}', "not_json", id="half a character"),
            pytest.param(b"[" * 5000, "not_json", id="an abyss"),
            pytest.param(b" " * (MAX_EVENT_BYTES + 1), "too_large", id="oversize"),
            pytest.param(event(without=("type",)), "foreign_type", id="no type"),
            pytest.param(event(type="com.example.order"), "foreign_type", id="of somebody else"),
            pytest.param(event(type="kcsync.user_update.v0"), "foreign_type", id="version 0"),
            pytest.param(event(type=7), "foreign_type", id="a type that is no text"),
            pytest.param(event(without=("realm",)), "invalid", id="no realm"),
            pytest.param(event(subject="ab"), "invalid", id="a username too short"),
            pytest.param(event(data={}), "invalid", id="an update of nothing"),
            pytest.param(event(data={"shoe_size": 43}), "invalid", id="an unknown field"),
            pytest.param(event(time="2026-02-30T00:00:00Z"), "invalid", id="a day that does not exist"),
            pytest.param(event(specversion="0.3"), "invalid", id="another CloudEvents"),
            pytest.param(event(realm="elsewhere"), "realm_unknown", id="a realm we do not serve"),
        ],
    )
    def test_has_a_reason(self, value: dict[str, Any] | bytes | None, reason: str) -> None:
        assert poison(record(value)).reason == reason

    def test_of_exactly_the_largest_size_is_read(self) -> None:
        value = orjson.dumps(event())

        assert isinstance(decode(record(value + b" " * (MAX_EVENT_BYTES - len(value))), REALMS), NewEntry)

    @pytest.mark.parametrize(
        "value",
        [
            event(subject=f"{SECRET}\n"),
            event(realm=SECRET + "/"),
            event(realm=SECRET),
            event(tenant=f"{SECRET} "),
            event(id=f"{SECRET}\n"),
            event(source=f"{SECRET}\n"),
            event(time=SECRET),
            event(type=f"{SECRET}.v1"),
            event(priority=SECRET),
            event(traceparent=SECRET),
            event(data={"email": SECRET}),
            event(data={"enabled": SECRET}),
            event(data={"attributes": {"team": SECRET}}),
            event(data={"attributes": {"team": [SECRET, 7]}}),
            event("user_delete", data={"mode": SECRET}),
            event("user_create", data={"password": {"sealed": SECRET}}),
            event("user_create", data={"password": {SECRET: "x"}}),
            event("user_create", data={"password": {"sealed": {**SEALED["sealed"], "alg": SECRET}}}),
            f'{{"data": "{SECRET}"'.encode(),
        ],
    )
    def test_never_repeats_a_value(self, value: dict[str, Any] | bytes) -> None:
        got = poison(record(value, key=SECRET.encode()))

        assert SECRET not in got.detail
        assert SECRET not in repr(got)

    def test_counts_in_the_lane_that_its_key_names(self) -> None:
        assert poison(record(b"{", key=b"Alice")).lane_id == lane_id("shop", "alice")

    @pytest.mark.parametrize(
        "key",
        [
            pytest.param(None, id="no key"),
            pytest.param(b"", id="an empty key"),
            pytest.param(b"ali\xffce", id="a key that is no UTF-8"),
            pytest.param(b"ab", id="a key that is no username"),
        ],
    )
    def test_counts_in_no_lane_if_its_key_names_none(self, key: bytes | None) -> None:
        assert poison(record(b"{", key=key)).lane_id is None

    def test_counts_in_no_lane_where_the_key_alone_names_none(self) -> None:
        assert poison(record(b"{"), realms=frozenset({"shop", "other"})).lane_id is None

    def test_of_another_realm_counts_in_no_lane_of_ours(self) -> None:
        assert poison(record(event(realm="elsewhere"))).lane_id is None


class TestHashes:
    def test_source_and_id_identify_an_event(self) -> None:
        first = entry(record(event()))

        assert entry(record(event(data={"enabled": False}), offset=9)).event_hash == first.event_hash
        assert entry(record(event(id="e-2"))).event_hash != first.event_hash
        assert entry(record(event(source="/other"))).event_hash != first.event_hash

    def test_where_the_source_ends_and_the_id_begins_matters(self) -> None:
        one = entry(record(event(source="/ab", id="c")))
        other = entry(record(event(source="/a", id="bc")))

        assert one.event_hash != other.event_hash

    @pytest.mark.parametrize(
        "same",
        [
            event("user_create", data={"enabled": True, "password": SEALED}, time="2027-01-01T00:00:00Z"),
            event("user_create", data={"enabled": True, "password": SEALED}, traceparent=OTHER_TRACE),
            event(
                "user_create",
                data={"password": {"sealed": {**SEALED["sealed"], "kid": "k2"}}, "enabled": True},
            ),
        ],
        ids=["at another time", "in another trace", "sealed anew, its fields in another order"],
    )
    def test_the_same_change_published_again_says_the_same(self, same: dict[str, Any]) -> None:
        first = entry(record(event("user_create", data={"enabled": True, "password": SEALED})))

        assert entry(record(same)).content_hash == first.content_hash

    @pytest.mark.parametrize(
        "other",
        [
            event("user_create", data={"enabled": False, "password": SEALED}),
            event("user_create", data={"enabled": True}),
            event("user_create", data={"enabled": True, "password": SEALED}, subject="Bob"),
            event("user_update", data={"enabled": True}),
        ],
        ids=["another value", "no password", "another user", "another kind"],
    )
    def test_another_change_says_something_else(self, other: dict[str, Any]) -> None:
        first = entry(record(event("user_create", data={"enabled": True, "password": SEALED})))

        assert entry(record(other)).content_hash != first.content_hash

    def test_another_realm_is_something_else(self) -> None:
        realms = frozenset({"shop", "other"})

        one, other = (entry(record(event(realm=realm)), realms) for realm in ("shop", "other"))

        assert one.content_hash != other.content_hash

    def test_a_held_event_sealed_anew_says_the_same(self) -> None:
        anew = {"sealed": {**SEALED["sealed"], "ciphertext": "B" * 66}}

        first, again = (
            entry(record(event(type="kcsync.user_create.v2", data={"password": sealed})))
            for sealed in (SEALED, anew)
        )

        assert first.content_hash == again.content_hash


@settings(deadline=None)
@given(
    value=st.binary(max_size=64)
    | st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=10,
    ).map(lambda data: orjson.dumps(event("group_join", data=data))),
    key=st.none() | st.binary(max_size=12),
    headers=st.dictionaries(
        st.sampled_from(["ce_specversion", "ce_type", "ce_priority", "content-type", "traceparent"]),
        st.none() | st.binary(max_size=12),
    ),
)
def test_no_record_whatsoever_stops_ingest(
    value: bytes, key: bytes | None, headers: dict[str, bytes | None]
) -> None:
    assert isinstance(decode(record(value, key=key, headers=headers), REALMS), NewEntry | Poison)
