from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, MutableMapping
from hashlib import sha256
from typing import Any

import orjson
import pytest
import structlog
from aiokafka.partitioner import murmur2

from consumer.outbox.database import Database
from consumer.outbox.ingest_store import IngestStore
from consumer.outbox.rows import Watermark
from producer_lib import Producer, UserCreate, UserUpdate
from tests.integration.support.bench import Bench, Record
from tests.integration.support.database_proxy import database_proxy
from tests.integration.support.events import event, record
from tests.integration.support.ingesting import ingesting
from tests.integration.support.waiting import until


@pytest.fixture
def lines() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged."""
    with structlog.testing.capture_logs() as caught:
        yield caught


def watermarks(bench: Bench) -> dict[int, int]:
    return {
        row["partition_no"]: row["next_offset"]
        for row in bench.rows("SELECT partition_no, next_offset FROM watermarks")
    }


async def ingested(bench: Bench, entries: int) -> None:
    await until(
        lambda: bench.value("SELECT COUNT(*) FROM entries") == entries, what=f"{entries} entries", within=40
    )


def home(username_key: str, partitions: int) -> int:
    """The partition as Kafka's Java client chooses it."""
    return int((murmur2(username_key.encode()) & 0x7FFFFFFF) % partitions)


async def test_what_producers_publish_arrives_in_the_order_of_each_user(
    bench: Bench, database: Database
) -> None:
    async with bench.producer() as producer:
        await producer.publish_many(
            UserUpdate(username=f"user{n % 17}", attributes={"n": [str(n)]}) for n in range(1000)
        )

    async with ingesting(bench, database, batch=90):
        await ingested(bench, 1000)

    seen: dict[str, list[int]] = {}
    for row in bench.rows("SELECT username, data FROM entries ORDER BY entry_id"):
        seen.setdefault(row["username"], []).append(int(orjson.loads(row["data"])["attributes"]["n"][0]))
    assert seen == {f"user{n}": list(range(n, 1000, 17)) for n in range(17)}
    assert sum(watermarks(bench).values()) == 1000
    assert bench.value("SELECT SUM(strays) FROM lanes") == 0


async def test_commits_carry_our_stamp(bench: Bench, database: Database) -> None:
    places = await bench.send(*(record(event(bench, "ada"), partition=p) for p in (0, 1, 1)))
    assert places == [(0, 0), (1, 0), (1, 1)]

    async with ingesting(bench, database):
        await ingested(bench, 3)

    cluster = bench.value("SELECT cluster FROM topics")
    assert await bench.committed() == {
        0: (1, f"kcsync1;{cluster};0;1"),
        1: (2, f"kcsync1;{cluster};1;2"),
        # Stamped as soon as it was taken, so that an operator's reset can be told from it.
        2: (0, f"kcsync1;{cluster};2;0"),
    }


async def test_a_restart_goes_on_from_the_watermark_whatever_kafka_remembers(
    bench: Bench, database: Database
) -> None:
    await bench.send(*(record(event(bench, "ada")) for _ in range(5)))
    async with ingesting(bench, database):
        await ingested(bench, 5)
    await bench.commit_as_an_operator({0: 2})
    await bench.send(record(event(bench, "ada")))

    async with ingesting(bench, database, writer="second") as again:
        await ingested(bench, 6)

    assert again.loop.persisted == 1
    assert bench.value("SELECT COUNT(*) FROM marks") == 0
    assert (await bench.committed())[0][0] == 6


class TestARecordThatIsNoEvent:
    WRONG: tuple[tuple[str, bytes | dict[str, Any]], ...] = (
        ("not_json", b"{"),
        ("not_json", b""),
        ("not_json", b"\xff\xfe"),
        ("not_json", b"[1]"),
        ("too_large", b"x" * 300_000),
        ("invalid", {"data": {"email": "no address"}}),
        ("invalid", {"data": {"password": "in clear"}}),
        ("invalid", {"data": {}}),
        ("invalid", {"subject": None}),
        ("invalid", {"subject": "İ" * 200}),
        ("invalid", {"subject": "a\u0000da"}),
        ("invalid", {"time": "9999-12-31T23:59:59-14:00"}),
        ("invalid", {"time": "2016-12-31T23:59:60Z"}),
        ("invalid", {"nobody": "knows this"}),
        ("invalid", {"type": "kcsync.later_kind.v1", "data": "no object"}),
        ("foreign_type", {"type": "com.example.other"}),
        ("realm_unknown", {"realm": "elsewhere"}),
    )

    async def test_is_kept_as_poison_with_its_reason_and_the_next_goes_on(
        self, bench: Bench, database: Database, lines: list[MutableMapping[str, Any]]
    ) -> None:
        wrong = [
            (reason, record(event(bench, "ada", **value) if isinstance(value, dict) else value, key=b"ada"))
            for reason, value in self.WRONG
        ]
        wrong.append(("tombstone", Record(None, b"ada")))
        wrong.append(("invalid", _binary(bench, ce_id=None)))
        wrong.append(("invalid", _binary(bench, ce_priority="²".encode())))
        wrong.append(("invalid", _binary(bench, ce_priority=b"9" * 5000)))
        wrong.append(("invalid", record(event(bench, "ada", type="kcsync.later_kind.v1", data=_deep(300)))))
        good = record(event(bench, "ada"))
        await bench.send(*(each for _, bad in wrong for each in (bad, good_one(good, bench))))

        async with ingesting(bench, database):
            await ingested(bench, len(wrong))

        keys = bench.keys()
        found = bench.rows("SELECT * FROM poison ORDER BY log_offset")
        assert [(row["log_offset"], row["reason"]) for row in found] == [
            (2 * number, reason) for number, (reason, _) in enumerate(wrong)
        ]
        for row, (_, bad) in zip(found, wrong, strict=True):
            context = f"poison\0{row['topic_id']}\0{row['partition_no']}\0{row['log_offset']}".encode()
            value = bad.value or b""
            assert keys.open(orjson.loads(row["sealed"]), context) == value[:65_536]
            assert (row["value_length"], row["value_sha256"]) == (len(value), sha256(value).digest())
            assert row["kid"] in keys.kids
            assert row["detail"]
        told = [line for line in lines if line["event"] == "record is poison"]
        assert [(line["offset"], line["reason"]) for line in told] == [
            (row["log_offset"], row["reason"]) for row in found[:10]
        ]
        (others,) = [line for line in lines if line["event"] == "more records are poison"]
        assert others["reasons"] == Counter(row["reason"] for row in found[10:])
        assert bench.rows(
            "SELECT log_offset, reason FROM marks WHERE kind = 'poison' ORDER BY log_offset"
        ) == [{"log_offset": row["log_offset"], "reason": row["reason"]} for row in found]
        assert watermarks(bench) == {0: 2 * len(wrong), 1: 0, 2: 0}

    async def test_never_repeats_what_it_holds(
        self, bench: Bench, database: Database, lines: list[MutableMapping[str, Any]]
    ) -> None:
        secret = "Ca-na-ry-4711"
        await bench.send(
            record(event(bench, "ada", data={"password": secret}), key=b"ada"),
            record(event(bench, "ada", data={"password": {"sealed": secret}}), key=b"ada"),
            record(event(bench, "ada", priority=secret), key=b"ada"),
            record(f"{{{secret}".encode(), key=b"ada"),
            record(event(bench, "ada")),
        )

        async with ingesting(bench, database) as ingest:
            await ingested(bench, 1)

        assert secret not in str(lines)
        assert secret not in str(ingest.said)
        assert not [name for name, value in bench.every_text() if secret.encode() in value]


def _binary(bench: Bench, **changes: bytes | None) -> Record:
    """An event in CloudEvents' binary mode."""
    headers: dict[str, bytes | None] = {
        f"ce_{name}": value.encode()
        for name, value in event(bench, "ada").items()
        if name not in {"data", "datacontenttype"}
    }
    headers |= {"content-type": b"application/json", **changes}
    return Record(b'{"enabled":true}', b"ada", 0, tuple(headers.items()))


def _deep(levels: int) -> dict[str, Any]:
    deepest: dict[str, Any] = {}
    for _ in range(levels):
        deepest = {"deeper": deepest}
    return deepest


def good_one(template: Record, bench: Bench) -> Record:
    """A valid event of its own id."""
    return record(event(bench, "ada"), partition=template.partition)


async def test_binary_mode_is_read_like_structured_mode(bench: Bench, database: Database) -> None:
    await bench.send(_binary(bench))

    async with ingesting(bench, database):
        await ingested(bench, 1)

    (row,) = bench.rows("SELECT kind, username, data FROM entries")
    assert row == {"kind": "user_update", "username": "ada", "data": b'{"enabled":true}'}


@pytest.mark.parametrize(
    ("kind", "reason"), [("user_update.v2", "schema_newer"), ("later_kind.v1", "kind_unregistered")]
)
async def test_what_a_newer_producer_sends_is_held_sealed_and_not_lost(
    bench: Bench, database: Database, kind: str, reason: str
) -> None:
    """What this version cannot read may hold anything: a password in a field it does not know, too."""
    await bench.send(record(event(bench, "ada", type=f"kcsync.{kind}", data={"later": "Ca-na-ry"})))

    async with ingesting(bench, database):
        await ingested(bench, 1)

    (row,) = bench.rows("SELECT * FROM entries")
    assert (row["state"], row["state_reason"]) == ("HELD", reason)
    context = f"held\0{row['topic_id']}\0{row['partition_no']}\0{row['log_offset']}".encode()
    assert bench.keys().open(orjson.loads(row["data"]), context) == b'{"later":"Ca-na-ry"}'
    assert not [name for name, value in bench.every_text() if b"Ca-na-ry" in value]


async def test_an_event_in_a_strange_partition_is_counted_and_told(
    bench: Bench, database: Database, lines: list[MutableMapping[str, Any]]
) -> None:
    right = home("ada", bench.partitions)
    await bench.send(record(event(bench, "Ada"), partition=right))
    async with ingesting(bench, database):
        await ingested(bench, 1)
    assert not [line for line in lines if "partition that is not their user's" in line["event"]]
    await bench.send(record(event(bench, "ADA"), partition=(right + 1) % bench.partitions))

    async with ingesting(bench, database):
        await ingested(bench, 2)

    assert bench.rows("SELECT username_key, arrivals, strays FROM lanes") == [
        {"username_key": "ada", "arrivals": 2, "strays": 1}
    ]
    assert [line["events"] for line in lines if "partition that is not their user's" in line["event"]] == [1]


class TestATopicThatIsNotTheOneWeKnow:
    async def test_is_not_read_where_it_was_truncated_while_others_go_on(
        self, bench: Bench, database: Database
    ) -> None:
        await bench.send(*(record(event(bench, "ada"), partition=p) for p in (0, 0, 0, 1)))
        async with ingesting(bench, database):
            await ingested(bench, 4)
        await self._recreate(bench)
        await bench.send(record(event(bench, "bob"), partition=0), record(event(bench, "bob"), partition=2))

        async with ingesting(bench, database) as ingest:
            await ingested(bench, 5)
            await until(lambda: len(ingest.said) >= 2, what="two partitions reported")

        assert watermarks(bench) == {0: 3, 1: 1, 2: 1}
        assert bench.value("SELECT COUNT(*) FROM entries WHERE partition_no = 0") == 3
        assert [line[:12] for line in sorted(ingest.said)] == ["Partition 0:", "Partition 1:"]
        assert all("recreated or truncated" in line for line in ingest.said)
        audited = bench.rows("SELECT action, arguments FROM audit ORDER BY audit_id")
        assert audited == [
            {"action": "log_truncated", "arguments": f'{{"partition":{partition}}}'} for partition in (0, 1)
        ]

    async def test_is_not_read_where_another_record_stands_in_the_last_place(
        self, bench: Bench, database: Database
    ) -> None:
        """Recreated and filled again: the log is long enough, and holds something else."""
        await bench.send(*(record(event(bench, "ada"), partition=p) for p in (0, 0)))
        async with ingesting(bench, database):
            await ingested(bench, 2)
        await self._recreate(bench)
        await bench.send(*(record(event(bench, "bob"), partition=p) for p in (0, 0, 0, 0, 1)))

        async with ingesting(bench, database) as ingest:
            await ingested(bench, 3)
            await until(lambda: ingest.said, what="a partition reported")

        assert watermarks(bench) == {0: 2, 1: 1, 2: 0}
        (line,) = ingest.said
        assert line.startswith("Partition 0: offset 1 holds another record than the one ingested")

    @staticmethod
    async def _recreate(bench: Bench) -> None:
        await bench.delete_topic()
        await asyncio.sleep(0.2)
        await until(lambda: _created(bench), what="the topic created again")


async def _created(bench: Bench) -> bool:
    await bench.create_topic()
    try:
        await bench.send(Record(b"probe", None, 0))
    except Exception:  # noqa: BLE001 - deleted topics linger for a moment
        return False
    return True


class TestManyMembers:
    async def test_a_rebalance_under_load_loses_and_doubles_nothing(
        self, bench: Bench, database: Database
    ) -> None:
        enough = asyncio.Event()
        async with bench.producer() as producer:
            load = asyncio.create_task(self._publish(producer, enough))
            async with ingesting(bench, database, writer="first", batch=20) as first:
                await until(lambda: first.loop.persisted > 50, what="the first at work")
                async with ingesting(bench, database, writer="second", batch=20) as second:
                    await until(lambda: second.loop.persisted > 50, what="the second at work")
                enough.set()
                published = await load
                await ingested(bench, published)

        assert bench.value("SELECT COUNT(DISTINCT partition_no, log_offset) FROM entries") == published
        assert bench.value("SELECT COUNT(*) FROM marks") == 0
        assert sum(watermarks(bench).values()) == published
        assert first.loop.persisted + second.loop.persisted == published

    @staticmethod
    async def _publish(producer: Producer, enough: asyncio.Event) -> int:
        """Publish until it is enough; how many."""
        published = 0
        while not enough.is_set():
            await producer.publish_many(
                UserUpdate(username=f"user{n % 40}", attributes={"n": [str(n)]})
                for n in range(published, published + 10)
            )
            published += 10
            await asyncio.sleep(0.05)
        return published

    async def test_a_rebalance_while_partitions_are_taken_leaves_none_behind(
        self, bench: Bench, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A partition that is neither taken nor still to be taken would be paused for ever."""
        await bench.send(*(record(event(bench, f"user{p}"), partition=p) for p in range(3)))
        read = IngestStore.read_watermark
        looked: list[int] = []

        async with ingesting(bench, database) as ingest:

            async def interrupted(store: IngestStore, topic_id: int, partition: int) -> Watermark | None:
                looked.append(partition)
                if looked == [0, 1, 2]:
                    # What the library's listener calls when the group has rebalanced.
                    ingest.loop._assigned(frozenset({0, 1, 2}))
                return await read(store, topic_id, partition)

            monkeypatch.setattr(IngestStore, "read_watermark", interrupted)
            await ingested(bench, 3)

        assert looked[:3] == [0, 1, 2]
        assert sorted(looked[3:]) == [0, 1, 2]

    async def test_a_batch_of_the_old_writer_between_look_and_taking_is_not_lost_or_doubled(
        self, bench: Bench, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await bench.send(*(record(event(bench, "ada")) for _ in range(6)))
        read = IngestStore.read_watermark
        old = IngestStore(database, group=bench.group, writer="old")

        async def overtaken(store: IngestStore, topic_id: int, partition: int) -> Watermark | None:
            found = await read(store, topic_id, partition)
            if partition == 0 and found is None:
                await old.take_partition(topic_id, 0, 0)
                bench.change("UPDATE watermarks SET next_offset = 4 WHERE partition_no = 0")
            return found

        monkeypatch.setattr(IngestStore, "read_watermark", overtaken)
        async with ingesting(bench, database):
            await ingested(bench, 2)

        assert [row["log_offset"] for row in bench.rows("SELECT log_offset FROM entries")] == [4, 5]


class TestLostConnections:
    @pytest.mark.parametrize("committed", [True, False])
    async def test_at_commit_lose_and_double_nothing(
        self, bench: Bench, database: Database, *, committed: bool
    ) -> None:
        async with database_proxy(bench.address) as wire, bench.producer() as producer:
            through = Database(wire.address)
            try:
                wire.cut_next_commit(after=b"INSERT INTO entries", reaches_server=committed)
                async with ingesting(bench, through, batch=50):
                    await producer.publish_many(
                        UserCreate(username=f"user{n}", enabled=True) for n in range(300)
                    )
                    await ingested(bench, 300)
            finally:
                await through.aclose()

        assert wire.cuts == 1
        assert bench.value("SELECT COUNT(DISTINCT partition_no, log_offset) FROM entries") == 300
        assert bench.value("SELECT SUM(arrivals) FROM lanes") == 300
        assert bench.value("SELECT COUNT(*) FROM marks") == 0

    async def test_of_every_kind_many_times_lose_and_double_nothing(
        self, bench: Bench, database: Database
    ) -> None:
        async with bench.producer() as producer, ingesting(bench, database, batch=20):
            killed = 0
            for start in range(0, 500, 50):
                await producer.publish_many(
                    UserUpdate(username=f"user{n % 40}", attributes={"n": [str(n)]})
                    for n in range(start, start + 50)
                )
                killed += bench.kill_connections()
            await ingested(bench, 500)

        assert killed
        assert bench.value("SELECT COUNT(DISTINCT partition_no, log_offset) FROM entries") == 500
        assert bench.value("SELECT COUNT(*) FROM marks") == 0
        assert sum(watermarks(bench).values()) == 500
