"""The loop's decisions over a log and an outbox in memory: who writes a partition, from where, and what is committed."""

from __future__ import annotations

import pytest

from consumer.ingest.stamp import stamp
from consumer.outbox.ingest_store import PartitionsLost
from tests.unit.ingest.kafka_in_memory import Member, MemoryIngestStore, MemoryLog
from tests.unit.ingest.records import event, record


def filled(*, partitions: int = 4, records: int = 3) -> MemoryLog:
    log = MemoryLog(partitions)
    for partition in range(partitions):
        append(log, partition, records)
    return log


def append(log: MemoryLog, partition: int, records: int) -> None:
    known = log.records[partition]
    known += [
        record(event(id=f"e-{partition}-{offset}"), partition=partition, offset=offset)
        for offset in range(len(known), len(known) + records)
    ]


async def turns(member: Member, count: int = 3) -> None:
    for _ in range(count):
        await member.turn()


class TestTakingPartitions:
    async def test_every_record_becomes_one_entry(self) -> None:
        store = MemoryIngestStore()
        member = Member(filled(), store)
        member.reader.rebalance(0, 1, 2, 3)

        await turns(member)

        assert sorted(store.entries) == [(p, offset) for p in range(4) for offset in range(3)]

    async def test_a_restart_goes_on_from_the_watermark(self) -> None:
        log, store = filled(), MemoryIngestStore()
        first = Member(log, store)
        first.reader.rebalance(0)
        await turns(first)
        append(log, 0, 2)

        second = Member(log, store)
        second.reader.rebalance(0)
        await turns(second)

        assert store.entries == [(0, offset) for offset in range(5)]

    @pytest.mark.parametrize("interrupted", [0, 1, 2])
    async def test_a_rebalance_while_taking_leaves_no_partition_behind(self, interrupted: int) -> None:
        store = MemoryIngestStore()
        member = Member(filled(), store)
        member.reader.rebalance(0, 1, 2)

        def rebalance(partition: int) -> None:
            if partition == interrupted:
                store.while_taking = lambda _: None
                member.reader.rebalance(0, 1, 2, 3)

        store.while_taking = rebalance
        await turns(member, 4)

        assert sorted(store.entries) == [(p, offset) for p in range(4) for offset in range(3)]

    async def test_a_rebalance_while_decoding_stops_nothing(self) -> None:
        log, store = filled(), MemoryIngestStore()
        member = Member(log, store)
        member.reader.rebalance(0, 1)

        def rebalance() -> None:
            member.reader.between_polls = lambda: None
            member.reader.rebalance(1, 2)

        member.reader.between_polls = rebalance
        await turns(member, 4)

        assert {(p, offset) for p in (1, 2) for offset in range(3)} <= set(store.entries)
        assert len(store.entries) == len(set(store.entries))

    async def test_who_lost_a_partition_writes_nothing_more(self) -> None:
        log, store = filled(), MemoryIngestStore()
        zombie, heir = Member(log, store), Member(log, store)
        zombie.reader.rebalance(0)
        await turns(zombie)
        heir.reader.rebalance(0)
        await turns(heir)
        append(log, 0, 1)

        with pytest.raises(PartitionsLost) as lost:
            await turns(zombie, 2)

        assert lost.value.partitions == {0}
        assert (0, 3) not in store.entries

    async def test_a_commit_whose_answer_was_lost_is_recognised(self) -> None:
        log, store = filled(), MemoryIngestStore()
        member = Member(log, store)
        member.reader.rebalance(0)
        await turns(member)
        member.ingest._writers[0].next_offset = 1
        member.reader.seek(0, 1)

        await turns(member)
        append(log, 0, 1)
        await turns(member)

        assert store.entries == [(0, offset) for offset in range(4)]


class TestTheRecordBeforeTheWatermark:
    async def test_stops_a_partition_that_holds_another_one(self) -> None:
        store = MemoryIngestStore()
        first = Member(filled(), store)
        first.reader.rebalance(0)
        await turns(first)
        recreated = MemoryLog()
        recreated.records[0] = [record(event(id=f"new-{n}"), partition=0, offset=n) for n in range(9)]

        second = Member(recreated, store)
        second.reader.rebalance(0)
        await turns(second)

        assert store.entries == [(0, 0), (0, 1), (0, 2)]
        assert [action for action, _ in second.audit.findings] == ["log_truncated"]

    async def test_is_no_longer_asked_for_when_retention_has_removed_it(self) -> None:
        log, store = filled(records=3), MemoryIngestStore()
        first = Member(log, store)
        first.reader.rebalance(0)
        await turns(first)
        append(log, 0, 3)
        log.start[0] = 4

        second = Member(log, store)
        second.reader.rebalance(0)
        await turns(second)

        assert store.entries == [(0, 0), (0, 1), (0, 2), (0, 4), (0, 5)]
        ((action, outcome),) = second.audit.findings
        assert action == "retention_gap"
        assert "offsets 3 to 3" in outcome


class TestTheCommittedOffset:
    async def test_carries_our_stamp(self) -> None:
        log = filled()
        member = Member(log, MemoryIngestStore())
        member.reader.rebalance(0)

        await turns(member)

        member.ingest._committed_at = 0
        await turns(member, 1)
        assert log.committed[0] == (3, stamp("c", 0, 3))

    @pytest.mark.parametrize("set_to", [0, 2, 3])
    async def test_that_an_operator_set_is_answered_once_and_stamped_again(self, set_to: int) -> None:
        log, store = filled(), MemoryIngestStore()
        first = Member(log, store)
        first.reader.rebalance(0)
        await turns(first)
        log.committed[0] = (set_to, "")

        second = Member(log, store)
        second.reader.rebalance(0)
        await turns(second)
        second.reader.rebalance(0)
        await turns(second)

        assert log.committed[0] == (3, stamp("c", 0, 3))
        assert len(second.audit.findings) == (set_to < 3)
        assert store.entries == [(0, 0), (0, 1), (0, 2)]

    async def test_of_ours_above_the_watermark_stops_the_partition(self) -> None:
        log, store = filled(), MemoryIngestStore()
        log.committed[0] = (2, stamp("c", 0, 2))
        member = Member(log, store)
        member.reader.rebalance(0, 1)

        await turns(member)

        assert store.entries == [(1, 0), (1, 1), (1, 2)]
        assert [action for action, _ in member.audit.findings] == ["database_behind"]
        assert 0 in member.reader.paused


class TestPausing:
    async def test_holds_all_partitions_also_after_a_rebalance(self) -> None:
        store = MemoryIngestStore()
        member = Member(filled(), store)
        member.ingest.pause("circuit")
        member.reader.rebalance(0, 1)
        await turns(member)
        member.reader.rebalance(1, 2)
        await turns(member)

        assert store.entries == []
        assert member.reader.paused == {1, 2}

    async def test_ends_when_the_last_reason_is_gone(self) -> None:
        store = MemoryIngestStore()
        member = Member(filled(), store)
        member.reader.rebalance(0)
        member.ingest.pause("circuit")
        member.ingest.pause("backlog")
        member.ingest.resume("circuit")
        await turns(member)
        assert (store.entries, member.ingest.paused) == ([], True)

        member.ingest.resume("backlog")
        await turns(member)

        assert (len(store.entries), member.ingest.paused) == (3, False)


async def test_new_work_is_told_after_each_batch_that_was_written() -> None:
    member = Member(filled(records=2), MemoryIngestStore(), batch=1)
    member.reader.rebalance(0)

    await turns(member, 4)

    assert member.persisted == 2
