from __future__ import annotations

import hashlib
import random

import pytest

from consumer.ingest.decode import decode
from consumer.ingest.plan import plan_batch, progress_of
from consumer.outbox.ingest_store import BatchRows
from consumer.outbox.rows import Duplicate, EntryState, PartitionProgress, PoisonRoom, Position, Seen
from tests.unit.ingest.records import REALMS, entry, event, record

Batch = list[dict[str, object]]


def seal(plaintext: bytes, context: bytes) -> tuple[str, bytes]:
    return "k1", b"sealed:" + context + b":" + plaintext


def planned(*events: dict[str, object] | bytes | None, seen: dict[bytes, Seen] | None = None) -> BatchRows:
    records = [record(value, offset=offset) for offset, value in enumerate(events, start=10)]
    return plan_batch([(of, decode(of, REALMS)) for of in records], seen or {}, seal)


class TestEntries:
    def test_keep_the_order_of_the_batch(self) -> None:
        rows = planned(*(event(id=f"e-{n}") for n in range(5)))

        assert [e.event_id for e in rows.entries] == ["e-0", "e-1", "e-2", "e-3", "e-4"]
        assert [e.position.offset for e in rows.entries] == [10, 11, 12, 13, 14]
        assert (rows.duplicates, rows.poison) == ([], [])

    def test_each_position_comes_to_exactly_one_thing(self) -> None:
        rows = planned(event(), b"{", event(), event(id="e-2"), event(data={"enabled": True}), None)

        assert [e.position.offset for e in rows.entries] == [10, 13]
        assert [d.position.offset for d in rows.duplicates] == [12]
        assert [p.position.offset for p in rows.poison] == [11, 14, 15]


class TestWhatThisVersionCannotRead:
    def test_is_kept_sealed_whatever_it_holds(self) -> None:
        unknown = event(type="kcsync.user_update.v2", data={"password": "in clear"})

        (kept,) = planned(unknown).entries

        assert (kept.state, kept.state_reason, kept.schema_version) == (EntryState.HELD, "schema_newer", 2)
        assert kept.data == b'sealed:held\x001\x002\x0010:{"password":"in clear"}'

    def test_is_recognised_when_it_comes_again(self) -> None:
        unknown = event(type="kcsync.user_lock.v1", data={"until": "tomorrow"})

        rows = planned(unknown, unknown)

        assert (len(rows.entries), len(rows.duplicates)) == (1, 1)


class TestDuplicates:
    def test_within_the_batch_point_at_the_first(self) -> None:
        rows = planned(event(), event(time="2027-01-01T00:00:00Z"), event())

        assert rows.duplicates == [
            Duplicate(
                position=Position(1, 2, offset),
                lane_id=entry(record(event())).lane_id,
                first=Position(1, 2, 10),
            )
            for offset in (11, 12)
        ]

    def test_of_the_ledger_point_at_what_it_remembers(self) -> None:
        known = entry(record(event()))
        first = Position(1, 7, 99)

        rows = planned(
            event(), seen={known.event_hash: Seen(position=first, content_hash=known.content_hash)}
        )

        assert rows.entries == []
        assert [d.first for d in rows.duplicates] == [first]

    def test_are_told_by_source_and_id_not_by_content(self) -> None:
        assert len(planned(event(), event(id="e-2")).entries) == 2


class TestReusedIds:
    def test_in_the_batch_are_poison(self) -> None:
        (row,) = planned(event(), event(data={"enabled": False})).poison

        assert row.reason == "id_reused"
        assert row.lane_id == entry(record(event())).lane_id
        assert "partition 2, offset 10" in row.detail

    def test_of_the_ledger_are_poison(self) -> None:
        known = entry(record(event()))
        seen = {known.event_hash: Seen(position=Position(1, 7, 99), content_hash=b"\0" * 16)}

        (row,) = planned(event(), seen=seen).poison

        assert row.reason == "id_reused"
        assert "partition 7, offset 99" in row.detail

    def test_leave_the_first_as_it_was(self) -> None:
        rows = planned(event(), event(data={"enabled": False}), event())

        assert [e.position.offset for e in rows.entries] == [10]
        assert [d.position.offset for d in rows.duplicates] == [12]


class TestPoisonRows:
    def test_hold_the_bytes_sealed_and_bound_to_their_position(self) -> None:
        (row,) = planned(b"hunter2").poison

        assert row.sealed == b"sealed:poison\x001\x002\x0010:hunter2"
        assert row.kid == "k1"
        assert "hunter2" not in repr(row)

    def test_of_a_tombstone_hold_nothing(self) -> None:
        (row,) = planned(None).poison

        assert row.sealed.endswith(b":")
        assert (row.length, row.kept, row.digest) == (0, 0, hashlib.sha256().digest())

    def test_of_a_large_record_hold_its_beginning_and_what_identifies_the_whole(self) -> None:
        value = random.Random(1).randbytes(7_000_000)

        (row,) = planned(value).poison

        assert row.reason == "too_large"
        assert row.sealed == b"sealed:poison\x001\x002\x0010:" + value[:65_536]
        assert (row.length, row.kept, row.digest) == (7_000_000, 65_536, hashlib.sha256(value).digest())

    def test_keep_key_and_time(self) -> None:
        long_key = record(b"{", key=b"k" * 2000)

        (row,) = plan_batch([(long_key, decode(long_key, REALMS))], {}, seal).poison

        assert row.key == b"k" * 1024
        assert row.timestamp == long_key.timestamp


class TestRoomForPoison:
    """Of what comes at once in thousands, samples are kept."""

    @pytest.mark.parametrize(
        ("records", "size", "kept"),
        [
            (5, 100, 5),
            (3, 100, 3),
            (0, 100, 0),
            (-7, 100, 0),  # another process kept more at the same time
            (5, 20, 2),  # 10 bytes each
            (5, 19, 1),
            (5, -1, 0),
        ],
    )
    def test_is_counted_in_records_and_bytes(self, records: int, size: int, kept: int) -> None:
        poison = planned(*[b"x" * 10] * 5).poison

        assert PoisonRoom(records, size).fitting(poison) == list(poison[:kept])


def test_planning_again_gives_the_same_and_leaves_the_ledgers_answer_alone() -> None:
    seen: dict[bytes, Seen] = {}
    of = record(event())
    decoded = [(of, decode(of, REALMS))]

    assert plan_batch(decoded, seen, seal) == plan_batch(decoded, seen, seal)
    assert seen == {}


def test_progress_ends_behind_the_last_record() -> None:
    last = record(event(), offset=41)

    assert progress_of(2, 5, 30, last, b"h" * 16) == PartitionProgress(
        partition=2,
        writer_token=5,
        from_offset=30,
        next_offset=42,
        last_offset=41,
        last_timestamp=last.timestamp,
        last_hash=b"h" * 16,
    )
