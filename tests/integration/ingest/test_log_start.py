"""Kafka's log start reaches the outbox, and what stands before it is forgotten."""

from __future__ import annotations

from consumer.outbox.database import Database
from tests.integration.support.bench import Bench
from tests.integration.support.events import event, record
from tests.integration.support.ingesting import ingesting
from tests.integration.support.waiting import until


def logs(bench: Bench) -> dict[int, tuple[int, int]]:
    """What Kafka was seen to hold, by partition."""
    rows = bench.rows("SELECT * FROM watermarks WHERE log_seen_at IS NOT NULL")
    return {row["partition_no"]: (row["log_start"], row["log_end"]) for row in rows}


async def test_what_kafka_has_removed_is_forgotten_when_it_is_old(bench: Bench, database: Database) -> None:
    async with ingesting(bench, database) as ingest:
        await until(lambda: logs(bench) == dict.fromkeys(range(3), (0, 0)), what="an empty log seen")
        await bench.send(*(record(event(bench, f"user-{n}"), partition=0) for n in range(4)))
        await until(lambda: bench.value("SELECT COUNT(*) FROM ledger") == 4, what="four events ingested")
        await bench.remove_records({0: 3})
        # It looks every ten minutes; a rebalance has it look at once.
        ingest.loop._log_watch.forget()
        await until(
            lambda: logs(bench) == {0: (3, 4), 1: (0, 0), 2: (0, 0)}, what="the new log start", within=20
        )
    bench.change("UPDATE ledger SET first_seen = NOW(6) - INTERVAL 31 DAY WHERE log_offset <> 1")

    never = await bench.kcsync("cleanup", "--dry-run", KCSYNC_LEDGER_RETENTION="never")
    dry = await bench.kcsync("cleanup", "--dry-run")
    wet = await bench.kcsync("cleanup")

    assert "Kept all event ids (retention: never)" in never.out
    assert "Would remove 2 event ids (>30d, and no longer in Kafka)" in dry.out
    assert "Removed 2 event ids (>30d, and no longer in Kafka)" in wet.out
    assert bench.rows("SELECT log_offset FROM ledger ORDER BY log_offset") == [
        {"log_offset": 1},
        {"log_offset": 3},
    ]
    partitions = (await bench.status())["ingest"]["partitions"]
    assert [each["log_start"] for each in partitions] == [3, 0, 0]
