"""The topic of one run: a new one, because an empty outbox would read an old one from its start."""

from __future__ import annotations

from typing import Final

from aiokafka.admin import AIOKafkaAdminClient

from compose.native.kafka import PARTITIONS, Kafka

_PREFIX: Final = "kcsync.demo-"


def new_topic(kafka: Kafka, run: str) -> str:
    """Create the topic of a run; give its name."""
    name = f"{_PREFIX}{run}"
    kafka.create_topic(name, PARTITIONS)
    return name


async def remove_old_topics(bootstrap: str) -> None:
    """Remove the topics of earlier runs.

    Raises:
        KafkaError: Kafka did not.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=15_000)
    await admin.start()
    try:
        if old := [topic for topic in await admin.list_topics() if topic.startswith(_PREFIX)]:
            await admin.delete_topics(old)
    finally:
        await admin.close()
