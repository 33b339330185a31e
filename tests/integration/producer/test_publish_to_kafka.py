from __future__ import annotations

import asyncio
import base64
import time
import uuid
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import murmur2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from producer_lib import (
    PasswordChange,
    Producer,
    Published,
    PublishTimeout,
    SealingKey,
    UnknownTopic,
    UserCreate,
    UserDelete,
    UserUpdate,
    check_event,
    sealing_info,
)

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from compose.native.stack import Stack

PARTITIONS = 12
PRIVATE = X25519PrivateKey.generate()
KEY = SealingKey("test-1", PRIVATE.public_key().public_bytes_raw())


@pytest.fixture
async def topic(stack: Stack) -> str:
    """A topic of this test alone."""
    name = f"producer-{uuid.uuid4()}"
    await asyncio.to_thread(stack.kafka.create_topic, name, PARTITIONS)
    return name


def a_producer(stack: Stack, topic: str, delivery_timeout: float = 30.0) -> Producer:
    return Producer(
        bootstrap_servers=stack.endpoints.kafka_bootstrap,
        source="/test/producer",
        realm="customers",
        sealing_key=KEY,
        topic=topic,
        delivery_timeout=delivery_timeout,
    )


async def all_records(stack: Stack, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
    """What a consumer that knows nothing of us finds, partition by partition."""
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.endpoints.kafka_bootstrap)
    await consumer.start()
    try:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            consumer.seek(place, 0)
        records: list[ConsumerRecord[bytes, bytes]] = []
        async with asyncio.timeout(20):
            while len(records) < sum(ends.values()):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records.extend(batch)
    finally:
        await consumer.stop()
    return sorted(records, key=lambda record: (record.partition, record.offset))


def partition_of(key: bytes) -> int:
    """The partition as Kafka's Java client chooses it."""
    return int((murmur2(key) & 0x7FFFFFFF) % PARTITIONS)


def opened(event: dict[str, Any]) -> str:
    ciphertext = event["data"]["password"]["sealed"]["ciphertext"]
    info = sealing_info(event["realm"], event["subject"].lower(), event["id"])
    sealed = base64.urlsafe_b64decode(ciphertext + "=" * (-len(ciphertext) % 4))
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM).decrypt(sealed, PRIVATE, info=info).decode()


async def test_all_four_kinds_arrive_as_the_contract_says(stack: Stack, topic: str) -> None:
    changes = [
        UserCreate(username="Ada", email="ada@example.com", password="first secret"),
        UserUpdate(username="ADA", attributes={"team": ["engines"]}),
        PasswordChange(username="ada", password="second secret"),
        UserDelete(username="Ada", reason="left"),
    ]
    outer = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))

    async with a_producer(stack, topic) as producer:
        with use_span(NonRecordingSpan(outer)):
            published = [await producer.publish(change) for change in changes]

    records = await all_records(stack, topic)
    events = [orjson.loads(record.value or b"") for record in records]
    for event in events:
        check_event(event)
    assert [event["type"] for event in events] == [f"kcsync.{change.kind}.v1" for change in changes]
    assert [event["subject"] for event in events] == ["Ada", "ADA", "ada", "Ada"]
    assert {(record.key, record.partition) for record in records} == {(b"ada", partition_of(b"ada"))}
    assert [opened(events[0]), opened(events[2])] == ["first secret", "second secret"]
    assert not any(b"secret" in (record.value or b"") for record in records)
    for record, event, confirmed in zip(records, events, published, strict=True):
        assert confirmed == Published(
            event_id=event["id"],
            topic=topic,
            partition=record.partition,
            offset=record.offset,
            traceparent=event["traceparent"],
        )
        headers = dict(record.headers)
        assert headers["content-type"] == b"application/cloudevents+json"
        assert headers["traceparent"].decode() == event["traceparent"]
        assert event["traceparent"].split("-")[1] == f"{0xABC:032x}"


async def test_thousands_at_once_keep_each_user_in_order_in_its_partition(stack: Stack, topic: str) -> None:
    users = [f"User-{number}" for number in range(40)]
    changes = [
        UserUpdate(username=users[number % len(users)], attributes={"sequence": [str(number)]})
        for number in range(4000)
    ]

    async with a_producer(stack, topic) as producer:
        published = await producer.publish_many(changes)

    assert [each.event_id for each in published] == [change.event_id for change in changes]
    seen: dict[bytes, list[int]] = {}
    for record in await all_records(stack, topic):
        assert record.key is not None
        assert record.partition == partition_of(record.key)
        sequence = orjson.loads(record.value or b"")["data"]["attributes"]["sequence"][0]
        seen.setdefault(record.key, []).append(int(sequence))
    assert seen == {
        user.lower().encode(): list(range(number, 4000, len(users))) for number, user in enumerate(users)
    }


async def test_a_topic_that_does_not_exist_is_named_at_the_start(stack: Stack) -> None:
    with pytest.raises(UnknownTopic, match="nobody-made-this"):
        await a_producer(stack, "nobody-made-this", delivery_timeout=1.0).start()


async def test_a_dead_broker_delays_nobody_beyond_the_timeout_and_loses_no_order(
    stack: Stack, topic: str
) -> None:
    first, second = (UserUpdate(username="ada", enabled=enabled) for enabled in (False, True))
    producer = a_producer(stack, topic, delivery_timeout=1.5)
    await producer.start()
    try:
        await asyncio.to_thread(stack.kafka.kill)
        begun = time.monotonic()
        with pytest.raises(PublishTimeout) as failed:
            await producer.publish(first)
        assert time.monotonic() - begun < 5
        assert failed.value.event_id == first.event_id
    finally:
        await asyncio.to_thread(stack.kafka.start)

    async with asyncio.timeout(60):
        for change in (first, second):
            while True:
                try:
                    await producer.publish(change)
                    break
                except PublishTimeout:
                    continue
    await producer.close()

    ids = [orjson.loads(record.value or b"")["id"] for record in await all_records(stack, topic)]
    # Repeats are the consumer's to recognise; the order of first appearances is ours to keep.
    assert list(dict.fromkeys(ids)) == [first.event_id, second.event_id]


@pytest.mark.long
async def test_closing_while_the_broker_is_dead_ends(stack: Stack, topic: str) -> None:
    producer = a_producer(stack, topic, delivery_timeout=1.0)
    await producer.start()
    before = asyncio.all_tasks()
    try:
        await asyncio.to_thread(stack.kafka.kill)
        with pytest.raises(PublishTimeout):
            await producer.publish(UserDelete(username="ada"))
        begun = time.monotonic()
        await producer.close()
        assert time.monotonic() - begun < 5
        left = [task for task in before if "aiokafka" in repr(task) and not task.done()]
        assert left == []
    finally:
        await asyncio.to_thread(stack.kafka.start)
