from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import pymysql
import pytest

from consumer.outbox.database import Database, Transaction
from consumer.outbox.errors import DatabaseUnavailable
from consumer.outbox.ingest_store import (
    BatchRows,
    IngestStore,
    PartitionsLost,
    StaleOffsets,
    _compare,
    _inserts,
    _lanes,
    _seen,
)
from consumer.outbox.lane import lane_id, shard_of
from consumer.outbox.rows import NewEntry, PartitionProgress, Position, Seen

DUPLICATE = pymysql.err.IntegrityError(1062, "Duplicate entry")
NOTHING = BatchRows(entries=(), duplicates=(), poison=())


def entry(username: str, *, priority: int = 5, offset: int = 0, partition: int = 2) -> NewEntry:
    return NewEntry(
        position=Position(1, partition, offset),
        lane_id=lane_id("shop", username),
        realm="shop",
        username=username,
        username_key=username,
        kind="user_update",
        schema_version=1,
        source="/accounts",
        event_id=f"e-{offset}",
        event_hash=f"hash-{offset:011}".encode(),
        content_hash=b"c" * 16,
        tenant=None,
        priority=priority,
        event_time=datetime(2026, 11, 21),  # noqa: DTZ001 - naive UTC, as stored
        traceparent=None,
        tracestate=None,
        data=b"{}",
        credential=None,
    )


def progress(partition: int, *, token: int = 5, from_offset: int = 10) -> PartitionProgress:
    return PartitionProgress(
        partition=partition,
        writer_token=token,
        from_offset=from_offset,
        next_offset=from_offset + 1,
        last_offset=from_offset,
        last_timestamp=0,
        last_hash=b"h" * 16,
    )


class FakeTransaction:
    """Answers selects with `rows`."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows

    async def fetch(self, sql: str, parameters: object) -> list[Mapping[str, Any]]:
        return list(self.rows)

    @property
    def tx(self) -> Transaction:
        return cast(Transaction, self)


class TestLaneRows:
    def test_stand_in_key_order_so_that_writers_never_wait_in_a_circle(self) -> None:
        rows = _lanes([entry(f"user-{n}", offset=n) for n in range(50)])

        assert [row[0] for row in rows] == sorted(lane_id("shop", f"user-{n}") for n in range(50))

    def test_are_one_a_user_with_how_many_and_how_urgent(self) -> None:
        entries = [entry("alice", priority=p, offset=n) for n, p in enumerate((5, 1, 10))]

        lane = lane_id("shop", "alice")
        assert _lanes(entries) == [(lane, shard_of(lane), "shop", "alice", 1, 2, 3, 1)]

    def test_name_the_partition_of_the_first_as_home(self) -> None:
        (row,) = _lanes([entry("alice", partition=7), entry("alice", partition=2, offset=1)])

        assert row[4:6] == (1, 7)


class TestTheWatermark:
    @staticmethod
    def standing(token: int = 5, next_offset: int = 10) -> list[dict[str, int]]:
        return [{"partition_no": p, "writer_token": token, "next_offset": next_offset} for p in (0, 1)]

    async def test_where_the_batch_begins_lets_it_through(self) -> None:
        await _compare(FakeTransaction(self.standing()).tx, 1, [progress(0), progress(1)])

    async def test_under_another_token_is_lost(self) -> None:
        with pytest.raises(PartitionsLost) as lost:
            await _compare(FakeTransaction(self.standing(token=6)).tx, 1, [progress(0), progress(1, token=6)])

        assert lost.value.partitions == {0}

    async def test_that_does_not_exist_is_lost(self) -> None:
        with pytest.raises(PartitionsLost) as lost:
            await _compare(FakeTransaction(self.standing()).tx, 1, [progress(0), progress(9)])

        assert lost.value.partitions == {9}

    @pytest.mark.parametrize("stands_at", [9, 11])
    async def test_elsewhere_says_where_to_go_on(self, stands_at: int) -> None:
        with pytest.raises(StaleOffsets) as stale:
            await _compare(FakeTransaction(self.standing(next_offset=stands_at)).tx, 1, [progress(0)])

        assert stale.value.next_offsets == {0: stands_at}

    async def test_of_another_writer_counts_more_than_its_offset(self) -> None:
        with pytest.raises(PartitionsLost):
            await _compare(FakeTransaction(self.standing(token=6, next_offset=99)).tx, 1, [progress(0)])


class TestTheLedger:
    NEW = entry("alice", offset=1)

    def test_is_written_before_the_entries_it_may_refuse(self) -> None:
        (ledger, _), (lanes, _), (entries, _) = _inserts(
            BatchRows(entries=[self.NEW], duplicates=[], poison=[]), ()
        )

        assert ledger.startswith("INSERT INTO ledger")
        assert self.NEW.event_hash.hex() in ledger
        assert lanes.startswith("INSERT INTO lanes")
        assert entries.startswith("INSERT INTO entries")

    async def test_says_what_it_knows_when_it_is_asked(self) -> None:
        known = {
            "event_hash": self.NEW.event_hash,
            "topic_id": 1,
            "partition_no": 3,
            "log_offset": 7,
            "content_hash": b"x" * 16,
        }

        seen = await _seen(FakeTransaction([known]).tx, [self.NEW.event_hash])

        assert seen == {self.NEW.event_hash: Seen(position=Position(1, 3, 7), content_hash=b"x" * 16)}


class TestPersisting:
    @staticmethod
    async def persisted(*answers: BatchRows | Exception) -> tuple[BatchRows, int]:
        waiting = list(answers)

        class Answering:
            async def transact(self, work: object) -> BatchRows:
                answer = waiting.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer

        store = IngestStore(cast(Database, Answering()), group="kcsync", writer="a")
        return await store.persist(1, [], [], lambda _: NOTHING), len(answers) - len(waiting)

    async def test_an_event_seen_before_makes_it_begin_again(self) -> None:
        assert await self.persisted(DUPLICATE, NOTHING) == (NOTHING, 2)

    async def test_a_race_for_the_same_ids_is_run_again_and_not_for_ever(self) -> None:
        assert await self.persisted(DUPLICATE, DUPLICATE, NOTHING) == (NOTHING, 3)
        with pytest.raises(DatabaseUnavailable):
            await self.persisted(*[DUPLICATE] * 4)

    async def test_lets_other_refusals_through(self) -> None:
        with pytest.raises(pymysql.err.IntegrityError):
            await self.persisted(pymysql.err.IntegrityError(1048, "Column cannot be null"))


class TestTakingAPartition:
    @staticmethod
    def store(fault: Exception) -> IngestStore:
        class Refusing:
            async def transact(self, work: object) -> int:
                raise fault

        return IngestStore(cast(Database, Refusing()), group="kcsync", writer="a")

    async def test_that_another_process_began_at_the_same_moment_is_looked_at_again(self) -> None:
        with pytest.raises(StaleOffsets):
            await self.store(DUPLICATE).take_partition(1, 0, 10)

    async def test_lets_other_refusals_through(self) -> None:
        with pytest.raises(pymysql.err.IntegrityError):
            await self.store(pymysql.err.IntegrityError(1048, "")).take_partition(1, 0, 10)
