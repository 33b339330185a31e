"""A thin adapter over aiokafka: what ingest needs of Kafka, with every wait bounded and the library's traps closed.

The traps (aiokafka 0.14): a rebalance forgets every pause; `committed()` drops the metadata; a commit of a member that
has left the group succeeds; `stop()` may raise CancelledError or hang; a cancelled `getmany()` switches the
max-poll check off for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata

from consumer.ingest.decode import Record
from consumer.ingest.resume import LogRange
from consumer.ingest.retention import Retention, Unread
from consumer.outbox.rows import Position

__all__ = ["KafkaAddress", "KafkaReader", "KafkaUnavailable", "PartitionState"]

_log = structlog.get_logger(__name__)
_WAIT = 15.0
_NO_OFFSET = -1
_NOT_ALLOWED = frozenset({29, 31})  # TOPIC_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED
_RETENTION = ("cleanup.policy", "retention.ms", "retention.bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaAddress:
    """Where Kafka is and how to speak to it. `security` holds aiokafka's own settings and is never shown."""

    bootstrap: str
    topic: str
    group: str
    client_id: str
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)


class KafkaUnavailable(Exception):
    """Kafka cannot be reached or does not answer; nothing was lost, the same is tried again."""


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What Kafka says of one partition: what it holds, and what the group has committed with which metadata."""

    log: LogRange
    committed: tuple[int, str] | None


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    def __init__(self, consumer: AIOKafkaConsumer, on_assigned: Callable[[frozenset[int]], None]) -> None:
        self._consumer = consumer
        self._on_assigned = on_assigned

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Nothing to do: the watermark's writer token fences whatever is still under way."""

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        # Before any await: the assignment is active already, and records would flow.
        if assigned:
            self._consumer.pause(*assigned)
        self._on_assigned(frozenset(tp.partition for tp in assigned))


class KafkaReader:
    """One member of the consumer group, reading one topic."""

    def __init__(self, address: KafkaAddress, on_assigned: Callable[[frozenset[int]], None]) -> None:
        """Prepare a member.

        Args:
            address: where and what to read.
            on_assigned: told each new assignment, in which every partition is paused; must not block.
        """
        self._address = address
        self._on_assigned = on_assigned
        self._consumer: Any = None
        self._admin: Any = None
        self.cluster = ""

    async def start(self) -> None:
        """Join the group.

        Raises:
            KafkaUnavailable: no broker answers, or the topic does not exist.
        """
        address = self._address
        common = {"bootstrap_servers": address.bootstrap, "client_id": address.client_id, **address.security}
        self._consumer = AIOKafkaConsumer(
            **common,
            group_id=address.group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            partition_assignment_strategy=(StickyPartitionAssignor,),
            max_partition_fetch_bytes=512 * 1024,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=3_000,
            rebalance_timeout_ms=60_000,
            max_poll_interval_ms=300_000,
        )
        self._admin = AIOKafkaAdminClient(**common)
        # Without topics at first: only subscribe() takes a listener.
        self._consumer.subscribe([address.topic], listener=_Listener(self._consumer, self._on_assigned))
        try:
            async with asyncio.timeout(_WAIT):
                await self._admin.start()
                self.cluster = str((await self._admin.describe_cluster())["cluster_id"])
                await self._consumer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await self.stop()
            raise KafkaUnavailable(
                f"Kafka at {address.bootstrap} cannot be reached ({_brief(error)})"
            ) from error

    async def stop(self) -> None:
        """Leave the group, within a time limit and whatever the library makes of it."""
        consumer, self._consumer = self._consumer, None
        admin, self._admin = self._admin, None
        if consumer is not None:
            await _close(consumer, "stop")
        if admin is not None:
            await _close(admin, "close")

    def assignment(self) -> frozenset[int]:
        """The partitions assigned to us now."""
        return frozenset(tp.partition for tp in self._consumer.assignment())

    async def states(self, partitions: Collection[int]) -> dict[int, PartitionState]:
        """What Kafka holds and what the group has committed, for each partition.

        Raises:
            KafkaUnavailable: no answer.
        """
        tps = [self._tp(partition) for partition in partitions]
        try:
            async with asyncio.timeout(_WAIT):
                logs = await self._logs(tps)
                committed = await self._admin.list_consumer_group_offsets(self._address.group, partitions=tps)
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnavailable(f"Kafka does not tell its offsets ({_brief(error)})") from error
        return {
            tp.partition: PartitionState(
                log=logs[tp.partition],
                committed=(known.offset, known.metadata)
                if (known := committed.get(tp)) is not None and known.offset != _NO_OFFSET
                else None,
            )
            for tp in tps
        }

    async def logs(self, partitions: Collection[int]) -> dict[int, LogRange]:
        """What Kafka holds, for each partition.

        Raises:
            KafkaUnavailable: no answer.
        """
        try:
            async with asyncio.timeout(_WAIT):
                return await self._logs([self._tp(partition) for partition in partitions])
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnavailable(f"Kafka does not tell its offsets ({_brief(error)})") from error

    async def retention(self) -> Retention | None:
        """How long the topic keeps its records; None where we may not read its configuration.

        Raises:
            KafkaUnavailable: no answer.
        """
        topic = ConfigResource(ConfigResourceType.TOPIC, self._address.topic, dict.fromkeys(_RETENTION))
        try:
            async with asyncio.timeout(_WAIT):
                (response,) = await self._admin.describe_configs([topic])
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnavailable(f"Kafka does not tell the topic's retention ({_brief(error)})") from error
        code, message, _, _, entries = response.resources[0]
        if code in _NOT_ALLOWED:
            return None
        if code:
            raise KafkaUnavailable(f"Kafka does not tell the topic's retention (error {code}: {message})")
        return Retention.of({name: value for name, value, *_ in entries})

    async def unread(
        self, next_offsets: Mapping[int, int], moments: Mapping[int, float]
    ) -> dict[int, Unread]:
        """What each partition holds that was not read.

        Args:
            next_offsets: the first record that was not read, by partition.
            moments: in seconds since the epoch: from where on its records are younger is asked for each partition.

        Raises:
            KafkaUnavailable: no answer.
        """
        tps = {partition: self._tp(partition) for partition in next_offsets}
        times = {tp: max(0, int(moments[p] * 1000)) for p, tp in tps.items() if moments[p] > float("-inf")}
        try:
            async with asyncio.timeout(_WAIT):
                logs = await self._logs(list(tps.values()))
                younger = await self._consumer.offsets_for_times(times) if times else {}
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnavailable(f"Kafka does not tell its offsets ({_brief(error)})") from error
        return {
            partition: Unread(
                next_offset=next_offsets[partition],
                start=logs[partition].start,
                end=logs[partition].end,
                younger_from=None if (found := younger.get(tp)) is None else found.offset,
            )
            for partition, tp in tps.items()
        }

    def partitions(self) -> int:
        """How many partitions the topic has."""
        return len(self._consumer.partitions_for_topic(self._address.topic) or ())

    def seek(self, partition: int, offset: int) -> None:
        """Read on from an offset; ignored if the partition is no longer ours."""
        if partition in self.assignment():
            self._consumer.seek(self._tp(partition), offset)

    def pause_only(self, paused: Collection[int]) -> None:
        """Pause exactly these partitions of the assignment and let the others flow."""
        before = {tp.partition for tp in self._consumer.paused()}
        ours = self.assignment()
        to_pause = [self._tp(p) for p in sorted(ours & set(paused) - before)]
        to_resume = [self._tp(p) for p in sorted((before & ours) - set(paused))]
        if to_pause:
            self._consumer.pause(*to_pause)
        if to_resume:
            self._consumer.resume(*to_resume)

    async def poll(self, topic_id: int, *, wait: float, limit: int) -> dict[int, list[Record]]:
        """The next records, by partition. Must be called all the time, also while paused: it is what keeps us a member.

        Raises:
            KafkaUnavailable: the library gave up on a partition; its position must be set anew.
        """
        try:
            batches = await self._consumer.getmany(timeout_ms=int(wait * 1000), max_records=limit)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
            raise KafkaUnavailable(f"a position is no longer valid ({_brief(error)})") from error
        except KafkaError as error:
            raise KafkaUnavailable(f"Kafka cannot be read ({_brief(error)})") from error
        return {
            tp.partition: [_record(topic_id, record) for record in records] for tp, records in batches.items()
        }

    async def commit(self, offsets: Mapping[int, tuple[int, str]]) -> bool:
        """Commit (offset, stamp) for partitions that are ours now; False if Kafka did not take it."""
        ours = self.assignment()
        request = {
            self._tp(p): OffsetAndMetadata(offset, stamp)
            for p, (offset, stamp) in offsets.items()
            if p in ours
        }
        if not request:
            return True
        try:
            async with asyncio.timeout(_WAIT):
                await self._consumer.commit(request)
        except (KafkaError, OSError, TimeoutError) as error:
            # Not needed for correctness: the watermark in the database decides where to go on.
            _log.warning("offsets not committed", reason=_brief(error))
            return False
        return True

    async def _logs(self, tps: Collection[TopicPartition]) -> dict[int, LogRange]:
        start = await self._consumer.beginning_offsets(tps)
        end = await self._consumer.end_offsets(tps)
        return {tp.partition: LogRange(start[tp], end[tp]) for tp in tps}

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self._address.topic, partition)


def _record(topic_id: int, record: Any) -> Record:
    return Record(
        position=Position(topic_id, record.partition, record.offset),
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=dict(record.headers),
    )


def _brief(error: BaseException) -> str:
    return (
        "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"[:200]
    )


async def end_offsets(address: KafkaAddress) -> dict[int, int]:
    """Where each partition of the topic ends now; asked without joining the group.

    Raises:
        KafkaUnavailable: no broker answers, or the topic does not exist.
    """
    common = {
        "bootstrap_servers": address.bootstrap,
        "client_id": f"{address.client_id}-look",
        **address.security,
    }
    admin, client = AIOKafkaAdminClient(**common), AIOKafkaConsumer(**common)
    try:
        async with asyncio.timeout(_WAIT):
            await admin.start()
            (topic,) = await admin.describe_topics([address.topic])
            if topic["error_code"] or not topic["partitions"]:
                raise KafkaUnavailable(f"Kafka at {address.bootstrap} has no topic {address.topic!r}")
            await client.start()
            tps = [TopicPartition(address.topic, partition["partition"]) for partition in topic["partitions"]]
            return {tp.partition: end for tp, end in (await client.end_offsets(tps)).items()}
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnavailable(f"Kafka at {address.bootstrap} cannot be reached ({_brief(error)})") from error
    finally:
        await _close(client, "stop")
        await _close(admin, "close")


async def _close(client: Any, method: str) -> None:
    """Close a client, within a time limit and whatever the library makes of it.

    A closing fetcher may raise a CancelledError that nobody asked for (aiokafka issue 647); one that was asked for
    goes on.
    """
    with contextlib.suppress(KafkaError, OSError, TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(_WAIT):
            await getattr(client, method)()
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
