"""Refusals that a running consumer meets on real servers: who is charged, who waits, and who goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest

from compose.native.stack import Stack
from producer_lib import Membership, UserCreate, UserDelete, UserUpdate
from tests.integration.delivery.conftest import OWN_REALM_CLIENT, OWN_REALM_SECRET, Observer
from tests.integration.support.bench import Bench
from tests.integration.support.ruled_realm import ruled_realm
from tests.integration.support.waiting import until


@pytest.fixture
async def observer(stack: Stack) -> AsyncIterator[Observer]:
    endpoints = stack.endpoints
    async with httpx.AsyncClient(base_url=endpoints.keycloak_url, timeout=30, trust_env=False) as http:
        yield Observer(endpoints, http)


def said_of_circuit(bench: Bench) -> str:
    return "\n".join(line for line in bench.running[0].said.splitlines() if "Circuit" in line)


def by_reason(bench: Bench) -> dict[tuple[str, str], int]:
    found = bench.rows("SELECT state, state_reason, COUNT(*) AS n FROM entries GROUP BY state, state_reason")
    return {(row["state"], row["state_reason"]): row["n"] for row in found}


class TestTextThatKeycloaksDatabaseDoesNotStore:
    """On MariaDB a create of it is a 500, an update a 400 without a reason."""

    async def test_three_people_of_such_names_stop_nobody(self, bench: Bench) -> None:
        plain = [f"{bench.name}-plain-{n}" for n in range(5)]
        await bench.started()
        async with bench.producer() as producer:
            await producer.publish_many(
                UserCreate(username=f"{bench.name}-{n}", last_name="𠮷田") for n in range(3)
            )
            await producer.publish_many(UserCreate(username=name) for name in plain)
            await until(
                lambda: by_reason(bench) == {("DEAD_LETTER", "invalid_data"): 3, ("DELIVERED", "created"): 5},
                what="three refused and five created",
                within=30,
            )

        assert "OPEN" not in said_of_circuit(bench)
        dead = bench.rows(
            "SELECT e.calls, a.error, a.charged FROM entries e JOIN attempts a USING (entry_id)"
            " WHERE e.state = 'DEAD_LETTER'"
        )
        assert [row["calls"] for row in dead] == [1, 1, 1]
        assert all("data.last_name" in row["error"] for row in dead)
        assert "𠮷" not in bench.running[0].said

    @pytest.mark.parametrize(
        ("data", "place"),
        [
            pytest.param({"attributes": {"motto": ["plain", "😀"]}}, "data.attributes.motto", id="attribute"),
            pytest.param({"first_name": "😀"}, "data.first_name", id="name"),
            pytest.param({"groups": Membership(add=["/😀"])}, "data.groups.add", id="group"),
        ],
    )
    async def test_an_update_is_refused_alone_by_its_place(
        self, bench: Bench, data: dict[str, Any], place: str
    ) -> None:
        await bench.started()
        async with bench.producer() as producer:
            names = [f"{bench.name}-{n}" for n in range(4)]
            await producer.publish_many(UserCreate(username=name) for name in names)
            await until(lambda: bench.settled(4), what="all created", within=30)
            changes = [UserUpdate(username=name, **data) for name in names[:3]]
            await producer.publish_many([*changes, UserUpdate(username=names[3], first_name="Plain")])
            await until(
                lambda: (
                    by_reason(bench)
                    == {
                        ("DELIVERED", "created"): 4,
                        ("DEAD_LETTER", "invalid_data"): 3,
                        ("DELIVERED", "updated"): 1,
                    }
                ),
                what="three refused and one updated",
                within=30,
            )

        errors = bench.rows("SELECT error FROM attempts WHERE outcome = 'DEAD_LETTER'")
        assert all(place in row["error"] for row in errors)
        assert "OPEN" not in said_of_circuit(bench)

    async def test_a_username_is_refused_by_its_name(self, bench: Bench) -> None:
        await bench.started()
        async with bench.producer() as producer:
            await producer.publish(UserCreate(username=f"{bench.name}-😀"))
            await until(lambda: bench.counts() == {"DEAD_LETTER": 1}, what="a dead letter", within=30)

        (dead,) = bench.rows("SELECT reason, error FROM attempts")
        assert dead["reason"] == "invalid_data"
        assert "username" in dead["error"]


READ_ONLY = (
    1290,
    "The MariaDB server is running with the --read-only option so it cannot execute this statement",
)
FULL = (1114, "The table is full")
DEADLOCK = (1213, "Deadlock found when trying to get lock; try restarting transaction")
EVERYTHING = ("USER_ENTITY", "USER_ATTRIBUTE", "CREDENTIAL", "USER_GROUP_MEMBERSHIP", "ADMIN_EVENT_ENTITY")


@contextmanager
def triggers(bench: Bench, body: str, *, tables: Sequence[str], on: Sequence[str]) -> Iterator[None]:
    """Let Keycloak's MariaDB do this before each such statement on these tables."""
    names = [(f"kcsync_{table}_{statement}", table, statement) for table in tables for statement in on]
    with bench.stack.mariadb.administrator() as cursor:
        try:
            for name, table, statement in names:
                cursor.execute(
                    f"CREATE TRIGGER keycloak.{name} BEFORE {statement} ON keycloak.{table} FOR EACH ROW {body}"
                )
            yield
        finally:
            for name, _, _ in names:
                cursor.execute(f"DROP TRIGGER IF EXISTS keycloak.{name}")


def refusing_writes(
    bench: Bench, error: tuple[int, str], *, tables: Sequence[str] = EVERYTHING
) -> AbstractContextManager[None]:
    """Let Keycloak's database refuse each change of a user with this error; it goes on reading."""
    number, text = error
    body = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = '{text}'"
    return triggers(bench, body, tables=tables, on=("INSERT", "UPDATE", "DELETE"))


def circuit(bench: Bench) -> dict[str, Any]:
    rows = bench.rows("SELECT state, generation, reason FROM circuits")
    return rows[0] if rows else {}


class TestAKeycloakWhoseDatabaseTakesNoWrites:
    """It says 400 `Could not update user!` or 500; reads, and with them its health, are well."""

    @pytest.mark.parametrize(
        ("error", "tables"),
        [
            pytest.param(READ_ONLY, EVERYTHING, id="read-only"),
            pytest.param(READ_ONLY, ("USER_ENTITY",), id="some tables read-only"),
            pytest.param(FULL, EVERYTHING, id="full"),
            pytest.param(DEADLOCK, EVERYTHING, id="deadlocks"),
        ],
    )
    async def test_stops_everybody_charges_nobody_and_goes_on_by_itself(
        self, bench: Bench, error: tuple[int, str], tables: Sequence[str]
    ) -> None:
        users = [f"{bench.name}-{n}" for n in range(8)]
        consumer = await bench.started(KCSYNC_COOLDOWN="1s")
        async with bench.producer() as producer:
            await producer.publish_many(UserCreate(username=name, first_name="Old") for name in users)
            await until(lambda: bench.settled(8), what="all created", within=30)
            with refusing_writes(bench, error, tables=tables):
                await producer.publish_many(
                    [
                        *(UserUpdate(username=name, first_name="New") for name in users),
                        *(UserCreate(username=f"{name}-late") for name in users),
                        UserDelete(username=f"{users[0]}-late"),
                    ]
                )
                await until(lambda: "Circuit OPEN" in consumer.said, what="an open circuit", within=40)
                opened = circuit(bench)["generation"]
                # HALF_OPEN and OPEN again, more than once.
                await until(
                    lambda: circuit(bench)["generation"] >= opened + 4, what="probes that fail", within=60
                )
                assert "Circuit CLOSED" not in consumer.said.partition("Circuit OPEN")[2]
                report = await bench.status()
                assert report["exit_code"] == 3
                assert "Keycloak refuses every write" in circuit(bench)["reason"]
            await until(lambda: bench.settled(8 + 17), what="all delivered", within=120)

        assert circuit(bench)["state"] == "CLOSED"
        assert bench.value("SELECT SUM(attempts) FROM entries") == 0
        assert bench.rows("SELECT * FROM attempts WHERE charged = 1") == []
        assert "writes_refused: Keycloak refuses every write" in consumer.said

    async def test_a_lone_user_in_a_quiet_hour_is_not_charged_for_it(self, bench: Bench) -> None:
        user = f"{bench.name}-lone"
        await bench.started(KCSYNC_COOLDOWN="1s")
        async with bench.producer() as producer:
            await producer.publish(UserCreate(username=user))
            await until(lambda: bench.settled(1), what="the user created", within=30)
            with refusing_writes(bench, READ_ONLY):
                await producer.publish(UserUpdate(username=user, first_name="New"))
                await until(
                    lambda: circuit(bench).get("state") != "CLOSED", what="an open circuit", within=60
                )
            await until(lambda: bench.settled(2), what="all delivered", within=90)

        assert bench.value("SELECT SUM(attempts) FROM entries") == 0

    async def test_one_users_own_refusal_among_successes_of_others_is_that_users(self, bench: Bench) -> None:
        """A refusal without a reason that only this user meets: five attempts, and the circuit stays closed."""
        victim = f"{bench.name}-victim"
        body = f"BEGIN IF NEW.USERNAME = '{victim}' THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290; END IF; END"
        consumer = await bench.started()
        with triggers(bench, body, tables=("USER_ENTITY",), on=("INSERT",)):
            async with bench.producer() as producer:
                await producer.publish(UserCreate(username=victim))
                await producer.publish_many(UserCreate(username=f"{bench.name}-{n}") for n in range(10))
                await until(
                    lambda: bench.counts() == {"DEAD_LETTER": 1, "DELIVERED": 10},
                    what="a dead letter",
                    within=90,
                )

        (dead,) = bench.rows("SELECT attempts, state_reason FROM entries WHERE state = 'DEAD_LETTER'")
        assert dead == {"attempts": 5, "state_reason": "unexplained_refusal"}
        assert "Circuit OPEN" not in consumer.said


async def test_slow_deletes_of_several_users_open_no_circuit(bench: Bench) -> None:
    """Each takes longer than a call may; Keycloak is well otherwise, and everybody else is served."""
    leavers = [f"{bench.name}-{n}" for n in range(4)]
    consumer = await bench.started(KCSYNC_DELETION_GUARD="off")
    async with bench.producer() as producer:
        await producer.publish_many(UserCreate(username=name) for name in leavers)
        await until(lambda: bench.settled(4), what="all created", within=30)
        with triggers(bench, "DO SLEEP(6)", tables=("USER_ENTITY",), on=("DELETE",)):
            await producer.publish_many(UserDelete(username=name) for name in leavers)
            await until(
                lambda: (
                    bench.value(
                        "SELECT COUNT(DISTINCT entry_id) FROM attempts WHERE reason = 'timeout' AND outcome = 'RETRY'"
                    )
                    == 4
                ),
                what="four deletes that time out",
                within=60,
            )
            await producer.publish_many(UserCreate(username=f"{bench.name}-plain-{n}") for n in range(5))
            await until(
                lambda: (
                    bench.value(
                        "SELECT COUNT(*) FROM entries WHERE kind = 'user_create' AND state = 'DELIVERED'"
                    )
                    == 9
                ),
                what="everybody else served",
                within=30,
            )
            await until(lambda: bench.settled(13), what="all delivered", within=120)

    assert "Circuit OPEN" not in consumer.said
    assert bench.value("SELECT SUM(attempts) FROM entries") == 0


LATER = """
UPDATE entries e JOIN lanes l USING (lane_id)
SET e.next_attempt_at = NOW(6) + INTERVAL 1 HOUR, l.due_at = NOW(6) + INTERVAL 1 HOUR
WHERE e.state_reason = 'profile_broken' AND e.claimed_at IS NULL AND l.state = 'WAITING'
"""


class TestALeaverWhoseStoredProfileBreaksTheRealms:
    """An attribute has become required since: Keycloak refuses every update of users from before."""

    @pytest.mark.parametrize("repaired_by", ["itself", "held release"])
    async def test_is_barred_in_order_when_the_realm_is_repaired(
        self, bench: Bench, observer: Observer, repaired_by: str
    ) -> None:
        leaver, other = f"{bench.name}-leaver", f"{bench.name}-other"
        async with ruled_realm(observer) as realm:
            settings = {
                "KCSYNC_KEYCLOAK_REALMS": realm.name,
                "KCSYNC_KEYCLOAK_CLIENT_ID": OWN_REALM_CLIENT,
                "KCSYNC_KEYCLOAK_CLIENT_SECRET": OWN_REALM_SECRET,
            }
            consumer = await bench.started(**settings)
            async with bench.producer() as producer:
                await producer.publish(
                    UserCreate(
                        username=leaver,
                        realm=realm.name,
                        email=f"{leaver}@example.org",
                        name="Ada Lovelace",
                        password="first",
                    )
                )
                await until(lambda: bench.settled(1), what="the leaver created", within=30)
                assert await realm.logs_in(leaver, "first")
                await realm.rule({"name": "phone", "required": {}})
                await producer.publish_many(
                    [
                        UserUpdate(username=leaver, realm=realm.name, enabled=False, end_sessions=True),
                        UserUpdate(username=leaver, realm=realm.name, first_name="Augusta"),
                        UserCreate(username=other, realm=realm.name, attributes={"phone": ["1"]}),
                    ]
                )
                waiting = (
                    "SELECT state, state_reason, attempts FROM entries WHERE state_reason = 'profile_broken'"
                )
                await until(lambda: len(bench.rows(waiting)) == 1, what="a leaver who waits", within=30)
                await until(
                    lambda: bench.counts() == {"DELIVERED": 2, "PENDING": 2}, what="others served", within=30
                )
                assert await realm.sessions(leaver) == 0
                age = "SELECT MAX(eligible_us) FROM entries WHERE state = 'PENDING'"
                tries, old = bench.value("SELECT MAX(calls) FROM entries"), bench.value(age)
                await until(
                    lambda: bench.value("SELECT MAX(calls) FROM entries") > tries + 1,
                    what="more tries",
                    within=30,
                )
                # It does not grow old meanwhile.
                assert bench.value(age) == old
                assert bench.rows(waiting) == [
                    {"state": "PENDING", "state_reason": "profile_broken", "attempts": 0}
                ]
                held = await bench.kcsync("held", **settings)
                assert "profile_broken" in held.out
                assert leaver in held.out

                if repaired_by == "held release":
                    await until(lambda: bench.change(LATER) >= 1, what="a next attempt far away", within=30)
                await realm.rule()
                if repaired_by == "held release":
                    released = await bench.kcsync(
                        "held", "release", "--reason", "profile_broken", "--yes", **settings
                    )
                    assert "Released 1" in released.out, released.out + released.err
                await until(lambda: bench.settled(4), what="all delivered", within=60)

            user = await observer.user(realm.name, leaver)
        assert user is not None
        assert (user["enabled"], user["firstName"]) == (False, "Augusta")
        assert bench.rows("SELECT * FROM attempts WHERE charged = 1") == []
        assert "Circuit OPEN" not in consumer.said
