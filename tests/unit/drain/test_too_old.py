"""An entry that could have been delivered for too long is given up (docs/decisions/0021)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consumer.delivery.outcome import Blame, Defer, Delivered, Outcome, Reason
from consumer.outbox.rows import EntryState
from tests.unit.drain.bench_of_drainers import POLICY, Bench, Instance, settle_down
from tests.unit.drain.heads import FORBIDDEN, TIMEOUT, failure
from tests.unit.drain.outbox_in_memory import Entry

PENDING, HELD, DELIVERED, DEAD_LETTER, _ = EntryState
# Would wait for ever: whose fault it is cannot be said.
NO_KEY = Defer(reason=Reason.UNKNOWN_SEALING_KEY, failure=replace(failure(), status=None))
AGED = replace(POLICY, pending_max_age=600.0, backoff_cap=20.0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def instance(bench: Bench) -> Instance:
    return bench.instance(policy=AGED)


def stuck(bench: Bench, outcome: Outcome = NO_KEY) -> Entry:
    entry = bench.database.add("alice")
    bench.keycloak.always["alice"] = outcome
    return entry


async def pass_time(bench: Bench, seconds: float) -> None:
    """In steps in which everybody looks and leases live."""
    for _ in range(round(seconds / 10)):
        await bench.advance(10)
        await settle_down()


async def test_it_is_a_dead_letter_after_its_time(bench: Bench, instance: Instance) -> None:
    entry = stuck(bench)

    async with bench.running():
        await settle_down()
        await pass_time(bench, 560)
        assert entry.state is PENDING
        await pass_time(bench, 100)

    assert (entry.state, entry.reason) == (DEAD_LETTER, "too_old")
    assert entry.attempts == 0


async def test_an_outage_of_a_users_directory_does_not_make_it_old(bench: Bench, instance: Instance) -> None:
    away = failure(Blame.FEDERATION)
    entry = stuck(bench, Defer(reason=Reason.DIRECTORY_UNAVAILABLE, failure=away))

    async with bench.running():
        await settle_down()
        await pass_time(bench, 1200)
        assert (entry.state, entry.reason) == (PENDING, "directory_unavailable")
        # Back, and stuck for another reason from now on.
        bench.keycloak.always["alice"] = NO_KEY
        await pass_time(bench, 560)
        assert entry.state is PENDING
        await pass_time(bench, 120)

    assert (entry.state, entry.reason) == (DEAD_LETTER, "too_old")


async def test_never_is_a_valid_age(bench: Bench) -> None:
    bench.instance(policy=replace(AGED, pending_max_age=None))
    entry = stuck(bench)

    async with bench.running():
        await settle_down()
        await pass_time(bench, 5000)

    assert entry.state is PENDING


async def test_a_kind_has_an_age_of_its_own(bench: Bench) -> None:
    bench.instance(policy=replace(AGED, kinds={"user_update": replace(AGED, pending_max_age=100.0)}))
    entry = stuck(bench)

    async with bench.running():
        await settle_down()
        await pass_time(bench, 160)

    assert entry.reason == "too_old"


async def test_an_outage_does_not_make_it_old(bench: Bench, instance: Instance) -> None:
    entry = stuck(bench)

    async with bench.running():
        await settle_down()
        await pass_time(bench, 300)
        instance.circuit.allowed_calls = 0
        await pass_time(bench, 5000)
        instance.circuit.allowed_calls = 8
        await pass_time(bench, 200)
        assert entry.state is PENDING
        await pass_time(bench, 160)

    assert entry.reason == "too_old"


async def test_a_fault_of_its_realm_does_not_make_it_old(bench: Bench, instance: Instance) -> None:
    entry = stuck(bench, FORBIDDEN)
    instance.realm_trouble["shop"] = FORBIDDEN

    async with bench.running():
        await settle_down()
        await pass_time(bench, 2000)

    assert entry.state is PENDING
    assert entry.eligible < 100


async def test_waiting_for_a_repair_in_keycloak_does_not_make_it_old(
    bench: Bench, instance: Instance
) -> None:
    broken = Defer(reason=Reason.PROFILE_BROKEN, failure=replace(failure(), status=400))
    entry = stuck(bench, broken)

    async with bench.running():
        await settle_down()
        await pass_time(bench, 2000)
        assert (entry.state, entry.reason, entry.attempts) == (PENDING, "profile_broken", 0)
        del bench.keycloak.always["alice"]
        await pass_time(bench, 300)

    assert entry.state is DELIVERED


async def test_time_behind_another_entry_does_not_make_it_old(bench: Bench, instance: Instance) -> None:
    first, second = stuck(bench), bench.database.add("alice")

    async with bench.running():
        await settle_down()
        await pass_time(bench, 660)
        assert first.reason == "too_old"
        assert second.state is PENDING
        assert second.eligible < 100


async def test_time_before_its_first_call_does_not_make_it_old(bench: Bench, instance: Instance) -> None:
    """Nothing is given up untried, however long the queue."""
    entry = bench.database.add("alice", due_at=bench.clock() + 5000)

    async with bench.running():
        await settle_down()
        await pass_time(bench, 4990)
        bench.keycloak.always["alice"] = NO_KEY
        await pass_time(bench, 100)

    assert entry.state is PENDING
    assert entry.eligible < 100


async def test_a_take_over_loses_one_wait_and_no_more(bench: Bench) -> None:
    first, second = bench.instance("a", policy=AGED), bench.instance("b", policy=AGED)
    entry = stuck(bench)

    async with first.running():
        await settle_down()
        for _ in range(40):
            bench.clock.advance(10)
            await first.leases.turn()
            first.drainer.notify()
            await settle_down()
    await first.leases.release_all()
    counted = entry.eligible
    assert 370 <= counted <= 400

    async with second.running():
        for _ in range(30):
            bench.clock.advance(10)
            await second.leases.turn()
            second.drainer.notify()
            await settle_down()

    assert entry.reason == "too_old"


class TestInDoubt:
    async def test_it_is_read_back_first_and_may_be_found_applied(
        self, bench: Bench, instance: Instance
    ) -> None:
        entry = stuck(bench, TIMEOUT)
        instance.circuit.control_succeeds = False
        bench.keycloak.found[entry.event_id] = Delivered(
            reason=Reason.ALREADY_APPLIED, user_id="0b5c", existed=True
        )

        async with bench.running():
            await settle_down()
            await pass_time(bench, 900)

        assert entry.state is DELIVERED
        assert bench.keycloak.read == [entry.event_id]

    async def test_it_is_given_up_when_keycloak_says_no(self, bench: Bench, instance: Instance) -> None:
        entry = stuck(bench, TIMEOUT)
        instance.circuit.control_succeeds = False

        async with bench.running():
            await settle_down()
            await pass_time(bench, 900)

        assert (entry.state, entry.reason) == (DEAD_LETTER, "too_old")
        assert bench.keycloak.read == [entry.event_id]
