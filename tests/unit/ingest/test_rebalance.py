from __future__ import annotations

from typing import Any

from aiokafka import TopicPartition

from consumer.ingest.kafka import KafkaAddress, KafkaReader


async def test_an_assignment_is_paused_before_anything_else_happens(monkeypatch: Any) -> None:
    """The library forgets every pause at a rebalance, and fetches as soon as its listener lets it."""
    happened: list[object] = []

    class Consumer:
        def __init__(self, **_: object) -> None: ...

        def subscribe(self, _: list[str], listener: Any) -> None:
            listener.on_partitions_assigned({TopicPartition("t", 1), TopicPartition("t", 2)})

        def pause(self, *partitions: TopicPartition) -> None:
            happened.append({tp.partition for tp in partitions})

        async def start(self) -> None: ...

        async def stop(self) -> None: ...

    class Admin(Consumer):
        async def describe_cluster(self) -> dict[str, str]:
            return {"cluster_id": "c"}

        async def close(self) -> None: ...

    monkeypatch.setattr("consumer.ingest.kafka.AIOKafkaConsumer", Consumer)
    monkeypatch.setattr("consumer.ingest.kafka.AIOKafkaAdminClient", Admin)
    address = KafkaAddress(bootstrap="", topic="t", group="g", client_id="i")
    reader = KafkaReader(address, lambda assigned: happened.append(("told", assigned)))

    await reader.start()
    await reader.stop()

    assert happened == [{1, 2}, ("told", frozenset({1, 2}))]
