"""A test's own corner of the real servers: a database, a topic, a group and users that no other test touches."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pymysql.cursors
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

from compose.native.stack import Endpoints, Stack
from consumer.database_address import DatabaseAddress
from consumer.delivery.passwords import KeyRing
from producer_lib import Producer, SealingKey
from tests.integration.support.kcsync import Finished, Running, kcsync
from tests.integration.support.waiting import until

SOURCE = "/tests"

# Short spans, so that a test sees in seconds what takes minutes in production.
SETTINGS = {
    "KCSYNC_PROFILE": "development",
    "KCSYNC_KEYCLOAK_TIMEOUT": "4s",
    "KCSYNC_LEASE": "11s",
    "KCSYNC_SYNC_INTERVAL": "2s",
    "KCSYNC_COOLDOWN": "2s",
    "KCSYNC_HEALTH_CACHE": "1s",
    "KCSYNC_BACKOFF_BASE": "500ms",
    "KCSYNC_BACKOFF_FACTOR": "1",
    "KCSYNC_SERVER_LIMIT": "3s",
    # Every user is new: the guard knows too few of them yet for a share of them to mean anything.
    "KCSYNC_DELETION_PERCENT": "100",
    "OTEL_TRACES_EXPORTER": "none",
}


@dataclass(slots=True)
class Bench:
    """One test's corner.

    Attributes:
        stack: the servers.
        name: begins the names of everything of this test, its users' too.
        dsn: an empty database.
        topic: an empty topic of `partitions`.
        folder: for files.
    """

    stack: Stack
    name: str
    dsn: str
    topic: str
    partitions: int
    folder: Path
    running: list[Running] = field(default_factory=list)

    @property
    def endpoints(self) -> Endpoints:
        return self.stack.endpoints

    @property
    def group(self) -> str:
        return self.name

    @property
    def realm(self) -> str:
        return self.endpoints.realm

    @property
    def address(self) -> DatabaseAddress:
        return DatabaseAddress.parse(self.dsn)

    def environment(self, **changes: str) -> dict[str, str]:
        """What a consumer of this corner is configured with; a change names a variable in full."""
        endpoints = self.endpoints
        return {
            "PATH": os.environ["PATH"],
            "PYTHONUNBUFFERED": "1",
            "KCSYNC_KAFKA_BOOTSTRAP": endpoints.kafka_bootstrap,
            "KCSYNC_KAFKA_TOPIC": self.topic,
            "KCSYNC_KAFKA_GROUP": self.group,
            "KCSYNC_DATABASE_DSN": self.dsn,
            "KCSYNC_KEYCLOAK_URL": endpoints.keycloak_url,
            "KCSYNC_KEYCLOAK_REALMS": self.realm,
            "KCSYNC_KEYCLOAK_CLIENT_ID": endpoints.client_id,
            "KCSYNC_KEYCLOAK_CLIENT_SECRET": endpoints.client_secret,
            "KCSYNC_KEYS_DIR": str(endpoints.keys_dir),
            **SETTINGS,
            **changes,
        }

    # Processes

    def start(self, *arguments: str, **changes: str) -> Running:
        """Start a consumer; the fixture ends it if the test does not."""
        log = self.folder / f"consumer-{len(self.running)}.log"
        consumer = Running(self.environment(**changes), log, *arguments)
        self.running.append(consumer)
        return consumer

    async def started(self, *arguments: str, **changes: str) -> Running:
        """Start a consumer and wait until it has said how things stand: then the schema is there."""
        consumer = self.start(*arguments, **changes)
        await self.has_started(consumer)
        return consumer

    async def has_started(self, consumer: Running) -> None:
        """Wait until it has said how things stand. Before, it may not know signals yet, and end by them."""
        await until(lambda: "Current Status:" in consumer.said, what="a consumer that has started", within=60)

    async def kcsync(self, *arguments: str, **changes: str) -> Finished:
        return await kcsync(self.environment(**changes), *arguments)

    async def status(self, **changes: str) -> dict[str, Any]:
        """What `kcsync status --json` says."""
        finished = await self.kcsync("status", "--json", **changes)
        report: dict[str, Any] = json.loads(finished.out)
        assert report["exit_code"] == finished.code, finished.err
        return report

    # Kafka

    def keys(self) -> KeyRing:
        return KeyRing.load(self.endpoints.keys_dir)

    def producer(self) -> Producer:
        (text,) = self.keys().public_keys().values()
        return Producer(
            bootstrap_servers=self.endpoints.kafka_bootstrap,
            source=SOURCE,
            realm=self.realm,
            sealing_key=SealingKey.from_text(text),
            topic=self.topic,
        )

    async def send(self, *records: Record) -> list[tuple[int, int]]:
        """Write raw records one after the other; the partition and offset of each."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.endpoints.kafka_bootstrap, acks="all", max_request_size=16 * 1024 * 1024
        )
        await producer.start()
        try:
            places = []
            for record in records:
                sent = await producer.send_and_wait(
                    self.topic,
                    value=record.value,
                    key=record.key,
                    partition=record.partition,
                    headers=list(record.headers),
                    timestamp_ms=record.timestamp,
                )
                places.append((sent.partition, sent.offset))
        finally:
            await producer.stop()
        return places

    async def records(self) -> list[ConsumerRecord[bytes, bytes]]:
        """Everything on the topic, as a consumer that knows nothing of us finds it."""
        places = [TopicPartition(self.topic, partition) for partition in range(self.partitions)]
        consumer = AIOKafkaConsumer(bootstrap_servers=self.endpoints.kafka_bootstrap)
        await consumer.start()
        try:
            consumer.assign(places)
            left = sum((await consumer.end_offsets(places)).values())
            for place in places:
                consumer.seek(place, 0)
            found: list[ConsumerRecord[bytes, bytes]] = []
            async with asyncio.timeout(30):
                while len(found) < left:
                    for batch in (await consumer.getmany(timeout_ms=200)).values():
                        found += batch
        finally:
            await consumer.stop()
        return found

    async def committed(self) -> dict[int, tuple[int, str]]:
        """Offset and metadata that the group has committed, by partition."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.endpoints.kafka_bootstrap)
        await admin.start()
        try:
            known = await admin.list_consumer_group_offsets(self.group)
        finally:
            await admin.close()
        return {
            place.partition: (found.offset, found.metadata)
            for place, found in known.items()
            if place.topic == self.topic and found.offset >= 0
        }

    async def commit_as_an_operator(self, offsets: dict[int, int]) -> None:
        """Set the group's offsets from outside, as `kafka-consumer-groups --reset-offsets` does."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.endpoints.kafka_bootstrap, group_id=self.group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(self.topic, partition) for partition in offsets])
            await consumer.commit(
                {
                    TopicPartition(self.topic, partition): OffsetAndMetadata(offset, "")
                    for partition, offset in offsets.items()
                }
            )
        finally:
            await consumer.stop()

    async def delete_topic(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.endpoints.kafka_bootstrap)
        await admin.start()
        try:
            await admin.delete_topics([self.topic])
        finally:
            await admin.close()

    async def configure_topic(self, **settings: str) -> None:
        """Set what stands in the topic's configuration, dots written as underscores."""
        wanted = {name.replace("_", "."): value for name, value in settings.items()}
        admin = AIOKafkaAdminClient(bootstrap_servers=self.endpoints.kafka_bootstrap)
        await admin.start()
        try:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, self.topic, wanted)])
        finally:
            await admin.close()

    async def remove_records(self, before: dict[int, int]) -> None:
        """Let Kafka's log begin at these offsets, by partition, as its retention does."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.endpoints.kafka_bootstrap)
        await admin.start()
        try:
            await admin.delete_records(
                {
                    TopicPartition(self.topic, partition): RecordsToDelete(before_offset=offset)
                    for partition, offset in before.items()
                }
            )
        finally:
            await admin.close()

    async def members(self) -> int:
        """How many members the consumer group has."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.endpoints.kafka_bootstrap)
        await admin.start()
        try:
            (answer,) = await admin.describe_consumer_groups([self.group])
        finally:
            await admin.close()
        return len(answer.groups[0][5])

    async def create_topic(self) -> None:
        await asyncio.to_thread(self.stack.kafka.create_topic, self.topic, self.partitions)

    # MariaDB

    @contextmanager
    def session(self, database: str | None = None) -> Iterator[pymysql.cursors.DictCursor]:
        """A cursor of a connection that is not the consumer's, committing each statement."""
        address = self.address
        connection = pymysql.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            database=database or address.database,
            cursorclass=pymysql.cursors.DictCursor,
            autocommit=True,
            connect_timeout=5,
            read_timeout=30,
        )
        with connection, connection.cursor() as cursor:
            yield cursor

    def rows(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """All rows of a SELECT."""
        with self.session() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())

    def value(self, sql: str, *parameters: object) -> Any:
        """The one value of a SELECT."""
        (row,) = self.rows(sql, *parameters)
        (value,) = row.values()
        return value

    def change(self, sql: str, *parameters: object) -> int:
        """Change something behind the consumer's back; rows changed."""
        with self.session() as cursor:
            return cursor.execute(sql, parameters or None)

    async def change_beside(self, sql: str, *parameters: object) -> int:
        """The same where this test's own loop drains: a lock it holds is given back only while the loop goes on."""
        return await asyncio.to_thread(self.change, sql, *parameters)

    def counts(self) -> dict[str, int]:
        """Entries by state."""
        found = self.rows("SELECT state, COUNT(*) AS n FROM entries GROUP BY state")
        return {row["state"]: row["n"] for row in found}

    def settled(self, delivered: int) -> bool:
        """Whether nothing is pending, and so many were delivered."""
        return self.counts() == {"DELIVERED": delivered}

    def kill_connections(self) -> int:
        """Kill every connection to this database but the one that does it; how many."""
        killed = 0
        with self.session() as cursor:
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
            )
            for row in list(cursor.fetchall()):
                try:
                    killed += 1 + cursor.execute(f"KILL CONNECTION {int(row['id'])}")
                except pymysql.err.OperationalError:
                    # It has ended by itself meanwhile.
                    killed -= 1
        return killed

    def every_text(self) -> Iterator[tuple[str, bytes]]:
        """Every value of every text and blob column of this database, with the name of its table."""
        columns = self.rows(
            "SELECT table_name AS t, column_name AS c FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND data_type REGEXP 'char|text|blob|binary'"
        )
        with self.session() as cursor:
            for column in columns:
                cursor.execute(f"SELECT `{column['c']}` AS v FROM `{column['t']}`")  # noqa: S608 - from the schema
                for row in cursor.fetchall():
                    if (value := row["v"]) is not None:
                        name = f"{column['t']}.{column['c']}"
                        yield name, value if isinstance(value, bytes) else str(value).encode()


@dataclass(frozen=True, slots=True)
class Record:
    """A record to write to Kafka as it is."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int | None = None
