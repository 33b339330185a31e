"""Notes in the outbox what Kafka holds of our partitions, so that housekeeping knows what can never be read again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog

from consumer.ingest.kafka import KafkaReader, KafkaUnavailable
from consumer.outbox.errors import OutboxError
from consumer.outbox.ingest_store import IngestStore
from consumer.outbox.rows import LogNote

__all__ = ["LogWatch"]

_log = structlog.get_logger(__name__)
_LOOK_EVERY = 600.0


class LogWatch:
    """Looks after each rebalance, and every ten minutes."""

    def __init__(self, store: IngestStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._look_at = float("-inf")

    def forget(self) -> None:
        """Other partitions are ours: they are looked at at once."""
        self._look_at = float("-inf")

    async def look(self, reader: KafkaReader, topic_id: int, tokens: Mapping[int, int]) -> None:
        """Look at partitions, if it is time to.

        A fault is no harm: nothing is forgotten meanwhile, and the loop itself meets Kafka and MariaDB all the time.

        Args:
            reader: the member that owns them.
            topic_id: their topic.
            tokens: writer tokens by partition. What another process writes by now is not noted.
        """
        now = self._clock()
        if not tokens or now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        try:
            logs = await reader.logs(tokens)
            notes = [LogNote(p, tokens[p], log.start, log.end) for p, log in sorted(logs.items())]
            await self._store.note_logs(topic_id, notes)
        except (KafkaUnavailable, OutboxError) as error:
            _log.debug("what Kafka holds was not noted", reason=str(error))
