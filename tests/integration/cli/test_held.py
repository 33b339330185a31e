"""`kcsync held` as operators run it, with instances that live and without."""

from __future__ import annotations

import json
from typing import Any

from consumer.outbox.database import Database
from producer_lib import UserCreate, UserUpdate
from tests.integration.support.batches import REALM, Writer, update
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until

TESTS_REALM = {"KCSYNC_KEYCLOAK_REALMS": REALM}


def create(event_id: str, username: str, **data: Any) -> dict[str, Any]:
    return {**update(event_id, username), "type": "kcsync.user_create.v1", "data": data}


async def two_held_users(bench: Bench, database: Database) -> None:
    events = [update(f"{user}:{n}", user) for user in ("alice", "bob") for n in range(2)]
    await (await Writer.take(database)).persist(events)
    bench.change(
        "UPDATE entries SET state = 'HELD', state_reason = 'suspected_cause' WHERE event_id LIKE '%%:0' AND 1 = %s",
        1,
    )


def states(bench: Bench) -> dict[str, str]:
    return {row["event_id"]: row["state"] for row in bench.rows("SELECT event_id, state FROM entries")}


async def test_held_entries_are_listed_released_and_dropped_with_nobody_running(
    bench: Bench, database: Database
) -> None:
    await two_held_users(bench, database)

    listed = await bench.kcsync("held", **TESTS_REALM)
    as_json = json.loads((await bench.kcsync("held", "--user", "alice", "--json", **TESTS_REALM)).out)
    released = await bench.kcsync("held", "release", "alice:0", "--why", "looked", **TESTS_REALM)
    dropped = await bench.kcsync("held", "drop", "--user", "Bob", **TESTS_REALM)
    nothing = await bench.kcsync("held", "release", "--all", "--yes", **TESTS_REALM)

    assert listed.code == 0
    assert "Held: 2 entries" in listed.out
    assert "suspected_cause" in listed.out
    assert [(each["username"], each["behind"]) for each in as_json["held"]] == [("alice", 1)]
    assert (released.code, released.out) == (0, "Released 1\n")
    assert (dropped.code, dropped.out) == (0, "Dropped 1\n")
    assert (nothing.code, nothing.out) == (0, "Nothing of that is held.\n")
    assert states(bench) == {
        "alice:0": "PENDING",
        "alice:1": "PENDING",
        "bob:0": "DEAD_LETTER",
        "bob:1": "PENDING",
    }
    assert bench.value("SELECT COUNT(*) FROM leases WHERE owner IS NOT NULL") == 0
    assert [row["action"] for row in bench.rows("SELECT action FROM audit ORDER BY audit_id")] == [
        "release",
        "drop",
    ]
    assert bench.value("SELECT COUNT(*) FROM lanes WHERE state <> 'READY'") == 0


async def test_more_than_one_is_asked_back_and_no_choice_is_refused(bench: Bench, database: Database) -> None:
    await two_held_users(bench, database)

    unasked = await bench.kcsync("held", "drop", "--all", **TESTS_REALM)
    no_choice = await bench.kcsync("held", "release", **TESTS_REALM)
    no_realm = await bench.kcsync(
        "held", "release", "--user", "alice", KCSYNC_KEYCLOAK_REALMS=f"{REALM},other"
    )

    assert unasked.code == 1  # typer's own answer where nobody is there to be asked
    assert "Drop 2?" in unasked.out
    assert (no_choice.code, no_realm.code) == (2, 2)
    assert "--all" in no_choice.err
    assert "--realm" in no_realm.err
    assert set(states(bench).values()) == {"HELD", "PENDING"}
    assert bench.value("SELECT COUNT(*) FROM commands") == 0


async def test_a_create_that_dies_holds_its_user_until_it_is_released(bench: Bench) -> None:
    consumer = await bench.started(KCSYNC_MAX_ATTEMPTS="1")
    await until(lambda: bench.value("SELECT COUNT(*) FROM watermarks") == 3, what="partitions taken")
    user = f"{bench.name}-a"
    async with bench.producer() as producer:
        email = f"{bench.name}@example.org"
        await producer.publish(UserCreate(username=f"{bench.name}-b", email=email))
        await until(lambda: bench.settled(1), what="the first of that address", within=60)
        await producer.publish(UserCreate(username=user, email=email))
        await producer.publish(UserUpdate(username=user, first_name="A"))
    await until(
        lambda: bench.counts() == {"DELIVERED": 1, "DEAD_LETTER": 1, "PENDING": 1},
        what="a create that died",
        within=60,
    )
    await until(
        lambda: bench.value("SELECT COUNT(*) FROM lanes WHERE state = 'HELD'") == 1, what="a held lane"
    )

    status = await bench.status()
    listed = await bench.kcsync("held", "--user", user)
    as_json = json.loads((await bench.kcsync("held", "--json", "--user", user)).out)
    released = await bench.kcsync("held", "release", "--user", user)
    await until(
        lambda: bench.counts() == {"DELIVERED": 1, "DEAD_LETTER": 2}, what="the update tried", within=60
    )

    assert status["exit_code"] == 4
    (held,) = status["drain"]["held"]
    assert (held["state"], held["behind"], held["reason"]) == ("DEAD_LETTER", 1, "email_in_use")
    assert (released.code, released.out) == (0, "Released 1\n")
    assert f"email_in_use by {bench.name}-b" in listed.out
    assert [each["email_holder"] for each in as_json["held"]] == [f"{bench.name}-b"]
    assert bench.name not in "".join(row["error"] or "" for row in bench.rows("SELECT error FROM attempts"))
    assert user not in consumer.said
    assert f"{bench.name}-b" not in consumer.said
