"""At most so many calls of one kind at once, and no other kind waits for it (docs/decisions/0022)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consumer.outbox.rows import EntryState
from tests.unit.drain.bench_of_drainers import POLICY, Bench, until

CAPPED = replace(POLICY, kinds={"password_change": replace(POLICY, batch=2)})


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.instance(policy=CAPPED)
    return bench


async def test_no_more_calls_of_a_capped_kind_than_its_cap(bench: Bench) -> None:
    entries = [bench.database.add(f"user{n}", "password_change", priority=1) for n in range(30)]
    most = 0

    async def count(_change: object) -> None:
        nonlocal most
        most = max(most, sum(entry.claimed_at is not None for entry in entries))

    bench.keycloak.before_request = count
    async with bench.running():
        await bench.done(*entries)

    assert bench.keycloak.most_at_once == 2
    assert most == 2


async def test_other_kinds_are_not_delayed_by_a_capped_one(bench: Bench) -> None:
    passwords = [bench.database.add(f"user{n}", "password_change", priority=1) for n in range(300)]
    gates = [bench.keycloak.hold(f"user{n}") for n in range(300)]
    others = [bench.database.add(f"other{n}", priority=10) for n in range(50)]

    async with bench.running():
        await until(lambda: all(entry.state is EntryState.DELIVERED for entry in others))
        assert all(entry.state is EntryState.PENDING for entry in passwords)
        for gate in gates:
            gate.set()
        await bench.done(*passwords)


async def test_the_most_urgent_of_a_capped_kind_goes_first(bench: Bench) -> None:
    late = [bench.database.add(f"late{n}", "password_change", priority=10) for n in range(10)]
    gates = [bench.keycloak.hold(f"late{n}") for n in range(10)]

    async with bench.running():
        await until(lambda: len(bench.keycloak.calls) == 2)
        urgent = [bench.database.add(f"urgent{n}", "password_change", priority=1) for n in range(10)]
        bench.notify()
        for gate in gates:
            gate.set()
        await bench.done(*late, *urgent)

    order = [made.lane.rstrip("0123456789") for made in bench.keycloak.calls]
    # Four of the late ones at most were in hand or taken up before the urgent ones were seen.
    assert order.index("urgent") <= 4
    assert "late" not in order[order.index("urgent") + 2 : order.index("urgent") + 6]


async def test_a_kind_without_a_cap_of_its_own_is_not_parked(bench: Bench) -> None:
    entries = [bench.database.add(f"user{n}") for n in range(40)]

    async with bench.running():
        await bench.done(*entries)

    assert bench.keycloak.most_at_once == 8
