"""How many calls are under way, and how many begin in a second (docs/decisions/0031)."""

from __future__ import annotations

from functools import partial

import pytest

from consumer.circuit.calls import CallLimit
from consumer.circuit.limit_policy import LimitPolicy
from consumer.circuit.limiter import Ending
from consumer.outbox.rows import EntryState
from tests.unit.circuit.fixed_limit import fixed_limit
from tests.unit.drain.bench_of_drainers import Bench, settle_down, until


def has_made(bench: Bench, calls: int) -> bool:
    return len(bench.keycloak.calls) >= calls


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(("circuit", "limit", "most"), [(8, 3, 3), (2, 5, 2)])
async def test_the_lesser_of_circuit_and_limit_counts(
    bench: Bench, circuit: int, limit: int, most: int
) -> None:
    instance = bench.instance(calls=fixed_limit(limit))
    instance.circuit.allowed_calls = circuit
    entries = [bench.database.add(f"user{n}") for n in range(40)]

    async with bench.running():
        await bench.done(*entries)

    assert bench.keycloak.most_at_once == most


async def test_a_lower_limit_holds_from_the_next_call(bench: Bench) -> None:
    limit = CallLimit(LimitPolicy(ceiling=16, start=8), clock=bench.clock)
    bench.instance(calls=limit)
    entries = [bench.database.add(f"user{n}") for n in range(40)]
    gates = [bench.keycloak.hold(f"user{n}") for n in range(40)]

    async with bench.running():
        await until(lambda: len(bench.keycloak.calls) == 8)
        call = limit.begin()
        limit.gone()
        limit.learn(call, "update", Ending.TURNED_AWAY)
        assert limit.at_once == 4
        for gate in gates[:6]:
            gate.set()
        await until(lambda: sum(entry.state is EntryState.DELIVERED for entry in entries) == 6)
        bench.notify()
        await settle_down()
        # Two of the first eight are left, and two more may be under way.
        assert len(bench.keycloak.calls) == 10
        for gate in gates:
            gate.set()
        await bench.done(*entries)


async def test_the_cap_lets_so_many_begin_in_a_second(bench: Bench) -> None:
    limit = CallLimit(LimitPolicy(ceiling=8, floor=8), per_second=10, clock=bench.clock)
    bench.instance(calls=limit)
    entries = [bench.database.add(f"user{n}") for n in range(40)]

    async with bench.running():
        await until(lambda: len(bench.keycloak.calls) == 1)
        for second in range(1, 4):
            for _ in range(10):
                await bench.advance(0.1)
            await until(partial(has_made, bench, 10 * second))
            assert len(bench.keycloak.calls) <= 1 + 10 * second
        await bench.done(*entries)


async def test_with_a_cap_no_more_is_claimed_than_is_called_soon(bench: Bench) -> None:
    """What waits long for its permit would be left in doubt if this process died."""
    limit = CallLimit(LimitPolicy(ceiling=8, floor=8), per_second=4, clock=bench.clock)
    bench.instance(calls=limit)
    entries = [bench.database.add(f"user{n}") for n in range(40)]

    async with bench.running():
        await until(lambda: len(bench.keycloak.calls) == 1)
        bench.notify()
        await settle_down()

        waiting = [
            entry for entry in entries if entry.claimed_at is not None and entry.state is EntryState.PENDING
        ]
        assert len(waiting) <= 2


async def test_the_cap_is_shared_by_the_living_instances(bench: Bench) -> None:
    limits = [CallLimit(LimitPolicy(ceiling=8, floor=8), per_second=10, clock=bench.clock) for _ in range(2)]
    for name, limit in zip("ab", limits, strict=True):
        bench.instance(name, calls=limit)
    async with bench.running():
        await bench.advance(1)

        assert [limit.per_second for limit in limits] == [5, 5]

        bench.database.instances.pop("b")
        await bench.instances[0].leases.turn()

        assert limits[0].per_second == 10


async def test_how_the_limit_stands_is_told_at_each_renewal(bench: Bench) -> None:
    limit = CallLimit(LimitPolicy(ceiling=16), clock=bench.clock)
    instance = bench.instance(calls=limit)

    await instance.leases.turn()

    assert instance.lease_store.noted == limit.note()
