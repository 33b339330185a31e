from __future__ import annotations

import asyncio
import random
from dataclasses import asdict
from typing import Any

from consumer.delivery.presence import Presence
from consumer.outbox.circuit_store import CircuitRow, CircuitStore
from consumer.outbox.database import Database
from consumer.outbox.lease_store import LeaseStore
from tests.integration.support.bench import Bench
from tests.unit.circuit.circuit_in_memory import Clock, MemoryCircuit

KEYCLOAK = "http://keycloak.test"


async def test_a_circuit_never_seen_is_closed(database: Database) -> None:
    row = await CircuitStore(database, keycloak=KEYCLOAK).read()

    assert (row.state, row.generation, row.opened_at, row.last_check_ok) == ("CLOSED", 0, None, None)


async def test_of_many_transitions_from_one_generation_one_succeeds(bench: Bench, database: Database) -> None:
    stores = [CircuitStore(database, keycloak=KEYCLOAK) for _ in range(6)]
    await stores[0].read()

    made = await asyncio.gather(
        *(
            store.change(0, state="OPEN", reason=str(number), failures=3, openings=1, retry_in=60.0)
            for number, store in enumerate(stores)
        )
    )

    assert sorted(made) == [False] * 5 + [True]
    row = await stores[0].read()
    assert (row.state, row.generation, row.reason) == ("OPEN", 1, str(made.index(True)))


async def test_times_are_told_by_the_clock_of_the_database(bench: Bench, database: Database) -> None:
    store = CircuitStore(database, keycloak=KEYCLOAK)
    await store.read()
    await store.change(0, state="OPEN", reason="down", failures=3, openings=1, retry_in=60.0)
    await store.change(
        1, state="HALF_OPEN", reason="probe", failures=3, openings=1, probe_owner="first", probe_in=10.0
    )
    await store.note_check(ok=True, failures=0)
    row = await store.read()

    assert row.probe_owner == "first"
    assert row.probe_ends_in is not None
    assert 0 < row.probe_ends_in <= 10
    assert row.checked_ago is not None
    assert 0 <= row.checked_ago < 10
    assert row.last_check_ok is True
    # It has been away since it left CLOSED, not since the last probe.
    assert row.opened_at == bench.value("SELECT opened_at FROM circuits")
    assert row.opened_at < bench.value("SELECT changed_at FROM circuits")


async def test_of_many_who_want_to_ask_one_does_until_it_is_not_heard_of(database: Database) -> None:
    stores = [CircuitStore(database, keycloak=KEYCLOAK) for _ in range(6)]
    row = await stores[0].read()
    await stores[0].change(row.generation, state="OPEN", reason="down", failures=3, openings=1)

    async def take(seconds: float) -> list[str]:
        names = [f"i{number}" for number in range(6)]
        made = await asyncio.gather(
            *(
                store.take_questions(1, asker=name, asker_in=seconds)
                for store, name in zip(stores, names, strict=True)
            )
        )
        return [name for name, mine in zip(names, made, strict=True) if mine]

    (first,) = await take(30.0)
    assert await take(30.0) == [first]
    # Not heard of any more.
    assert await stores[0].take_questions(1, asker=first, asker_in=0.0)
    assert len(await take(30.0)) == 1


async def test_the_circuit_in_memory_does_as_the_real_one(database: Database) -> None:
    """Random steps on both, a thousand: what they answer and what stands in the row is the same."""
    real = CircuitStore(database, keycloak=KEYCLOAK)
    fake, chance = MemoryCircuit(Clock()), random.Random(16)
    await real.read()
    for step in range(1000):
        generation = fake.generation - (chance.random() < 0.1)
        name, presence = chance.choice("ab"), chance.choice(list(Presence))
        rest = chance.choice([None, 900.0])
        answers: list[bool] = []
        match chance.randrange(5):
            case 0:
                named: dict[str, Any] = {
                    "state": chance.choice(["CLOSED", "OPEN", "OPEN", "HALF_OPEN"]),
                    "reason": f"step {step}",
                    "failures": step,
                    "openings": step % 7,
                    "news_tries": step % 5,
                    "retry_in": chance.choice([None, 60.0]),
                    "rest_in": rest,
                    "met": chance.choice([None, "AWAY"]),
                }
                answers = [await each.change(max(0, generation), **named) for each in (real, fake)]
            case 1:
                answers = [
                    await each.take_questions(max(0, generation), asker=name, asker_in=900.0)
                    for each in (real, fake)
                ]
            case 2:
                for each in (real, fake):
                    await each.note_sighting(
                        max(0, generation),
                        asker=name,
                        asker_in=900.0,
                        met=presence,
                        said=presence.lower(),
                        rest_in=rest,
                    )
            case 3:
                answers = [await each.want(max(0, generation)) for each in (real, fake)]
            case _:
                ago = chance.choice([0.0, 9000.0])
                for each in (real, fake):
                    await each.note_success(ago=ago, failures=step)
        assert len(set(answers)) <= 1, step
        assert _shown(await real.read()) == _shown(await fake.read()), step


def _shown(row: CircuitRow) -> dict[str, object]:
    """A row without its times; whether there is one, and whether it lies ahead, is left."""
    left_out = {"failures", "opened_at", "last_success_at", "last_check_at", "last_check_ok", "checked_ago"}
    shown = {name: value for name, value in asdict(row).items() if name not in left_out}
    for name, value in shown.items():
        if isinstance(value, float):
            # A second or so of the real clock has passed; the other stands still.
            shown[name] = "ahead" if name.endswith("_in") and value > 10 else "now or past"
    return shown


async def test_a_realm_stays_at_fault_since_when_it_began(bench: Bench, database: Database) -> None:
    store = CircuitStore(database, keycloak=KEYCLOAK)
    await store.set_realm_fault("staff", "http_403", "no role", instance="a")
    since = bench.value("SELECT fault_since FROM realms")
    await store.set_realm_fault("staff", "http_401", "wrong secret", instance="a")
    (fault,) = await store.realm_faults()

    assert (fault.realm, fault.fault, fault.since) == ("staff", "http_401", since)
    assert await store.end_realm_fault("staff", instance="a")
    assert await store.realm_faults() == []
    assert not await store.end_realm_fault("staff", instance="a")


async def test_a_fault_is_ended_by_who_found_it_while_they_live(bench: Bench, database: Database) -> None:
    store = CircuitStore(database, keycloak=KEYCLOAK)
    leases = LeaseStore(database, owner="finder", roles="drain", version="1", seconds=30.0)
    await leases.announce()
    await store.set_realm_fault("staff", "http_401", "wrong secret", instance="finder")
    # As a version before this one records it.
    bench.change("INSERT INTO realms (realm, fault, fault_since) VALUES ('shop', %s, NOW(6))", "http_403")

    assert await store.realm_faults_to_ask(instance="other") == ["shop"]
    assert sorted(await store.realm_faults_to_ask(instance="finder")) == ["shop", "staff"]
    assert not await store.end_realm_fault("staff", instance="other")
    assert await store.end_realm_fault("shop", instance="other")

    bench.change("UPDATE instances SET deadline = NOW(6) - INTERVAL 1 SECOND WHERE instance = %s", "finder")
    assert await store.realm_faults_to_ask(instance="other") == ["staff"]
    assert await store.end_realm_fault("staff", instance="other")
    assert await store.realm_faults() == []
