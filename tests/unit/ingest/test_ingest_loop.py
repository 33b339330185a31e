"""The loop's decisions over a log and an outbox in memory: who writes a partition, from where, and what is committed."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import structlog

from consumer.ingest.kafka import KafkaUnavailable
from consumer.ingest.pausing import PausePolicy, PauseReason
from consumer.ingest.retention import Retention
from consumer.ingest.stamp import stamp
from consumer.outbox.errors import DatabaseUnavailable
from consumer.outbox.ingest_store import PartitionsLost
from consumer.outbox.rows import FLOWS, PauseNote, Watermark
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

    async def test_a_writer_who_goes_on_while_kafka_is_asked_makes_no_truncated_log(self) -> None:
        log, store = filled(), MemoryIngestStore()
        last, heir = Member(log, store), Member(log, store)
        last.reader.rebalance(0)
        await turns(last)

        def go_on() -> None:
            heir.reader.once_asked = lambda: None
            append(log, 0, 2)
            persisted = Watermark(
                next_offset=5,
                writer_token=store.watermarks[0].writer_token,
                kafka_group="kcsync",
                last_offset=None,
                last_timestamp=None,
                last_hash=None,
            )
            store.watermarks[0] = persisted

        heir.reader.once_asked = go_on
        heir.reader.rebalance(0)
        await turns(heir)
        append(log, 0, 1)
        await turns(heir)

        assert heir.audit.findings == []
        assert store.entries[-1] == (0, 5)

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
    @pytest.mark.parametrize("reason", list(PauseReason))
    async def test_holds_all_partitions_also_after_a_rebalance(self, reason: PauseReason) -> None:
        store = MemoryIngestStore()
        member = Member(filled(), store)
        member.ingest.pause(reason)
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
        member.ingest.pause(PauseReason.CIRCUIT)
        member.ingest.pause(PauseReason.BACKLOG)
        member.ingest.resume(PauseReason.CIRCUIT)
        await turns(member)
        assert store.entries == []

        member.ingest.resume(PauseReason.BACKLOG)
        await turns(member)

        assert len(store.entries) == 3

    @pytest.mark.parametrize("policy", [PausePolicy.ON_BACKLOG, PausePolicy.NEVER])
    async def test_is_not_for_an_open_circuit_where_the_policy_says_so(self, policy: PausePolicy) -> None:
        store = MemoryIngestStore()
        member = Member(filled(), store, pause=policy)
        member.reader.rebalance(0)
        member.ingest.pause(PauseReason.CIRCUIT)

        await turns(member)

        assert len(store.entries) == 3
        assert store.notes == {}


class TestWhatIsNoted:
    async def test_is_why_each_partition_stands_still(self) -> None:
        store = MemoryIngestStore()
        member = Member(filled(), store)
        member.reader.rebalance(0, 1)
        member.ingest.pause(PauseReason.CIRCUIT)
        member.ingest.pause(PauseReason.BACKLOG)
        await turns(member)
        assert store.notes == dict.fromkeys((0, 1), PauseNote(("backlog", "circuit"), yields=False))

        member.ingest.resume(PauseReason.CIRCUIT)
        member.ingest.resume(PauseReason.BACKLOG)
        await turns(member)
        assert store.notes == dict.fromkeys((0, 1), FLOWS)

    async def test_is_written_only_when_it_changes(self) -> None:
        store = MemoryIngestStore()
        member = Member(filled(), store)
        member.reader.rebalance(0, 1)
        await turns(member, 5)
        assert store.notes_written == 0

        member.ingest.pause(PauseReason.CIRCUIT)
        await turns(member, 5)
        assert store.notes_written == 1

    async def test_is_written_again_when_the_database_did_not_take_it(self) -> None:
        store = MemoryIngestStore()
        member = Member(filled(), store)
        member.reader.rebalance(0)
        store.fault = DatabaseUnavailable()
        member.ingest.pause(PauseReason.CIRCUIT)
        await turns(member)

        store.fault = None
        await turns(member, 1)

        assert store.notes == {0: PauseNote(("circuit",), yields=False)}


HOUR = 3_600_000


def aged(log: MemoryLog, partition: int, *hours: float) -> None:
    """Append records that are so many hours old."""
    known = log.records[partition]
    for age in hours:
        offset = len(known)
        known.append(
            replace(
                record(event(id=f"e-{partition}-{offset}"), partition=partition, offset=offset),
                timestamp=int(time.time() * 1000 - age * HOUR),
            )
        )


def look_again(member: Member) -> None:
    """The next turn asks Kafka again, without the rest between."""
    member.ingest._retention._look_at = float("-inf")


class TestKafkasRetention:
    @pytest.mark.parametrize("reason", list(PauseReason))
    async def test_goes_before_every_reason(self, reason: PauseReason) -> None:
        log, store = MemoryLog(), MemoryIngestStore()
        log.retention = Retention(seconds=8 * 3600.0, size=None)
        aged(log, 0, 4.1, 1.0)
        aged(log, 1, 3.9, 1.0)
        member = Member(log, store)
        member.reader.rebalance(0, 1)
        member.ingest.pause(reason)

        await turns(member)

        assert store.entries == [(0, 0), (0, 1)]
        assert store.notes == {
            0: PauseNote((reason.value,), yields=True),
            1: PauseNote((reason.value,), yields=False),
        }
        ((action, outcome),) = member.audit.findings
        assert action == "retention_yield"
        assert outcome in member.said[0]
        assert "8h" in outcome

    async def test_is_satisfied_when_what_is_unread_is_young_again(self) -> None:
        log, store = MemoryLog(), MemoryIngestStore()
        log.retention = Retention(seconds=8 * 3600.0, size=None)
        aged(log, 0, 5, 3, 1)
        member = Member(log, store, batch=1)
        member.reader.rebalance(0)
        member.ingest.pause(PauseReason.CIRCUIT)
        for _ in range(6):
            look_again(member)
            await member.turn()

        # It goes on below half of the limit, so as not to stop and go: what is 1 h old stays in Kafka.
        assert store.entries == [(0, 0), (0, 1)]
        assert member.reader.paused == {0}
        assert len(member.audit.findings) == 1

    async def test_is_assumed_to_be_kafkas_default_where_it_may_not_be_read(self) -> None:
        log, store = MemoryLog(), MemoryIngestStore()
        log.retention = None
        aged(log, 0, 83.0)
        aged(log, 1, 85.0)
        member = Member(log, store)
        member.reader.rebalance(0, 1)
        member.ingest.pause(PauseReason.CIRCUIT)
        with structlog.testing.capture_logs() as lines:
            for _ in range(5):
                look_again(member)
                await member.turn()

        assert store.entries == [(1, 0)]
        assert len([line for line in lines if "may not be read" in line["event"]]) == 1

    async def test_is_asked_for_again_later_when_kafka_does_not_tell(self) -> None:
        log, store = MemoryLog(), MemoryIngestStore()
        aged(log, 0, 24 * 6)
        member = Member(log, store)
        member.reader.rebalance(0)
        member.reader.fault = KafkaUnavailable("no answer")
        member.ingest.pause(PauseReason.CIRCUIT)
        await turns(member, 5)
        assert (store.entries, member.reader.looks) == ([], 1)

        member.reader.fault = None
        look_again(member)
        await turns(member)
        assert store.entries == [(0, 0)]

    async def test_is_not_asked_for_while_records_flow(self) -> None:
        member = Member(filled(), MemoryIngestStore())
        member.reader.rebalance(0)

        await turns(member, 5)

        assert member.reader.looks == 0

    async def test_is_asked_for_anew_after_a_rebalance(self) -> None:
        log, store = MemoryLog(), MemoryIngestStore()
        aged(log, 0, 24 * 6)
        member = Member(log, store)
        member.reader.rebalance(0)
        member.ingest.pause(PauseReason.CIRCUIT)
        await turns(member)
        assert store.entries == [(0, 0)]

        aged(log, 0, 0)
        member.reader.rebalance(0)
        await turns(member)

        assert store.entries == [(0, 0)]
        assert member.reader.paused == {0}

    async def test_what_was_found_while_a_rebalance_came_is_void(self) -> None:
        log, store = MemoryLog(), MemoryIngestStore()
        aged(log, 0, 24 * 6)
        member = Member(log, store)
        member.reader.rebalance(0)
        member.ingest.pause(PauseReason.CIRCUIT)

        def rebalance() -> None:
            member.reader.while_asked = lambda: None
            member.reader.rebalance(0)

        member.reader.while_asked = rebalance
        await turns(member, 1)
        assert store.entries == []
        assert member.reader.paused == {0}

        await turns(member)
        assert store.entries == [(0, 0)]


async def test_new_work_is_told_after_each_batch_that_was_written() -> None:
    member = Member(filled(records=2), MemoryIngestStore(), batch=1)
    member.reader.rebalance(0)

    await turns(member, 4)

    assert member.persisted == 2
