"""Who asks for another user's e-mail address waits while that user may still give it up."""

from __future__ import annotations

import pytest
import structlog

from consumer.delivery.outcome import Blame, Failure, Reason, Retry
from consumer.outbox.errors import DatabaseUnavailable
from consumer.outbox.rows import EntryState
from tests.unit.drain.bench_of_drainers import Bench, until
from tests.unit.drain.heads import UNAVAILABLE
from tests.unit.drain.outbox_in_memory import Entry

PENDING, HELD, DELIVERED, DEAD_LETTER, _ = EntryState


def taken_by(holder: str | None) -> Retry:
    failure = Failure(blame=Blame.USER, status=409, detail="same email", holder=holder)
    return Retry(reason=Reason.EMAIL_IN_USE, failure=failure)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.instance()
    return bench


def charged(entry: Entry) -> tuple[int, set[str]]:
    return entry.attempts, {attempt.outcome for attempt in entry.recorded}


async def test_it_waits_uncharged_for_the_change_that_frees_the_address(bench: Bench) -> None:
    bench.keycloak.always["bob"] = UNAVAILABLE
    bench.database.add("bob")
    entry = bench.database.add("alice")
    bench.keycloak.always["alice"] = taken_by("bob")

    async with bench.running():
        for _ in range(20):
            await bench.advance(20.0)
        await until(lambda: len(entry.recorded) > 5)
        assert charged(entry) == (0, {"DEFER"})
        assert (entry.state, entry.reason) == (PENDING, "email_in_use")

        del bench.keycloak.always["bob"], bench.keycloak.always["alice"]
        await bench.done(entry)

    assert entry.state is DELIVERED


async def test_a_held_change_of_theirs_counts_as_well(bench: Bench) -> None:
    bench.database.add("bob", state=HELD)
    entry = bench.database.add("alice")
    bench.keycloak.always["alice"] = taken_by("bob")

    async with bench.running():
        for _ in range(20):
            await bench.advance(20.0)
        await until(lambda: len(entry.recorded) > 5)

    assert charged(entry) == (0, {"DEFER"})


async def test_with_nothing_left_of_theirs_it_dies_and_names_them_in_the_outbox_alone(bench: Bench) -> None:
    entry = bench.database.add("alice")
    bench.keycloak.always["alice"] = taken_by("the-other-user")

    with structlog.testing.capture_logs() as lines:
        async with bench.running():
            await bench.done(entry)

    assert (entry.state, entry.reason, entry.attempts) == (DEAD_LETTER, "email_in_use", 5)
    assert entry.email_holder == "the-other-user"
    assert "the-other-user" not in f"{lines}{entry.recorded}"


async def test_two_who_want_each_others_address_do_not_wait_for_ever(bench: Bench) -> None:
    entries = [bench.database.add("alice"), bench.database.add("bob")]
    bench.keycloak.always |= {"alice": taken_by("bob"), "bob": taken_by("alice")}

    async with bench.running():
        await bench.done(*entries)

    assert [(entry.state, entry.reason) for entry in entries] == [(DEAD_LETTER, "email_in_use")] * 2


async def test_an_address_that_nobody_has_any_more_is_charged_as_before(bench: Bench) -> None:
    entry = bench.database.add("alice")
    bench.keycloak.plans[entry.event_id].append(taken_by(None))

    async with bench.running():
        await bench.done(entry)

    assert (entry.state, entry.attempts) == (DELIVERED, 1)


async def test_with_the_outbox_away_it_gets_the_benefit_of_the_doubt(bench: Bench) -> None:
    entry = bench.database.add("alice")
    bench.keycloak.plans[entry.event_id].append(taken_by("bob"))
    bench.database.faults["unfinished"].append(DatabaseUnavailable())

    async with bench.running():
        await bench.done(entry)

    assert (entry.state, entry.attempts) == (DELIVERED, 0)
