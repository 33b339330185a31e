"""Refusals that a running consumer meets on real servers: who is charged, who waits, and who goes on."""

from __future__ import annotations

from typing import Any

import pytest

from producer_lib import Membership, UserCreate, UserUpdate
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until


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
