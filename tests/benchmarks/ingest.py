"""Ingest against a bare loop: aiokafka `getmany`, one multi-row INSERT of the record, COMMIT, offset commit.

Both read the same 36,000 records (four kinds, 2,000 users) from the beginning with the same fetch settings, batch and
database server, in turn. The bare loop stores bytes and checks nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiomysql
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from opentelemetry.trace import NoOpTracer

from compose.native.stack import Stack
from consumer.database_address import DatabaseAddress
from consumer.ingest.ingest import Ingest, IngestPolicy
from consumer.ingest.kafka import KafkaAddress
from consumer.ingest.pausing import PausePolicy
from consumer.outbox.audit import AuditStore
from consumer.outbox.ingest_store import IngestStore
from producer_lib import username_key
from tests.benchmarks.backlog import empty_outbox
from tests.benchmarks.result import Result, ratio_result

RECORDS = 36_000
USERS = 2_000
BATCH = 1_000
ROUNDS = 5


async def scenario(stack: Stack) -> list[Result]:
    """Run both loops in turn."""
    topic = f"bench-ingest-{uuid.uuid4().hex[:8]}"
    stack.kafka.create_topic(topic, 12)
    bootstrap = stack.endpoints.kafka_bootstrap
    await _publish(bootstrap, topic)
    ours, raw = [], []
    for number in range(ROUNDS + 1):
        mine = await _ours(stack, topic, f"bench_ours_{number}")
        bare = await _bare(stack, topic, f"bench_bare_{number}")
        if number:  # the first round warms up
            ours.append(RECORDS / mine)
            raw.append(RECORDS / bare)
    return [ratio_result("ingest", "events/s", ours, raw, target=0.5)]


async def _publish(bootstrap: str, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, max_batch_size=131_072)
    await producer.start()
    try:
        sends = []
        for number in range(RECORDS):
            event = _event(number)
            key = username_key(event["subject"]).encode()
            sends.append(await producer.send(topic, json.dumps(event).encode(), key=key))
        await asyncio.gather(*sends)
    finally:
        await producer.stop()


def _event(number: int) -> dict[str, Any]:
    user = f"bench.user.{number % USERS}"
    kind = ("user_create", "user_update", "user_update", "password_change")[number // USERS % 4]
    bodies: dict[str, dict[str, Any]] = {
        "user_create": {"email": f"{user}@example.org", "first_name": "Bench", "last_name": "User"},
        "user_update": {"last_name": f"User {number}", "attributes": {"seq": [str(number)]}},
        "password_change": {
            "password": {
                "sealed": {"kid": "k1", "alg": "HPKE-X25519-SHA256-AES256GCM", "ciphertext": "A" * 100}
            }
        },
    }
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "/bench",
        "type": f"kcsync.{kind}.v1",
        "subject": user,
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "realm": "bench",
        "data": bodies[kind],
    }


async def _ours(stack: Stack, topic: str, name: str) -> float:
    async with empty_outbox(stack, name) as database:
        ingest = Ingest(
            KafkaAddress(bootstrap=stack.endpoints.kafka_bootstrap, topic=topic, group=name, client_id=name),
            IngestStore(database, group=name, writer=name),
            AuditStore(database),
            policy=IngestPolicy(batch=BATCH, realms=frozenset({"bench"}), pause=PausePolicy.IMMEDIATELY),
            seal=lambda plaintext, _context: ("k1", plaintext),
            tracer=NoOpTracer(),
            on_persisted=lambda: None,
            on_state=print,
        )
        task = asyncio.create_task(ingest.run())
        try:
            while ingest.persisted == 0:
                await asyncio.sleep(0.001)
            first, began = ingest.persisted, time.perf_counter()
            while ingest.persisted < RECORDS:
                await asyncio.sleep(0.001)
            seconds = time.perf_counter() - began
            # From the first batch on: joining the group is not what is compared.
            return seconds * RECORDS / (RECORDS - first)
        finally:
            ingest.stop()
            await task


async def _bare(stack: Stack, topic: str, name: str) -> float:
    address = DatabaseAddress.parse(stack.mariadb.new_database(name))
    connection = await aiomysql.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        db=address.database,
        autocommit=False,
    )
    cursor = await connection.cursor()
    await cursor.execute(Path(__file__).with_name("bare_table.sql").read_text(encoding="utf-8"))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stack.endpoints.kafka_bootstrap,
        group_id=name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=512 * 1024,
    )
    consumer.subscribe([topic])
    await consumer.start()
    try:
        done, first, began, committed = 0, 0, 0.0, 0.0
        offsets: dict[TopicPartition, int] = {}
        while done < RECORDS:
            batches = await consumer.getmany(timeout_ms=200, max_records=BATCH)
            rows = [
                (r.topic, r.partition, r.offset, r.key, r.value)
                for records in batches.values()
                for r in records
            ]
            if not rows:
                continue
            await cursor.executemany(
                "INSERT INTO bare (topic, partition_no, log_offset, record_key, value) VALUES (%s, %s, %s, %s, %s)",
                [(t, p, o, k.decode(), v.decode()) for t, p, o, k, v in rows],
            )
            await connection.commit()
            offsets |= {tp: records[-1].offset + 1 for tp, records in batches.items()}
            if time.perf_counter() - committed >= 1.0:
                await consumer.commit(offsets)
                committed = time.perf_counter()
            done += len(rows)
            if not first:
                first, began = done, time.perf_counter()
        return (time.perf_counter() - began) * RECORDS / (RECORDS - first)
    finally:
        await consumer.stop()
        connection.close()
