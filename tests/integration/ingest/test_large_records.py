"""Records that are larger than the packets that MariaDB takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from hashlib import sha256

import orjson
import pytest

from compose.native.mariadb import MariaDB
from consumer.outbox.database import Database
from consumer.outbox.migrate import migrate
from consumer.outbox.overview import read_overview
from tests.integration.support.batches import Writer, update
from tests.integration.support.bench import Bench
from tests.integration.support.events import event, record
from tests.integration.support.ingesting import ingesting
from tests.integration.support.waiting import until

MIB = 1024 * 1024


@pytest.fixture
def small_packets(mariadb: MariaDB) -> Iterator[None]:
    """MariaDB as small set-ups have it, for connections that are opened inside."""
    with mariadb.administrator() as cursor:
        cursor.execute("SELECT @@GLOBAL.max_allowed_packet")
        (usual,) = cursor.fetchone() or (16 * MIB,)
        cursor.execute(f"SET GLOBAL max_allowed_packet = {MIB}")
    yield
    with mariadb.administrator() as cursor:
        cursor.execute(f"SET GLOBAL max_allowed_packet = {usual}")


@pytest.fixture
async def small(small_packets: None, bench: Bench) -> AsyncIterator[Database]:
    """The corner's database, by connections with small packets."""
    opened = Database(bench.address)
    await migrate(opened)
    assert await opened.fetch_one("SELECT @@max_allowed_packet AS most") == {"most": MIB}
    yield opened
    await opened.aclose()


async def test_are_poison_with_any_packet_size_and_the_next_event_follows(
    bench: Bench, small: Database
) -> None:
    await bench.configure_topic(max_message_bytes="12000000")
    large = b"x" * 7_000_000
    most = b"y" * 1_000_000
    events = [orjson.dumps(event(bench, "ada")) for _ in range(2)]
    await bench.send(
        *(record(value, key=b"ada") for value in (large, events[0], most, b"{" + b"\0" * 600_000, events[1]))
    )

    async with ingesting(bench, small):
        await until(lambda: bench.value("SELECT COUNT(*) FROM entries") == 2, what="the events behind")

    found = bench.rows("SELECT log_offset, reason, value_length, value_sha256, LENGTH(sealed) FROM poison")
    assert [(row["log_offset"], row["reason"], row["value_length"]) for row in found] == [
        (0, "too_large", 7_000_000),
        (2, "too_large", 1_000_000),
        (3, "too_large", 600_001),
    ]
    assert [row["value_sha256"] for row in found[:2]] == [sha256(large).digest(), sha256(most).digest()]
    assert max(row["LENGTH(sealed)"] for row in found) < 90_000


async def test_the_largest_events_fit_into_small_packets(bench: Bench, small: Database) -> None:
    """Also those that grow: what this version cannot read is kept sealed."""
    many = {f"a{n}": ["\\" * 1000, "ü" * 200] for n in range(100)}
    await bench.send(
        record(orjson.dumps(event(bench, "ada", data={"attributes": many})), key=b"ada"),
        record(event(bench, "ada", type="kcsync.later_kind.v1", data={"x": "y" * 260_000}), key=b"ada"),
        record(event(bench, "ada", type="kcsync.later_kind.v1", data={"x": [10**15] * 10_000}), key=b"ada"),
        # 40,000 numbers of five characters, and of eighteen when they are written out.
        record(_as_it_is(event(bench, "ada", type="kcsync.later_kind.v1", data={"x": "HERE"})), key=b"ada"),
        record(event(bench, "ada"), key=b"ada"),
    )

    async with ingesting(bench, small):
        await until(lambda: bench.value("SELECT COUNT(*) FROM entries") == 4, what="four entries")

    assert bench.rows("SELECT log_offset, reason FROM poison") == [{"log_offset": 3, "reason": "too_large"}]


def _as_it_is(template: dict[str, object]) -> bytes:
    return orjson.dumps(template).replace(b'"HERE"', b"[" + b",".join([b"1e15"] * 40_000) + b"]")


class TestPoisonInMasses:
    async def test_is_kept_up_to_a_bound_and_marked_beyond_it(self, bench: Bench, database: Database) -> None:
        writer = await Writer.take(database)
        await writer.persist([update("1", "ada")])
        # Kept before, by others too: all but three of the records of an hour.
        bench.change(
            "INSERT INTO poison (topic_id, partition_no, log_offset, reason, detail, kid, sealed, value_length,"
            " received_at) SELECT 9, 0, seq, 'not_json', '', 'key', '', 1, NOW(6) - INTERVAL 59 MINUTE"
            " FROM seq_1_to_997"
        )

        await writer.persist(
            [update("2", "bob"), *(update("1", "ada", data={"enabled": False}) for _ in range(5))]
        )

        kept = bench.rows("SELECT log_offset FROM poison WHERE topic_id <> 9 ORDER BY log_offset")
        assert [row["log_offset"] for row in kept] == [2, 3, 4]
        marked = bench.rows("SELECT log_offset, reason FROM marks WHERE kind = 'poison' ORDER BY log_offset")
        assert marked == [{"log_offset": offset, "reason": "id_reused"} for offset in range(2, 7)]

    async def test_takes_no_more_bytes_than_the_bound(self, bench: Bench, database: Database) -> None:
        writer = await Writer.take(database)
        await writer.persist([update("1", "ada")])
        bench.change(
            "INSERT INTO poison (topic_id, partition_no, log_offset, reason, detail, kid, sealed, value_length)"
            " SELECT 9, 0, seq, 'too_large', '', 'key', '', 7000000 FROM seq_1_to_64"
        )

        await writer.persist([update("1", "ada", data={"enabled": False})])

        assert bench.value("SELECT COUNT(*) FROM poison WHERE topic_id <> 9") == 0
        assert bench.value("SELECT COUNT(*) FROM marks WHERE kind = 'poison'") == 1

    async def test_is_counted_whole_in_status(self, bench: Bench, database: Database) -> None:
        writer = await Writer.take(database)
        await writer.persist([update("1", "ada")])
        bench.change(
            "INSERT INTO poison (topic_id, partition_no, log_offset, reason, detail, kid, sealed, value_length,"
            " received_at) SELECT 9, 0, seq, 'too_large', '', 'key', '', 70000, NOW(6) - INTERVAL 1 MINUTE"
            " FROM seq_1_to_64"
        )
        bench.change(
            "INSERT INTO marks (topic_id, partition_no, log_offset, kind, marked_at)"
            " SELECT 9, 0, seq, 'poison', NOW(6) - INTERVAL 1 MINUTE + INTERVAL 1 SECOND FROM seq_1_to_64"
        )

        await writer.persist([update("1", "ada", data={"enabled": False}) for _ in range(10)])

        assert (await read_overview(database)).poison == 74
