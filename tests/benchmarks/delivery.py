"""Delivery to a real Keycloak, against a bare aiohttp loop that makes the same calls at its best concurrency.

Both in turn, against the same Keycloak, in its own realm's default settings (no admin events), in one process and on the
same event loop. Ours is the whole drain: leases, claims, two recorded spans an entry (handed to an exporter that drops
them), python-keycloak, write-backs to MariaDB on the same machine. The events stand in the outbox when the clock starts;
ingest is not measured here. Every update changes something.

Keycloak is made warm first: its JVM needs tens of thousands of calls until it serves them as fast as it can, and while it
gets faster, whoever is measured last looks best. Each round of ours is compared with the bare rounds before and after it.

The bare loop has as many callers as serve it best, and ours as many calls at once, fixed; which number that is, is tried
for each before the rounds. Where that is said, ours runs with the limit as it finds it by itself, which leaves room for
logins.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from typing import Any, Self

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from compose.native.stack import Stack
from consumer.circuit.calls import CallLimit
from consumer.circuit.limit_policy import LimitPolicy
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.opened import Hashed, credential_of
from consumer.delivery.passwords import KeyRing
from consumer.outbox.database import Database
from producer_lib import (
    PasswordChange,
    PrehashedPassword,
    SealingKey,
    UserChange,
    UserCreate,
    UserDelete,
    UserUpdate,
)
from producer_lib._changes import as_event
from producer_lib._passwords import as_password
from tests.benchmarks.backlog import empty_outbox
from tests.benchmarks.bare import BareKeycloak
from tests.benchmarks.drain import draining
from tests.benchmarks.result import Result, ratio_result
from tests.integration.support.batches import Writer
from tests.unit.circuit.fixed_limit import fixed_limit

ROUNDS = 15
USERS = 1_500
UPDATED = 3_000
"""Of the quickest calls more, so that a round's start and end, some 60 ms together, are not a part to speak of."""
PASSWORDS = 100
DELETES = 1_000
A_USER = 10
"""Updates of each user in the scenario that merging is for."""
CONCURRENCIES = (4, 8, 16, 32)
CONNECTIONS = max(CONCURRENCIES)
TRIES = 2
"""How often each number of calls is tried, one number after the other, before the rounds."""
AS_FAST = 0.95
"""Of several numbers of calls that serve nearly as fast as the best, the greatest is taken: few tries of each say little."""
CEILING = 16
"""The consumer's default."""
FIRST_WARM_UP = 120.0
"""Seconds for what all kinds of calls have in common."""
SHORTEST_WARM_UP = 45.0
WARM = 1.03
"""After so many seconds Keycloak is warm for one kind when three rounds in a row are not faster by more than this than the best before,"""
LONGEST_WARM_UP = 120.0
"""or at last after so many."""


class _Dropped(SpanExporter):
    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


@dataclass(frozen=True, slots=True)
class Bare:
    """What the bare loop does."""

    name: str
    call: Callable[[Loop, str, int], Awaitable[None]]
    count: int
    makes_users: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which we do the same."""

    name: str
    target: float | None
    count: int
    event: Callable[[str, int], UserChange]
    a_user: int = 1
    makes_users: bool = False
    takes_users: bool = False
    bulk: bool = False
    finds_limit: bool = False


async def scenario(stack: Stack) -> list[Result]:
    """Every kind of call in turn."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Dropped()))
    trace.set_tracer_provider(provider)
    try:
        async with Loop.connected(stack.endpoints) as loop, Ours.connected(stack, provider) as ours:
            await loop.quiet_realm()
            await _warm_up(UPDATE, loop, at_least=FIRST_WARM_UP)
            return [result for bare, kinds in COMPARED for result in await _compare(bare, kinds, loop, ours)]
    finally:
        provider.shutdown()


async def _compare(bare: Bare, kinds: Sequence[Kind], loop: Loop, ours: Ours) -> list[Result]:
    await _warm_up(bare, loop, at_least=SHORTEST_WARM_UP)
    callers = await _best(lambda callers: loop.rate(bare, callers))
    limits = {kind.name: await _best_limit(kind, ours) for kind in kinds}
    raw = [await loop.rate(bare, callers)]
    seen: dict[str, list[tuple[float, float]]] = {kind.name: [] for kind in kinds}
    for number in range(ROUNDS):
        for kind in kinds:
            seen[kind.name].append(await ours.rate(kind, limits[kind.name]))
        raw.append(await loop.rate(bare, callers))
        ran = ", ".join(f"{kind.name} {seen[kind.name][-1][0]:,.0f}" for kind in kinds)
        print(f"  round {number + 1} of {ROUNDS}: {ran}; bare {raw[-1]:,.0f} events/s", flush=True)
    beside = [(before + after) / 2 for before, after in pairwise(raw)]
    results = []
    for kind in kinds:
        rounds, cpu = zip(*seen[kind.name], strict=True)
        at_once = "" if limits[kind.name] is None else f", {limits[kind.name]} at once"
        name = f"{kind.name}{at_once}, bare loop {callers}"
        results += [
            ratio_result(name, "events/s", rounds, beside, kind.target),
            Result.figure(f"{kind.name}: CPU, ours alone", "µs an event", cpu),
        ]
    return results


async def _best_limit(kind: Kind, ours: Ours) -> int | None:
    """As many calls at once as serve this kind best; None where it is to find out itself, once it has tried."""
    if kind.finds_limit:
        await ours.rate(kind, None)
        return None

    async def rate(limit: int) -> float:
        events_per_second, _ = await ours.rate(kind, limit)
        return events_per_second

    return await _best(rate)


async def _best(rate: Callable[[int], Awaitable[float]]) -> int:
    tries = [{at_once: await rate(at_once) for at_once in CONCURRENCIES} for _ in range(TRIES)]
    rates = {at_once: sum(each[at_once] for each in tries) for at_once in CONCURRENCIES}
    fast = AS_FAST * max(rates.values())
    return max(at_once for at_once, total in rates.items() if total >= fast)


async def _warm_up(bare: Bare, loop: Loop, *, at_least: float) -> None:
    began, best, since = time.perf_counter(), 0.0, 0
    while (since < 3 or time.perf_counter() - began < at_least) and (
        time.perf_counter() - began < LONGEST_WARM_UP
    ):
        rate = await loop.rate(bare, CEILING)
        since = 0 if rate > WARM * best else since + 1
        best = max(best, rate)
    print(f"{bare.name}: {best:,.0f} bare calls/s when warm", flush=True)


@dataclass(slots=True)
class Loop(BareKeycloak):
    """Callers that make bare calls, and the users they have made."""

    run: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    users: dict[str, str] = field(default_factory=dict)
    made: int = 0
    serial: Iterator[int] = field(default_factory=count)

    async def quiet_realm(self) -> None:
        """No admin events: Keycloak's default, and what costs the calls themselves."""
        token = await self.token(self.endpoints.observer_client_id, self.endpoints.observer_client_secret)
        url = f"{self.endpoints.keycloak_url}/admin/realms/{self.endpoints.realm}"
        settings = {"adminEventsEnabled": False, "adminEventsDetailsEnabled": False}
        async with self.http.put(url, json=settings, headers={"Authorization": token}) as answer:
            assert answer.status == 204, await answer.text()

    async def rate(self, bare: Bare, concurrency: int) -> float:
        """Calls a second."""
        if bare.makes_users:
            names = self._new_names(bare.count)
        else:
            while len(self.users) < bare.count:
                # As ours makes them.
                await self.rate(CREATE, CEILING)
            names = list(self.users)[: bare.count]
        await self.sign_in()
        left = iter([(name, next(self.serial)) for name in names])

        async def work() -> None:
            for name, number in left:
                await bare.call(self, name, number)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return bare.count / (time.perf_counter() - began)

    def _new_names(self, count: int) -> list[str]:
        first, self.made = self.made, self.made + count
        return [f"raw-{self.run}-{number}" for number in range(first, first + count)]


async def create(bare: Loop, name: str, number: int) -> None:
    answer = await bare.send(
        "POST",
        "",
        {
            "username": name,
            "enabled": True,
            "email": f"{name}@example.org",
            "firstName": "Ada",
            "lastName": f"L {number}",
        },
        201,
    )
    bare.users[name] = answer.headers["Location"].rpartition("/")[2]


async def update(bare: Loop, name: str, number: int) -> None:
    await bare.send("PUT", f"/{bare.users[name]}", {"firstName": "Ada", "lastName": f"U {number}"}, 204)


async def set_password(bare: Loop, name: str, number: int) -> None:
    body = {"type": "password", "value": f"correct horse {number}", "temporary": False}
    await bare.send("PUT", f"/{bare.users[name]}/reset-password", body, 204)


async def set_hash(bare: Loop, name: str, _: int) -> None:
    body = {"credentials": [credential_of(Hashed(HASH), temporary=False)]}
    await bare.send("PUT", f"/{bare.users[name]}", body, 204)


async def delete(bare: Loop, name: str, _: int) -> None:
    await bare.send("DELETE", f"/{bare.users.pop(name)}", None, 204)


HASH = PrehashedPassword(salt=bytes(range(16)), digest=bytes(range(32)))

SINGLE_CREATES = Kind(
    "creates, one by one",
    0.8,
    USERS,
    lambda name, _: UserCreate(
        username=name, email=f"{name}@example.org", first_name="Ada", last_name="Lovelace"
    ),
    makes_users=True,
)

UPDATES = Kind(
    "updates of distinct users",
    0.8,
    UPDATED,
    lambda name, number: UserUpdate(username=name, first_name="Ada", last_name=f"U {number}"),
)

PREHASHED = Kind(
    "password changes, prehashed",
    12.0,
    USERS,
    # As many hashes as users would take a minute, and say nothing about the consumer.
    lambda name, _: PasswordChange(username=name, password=HASH),
)

CREATE = Bare("creates", create, USERS, makes_users=True)
UPDATE = Bare("updates", update, UPDATED)

COMPARED: tuple[tuple[Bare, tuple[Kind, ...]], ...] = (
    (
        CREATE,
        (
            SINGLE_CREATES,
            replace(SINGLE_CREATES, name="creates, the limit found", target=None, finds_limit=True),
            replace(SINGLE_CREATES, name="creates, many in one call", target=1.6, bulk=True),
        ),
    ),
    (
        UPDATE,
        (
            UPDATES,
            replace(UPDATES, name="updates, the limit found", target=None, finds_limit=True),
            replace(UPDATES, name="10 updates a user, merged", target=5.0, count=USERS, a_user=A_USER),
        ),
    ),
    (
        Bare("passwords", set_password, PASSWORDS),
        (
            Kind(
                "password changes, sealed",
                0.9,
                PASSWORDS,
                lambda name, number: PasswordChange(username=name, password=f"correct horse {number}"),
            ),
            PREHASHED,
        ),
    ),
    (
        Bare("hashes", set_hash, USERS),
        (replace(PREHASHED, name="password changes, prehashed on both sides", target=None),),
    ),
    (
        Bare("deletes", delete, DELETES),
        (Kind("deletes", 0.9, DELETES, lambda name, _: UserDelete(username=name), takes_users=True),),
    ),
)


@dataclass(slots=True)
class Ours:
    """The drain over a database of its own; the users it has made, their folds knowing their ids."""

    database: Database
    plain: Keycloak
    bulk: Keycloak
    keys: KeyRing
    writer: Writer
    provider: TracerProvider
    key: SealingKey
    realm: str
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    users: list[str] = field(default_factory=list)
    made: int = 0
    serial: Iterator[int] = field(default_factory=count)
    found: CallLimit = field(default_factory=lambda: CallLimit(LimitPolicy(ceiling=CEILING)))

    @classmethod
    @asynccontextmanager
    async def connected(cls, stack: Stack, provider: TracerProvider) -> AsyncIterator[Self]:
        endpoints = stack.endpoints
        plain, bulk = (
            Keycloak(
                url=endpoints.keycloak_url,
                realms=(endpoints.realm,),
                client_id=client,
                client_secret=secret,
                max_calls=CONNECTIONS,
                bulk_creates=bulk,
            )
            for client, secret, bulk in (
                (endpoints.client_id, endpoints.client_secret, False),
                # It may manage the realm, as imports need.
                (endpoints.observer_client_id, endpoints.observer_client_secret, True),
            )
        )
        try:
            async with empty_outbox(stack, "bench_delivery") as database:
                yield cls(
                    database,
                    plain,
                    bulk,
                    KeyRing.load(endpoints.keys_dir),
                    await Writer.take(database),
                    provider,
                    SealingKey.from_text(endpoints.sealing_key),
                    endpoints.realm,
                )
        finally:
            await plain.aclose()
            await bulk.aclose()

    async def rate(self, kind: Kind, limit: int | None) -> tuple[float, float]:
        """Events a second, from the first claim to the last COMMIT, and our CPU in µs an event.

        With `limit` calls at once, as KCSYNC_KEYCLOAK_CALLS and its floor fix them, or with as many as are found.
        """
        if kind.makes_users:
            names = [f"ours-{self.run}-{number}" for number in range(self.made, self.made + kind.count)]
            self.made += kind.count
            self.users += names
        else:
            while len(self.users) < kind.count:
                await self.rate(SINGLE_CREATES, CEILING)
            names = self.users[: kind.count] * kind.a_user
            if kind.takes_users:
                del self.users[: kind.count]
        events = [self._event(kind.event(name, next(self.serial))) for name in names]
        for first in range(0, len(events), 1000):
            await self.writer.persist(events[first : first + 1000])
        calls = self.found if limit is None else fixed_limit(limit)
        keycloak = self.bulk if kind.bulk else self.plain
        # One process, as `kcsync start` is one; a fresh drainer each time, so that the clock starts with its first look.
        async with draining(
            self.database,
            Delivery(keycloak=keycloak, keys=self.keys, watch=calls),
            calls=calls,
            bulk=kind.bulk,
            call_timeout=10.0,
            merge_limit=20,
            tracer=self.provider.get_tracer("kcsync"),
        ) as drainer:
            began, cpu = time.perf_counter(), time.process_time()
            while drainer.counts.processed < len(events):
                # Rarely: what looking costs would be taken for the consumer's work where calls are slow.
                await asyncio.sleep(0.02)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            assert drainer.counts.delivered == len(events)
        return len(events) / seconds, cpu * 1e6 / len(events)

    def _event(self, change: UserChange) -> dict[str, Any]:
        password = as_password(change, key=self.key, realm=self.realm, username_key=change.username)
        return as_event(change, source="/bench", realm=self.realm, password=password)
