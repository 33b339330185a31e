"""A whole consumer beside a directory that is away or hangs: who stands still, and does the circuit stay closed?"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from consumer.delivery.outcome import Reason
from producer_lib import PasswordChange, Producer, SealingKey, UserCreate, UserUpdate
from tests.integration.support.bench import SOURCE, Bench
from tests.integration.support.directory import Directory, component, realm_with_directory
from tests.integration.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.delivery.conftest import Observer

pytestmark = pytest.mark.long

PEOPLE = ("ann", "bob", "cid", "eve")


@dataclass(slots=True)
class Office:
    """A realm whose users come from a directory, beside the corner's own, and a consumer that serves both."""

    bench: Bench
    observer: Observer
    directory: Directory
    realm: str

    def producer(self, realm: str) -> Producer:
        (text,) = self.bench.keys().public_keys().values()
        return Producer(
            bootstrap_servers=self.bench.endpoints.kafka_bootstrap,
            source=SOURCE,
            realm=realm,
            sealing_key=SealingKey.from_text(text),
            topic=self.bench.topic,
        )

    async def start(self, **changes: str) -> None:
        # The directory's realm first: it is the one that the circuit asks.
        realms = f"{self.realm},{self.bench.realm}"
        await self.bench.started(KCSYNC_KEYCLOAK_REALMS=realms, **changes)

    def waiting(self) -> dict[str, int]:
        """Entries that are not delivered, by why."""
        rows = self.bench.rows(
            "SELECT COALESCE(state_reason, '') AS why, COUNT(*) AS n FROM entries"
            " WHERE state <> 'DELIVERED' GROUP BY why"
        )
        return {row["why"]: row["n"] for row in rows}

    def circuit_stayed_closed(self) -> bool:
        (row,) = self.bench.rows("SELECT state, generation FROM circuits")
        return bool(row["state"] == "CLOSED" and row["generation"] == self.generation())

    def generation(self) -> int:
        """Each opening and each closing is one more."""
        return 0

    def charged(self) -> int:
        return int(self.bench.value("SELECT COALESCE(SUM(attempts), 0) FROM entries"))

    @asynccontextmanager
    async def outage(self, how: str) -> AsyncIterator[None]:
        trouble: AbstractAsyncContextManager[None]
        if how == "away":
            trouble = self.directory.away()
            async with trouble:
                yield
        else:
            with self.directory.frozen():
                yield


@pytest.fixture
async def office(bench: Bench, observer: Observer, directory: Directory) -> AsyncIterator[Office]:
    realm = f"office-{uuid4().hex[:8]}"
    endpoints = bench.endpoints
    client = (endpoints.client_id, endpoints.client_secret)
    created = await observer.call("POST", "", realm_with_directory(realm, client, endpoints.login_client_id))
    assert created.status_code == 201, created.text
    answer = await observer.call("POST", f"/{realm}/components", component(directory, mode="WRITABLE"))
    assert answer.status_code == 201, answer.text
    for name in PEOPLE:
        # Seen once, so that Keycloak knows them while the directory is away.
        assert await observer.user(realm, name) is not None
    yield Office(bench, observer, directory, realm)
    await observer.call("DELETE", f"/{realm}")


@pytest.mark.parametrize("how", ["away", "hangs"])
async def test_an_outage_of_a_directory_is_its_users_alone(office: Office, how: str) -> None:
    bench = office.bench
    await office.start(KCSYNC_FAILURE_THRESHOLD="2")
    local, elsewhere = f"{bench.name}-local", [f"{bench.name}-{number}" for number in range(12)]
    async with office.producer(office.realm) as producer:
        await producer.publish(UserCreate(username=local))
        await until(lambda: bench.settled(1), what="a user of the realm's own", within=60)

        async with office.outage(how):
            # A 500 each, and each a user of its own: three such opened the circuit once.
            await producer.publish_many(PasswordChange(username=name, password="Neu-1234") for name in PEOPLE)
            await producer.publish(UserUpdate(username=local, first_name="Served"))
            async with office.producer(bench.realm) as other:
                await other.publish_many(UserCreate(username=name) for name in elsewhere)
            await until(
                lambda: bench.counts().get("DELIVERED") == 14 and office.waiting() == waits(4),
                what="everybody else served",
                within=90,
            )
            # Whoever waits is tried again and again, and it is nobody's fault each time.
            tried = "SELECT MIN(calls) FROM entries WHERE state = 'PENDING'"
            await until(lambda: bench.value(tried) >= 3, what="three tries each", within=120)
            assert office.waiting() == waits(4)
            assert office.circuit_stayed_closed()

        await until(lambda: bench.settled(18), what="all delivered", within=90)
    assert office.charged() == 0
    assert office.circuit_stayed_closed()
    for name in PEOPLE:
        assert await office.observer.can_log_in(
            office.realm, bench.endpoints.login_client_id, name, "Neu-1234"
        )


async def test_a_person_takes_no_name_of_the_directory_meanwhile(office: Office) -> None:
    bench = office.bench
    await office.start(KCSYNC_FEDERATION_PROBES=f"{office.realm}=probe")
    async with office.producer(office.realm) as producer:
        async with office.outage("away"):
            # The directory has this person, and Keycloak has never seen them.
            await producer.publish(UserCreate(username="jdoe", first_name="John"))
            await until(lambda: office.waiting() == waits(1), what="a create that waits", within=60)
            report = await bench.kcsync(
                "test",
                KCSYNC_KEYCLOAK_REALMS=f"{office.realm},{bench.realm}",
                KCSYNC_FEDERATION_PROBES=f"{office.realm}=probe",
            )
            assert f"User federations ({office.realm})" in report.out
            assert Reason.DIRECTORY_UNAVAILABLE in report.out
        await until(lambda: bench.settled(1), what="the create", within=60)
    user = await office.observer.user(office.realm, "jdoe")
    assert user is not None
    assert user["federationLink"]
    assert user["firstName"] == "John"


def waits(entries: int) -> dict[str, Any]:
    return {"directory_unavailable": entries}
