"""Logins while a backlog drains: how much longer they take, by how the consumer's calls are limited.

The whole way: the backlog comes from Kafka, `kcsync start` drains it as a process of its own, and logins reach Keycloak
from this one, in its realm's default settings. Each login begins when it is due, whether or not those before it have been
answered, since people do not wait for each other. In turns: nothing else going on, then each consumer, and so on.

Nothing is merged, so that an entry is a call. Keycloak is warm for both.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, cycle, islice

from compose.native.stack import Stack
from producer_lib import UserChange, UserCreate, UserUpdate
from tests.benchmarks.bare import BareKeycloak
from tests.benchmarks.corner import corner_of
from tests.benchmarks.result import Result, ratio_result
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until

ROUNDS = 3
LOGINS = 100
EVERY = 0.2
"""Seconds from one login to the next. An Argon2 check takes a core some 15 ms, so that they leave Keycloak idle alone."""
PEOPLE = 20
"""Who log in, one after the other. Nothing is changed of them meanwhile."""
USERS = 3_000
BACKLOG = 40_000
"""So many changes wait when a consumer starts: more than it can deliver while it is watched."""
SETTLING = 15.0
"""Seconds that a consumer has, once it runs, to get its shards and find its limit, which starts at 4 calls."""
PASSWORD = "correct horse battery"
CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Limited:
    """One consumer or several, whose calls are limited in one way."""

    name: str
    settings: dict[str, str]
    instances: int = 1


CONSUMERS = (
    Limited("the limit found", {}),
    Limited("two instances, the limit found", {}, instances=2),
    Limited("16 calls at once", {"KCSYNC_KEYCLOAK_CALLS": "16", "KCSYNC_KEYCLOAK_CALLS_FLOOR": "16"}),
    Limited("at most 50 calls a second", {"KCSYNC_MAX_CALLS_PER_SECOND": "50"}),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the logins of one round took, median and p95 in ms, and how many updates a second went on beside them."""

    median: float
    p95: float
    updates: float


async def scenario(stack: Stack) -> list[Result]:
    """Log in alone, log in beside each consumer, and so on."""
    async with (
        corner_of(stack, "bench-logins") as bench,
        BareKeycloak.connected(bench.endpoints) as keycloak,
    ):
        people = await _people(keycloak, bench)
        backlog = await Backlog.begun(bench)
        await _warm_up(people, backlog)
        alone: list[Seen] = []
        beside: dict[str, list[Seen]] = {consumer.name: [] for consumer in CONSUMERS}
        for number in range(ROUNDS):
            alone.append(await _seen(people, bench))
            for consumer in CONSUMERS:
                async with backlog.drained_by(consumer):
                    beside[consumer.name].append(await _seen(people, bench))
            ran = "; ".join(
                f"{name} {rounds[-1].median:.0f} ms, {rounds[-1].updates:,.0f} calls/s"
                for name, rounds in beside.items()
            )
            print(f"  round {number + 1} of {ROUNDS}: alone {alone[-1].median:.0f} ms; {ran}", flush=True)
    return [result for name, rounds in beside.items() for result in _results(name, rounds, alone)]


async def _seen(people: People, bench: Bench) -> Seen:
    before, began = bench.counts()["DELIVERED"], time.perf_counter()
    took = await people.log_in()
    done = bench.counts()["DELIVERED"] - before
    updates = done / (time.perf_counter() - began)
    return Seen(statistics.median(took), statistics.quantiles(took, n=20)[18], updates)


def _results(name: str, beside: list[Seen], alone: list[Seen]) -> list[Result]:
    return [
        ratio_result(
            f"logins, p50, {name}",
            "ms",
            [seen.median for seen in beside],
            [seen.median for seen in alone],
            target=None,
        ),
        ratio_result(
            "the same, p95", "ms", [seen.p95 for seen in beside], [seen.p95 for seen in alone], target=None
        ),
        Result.figure("updates meanwhile", "calls/s", [seen.updates for seen in beside]),
    ]


@dataclass(frozen=True, slots=True)
class People:
    """Who log in, with a password each, in turn."""

    keycloak: BareKeycloak
    names: list[str]

    async def log_in(self) -> list[float]:
        """Log in, so many times, each when it is due; how long each took, in ms."""
        began = time.perf_counter()
        running = []
        for number, name in enumerate(islice(cycle(self.names), LOGINS)):
            await asyncio.sleep(max(0.0, began + number * EVERY - time.perf_counter()))
            running.append(asyncio.create_task(self._log_in(name)))
        return await asyncio.gather(*running)

    async def _log_in(self, name: str) -> float:
        form = {
            "grant_type": "password",
            "client_id": self.keycloak.endpoints.login_client_id,
            "username": name,
            "password": PASSWORD,
        }
        began = time.perf_counter()
        # Without our own token, as the user's application would.
        async with self.keycloak.http.post(
            self.keycloak.token_url, data=form, headers={"Authorization": ""}
        ) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
        return (time.perf_counter() - began) * 1000


async def _people(keycloak: BareKeycloak, bench: Bench) -> People:
    names = [f"{bench.name}-person-{number}" for number in range(PEOPLE)]
    for name in names:
        body = {
            "username": name,
            "enabled": True,
            "email": f"{name}@example.org",
            "firstName": "Ada",
            "lastName": "Lovelace",
            "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
        }
        await keycloak.send("POST", "", body, 201)
    return People(keycloak, names)


@dataclass(slots=True)
class Backlog:
    """Updates in the outbox, waiting."""

    bench: Bench
    users: list[str]
    serial: count[int]

    @classmethod
    async def begun(cls, bench: Bench) -> Backlog:
        """Create the users, by the consumer itself."""
        backlog = cls(bench, [f"{bench.name}-{number}" for number in range(USERS)], count())
        creates = [UserCreate(username=name, email=f"{name}@example.org") for name in backlog.users]
        consumer = await bench.started()
        await backlog._publish(creates)
        await until(lambda: bench.settled(USERS), what="the users", within=300)
        await consumer.stop()
        return backlog

    @asynccontextmanager
    async def drained_by(self, consumer: Limited) -> AsyncIterator[None]:
        """Fill up, and let them drain while the block runs, once they have settled."""
        await self._fill()
        settings = {"KCSYNC_PROFILE": "production", "KCSYNC_LEASE": "30s", "KCSYNC_MERGE": "off"}
        running = [
            await self.bench.started("--role", "drain", **settings, **consumer.settings)
            for _ in range(consumer.instances)
        ]
        await asyncio.sleep(SETTLING)
        yield
        assert self.bench.counts()["PENDING"], "the backlog did not last"
        for instance in running:
            await instance.stop()

    async def _fill(self) -> None:
        missing = BACKLOG - self.bench.counts().get("PENDING", 0)
        reader = await self.bench.started("--role", "ingest")
        await self._publish(
            [
                UserUpdate(username=name, last_name=f"Name {next(self.serial)}")
                for name in islice(cycle(self.users), missing)
            ]
        )
        await until(
            lambda: self.bench.counts().get("PENDING") == BACKLOG,
            what="the whole backlog in the outbox",
            within=300,
        )
        await reader.stop()

    async def _publish(self, changes: Sequence[UserChange]) -> None:
        async with self.bench.producer() as producer:
            for first in range(0, len(changes), CHUNK):
                await producer.publish_many(changes[first : first + CHUNK])


async def _warm_up(people: People, backlog: Backlog) -> None:
    """Three times: Keycloak's JVM needs tens of thousands of updates, and some hundreds of logins."""
    for _ in range(3):
        async with backlog.drained_by(CONSUMERS[0]):
            await people.log_in()
