"""`kcsync allow-deletes` as operators run it, on a real Keycloak."""

from __future__ import annotations

import json

import pytest

from producer_lib import UserCreate, UserDelete, UserUpdate
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until


@pytest.mark.long
async def test_a_flood_of_deletes_waits_for_somebody(bench: Bench) -> None:
    users = [f"{bench.name}-{n}" for n in range(8)]
    settings = {"KCSYNC_DELETION_LIMIT": "3"}
    consumer = await bench.started(**settings)
    async with bench.producer() as producer:
        await producer.publish_many(UserCreate(username=user) for user in users)
        await producer.publish_many(UserDelete(username=user) for user in users)
        await producer.publish(UserUpdate(username=users[0], first_name="A"))
        await producer.publish(UserUpdate(username=users[7], first_name="A"))
    await until(lambda: bench.counts().get("HELD") == 5, what="five deletes held", within=60)
    await until(lambda: bench.counts().get("DELIVERED") == 8 + 3, what="three deletes", within=60)

    shown = await bench.kcsync("allow-deletes", **settings)
    as_json = json.loads((await bench.kcsync("allow-deletes", "--json", **settings)).out)
    status = await bench.status(**settings)
    some = await bench.kcsync("allow-deletes", "--count", "2", **settings)
    await until(lambda: bench.counts().get("HELD") == 3, what="two let through", within=60)
    unasked = await bench.kcsync("allow-deletes", "--all", **settings)
    rest = await bench.kcsync("allow-deletes", "--all", "--drop", "--yes", **settings)
    wrong = await bench.kcsync("allow-deletes", "--drop", **settings)
    await until(lambda: "PENDING" not in bench.counts(), what="nothing pending", within=60)

    assert shown.code == 0
    assert "Deletes held by the guard: 5" in shown.out
    assert "3 of 3 in the last hour" in shown.out
    assert as_json["held"] == 5
    assert len(as_json["realms"][bench.realm]["sample"]) == 5
    assert status["exit_code"] == 4
    assert status["drain"]["held"][0]["reason"] == "deletion_guard"
    assert (some.code, some.out) == (0, "Let through 2\n")
    assert unasked.code == 1
    assert (rest.code, rest.out) == (0, "Dropped 3\n"), rest.err
    assert wrong.code == 2
    assert bench.value("SELECT COUNT(*) FROM entries WHERE state_reason = 'deleted'") == 5
    assert bench.value("SELECT COUNT(*) FROM entries WHERE state_reason = 'dropped'") == 3
    assert consumer.said.count("deletion guard: deletes are held") == 1
    assert "entry held" not in consumer.said
