"""Which lane goes next: the most urgent, and nobody waits for ever (docs/decisions/0020)."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from consumer.delivery.change import Change
from consumer.outbox.rows import EntryState
from tests.unit.drain.bench_of_drainers import POLICY, Bench, Instance, until

PASSWORD, CREATE, UPDATE, DELETE = 1, 3, 5, 10


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def instance(bench: Bench) -> Instance:
    """One that makes one call at a time and claims two, so that it must choose."""
    instance = bench.instance(policy=replace(POLICY, batch=2))
    instance.circuit.allowed_calls = 1
    return instance


async def test_the_most_urgent_lane_goes_first(bench: Bench, instance: Instance) -> None:
    priorities = (DELETE, UPDATE, PASSWORD, CREATE)
    entries = [
        bench.database.add(f"user{n}-{priority}", priority=priority)
        for n in range(5)
        for priority in priorities
    ]

    async with bench.running():
        await bench.done(*entries)

    called = [int(made.lane.rpartition("-")[2]) for made in bench.keycloak.calls]
    assert called == sorted(called)


async def test_a_lane_is_as_urgent_as_its_last_entry_however_far_behind(
    bench: Bench, instance: Instance
) -> None:
    before = [bench.database.add("alice", priority=UPDATE) for _ in range(30)]
    password = bench.database.add("alice", "password_change", priority=PASSWORD)
    others = [bench.database.add(f"user{n}", priority=CREATE) for n in range(100)]

    async with bench.running():
        await bench.done(password, *before, *others)

    order = [made.event_id for made in bench.keycloak.calls]
    # With each of hers at most two of others were in hand.
    assert order.index(password.event_id) < 3 * len(before) + 3


async def test_a_lane_is_less_urgent_when_its_urgent_entry_has_gone(bench: Bench, instance: Instance) -> None:
    password = bench.database.add("alice", "password_change", priority=PASSWORD)
    behind = [bench.database.add("alice", priority=DELETE) for _ in range(30)]
    others = [bench.database.add(f"user{n}", priority=UPDATE) for n in range(50)]

    async with bench.running():
        await bench.done(password, *behind, *others)

    order = [made.event_id for made in bench.keycloak.calls]
    assert order[0] == password.event_id
    assert max(order.index(other.event_id) for other in others) < order.index(behind[2].event_id)


async def test_a_lane_becomes_urgent_with_what_arrives_while_it_waits(
    bench: Bench, instance: Instance
) -> None:
    waiting = [bench.database.add(f"user{n}", priority=UPDATE) for n in range(50)]
    first = bench.database.add("alice", priority=DELETE)
    gate = bench.keycloak.hold("user0")

    async with bench.running():
        await until(lambda: bench.keycloak.calls)
        password = bench.database.add("alice", "password_change", priority=PASSWORD)
        gate.set()
        await bench.done(*waiting, first, password)

    order = [made.event_id for made in bench.keycloak.calls]
    # Three were claimed before it came.
    assert order.index(first.event_id) < 5
    assert order.index(password.event_id) < 9


async def test_a_stream_of_urgent_changes_does_not_starve_the_others(
    bench: Bench, instance: Instance
) -> None:
    """Twice as many passwords arrive as can be called."""
    patient = bench.database.add("patient", "user_delete", priority=DELETE)
    numbers = itertools.count()

    async def a_minute_later(_change: Change) -> None:
        for _ in range(3):
            bench.clock.advance(20)
            await instance.leases.turn()
        if patient.state is EntryState.PENDING:
            for _ in range(2):
                bench.database.add(f"user{next(numbers)}", "password_change", priority=PASSWORD)

    bench.keycloak.before_request = a_minute_later
    for n in range(5):
        bench.database.add(f"first{n}", "password_change", priority=PASSWORD)

    async with bench.running():
        await bench.done(patient)

    # It is as urgent as a password that came 90 minutes later: with two a minute, the 180th.
    assert 170 < [made.lane for made in bench.keycloak.calls].index("patient") < 190
