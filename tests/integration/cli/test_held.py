"""`kcsync held` as operators run it, with instances that live and without."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from consumer.outbox.database import Database
from producer_lib import Membership, PasswordChange, UserCreate, UserUpdate
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
    assert [each["holder"] for each in as_json["held"]] == [f"{bench.name}-b"]
    assert bench.name not in "".join(row["error"] or "" for row in bench.rows("SELECT error FROM attempts"))
    assert user not in consumer.said
    assert f"{bench.name}-b" not in consumer.said


async def test_what_only_somebody_can_bring_on_is_shown_and_can_be_given_up(bench: Bench) -> None:
    consumer = await bench.started()
    await until(lambda: bench.value("SELECT COUNT(*) FROM watermarks") == 3, what="partitions taken")
    user = f"{bench.name}-a"
    async with bench.producer() as producer:
        await producer.publish(UserCreate(username=user))
        # The client of the stack may not read roles.
        roles = UserUpdate(username=user, realm_roles=Membership(add=["offline_access"]))
        granted = await producer.publish(roles)
        await producer.publish(PasswordChange(username=user, password="correct horse battery"))
    waits = "SELECT COUNT(*) FROM entries WHERE state_reason = 'roles_unreadable' AND state = 'PENDING' AND calls >= 3"
    await until(lambda: bench.value(waits) == 1, what="a change tried three times", within=60)

    status = await bench.status()
    screen = await bench.kcsync("status")
    listed = await bench.kcsync("held", "--reason", "roles_unreadable")
    as_json = json.loads((await bench.kcsync("held", "--json", "--user", user)).out)
    dropped = await bench.kcsync("held", "drop", granted.event_id, "--why", "no such right")
    await until(
        lambda: bench.counts() == {"DELIVERED": 2, "DEAD_LETTER": 1}, what="the password behind", within=60
    )

    assert (status["exit_code"], status["connection"]["mode"]) == (4, "NORMAL")
    assert status["drain"]["for_somebody"] == [{"reason": "roles_unreadable", "lanes": 1}]
    (wait,) = status["drain"]["waits"]
    assert (wait["event_id"], wait["state"], wait["behind"]) == (granted.event_id, "PENDING", 1)
    assert "Needs Somebody:      roles_unreadable (1 user)" in screen.out
    assert "view-realm" in screen.out
    for text in ("waits", user, granted.event_id, "view-realm"):
        assert text in listed.out
    (held,) = as_json["held"]
    assert (held["username"], held["reason"], held["behind"]) == (user, "roles_unreadable", 1)
    first = bench.value("SELECT MIN(started_at) FROM attempts WHERE reason = 'roles_unreadable'")
    assert datetime.fromisoformat(held["since"]) == first.replace(tzinfo=UTC)
    assert as_json["users_who_need_somebody_by_reason"] == {"roles_unreadable": 1}
    assert (dropped.code, dropped.out) == (0, "Dropped 1\n")
    assert consumer.said.count("a change waits for somebody") == 1
    assert user not in consumer.said
    assert bench.rows("SELECT action, outcome FROM audit WHERE actor LIKE '%%@%%'") == [
        {"action": "drop", "outcome": "DONE"}
    ]


async def test_the_commands_say_what_they_cannot_do(bench: Bench, database: Database) -> None:
    await two_held_users(bench, database)
    bench.change(
        "UPDATE entries SET state = 'DEAD_LETTER', state_reason = 'invalid_data', ended_at = NOW(6)"
        " WHERE event_id = %s",
        "alice:0",
    )
    bench.change(
        "INSERT INTO folds (lane_id, shard, fields, held_by_entry, held_reason)"
        " SELECT lane_id, shard, '{}', entry_id, state_reason FROM entries WHERE event_id = %s",
        "alice:0",
    )

    dead = await bench.kcsync("held", "drop", "alice:0", **TESTS_REALM)
    some = await bench.kcsync("held", "drop", "--all", "--yes", **TESTS_REALM)
    unknown = await bench.kcsync("held", "release", "nosuch", **TESTS_REALM)
    refused = [
        await bench.kcsync(*arguments, **TESTS_REALM)
        for arguments in (
            ("held", "--user", "a"),
            ("held", "drop", "--user", "a"),
            ("sync-now", "--user", "xx"),
            ("held", "--realm", "nosuch"),
            ("held", "release", "--realm", "nosuch"),
            ("sync-now", "--user", "alice", "--realm", "nosuch"),
            ("allow-deletes", "--realm", "nosuch"),
            ("allow-deletes", "--all", "--realm", "nosuch"),
        )
    ]

    assert (dead.code, dead.out) == (2, "")
    assert "a dead letter was given up already; `kcsync held release`" in dead.err
    assert (some.code, some.out.splitlines()[0]) == (6, "Dropped 1")
    assert "not dropped 1: a dead letter was given up already" in some.out
    assert (unknown.code, unknown.out) == (2, "")
    assert "no event of that id" in unknown.err
    for command in refused:
        assert (command.code, command.out) == (2, ""), command
        assert len(command.err.splitlines()) == 1, command
        assert command.err.startswith("kcsync: --")
    assert bench.value("SELECT COUNT(*) FROM commands") == 1
