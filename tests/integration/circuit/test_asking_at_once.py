"""`kcsync sync-now --probe`: an operator knows better than the cooldown, and not better than Keycloak."""

from __future__ import annotations

import pytest

from producer_lib import UserCreate
from tests.integration.support.bench import Bench
from tests.integration.support.keycloak_proxy import Call, Said, keycloak_proxy
from tests.integration.support.waiting import until

LONG = {"KCSYNC_COOLDOWN": "1h", "KCSYNC_COOLDOWN_CAP": "1h", "KCSYNC_GRACE_PERIOD": "24h"}


def open_circuit(bench: Bench) -> bool:
    return bool(bench.value("SELECT COUNT(*) FROM circuits WHERE state = 'OPEN'"))


@pytest.mark.parametrize("alive", [True, False], ids=["an instance runs", "nobody runs"])
async def test_an_open_circuit_is_asked_at_once(bench: Bench, alive: bool) -> None:  # noqa: FBT001 - both ways
    """Keycloak shows its document all the time, so that nothing is news; its other answers were errors."""
    failing = True

    def break_down(call: Call) -> Said | None:
        return Said(500, '{"error":"unknown_error"}') if failing and "well-known" not in call.path else None

    async with keycloak_proxy(bench.endpoints.keycloak_url) as proxy, bench.producer() as producer:
        proxy.answer = break_down
        settings = {"KCSYNC_KEYCLOAK_URL": proxy.url, **LONG}
        consumer = await bench.started(**settings)
        await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(4))
        await until(lambda: bench.counts() == {"PENDING": 4}, what="four ingested", within=40)
        await until(lambda: open_circuit(bench), what="an open circuit", within=40)
        await until(lambda: "Keycloak unavailable (circuit OPEN since " in consumer.said, what="a line of it")
        assert "asks again in 1s): no sync; pending 4" in consumer.said
        assert "failures in a row: server_error" in consumer.said
        await until(lambda: bench.value("SELECT said FROM circuits") is not None, what="a question")

        question = (await bench.status(**settings))["connection"]["question"]
        assert (question["answer"], question["why_not"]) == ("Keycloak is there", None)
        assert question["asks_at"] < question["control_call_at"]
        tested = await bench.kcsync("test", **settings)
        assert "Circuit state:" in tested.out
        assert "OPEN, since " in tested.out
        assert "kcsync sync-now --probe" in tested.out
        if not alive:
            assert await consumer.stop() == 0

        still = await bench.kcsync("sync-now", "--probe", **settings)
        assert still.code == 3
        assert "Keycloak was asked, and is unavailable: server_error" in still.err
        # Asking has made nobody wait longer.
        assert bench.value("SELECT openings FROM circuits") == 1

        failing = False
        refused = await bench.kcsync("sync-now", **settings)
        assert refused.code == 3
        assert "`kcsync sync-now --probe` asks at once" in refused.err
        done = await bench.kcsync("sync-now", "--probe", **settings)
        await until(lambda: bench.settled(4), what="all delivered", within=30)

    assert done.code in {0, 6}, done.err
    assert bench.value("SELECT state FROM circuits") == "CLOSED"


async def test_a_keycloak_that_asked_to_be_left_alone_is_not_asked(bench: Bench) -> None:
    async with keycloak_proxy(bench.endpoints.keycloak_url) as proxy:
        proxy.answer = lambda _: Said(429, "", headers={"Retry-After": "900"})
        settings = {"KCSYNC_KEYCLOAK_URL": proxy.url, **LONG}
        consumer = await bench.started(**settings)
        await until(lambda: open_circuit(bench), what="an open circuit", within=40)
        await until(lambda: "no sync; pending 0" in consumer.said, what="a line of the outage")
        asked = len(proxy.calls)

        finished = await bench.kcsync("sync-now", "--probe", **settings)
        report = await bench.status(**settings)

        assert finished.code == 3
        assert "Keycloak asked to be left alone (Retry-After): nothing is asked before " in finished.err
        assert report["connection"]["question"]["why_not"].startswith("Keycloak asked to be left alone until")
        assert len(proxy.calls) == asked


async def test_a_closed_circuit_is_not_asked(bench: Bench) -> None:
    consumer = await bench.started()
    await until(lambda: bench.value("SELECT COUNT(*) FROM circuits WHERE last_check_ok = 1"), what="a check")

    finished = await bench.kcsync("sync-now", "--probe")

    assert finished.code == 0, finished.err
    assert bench.value("SELECT generation FROM circuits") == 0
    assert "Circuit OPEN" not in consumer.said
