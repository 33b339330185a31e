"""One topic, one consumer group, and their members, as aiokafka shows them (consumer/ingest/kafka.py).

A member that stands still for longer than the session is expelled and its partitions go to others. Until its first
heartbeat after it goes on it knows nothing of that, and reads what it was assigned before. Commits of an old
generation are refused.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aiokafka.partitioner import murmur2

from consumer.ingest.decode import Record
from consumer.ingest.kafka import KafkaUnavailable, PartitionState
from consumer.ingest.resume import LogRange
from consumer.ingest.retention import Retention, Unread
from consumer.outbox.rows import Position
from tests.simulation.virtual_loop import Host, HostState, VirtualLoop
from tests.simulation.weather import Weather

__all__ = ["Broker", "SimReader"]

SESSION = 6.0
"""Seconds without a heartbeat after which a member is expelled."""


class WatchedGroup(Protocol):
    """Who is told of every commit."""

    def committed(self, partition: int, offset: int) -> None:
        """The group has committed an offset."""


@dataclass(slots=True)
class Broker:
    """The topic and the group."""

    loop: VirtualLoop
    weather: Weather
    rng: random.Random
    watch: WatchedGroup
    partitions: int
    logs: dict[int, list[Record]] = field(default_factory=dict)
    committed: dict[int, tuple[int, str]] = field(default_factory=dict)
    members: list[SimReader] = field(default_factory=list)
    generation: int = 0

    def __post_init__(self) -> None:
        self.logs = {partition: [] for partition in range(self.partitions)}

    def home(self, key: bytes) -> int:
        """The partition of a key, as producers choose it."""
        return int(murmur2(key) & 0x7FFFFFFF) % self.partitions

    def append(self, partition: int, key: bytes | None, value: bytes | None) -> Position:
        """Take a record; returning acknowledges it."""
        log = self.logs[partition]
        position = Position(1, partition, len(log))
        timestamp = 1_795_300_000_000 + int(self.loop.time() * 1000)
        log.append(Record(position=position, timestamp=timestamp, key=key, value=value, headers={}))
        return position

    def join(self, member: SimReader) -> None:
        """A member joins."""
        self.members.append(member)
        self.rebalance()

    def leave(self, member: SimReader) -> None:
        """A member leaves, or is expelled."""
        if member in self.members:
            self.members.remove(member)
            self.rebalance()

    def rebalance(self) -> None:
        """Deal the partitions anew."""
        self.generation += 1
        order = self.rng.sample(self.members, len(self.members))
        for number, member in enumerate(order):
            dealt = frozenset(range(number, self.partitions, len(order)))
            self.loop.call_later(
                self.rng.uniform(0.01, 0.5),
                member.take_assignment,
                self.generation,
                dealt,
                context=member.host.context,
            )

    async def expel(self) -> None:
        """Expel members whose heartbeats do not come."""
        while True:
            await asyncio.sleep(0.5)
            now = self.loop.time()
            for member in list(self.members):
                since = member.host.stopped_at
                if since is not None and now - since > SESSION:
                    self.leave(member)
                    # Held back until it goes on; and then its next heartbeat is still to come.
                    context = member.host.context
                    self.loop.call_later(self.rng.uniform(0, 3.0), member.notice, context=context)


class SimReader:
    """One member, as `KafkaReader` shows it."""

    cluster = "simulated"

    def __init__(self, broker: Broker, host: Host, on_assigned: Callable[[frozenset[int]], None]) -> None:
        self.host = host
        self._broker = broker
        self._on_assigned = on_assigned
        self._generation = 0
        self._assigned: frozenset[int] = frozenset()
        self._paused: set[int] = set()
        self._positions: dict[int, int] = {}
        self._stopped = False

    async def start(self) -> None:
        await self._reach()
        self._broker.join(self)

    async def stop(self) -> None:
        self._stopped = True
        self._broker.leave(self)

    def take_assignment(self, generation: int, assigned: frozenset[int]) -> None:
        """The group's leader has dealt; all of it is paused before anything else happens."""
        if self._stopped or generation <= self._generation or self not in self._broker.members:
            return
        self._generation, self._assigned = generation, assigned
        self._paused = set(assigned)
        self._positions = {}
        self._on_assigned(assigned)

    def notice(self) -> None:
        """A heartbeat tells that we were expelled, some time after we went on."""
        broker = self._broker
        if not self._stopped and self not in broker.members and self.host.state is HostState.RUNNING:
            broker.loop.call_later(broker.rng.uniform(0.1, 3.0), self._rejoin)

    def assignment(self) -> frozenset[int]:
        return self._assigned

    def partitions(self) -> int:
        return self._broker.partitions

    async def states(self, partitions: Collection[int]) -> dict[int, PartitionState]:
        await self._reach()
        broker = self._broker
        return {
            partition: PartitionState(
                LogRange(0, len(broker.logs[partition])), broker.committed.get(partition)
            )
            for partition in partitions
        }

    async def logs(self, partitions: Collection[int]) -> dict[int, LogRange]:
        await self._reach()
        return {partition: LogRange(0, len(self._broker.logs[partition])) for partition in partitions}

    async def retention(self) -> Retention | None:
        await self._reach()
        return None

    async def unread(
        self, next_offsets: Mapping[int, int], moments: Mapping[int, float]
    ) -> dict[int, Unread]:
        await self._reach()
        return {
            partition: Unread(next_offset=at, start=0, end=len(self._broker.logs[partition]), younger_from=at)
            for partition, at in next_offsets.items()
        }

    def seek(self, partition: int, offset: int) -> None:
        if partition in self._assigned:
            self._positions[partition] = offset

    def pause_only(self, paused: Collection[int]) -> None:
        self._paused = set(paused)

    async def poll(self, topic_id: int, *, wait: float, limit: int) -> dict[int, list[Record]]:
        await self._reach()
        if not (batches := self._fetch(limit)):
            await asyncio.sleep(wait)
            batches = self._fetch(limit)
        return batches

    async def commit(self, offsets: Mapping[int, tuple[int, str]]) -> bool:
        request = {partition: offset for partition, offset in offsets.items() if partition in self._assigned}
        if not request:
            return True
        try:
            await self._reach()
        except KafkaUnavailable:
            return False
        broker = self._broker
        if self not in broker.members or self._generation != broker.generation:
            return False
        for partition, (offset, stamp) in request.items():
            broker.committed[partition] = (offset, stamp)
            broker.watch.committed(partition, offset)
        return True

    def _fetch(self, limit: int) -> dict[int, list[Record]]:
        batches = {}
        for partition in sorted(self._assigned - self._paused):
            if partition not in self._positions:
                raise KafkaUnavailable("a position is no longer valid")
            at = self._positions[partition]
            if records := self._broker.logs[partition][at : at + limit]:
                batches[partition] = records
                self._positions[partition] = at + len(records)
                break
        return batches

    def _rejoin(self) -> None:
        if not self._stopped and self not in self._broker.members:
            self._broker.join(self)

    async def _reach(self) -> None:
        weather, rng = self._broker.weather, self._broker.rng
        await asyncio.sleep(rng.uniform(0.001, 0.01))
        if weather.kafka_away or rng.random() < weather.kafka:
            raise KafkaUnavailable("Kafka is away in this simulation")
