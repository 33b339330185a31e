from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consumer.outbox.database import Database
from consumer.outbox.errors import CommitUnknown, DatabaseUnavailable
from consumer.outbox.ingest_store import BatchRows, PartitionsLost, StaleOffsets
from consumer.outbox.rows import PartitionProgress
from tests.integration.support.batches import Writer, update
from tests.integration.support.bench import Bench
from tests.integration.support.database_proxy import database_proxy

BATCH = [update("1", "ada"), update("2", "bob"), update("3", "ada")]


def everything(bench: Bench) -> dict[str, list[dict[str, Any]]]:
    """All that a batch writes."""
    return {
        "entries": bench.rows("SELECT log_offset, event_id, state FROM entries ORDER BY entry_id"),
        "lanes": bench.rows("SELECT username_key, arrivals, state FROM lanes ORDER BY username_key"),
        "ledger": bench.rows("SELECT log_offset FROM ledger ORDER BY log_offset"),
        "marks": bench.rows("SELECT log_offset, kind, first_offset FROM marks ORDER BY log_offset"),
        "watermarks": bench.rows("SELECT next_offset, writer_token, writer FROM watermarks"),
    }


async def test_a_batch_is_written_whole_and_moves_the_watermark(bench: Bench, database: Database) -> None:
    writer = await Writer.take(database)

    await writer.persist(BATCH)

    assert everything(bench) == {
        "entries": [
            {"log_offset": offset, "event_id": str(offset + 1), "state": "PENDING"} for offset in range(3)
        ],
        "lanes": [
            {"username_key": "ada", "arrivals": 2, "state": "READY"},
            {"username_key": "bob", "arrivals": 1, "state": "READY"},
        ],
        "ledger": [{"log_offset": offset} for offset in range(3)],
        "marks": [],
        "watermarks": [{"next_offset": 3, "writer_token": 1, "writer": "first"}],
    }


async def test_the_same_batch_again_is_stale_and_doubles_nothing(bench: Bench, database: Database) -> None:
    writer = await Writer.take(database)
    await writer.persist(BATCH)
    before = everything(bench)
    writer.next_offset = 0

    with pytest.raises(StaleOffsets) as stale:
        await writer.persist(BATCH)

    assert stale.value.next_offsets == {0: 3}
    assert everything(bench) == before


async def test_a_second_writer_fences_the_first_which_writes_nothing(
    bench: Bench, database: Database
) -> None:
    first = await Writer.take(database)
    await first.persist(BATCH[:1])
    await Writer.take(database, name="second", next_offset=1)
    before = everything(bench)

    with pytest.raises(PartitionsLost) as lost:
        await first.persist(BATCH[1:])

    assert lost.value.partitions == {0}
    assert everything(bench) == before
    assert before["watermarks"] == [{"next_offset": 1, "writer_token": 2, "writer": "second"}]


async def test_a_batch_of_two_partitions_of_which_one_is_lost_writes_neither(
    bench: Bench, database: Database
) -> None:
    """One transaction a batch: a fence of one partition may not let half of it through."""
    kept = await Writer.take(database, partition=0)
    lost = await Writer.take(database, partition=1)
    await Writer.take(database, name="second", partition=1)
    progress = [_progress(writer, 0) for writer in (kept, lost)]

    with pytest.raises(PartitionsLost) as error:
        await kept.store.persist(kept.topic_id, progress, [], _nothing)

    assert error.value.partitions == {1}
    assert bench.value("SELECT SUM(next_offset) FROM watermarks") == 0


async def test_an_event_published_twice_is_one_entry_and_a_duplicate(
    bench: Bench, database: Database
) -> None:
    writer = await Writer.take(database)
    other = await Writer.take(database, partition=1)

    await writer.persist([update("1", "ada"), update("1", "ada")])
    await other.persist([update("1", "ada")])

    assert bench.rows("SELECT partition_no, log_offset FROM entries") == [
        {"partition_no": 0, "log_offset": 0}
    ]
    assert bench.rows(
        "SELECT partition_no, log_offset, kind, first_partition, first_offset FROM marks"
        " ORDER BY partition_no"
    ) == [
        {"partition_no": 0, "log_offset": 1, "kind": "duplicate", "first_partition": 0, "first_offset": 0},
        {"partition_no": 1, "log_offset": 0, "kind": "duplicate", "first_partition": 0, "first_offset": 0},
    ]
    assert bench.value("SELECT arrivals FROM lanes") == 1


async def test_an_id_used_again_for_something_else_is_poison(bench: Bench, database: Database) -> None:
    writer = await Writer.take(database)

    await writer.persist([update("1", "ada"), update("1", "ada", data={"enabled": False})])

    assert bench.rows("SELECT log_offset, reason FROM poison") == [{"log_offset": 1, "reason": "id_reused"}]
    assert bench.rows("SELECT log_offset, kind FROM marks") == [{"log_offset": 1, "kind": "poison"}]
    assert bench.value("SELECT COUNT(*) FROM entries") == 1


async def test_two_partitions_with_the_same_new_event_at_once_make_one_entry(
    bench: Bench, database: Database
) -> None:
    """The race that the ledger's key decides: both look, neither finds, one is second."""
    writers = [await Writer.take(database, partition=partition) for partition in range(3)]

    await asyncio.gather(
        *(writer.persist([update(str(n), f"user{n % 3}") for n in range(20)]) for writer in writers)
    )

    assert bench.value("SELECT COUNT(*) FROM entries") == 20
    assert bench.value("SELECT COUNT(*) FROM marks WHERE kind = 'duplicate'") == 40
    assert bench.value("SELECT SUM(next_offset) FROM watermarks") == 60


async def test_a_partition_that_moved_on_since_it_was_looked_at_is_not_taken(
    bench: Bench, database: Database
) -> None:
    """At a rebalance the old writer may still commit a batch between the new one's look and its taking."""
    first = await Writer.take(database)
    await first.persist(BATCH)

    with pytest.raises(StaleOffsets) as stale:
        await Writer.take(database, name="second", next_offset=0)

    assert stale.value.next_offsets == {0: 3}
    assert bench.rows("SELECT writer, writer_token FROM watermarks") == [
        {"writer": "first", "writer_token": 1}
    ]


class TestALostConnection:
    @pytest.mark.parametrize("committed", [True, False])
    async def test_at_commit_is_decided_by_the_watermark(
        self, bench: Bench, database: Database, *, committed: bool
    ) -> None:
        async with database_proxy(bench.address) as wire:
            through = Database(wire.address)
            try:
                writer = await Writer.take(through)
                wire.cut_next_commit(after=b"INSERT INTO entries", reaches_server=committed)
                with pytest.raises(CommitUnknown):
                    await writer.persist(BATCH)
                written = bench.value("SELECT COUNT(*) FROM entries")

                if committed:
                    with pytest.raises(StaleOffsets) as stale:
                        await writer.persist(BATCH)
                    assert stale.value.next_offsets == {0: 3}
                else:
                    await writer.persist(BATCH)
            finally:
                await through.aclose()

        assert wire.cuts == 1
        assert written == (3 if committed else 0)
        assert bench.value("SELECT COUNT(*) FROM entries") == 3
        assert bench.value("SELECT SUM(arrivals) FROM lanes") == 3
        assert bench.value("SELECT next_offset FROM watermarks") == 3

    async def test_inside_a_transaction_leaves_nothing_and_the_next_try_works(
        self, bench: Bench, database: Database
    ) -> None:
        writer = await Writer.take(database)

        def kill_then_plan(_: object) -> BatchRows:
            assert bench.kill_connections()
            return BatchRows(entries=[], duplicates=[], poison=[])

        with pytest.raises(DatabaseUnavailable):
            await writer.store.persist(writer.topic_id, [_progress(writer, 0)], [], kill_then_plan)
        assert bench.value("SELECT next_offset FROM watermarks") == 0
        await writer.persist(BATCH)

        assert bench.value("SELECT COUNT(*) FROM entries") == 3

    async def test_while_idle_in_the_pool_is_noticed_as_nothing_written(
        self, bench: Bench, database: Database
    ) -> None:
        writer = await Writer.take(database)
        assert bench.kill_connections()

        # The pool may notice by itself, or the first statement does.
        try:
            await writer.persist(BATCH)
        except DatabaseUnavailable:
            assert bench.value("SELECT COUNT(*) FROM entries") == 0
            await writer.persist(BATCH)

        assert bench.value("SELECT COUNT(*) FROM entries") == 3


def _progress(writer: Writer, offset: int) -> PartitionProgress:
    return PartitionProgress(
        partition=writer.partition,
        writer_token=writer.token,
        from_offset=offset,
        next_offset=offset + 1,
        last_offset=offset,
        last_timestamp=0,
        last_hash=b"f" * 16,
    )


def _nothing(_: object) -> BatchRows:
    return BatchRows(entries=[], duplicates=[], poison=[])
