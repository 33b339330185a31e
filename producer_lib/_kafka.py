"""One aiokafka producer whose every wait ends.

Left alone, aiokafka's idempotent producer retries for ever, and its `stop()` waits for that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.errors import ProducerClosed as ConnectionAbandonedError

from producer_lib._errors import KafkaUnreachable, UnknownTopic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka.structs import RecordMetadata

_REQUEST_TIMEOUT: Final = 10.0
_CLEANUP_TIMEOUT: Final = 2.0

# A topic created a moment ago becomes known within it; each tenth of a second aiokafka logs one more ERROR.
_TOPIC_TIMEOUT: Final = 3.0

_DEFAULTS: Final = {
    "compression_type": "lz4",
    "linger_ms": 5,
    "max_batch_size": 128 * 1024,
}
_FIXED: Final = frozenset(
    {
        "acks",
        "bootstrap_servers",
        "enable_idempotence",
        "key_serializer",
        "partitioner",
        "transactional_id",
        "value_serializer",
    }
)


def settings(bootstrap_servers: str, delivery_timeout: float, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return aiokafka's settings: ours, over them the application's, over them what holds always.

    Raises:
        ValueError: The application gave one of the last.
    """
    if forbidden := sorted(_FIXED & given.keys()):
        raise ValueError(
            f"Producer(kafka=...) cannot set {', '.join(forbidden)}: each user's order rests on it"
        )
    return {
        **_DEFAULTS,
        "request_timeout_ms": int(min(_REQUEST_TIMEOUT, delivery_timeout) * 1000),
        **given,
        "bootstrap_servers": bootstrap_servers,
        # With it come acks=all and retries that neither repeat nor swap. The default partitioner is Java's murmur2.
        "enable_idempotence": True,
    }


class Connection:
    """An open producer of one topic.

    Attributes:
        broken: aiokafka has failed in a way it does not recover from: after a refused batch, Kafka accepts no further
            sequence number of this producer for that partition (aio-libs/aiokafka#1017 is one way to get there).
    """

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self.broken = False

    @classmethod
    async def open(cls, options: Mapping[str, Any], topic: str, *, within: float) -> Connection:
        """Connect, and see that the topic exists.

        Args:
            options: aiokafka's settings, see `settings`.
            topic: The topic to publish to.
            within: How long to try, in seconds; cleaning up may take 2 more.

        Raises:
            KafkaUnreachable: No broker answered.
            UnknownTopic: The topic is not there, or not for this user.
        """
        connection = cls(AIOKafkaProducer(**options), topic)
        try:
            await connection._connect(options["bootstrap_servers"], within)
        except BaseException:
            await connection.close(within=_CLEANUP_TIMEOUT)
            raise
        return connection

    async def _connect(self, bootstrap_servers: str, within: float) -> None:
        connected = False
        try:
            async with asyncio.timeout(within):
                await self._producer.start()
                connected = True
                async with asyncio.timeout(_TOPIC_TIMEOUT):
                    await self._producer.partitions_for(self._topic)
        except TimeoutError as error:
            if connected:
                raise UnknownTopic(self._topic) from error
            raise KafkaUnreachable(bootstrap_servers, f"no answer within {within:g} s") from error
        except (TopicAuthorizationFailedError, UnknownTopicOrPartitionError) as error:
            raise UnknownTopic(self._topic) from error
        except KafkaConnectionError as error:
            raise KafkaUnreachable(bootstrap_servers, "no broker accepted a connection") from error
        except KafkaError as error:
            raise KafkaUnreachable(bootstrap_servers, str(error)) from error

    async def send(
        self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> asyncio.Future[RecordMetadata]:
        """Put a record into the buffer, behind those already there; return the future of Kafka's answer.

        Waits without end while the buffer is full: the caller bounds it.

        Raises:
            KafkaError: The record cannot be sent.
        """
        while True:
            try:
                answer: asyncio.Future[RecordMetadata] = await self._producer.send(
                    self._topic, value=value, key=key, headers=list(headers)
                )
            except KafkaTimeoutError:
                # The buffer stayed full for one request timeout. Nothing was put into it.
                continue
            # An answer that comes after its publisher has gone is nobody's error.
            answer.add_done_callback(lambda future: future.cancelled() or future.exception())
            return answer

    async def close(self, *, within: float) -> None:
        """Send what is buffered, for at most `within` seconds, then close."""
        try:
            async with asyncio.timeout(within):
                await self._producer.stop()
        except TimeoutError:
            await self._abandon()

    async def _abandon(self) -> None:
        # aiokafka has no public way to give up. Buffered records fail first, so that what waits for them ends; then
        # the connections, so that requests end; then the sender, which awaits its tasks one by one when cancelled,
        # and passes a further cancellation on to the one it awaits.
        self._producer._message_accumulator.fail_all(ConnectionAbandonedError())  # noqa: SLF001 - see above
        sender = self._producer._sender.sender_task  # noqa: SLF001 - see above
        try:
            async with asyncio.timeout(_CLEANUP_TIMEOUT):
                await self._producer.client.close()
                while sender is not None and not sender.done():
                    sender.cancel()
                    await asyncio.wait({sender}, timeout=0.05)
        except TimeoutError:
            return
