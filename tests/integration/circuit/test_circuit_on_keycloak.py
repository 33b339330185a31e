from __future__ import annotations

import asyncio
from typing import Any

import pytest

from compose.demo.keycloak_reader import KeycloakReader
from producer_lib import UserCreate, UserUpdate
from tests.integration.support.bench import Bench
from tests.integration.support.keycloak_proxy import Call, keycloak_proxy
from tests.integration.support.waiting import until

# A poll that is under way when the circuit opens may still bring records: it lasts 0.2 s.
_POLL = 0.6


def circuit(bench: Bench) -> dict[str, Any]:
    rows = bench.rows("SELECT state, generation, failures FROM circuits")
    return rows[0] if rows else {}


def in_state(bench: Bench, state: str) -> bool:
    return circuit(bench).get("state") == state


def ingested(bench: Bench) -> int:
    return int(bench.value("SELECT COALESCE(SUM(next_offset), 0) FROM watermarks"))


async def seen_users(bench: Bench) -> dict[str, int]:
    """The users of this test in Keycloak, with the number that the last update wrote."""
    async with KeycloakReader(bench.endpoints) as keycloak:
        profiles = await keycloak.profiles(bench.name)
    return {profile.username: int(next(iter(profile.attributes.get("n", {"0"})))) for profile in profiles}


async def test_an_outage_opens_the_circuit_and_costs_no_attempt(bench: Bench) -> None:
    """Keycloak is killed and comes back: events wait in Kafka meanwhile, and all is delivered without help.

    As soon as it is back, that is: the cooldown would keep the circuit open for an hour.
    """
    # So many that the calls that fail in the end are few beside those that went well.
    users = [f"{bench.name}-{n}" for n in range(200)]
    consumer = await bench.started(KCSYNC_COOLDOWN="1h", KCSYNC_COOLDOWN_CAP="1h")
    async with bench.producer() as producer:
        await producer.publish_many(UserCreate(username=user) for user in users)
        await until(lambda: bench.settled(200), what="all users created", within=60)
        try:
            await asyncio.to_thread(bench.stack.keycloak.kill)
            await producer.publish_many(UserUpdate(username=u, attributes={"n": ["1"]}) for u in users)
            await until(lambda: "partitions are paused" in consumer.said, what="an open circuit", within=40)
            await asyncio.sleep(_POLL)
            before = ingested(bench)
            await producer.publish_many(UserUpdate(username=u, attributes={"n": ["2"]}) for u in users)

            report = await bench.status()
            assert report["exit_code"] == 3
            assert report["connection"]["available"] is False
            assert [each["paused"] for each in report["ingest"]["partitions"]] == [True] * 3
            assert ingested(bench) == before == 400
        finally:
            await asyncio.to_thread(bench.stack.keycloak.start)

    back_at = bench.value("SELECT CAST(UTC_TIMESTAMP(6) AS CHAR)")
    await until(lambda: bench.settled(600), what="all delivered", within=90)
    assert in_state(bench, "CLOSED")
    assert await seen_users(bench) == dict.fromkeys(users, 2)
    assert bench.rows("SELECT * FROM attempts WHERE charged = 1") == []
    assert (
        bench.value("SELECT COUNT(*) FROM attempts WHERE outcome = 'RETRY' AND ended_at < %s", back_at) >= 1
    )
    said = consumer.said
    assert "Traceback" not in said
    opened = said.index("Circuit OPEN")
    assert "connection_" in said[opened : said.index("\n", opened)]
    assert opened < said.index("Circuit HALF_OPEN", opened) < said.index("Circuit CLOSED", opened)
    # Where nobody listens, no control call is made: the first found it ready.
    assert said.count("Circuit HALF_OPEN") == 1


@pytest.mark.long
async def test_a_rebalance_and_a_failed_probe_leave_an_open_circuit_paused(bench: Bench) -> None:
    away = True
    async with keycloak_proxy(bench.endpoints.keycloak_url) as proxy, bench.producer() as producer:
        proxy.answer = lambda _: (503, "") if away else None
        settings = {"KCSYNC_KEYCLOAK_URL": proxy.url, "KCSYNC_COOLDOWN": "1s"}
        await bench.started(**settings)
        await until(lambda: in_state(bench, "OPEN"), what="an open circuit", within=40)
        await asyncio.sleep(_POLL)
        await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(9))

        second = await bench.started(**settings)
        await until(
            lambda: bench.value("SELECT COUNT(DISTINCT writer) FROM watermarks") == 2,
            what="partitions shared by two",
            within=40,
        )
        assert "partitions are paused" in second.said
        # HALF_OPEN may be over before the one that does not probe has looked: the row counts every transition.
        generation = circuit(bench)["generation"]
        await until(lambda: circuit(bench)["generation"] >= generation + 2, what="one more probe", within=60)
        await until(lambda: in_state(bench, "OPEN"), what="a circuit opened again")
        assert ingested(bench) == 0

        asked = len(proxy.calls)
        away = False
        await until(lambda: bench.settled(9), what="all delivered", within=60)
        closing = proxy.calls[asked:]

    # One control call, with its token, closed it; everything after that is a delivery.
    control = [at for at, call in enumerate(closing) if call.path.endswith("/users/kcsync-control-call")]
    # The control call also asks to create a user, one without a name.
    deliveries = [
        at for at, call in enumerate(closing) if call.path.endswith("/users") and bench.name in call.text
    ]
    assert control[0] < deliveries[0]
    assert len(deliveries) == 9


class TestOneUserInTrouble:
    async def test_is_given_up_after_five_charged_attempts_while_others_flow(self, bench: Bench) -> None:
        """A refusal that Keycloak does not explain may be its database's trouble, so it is tried again."""
        victim = f"{bench.name}-victim"

        def refuse(call: Call) -> tuple[int, str] | None:
            return (400, '{"errorMessage":"Could not update user!"}') if victim in call.text else None

        async with keycloak_proxy(bench.endpoints.keycloak_url) as proxy, bench.producer() as producer:
            proxy.answer = refuse
            await bench.started(KCSYNC_KEYCLOAK_URL=proxy.url)
            await producer.publish(UserCreate(username=victim))
            await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(30))
            await until(
                lambda: bench.counts() == {"DEAD_LETTER": 1, "DELIVERED": 30}, what="a dead letter", within=60
            )

            report = await bench.status(KCSYNC_KEYCLOAK_URL=proxy.url)

        assert report["exit_code"] == 4
        assert report["connection"]["circuit_state"] == "CLOSED"
        (dead,) = bench.rows("SELECT attempts, calls, state_reason FROM entries WHERE state = 'DEAD_LETTER'")
        assert dead == {"attempts": 5, "calls": 5, "state_reason": "unexplained_refusal"}
        tries = bench.rows("SELECT n, charged, http_status FROM attempts WHERE outcome = 'RETRY' ORDER BY n")
        assert tries == [{"n": n, "charged": 1, "http_status": 400} for n in range(1, 6)]
        assert bench.value("SELECT COUNT(*) FROM marks WHERE kind = 'dead'") == 1
        assert "Circuit OPEN" not in bench.running[0].said
        assert victim not in bench.running[0].said

    @pytest.mark.long
    async def test_does_not_open_the_circuit_however_often_keycloak_breaks_on_them(
        self, bench: Bench
    ) -> None:
        victim = f"{bench.name}-victim"

        def break_down(call: Call) -> tuple[int, str] | None:
            return (500, '{"error":"unknown_error"}') if victim in call.text else None

        async with keycloak_proxy(bench.endpoints.keycloak_url) as proxy, bench.producer() as producer:
            proxy.answer = break_down
            await bench.started(KCSYNC_KEYCLOAK_URL=proxy.url)
            await producer.publish(UserCreate(username=victim))
            await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(10))
            await until(
                lambda: bench.value("SELECT COALESCE(MAX(calls), 0) FROM entries") >= 6,
                what="six calls in vain",
                within=60,
            )
            assert bench.counts() == {"PENDING": 1, "DELIVERED": 10}
            # It may be the user and it may be Keycloak: it is charged once in ten minutes at most.
            assert bench.value("SELECT attempts FROM entries WHERE state = 'PENDING'") <= 1
            assert in_state(bench, "CLOSED")
            proxy.answer = lambda _: None
            await until(lambda: bench.settled(11), what="the victim created", within=60)

        assert "Circuit OPEN" not in bench.running[0].said


async def test_three_users_in_trouble_at_once_open_it_and_one_call_closes_it(bench: Bench) -> None:
    """Keycloak answers its control calls all the time: only deliveries fail."""
    failing = True

    def break_down(call: Call) -> tuple[int, str] | None:
        return (502, "") if failing and call.method == "POST" and call.path.endswith("/users") else None

    async with keycloak_proxy(bench.endpoints.keycloak_url) as proxy, bench.producer() as producer:
        proxy.answer = break_down
        await bench.started(KCSYNC_KEYCLOAK_URL=proxy.url)
        await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(3))
        await until(lambda: in_state(bench, "OPEN"), what="an open circuit", within=40)
        asked_while_open = len(
            [call for call in proxy.calls if call.method == "POST" and "/users" in call.path]
        )
        assert asked_while_open <= 3 * 2
        failing = False
        await until(lambda: bench.settled(3), what="all delivered", within=60)

    assert bench.value("SELECT SUM(attempts) FROM entries") <= 3
