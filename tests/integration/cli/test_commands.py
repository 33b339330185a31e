from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from socket import socket

import pytest

from consumer.outbox.database import Database
from producer_lib import UserCreate
from tests.integration.support.bench import Bench
from tests.integration.support.events import record
from tests.integration.support.ingesting import ingesting
from tests.integration.support.kcsync import kcsync
from tests.integration.support.waiting import until

SECRETS = ("KCSYNC_DATABASE_DSN", "KCSYNC_KEYCLOAK_CLIENT_SECRET")


@contextmanager
def nobody() -> Iterator[int]:
    """A port at which nobody answers."""
    with socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def test_migrate_says_what_it_did(bench: Bench) -> None:
    first = await bench.kcsync("migrate")
    second = await bench.kcsync("migrate")

    assert (first.code, second.code) == (0, 0)
    assert first.out.startswith("Applied 0001_topics\n")
    assert second.out == "Schema is up to date.\n"


class TestStatus:
    async def test_tells_by_its_exit_code_how_things_stand(self, bench: Bench) -> None:
        before = await bench.kcsync("status")
        await bench.kcsync("migrate")
        nobody_runs = await bench.status()
        await bench.started()
        await until(lambda: bench.value("SELECT COUNT(*) FROM watermarks") == 3, what="partitions taken")
        await until(lambda: bench.value("SELECT last_check_ok FROM circuits"), what="a first check")
        healthy = await bench.status()
        await bench.send(record(b"{"))
        await until(lambda: bench.value("SELECT COUNT(*) FROM poison"), what="a poison row")
        poison = await bench.status()
        with nobody() as port:
            dsn = bench.dsn.replace(f":{bench.address.port}/", f":{port}/")
            no_database = await bench.status(KCSYNC_DATABASE_DSN=dsn)
            no_kafka = await bench.status(KCSYNC_KAFKA_BOOTSTRAP=f"127.0.0.1:{port}")

        assert "run `kcsync migrate`" in before.out
        assert "Traceback" not in before.err
        assert nobody_runs["exit_code"] == 3
        assert nobody_runs["drain"]["instances"] == []
        assert healthy["exit_code"] == 0, healthy
        assert healthy["connection"]["available"] is True
        assert healthy["connection"]["mode"] == "NORMAL"
        assert [each["shards"] for each in healthy["drain"]["instances"]] == [256]
        assert poison["exit_code"] == 4
        assert poison["queue"]["poison"] == 1
        assert no_database["exit_code"] == 5
        assert no_database["queue"]["pending_syncs"] is None
        assert "queue.pending_syncs" in no_database["unknown"]
        assert [each["what"] for each in no_database["unreachable"]] == ["MariaDB"]
        assert no_kafka["exit_code"] == 5
        assert no_kafka["queue"]["poison"] == 1
        assert [each["what"] for each in no_kafka["unreachable"]] == ["Kafka"]

    async def test_has_the_groups_of_the_screen_it_replaces(self, bench: Bench) -> None:
        await bench.kcsync("migrate")

        text = (await bench.kcsync("status")).out
        report = await bench.status()

        titles = [line.removesuffix(":") for line in text.splitlines() if line and line[0] != " "]
        assert titles[0] == "Keycloak Resilience Status"
        assert [title for title in titles[1:] if set(title) != {"="} and set(title) != {"-"}] == [
            "Connection",
            "Timestamps",
            "Queue Metrics",
            "Configuration",
            "Ingest",
            "Drain",
        ]
        assert report["schema_version"] == 1
        assert {"connection", "timestamps", "queue", "configuration", "ingest", "drain"} <= report.keys()
        assert {"available", "circuit_state", "mode", "failure_count"} <= report["connection"].keys()
        assert {
            "failure_threshold",
            "cooldown_seconds",
            "grace_period_seconds",
            "health_cache_seconds",
        } <= report["configuration"].keys()


class TestTheTestCommand:
    async def test_finds_everything_right(self, bench: Bench) -> None:
        await bench.kcsync("migrate")

        finished = await bench.kcsync("test")

        assert finished.code == 0, finished.out
        assert "✗" not in finished.out
        assert f"Keycloak available ({bench.realm})" in finished.out
        assert "256 rows" in finished.out
        assert finished.out.endswith("Test complete.\n")

    async def test_names_all_that_is_wrong_and_shows_no_secret(self, bench: Bench) -> None:
        with nobody() as port:
            environment = bench.environment(
                KCSYNC_KAFKA_BOOTSTRAP=f"127.0.0.1:{port}", KCSYNC_KEYCLOAK_CLIENT_SECRET="Ca-na-ry-4711"
            )
            finished = await kcsync(environment, "test")

        assert (
            finished.code == 2
        )  # the schema is missing: before anything else, somebody has to run `migrate`
        assert finished.out.count("✗") == 3
        assert "credentials_refused" in finished.out
        assert f"127.0.0.1:{port} cannot be reached" in finished.out
        assert "kcsync migrate" in finished.out
        assert "Ca-na-ry" not in finished.out + finished.err
        assert "Traceback" not in finished.err


class TestAWrongSetting:
    @pytest.mark.parametrize(
        ("variable", "value", "sentence"),
        [
            ("KCSYNC_KEYCLOAK_CALLS", "many", "KCSYNC_KEYCLOAK_CALLS='many': it is not a whole number"),
            ("KCSYNC_LEASE", "4s", "KCSYNC_LEASE"),
            ("KCSYNC_KAFKA_TOPICK", "x", "KCSYNC_KAFKA_TOPIC"),
            ("KCSYNC_KEYS_DIR", "/nowhere", "KCSYNC_KEYS_DIR"),
        ],
    )
    async def test_ends_start_with_one_sentence(
        self, bench: Bench, variable: str, value: str, sentence: str
    ) -> None:
        finished = await bench.kcsync("start", **{variable: value})

        assert finished.code == 2
        assert sentence in finished.err
        assert "Traceback" not in finished.err

    async def test_names_a_secret_without_showing_it(self, bench: Bench) -> None:
        finished = await bench.kcsync(
            "status", KCSYNC_DATABASE_DSN="mysql://kcsync:Ca-na-ry@127.0.0.1:notaport/x"
        )

        assert finished.code == 2
        assert "KCSYNC_DATABASE_DSN" in finished.err
        assert "Ca-na-ry" not in finished.err

    @pytest.mark.parametrize("command", ["status", "migrate", "start"])
    @pytest.mark.parametrize("what", ["password", "database"])
    async def test_that_mariadb_refuses_is_said_in_one_line(
        self, bench: Bench, command: str, what: str
    ) -> None:
        """Not a fault that passes: somebody has to mend it, and must be told what."""
        address = bench.address
        wrong = {
            "password": bench.dsn.replace(address.password, "Ca-na-ry"),
            "database": f"{bench.dsn}_that_is_not_there",
        }[what]
        if command == "start":
            running = bench.start(KCSYNC_DATABASE_DSN=wrong)
            await until(lambda: "MariaDB" in running.said, what="a line about MariaDB")
            said = running.said
            assert await running.stop() == 0
        else:
            finished = await bench.kcsync(command, KCSYNC_DATABASE_DSN=wrong)
            said = finished.out + finished.err
            assert finished.code == 5

        assert "Traceback" not in said
        assert "Ca-na-ry" not in said
        assert ("Access denied" in said) or ("Unknown database" in said)


async def test_cleanup_removes_what_is_past_its_retention(bench: Bench) -> None:
    await bench.kcsync("migrate")
    async with bench.producer() as producer:
        await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(7))
    consumer = await bench.started()
    await until(lambda: bench.settled(7), what="seven delivered", within=60)
    await consumer.stop()
    bench.change("UPDATE entries SET ended_at = NOW(6) - INTERVAL 8 DAY ORDER BY entry_id LIMIT 3")
    bench.change(
        "UPDATE entries SET state = 'DEAD_LETTER', ended_at = NOW(6) - INTERVAL 8 DAY"
        " WHERE ended_at > NOW(6) - INTERVAL 1 DAY ORDER BY entry_id LIMIT 1"
    )

    bench.change("INSERT INTO housekeeping (chore) VALUES ('purge')")
    dry = await bench.kcsync("cleanup", "--dry-run")
    assert bench.value("SELECT COUNT(*) FROM entries") == 7
    bench.change("UPDATE housekeeping SET owner = 'other', deadline = NOW(6) + INTERVAL 1 HOUR")
    while_another = await bench.kcsync("cleanup")
    bench.change("DELETE FROM housekeeping")
    never = await bench.kcsync("cleanup", KCSYNC_DELIVERED_RETENTION="never")
    assert bench.value("SELECT COUNT(*) FROM entries") == 7
    wet = await bench.kcsync("cleanup")

    assert while_another.code == 6
    assert "Another process is cleaning up at this moment; nothing was done here." in while_another.out
    assert "Kept all completed syncs (retention: never)" in never.out
    assert (dry.code, wet.code) == (0, 0)
    assert "Would remove 3 completed syncs (>7d)" in dry.out
    assert "Removed 3 completed syncs (>7d)" in wet.out
    assert "Removed 0 dead letters (>30d)" in wet.out
    assert "Removed 0 poison records (>30d)" in wet.out
    assert "Removed 0 event ids (>30d, and no longer in Kafka)" in wet.out
    assert "Kept folds and audit" in wet.out
    assert bench.counts() == {"DELIVERED": 3, "DEAD_LETTER": 1}
    assert bench.value("SELECT COUNT(DISTINCT entry_id) FROM attempts") == 4
    assert bench.value("SELECT COUNT(*) FROM ledger") == 7


class TestSyncNow:
    async def test_delivers_what_is_due_when_nobody_else_runs(self, bench: Bench, database: Database) -> None:
        async with bench.producer() as producer, ingesting(bench, database):
            await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(20))
            await until(lambda: bench.counts() == {"PENDING": 20}, what="twenty pending")

        finished = await bench.kcsync("sync-now")

        assert finished.code == 0, finished.out + finished.err
        assert "Processed 20 sync items" in finished.out
        assert bench.settled(20)
        assert bench.value("SELECT COUNT(*) FROM leases WHERE owner IS NOT NULL") == 0
        assert bench.value("SELECT COUNT(*) FROM instances") == 0

    async def test_follows_the_instance_that_runs(self, bench: Bench) -> None:
        await bench.started()
        async with bench.producer() as producer:
            await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(50))
        await until(lambda: bench.value("SELECT COUNT(*) FROM entries") == 50, what="fifty entries")

        finished = await bench.kcsync("sync-now")

        assert finished.code == 0, finished.out + finished.err
        assert "1 running instances" in finished.out
        assert "0 pending" in finished.out
        assert bench.settled(50)

    async def test_says_that_keycloak_is_away(self, bench: Bench, database: Database) -> None:
        async with bench.producer() as producer, ingesting(bench, database):
            await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(5))
            await until(lambda: bench.counts() == {"PENDING": 5}, what="five pending")

        with nobody() as port:
            finished = await bench.kcsync("sync-now", KCSYNC_KEYCLOAK_URL=f"http://127.0.0.1:{port}")

        assert finished.code == 3
        assert "Keycloak is unavailable" in finished.err
        assert bench.counts() == {"PENDING": 5}
        assert bench.value("SELECT SUM(attempts) FROM entries") == 0


class TestTheEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_by_a_signal_is_graceful_under_load(self, bench: Bench, number: signal.Signals) -> None:
        consumer = await bench.started()
        async with bench.producer() as producer:
            await producer.publish_many(
                UserCreate(username=f"{bench.name}-{n}", password=f"pw {n}") for n in range(150)
            )
            await until(lambda: bench.counts().get("DELIVERED", 0) > 20, what="twenty delivered", within=60)

        consumer.signal(number)
        code = await consumer.ended(20)

        assert code == 0, consumer.said[-2000:]
        assert "Traceback" not in consumer.said
        assert bench.value("SELECT COUNT(*) FROM leases WHERE owner IS NOT NULL") == 0
        assert bench.value("SELECT COUNT(*) FROM instances") == 0
        # Nothing is left in doubt: every call that was made is recorded, and no claim stays.
        assert bench.value("SELECT COUNT(*) FROM entries WHERE claimed_at IS NOT NULL") == 0
        in_doubt = """
            SELECT COUNT(*) FROM entries e WHERE maybe_applied_since IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.entry_id = e.entry_id AND a.reason = 'timeout')
        """
        assert bench.value(in_doubt) == 0
        assert sum(offset for offset, _ in (await bench.committed()).values()) == bench.value(
            "SELECT SUM(next_offset) FROM watermarks"
        )


async def test_json_logs_are_one_object_a_line(bench: Bench) -> None:
    consumer = await bench.started(KCSYNC_LOG_FORMAT="json")
    await until(lambda: bench.value("SELECT COUNT(*) FROM watermarks") == 3, what="partitions taken")
    await bench.send(record(b"{"))
    await until(lambda: "record is poison" in consumer.said, what="a line about poison")
    await consumer.stop()

    lines = [json.loads(line) for line in consumer.said.splitlines() if line.startswith("{")]
    (told,) = [
        line
        for line in lines
        if line.get("event") == "record is poison" or line.get("message") == "record is poison"
    ]
    assert (told["partition"], told["offset"], told["reason"]) == (0, 0, "not_json")
