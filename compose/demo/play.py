"""Plays the script on real servers: publishes, takes Keycloak away, brings it back, and waits for each turn of the story."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from compose.demo.consumer_process import ConsumerProcess
from compose.demo.errors import DemoFailed
from compose.demo.expectation import Expectation
from compose.demo.screen import Screen, progress_line
from compose.demo.story import Script
from compose.demo.watch import Glance, Watch
from compose.native.errors import StackError
from compose.native.keycloak import Keycloak
from compose.native.progress import Progress
from producer_lib import Producer, Published, UserChange

_LOOK_EVERY: Final = 1.0
_BATCH: Final = 10
# The last changes before Keycloak is killed come at once, so that it dies over its work.
_BURST: Final = 60
_STATUS_SHOWN: Final = ("Connection:", "Queue Metrics:")


@dataclass(slots=True)
class Story:
    """What happened.

    Attributes:
        expectation: What Keycloak must hold now.
        published: Kafka's confirmations, in order.
        killed_at: How many events were published when Keycloak was killed.
        paused: Partitions that stood still during the outage.
        partitions: Of how many.
        kept_in_kafka: The most events that were seen waiting in Kafka while they stood.
        keycloak_away: Seconds from the kill until Keycloak was ready again.
        caught_up: Seconds from then until the last event was delivered.
        delivered: Events that kcsync says it delivered.
        troubled: Events that it gave up, held or did not understand.
    """

    expectation: Expectation = field(default_factory=Expectation)
    published: list[Published] = field(default_factory=list)
    killed_at: int = 0
    paused: int = 0
    partitions: int = 0
    kept_in_kafka: int = 0
    keycloak_away: float = 0.0
    caught_up: float = 0.0
    delivered: int = 0
    troubled: int = 0


class Stage:
    """Where the story is played. Use it as an asynchronous context manager: inside, it looks at kcsync every second.

    Args:
        keycloak: is killed and started.
        consumer: must live all the time.
        watch: tells how things stand.
        producer: publishes.
        screen: shows it.
    """

    def __init__(
        self,
        keycloak: Keycloak,
        consumer: ConsumerProcess,
        watch: Watch,
        producer: Producer,
        screen: Screen,
    ) -> None:
        self._keycloak = keycloak
        self._consumer = consumer
        self._watch = watch
        self._producer = producer
        self._screen = screen
        self._glance: Glance | None = None
        self._follower: asyncio.Task[None] | None = None
        self.story = Story()

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._follower is not None
        self._follower.cancel()
        await asyncio.wait({self._follower})

    async def play(self, script: Script) -> Story:
        """Play the whole script.

        Raises:
            DemoFailed: something that was waited for did not come.
            ProducerError: Kafka did not take an event.
            StackError: Keycloak did not come back.
        """
        screen, story = self._screen, self.story

        await self._until(
            "the consumer to read every partition",
            lambda glance: bool(glance.instances) and 0 < glance.partitions == glance.read,
            patience=60,
        )
        users = len({change.username.lower() for change in script.before})
        screen.step(
            "1/4",
            f"An ordinary day: {users} users are created, changed, given passwords, some deleted",
            "The application publishes an event for each change and goes on; it never waits for Keycloak. kcsync "
            "stores every event in its outbox and applies each user's changes in order.",
        )
        await self._publish(script.before[:-_BURST], 70)

        await self._publish(script.before[-_BURST:], 1_000)
        story.killed_at = len(story.published)
        away_since = time.monotonic()
        await asyncio.to_thread(self._keycloak.kill)
        screen.step(
            "2/4",
            "Keycloak is killed (SIGKILL), in the middle of its work",
            "Changes under way are cut off, and nobody knows which of them took effect. After three failures the "
            "circuit opens and the Kafka partitions pause: nothing is lost, nothing is given up, Keycloak is not hammered.",
        )
        first = len(script.outage) // 5
        await self._publish(script.outage[:first], 70)
        opened = await self._until(
            "the circuit to open and the partitions to pause",
            lambda glance: glance.circuit == "OPEN" and glance.all_paused,
            patience=30,
        )
        story.paused, story.partitions = opened.paused, opened.partitions
        screen.say("The circuit is open, and all partitions are paused. The application goes on as before:")
        await self._publish(script.outage[first:], 100)
        waiting = await self._until(
            "events to wait in Kafka while the partitions are paused",
            lambda glance: bool(glance.in_kafka),
            patience=15,
        )
        story.kept_in_kafka = waiting.in_kafka or 0
        status = await asyncio.to_thread(self._consumer.status)
        screen.say("This is what an operator sees now (kcsync status):")
        for line in _excerpt(status):
            screen.line(f"       {line}")

        screen.step(
            "3/4",
            "Keycloak comes back",
            "One control call finds it, the circuit closes, the partitions flow, and the backlog drains by itself: "
            "each user's changes still in order, what was cut off is asked for again.",
        )
        progress = Progress()
        starting = asyncio.create_task(asyncio.to_thread(self._keycloak.start, progress))
        try:
            await self._publish(script.after, 12)
            while not starting.done():
                await self._breathe(0.5)
            await starting
        except BaseException:
            # The thread would go on waiting for Keycloak, and hold the process.
            progress.brake()
            with contextlib.suppress(StackError):
                await starting
            raise
        back_at = time.monotonic()
        story.keycloak_away = back_at - away_since
        await self._until(
            "the circuit to close",
            lambda glance: glance.circuit == "CLOSED" and glance.paused == 0,
            patience=90,
        )
        screen.say("The circuit is closed. The backlog drains:")
        end = await self._until(
            "the backlog to drain",
            lambda glance: glance.settled(len(story.published)),
            patience=180,
        )
        story.caught_up = time.monotonic() - back_at
        story.delivered, story.troubled = end.delivered or 0, end.troubled or 0
        return story

    async def _publish(self, changes: Sequence[UserChange], per_second: float) -> None:
        """Publish changes at a rate; Kafka has them all in the end."""
        begun = time.monotonic()
        for start in range(0, len(changes), _BATCH):
            batch = changes[start : start + _BATCH]
            self.story.published += await self._producer.publish_many(batch)
            for change in batch:
                self.story.expectation.published(change)
            ahead = begun + (start + len(batch)) / per_second - time.monotonic()
            await self._breathe(max(ahead, 0.0))

    async def _until(
        self,
        what: str,
        condition: Callable[[Glance], bool],
        *,
        patience: float,
    ) -> Glance:
        """Wait until a status shows something; give that status."""
        deadline = time.monotonic() + patience
        while (glance := self._glance) is None or not condition(glance):
            if time.monotonic() > deadline:
                raise self._failed(
                    f"Waited {patience:.0f} s for {what}. "
                    f"Now: {progress_line(len(self.story.published), glance)}."
                )
            await self._breathe(0.1)
        return glance

    async def _breathe(self, seconds: float) -> None:
        """Pause; whoever died meanwhile is noticed."""
        assert self._follower is not None
        await asyncio.wait({self._follower}, timeout=seconds)
        if self._follower.done():
            self._follower.result()
        if not self._consumer.running:
            raise self._failed("The consumer has ended, which it must not.")

    async def _follow(self) -> None:
        while True:
            self._glance = glance = await self._watch.look()
            self._screen.progress(progress_line(len(self.story.published), glance))
            await asyncio.sleep(_LOOK_EVERY)

    def _failed(self, why: str) -> DemoFailed:
        return DemoFailed(
            f"{why}\nThe consumer's log is {self._consumer.log}; it ends with:\n{self._consumer.last_words}"
        )


def _excerpt(status: str) -> list[str]:
    """Take the groups that tell of an outage from the screen of `kcsync status`."""
    shown, wanted = [], False
    for line in status.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            wanted = line in _STATUS_SHOWN
        if wanted:
            shown.append(line)
    return shown or status.splitlines()
