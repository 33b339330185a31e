"""Batches as ingest writes them, without Kafka: for tests of the tables alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from consumer.ingest.decode import Poison, decode
from consumer.ingest.decode import Record as KafkaRecord
from consumer.ingest.plan import plan_batch, progress_of
from consumer.outbox.database import Database
from consumer.outbox.ingest_store import BatchRows, IngestStore
from consumer.outbox.rows import NewEntry, PartitionProgress, Position

REALM = "tests"


@dataclass(slots=True)
class Writer:
    """One ingesting process, as the tables see it: it writes one partition."""

    store: IngestStore
    topic_id: int
    partition: int
    token: int
    next_offset: int

    @classmethod
    async def take(
        cls, database: Database, *, name: str = "first", partition: int = 0, next_offset: int = 0
    ) -> Writer:
        """Become the writer of a partition."""
        store = IngestStore(database, group="tests", writer=name)
        topic_id = await store.topic_id("cluster", "topic")
        token = await store.take_partition(topic_id, partition, next_offset)
        return cls(store, topic_id, partition, token, next_offset)

    async def persist(self, events: Sequence[dict[str, Any]]) -> BatchRows:
        """Persist events at the next offsets; the watermark this writer remembers moves only on success."""
        records = [
            KafkaRecord(
                position=Position(self.topic_id, self.partition, self.next_offset + number),
                timestamp=0,
                key=event["subject"].lower().encode(),
                value=orjson.dumps(event),
                headers={},
            )
            for number, event in enumerate(events)
        ]
        decoded = [
            (record, decode(record, {event["realm"]})) for record, event in zip(records, events, strict=True)
        ]
        assert not [result for _, result in decoded if isinstance(result, Poison)]
        progress: PartitionProgress = progress_of(
            self.partition, self.token, self.next_offset, records[-1], b"f" * 16
        )
        rows = await self.store.persist(
            self.topic_id,
            [progress],
            [result.event_hash for _, result in decoded if isinstance(result, NewEntry)],
            lambda seen: plan_batch(decoded, seen, lambda plaintext, context: ("k", b"{}")),
        )
        self.next_offset = progress.next_offset
        return rows


def update(event_id: str, username: str, **changes: Any) -> dict[str, Any]:
    """A valid event."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/tests",
        "type": "kcsync.user_update.v1",
        "subject": username,
        "time": "2026-11-21T12:00:00Z",
        "datacontenttype": "application/json",
        "realm": REALM,
        "data": {"enabled": True},
        **changes,
    }
