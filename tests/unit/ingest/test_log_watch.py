from __future__ import annotations

from typing import cast

from consumer.ingest.kafka import KafkaReader, KafkaUnavailable
from consumer.ingest.log_watch import LogWatch
from consumer.outbox.errors import DatabaseUnavailable
from consumer.outbox.ingest_store import IngestStore
from consumer.outbox.rows import LogNote
from tests.unit.ingest.kafka_in_memory import Member, MemoryIngestStore, MemoryLog, MemoryReader


class Bench:
    """A watch over memory, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log = MemoryLog()
        self.store = MemoryIngestStore()
        self.reader = MemoryReader(self.log, lambda _: None)
        self.watch = LogWatch(cast(IngestStore, self.store), clock=lambda: self.now)

    async def look(self, tokens: dict[int, int]) -> None:
        await self.watch.look(cast(KafkaReader, self.reader), 1, tokens)


async def test_notes_what_kafka_holds_of_our_partitions() -> None:
    bench = Bench()
    bench.log.start[1] = 40

    await bench.look({0: 3, 1: 8})

    assert bench.store.logs == {0: LogNote(0, 3, 0, 0), 1: LogNote(1, 8, 40, 0)}


async def test_looks_every_ten_minutes_and_at_once_after_a_rebalance() -> None:
    bench = Bench()
    looks = []
    for bench.now in (0, 1, 599, 600, 1199, 1200):
        await bench.look({0: 1})
        looks.append(bench.reader.log_looks)
    bench.watch.forget()
    await bench.look({0: 1})

    assert looks == [1, 1, 1, 2, 2, 3]
    assert bench.reader.log_looks == 4


async def test_waits_for_partitions_and_then_looks_at_once() -> None:
    bench = Bench()
    await bench.look({})
    assert bench.reader.log_looks == 0

    await bench.look({0: 1})

    assert bench.reader.log_looks == 1


async def test_a_fault_stops_nothing_and_is_tried_again() -> None:
    bench = Bench()
    bench.reader.fault = KafkaUnavailable("away")
    await bench.look({0: 1})
    bench.reader.fault, bench.store.fault = None, DatabaseUnavailable("away")
    bench.now = 600
    await bench.look({0: 1})
    assert bench.store.logs == {}
    bench.store.fault = None
    bench.now = 1200
    await bench.look({0: 1})

    assert bench.store.logs.keys() == {0}


async def test_ingest_looks_at_what_it_has_taken() -> None:
    log, store = MemoryLog(), MemoryIngestStore()
    member = Member(log, store)
    member.reader.rebalance(0, 2)
    await member.turn()
    assert {p: note.writer_token for p, note in store.logs.items()} == {0: 1, 2: 1}

    log.start[2] = 5
    member.reader.rebalance(1, 2)
    await member.turn()

    assert {p: (note.writer_token, note.start) for p, note in store.logs.items()} == {
        0: (1, 0),
        1: (1, 0),
        2: (2, 5),
    }
