from __future__ import annotations

import asyncio

from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.database import Database
from consumer.outbox.lease_store import LeaseStore
from tests.integration.support.bench import Bench

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
