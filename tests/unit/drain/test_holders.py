"""Who asks for another user's name or e-mail address waits while that user may still give it up."""

from __future__ import annotations

import pytest
import structlog

from consumer.delivery.outcome import TAKEN, Blame, Failure, Reason, Retry
from consumer.outbox.errors import DatabaseUnavailable
from consumer.outbox.fold import Fold, Value
from consumer.outbox.rows import EntryState
from tests.unit.drain.bench_of_drainers import Bench, until
from tests.unit.drain.heads import UNAVAILABLE
from tests.unit.drain.outbox_in_memory import Entry

PENDING, HELD, DELIVERED, DEAD_LETTER, _ = EntryState


def taken_by(holder: str | None, reason: Reason = Reason.EMAIL_IN_USE) -> Retry:
    failure = Failure(blame=Blame.USER, status=409, detail="same email", holder=holder)
    return Retry(reason=reason, failure=failure)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.instance()
    return bench


def charged(entry: Entry) -> tuple[int, set[str]]:
    return entry.attempts, {attempt.outcome for attempt in entry.recorded}


@pytest.mark.parametrize("reason", sorted(TAKEN))
async def test_it_waits_uncharged_for_the_change_that_frees_the_address(bench: Bench, reason: Reason) -> None:
    bench.keycloak.always["bob"] = UNAVAILABLE
    bench.database.add("bob")
    entry = bench.database.add("alice")
    bench.keycloak.always["alice"] = taken_by("bob", reason)

    async with bench.running():
        for _ in range(20):
            await bench.advance(20.0)
        await until(lambda: len(entry.recorded) > 5)
        assert charged(entry) == (0, {"DEFER"})
        assert (entry.state, entry.reason) == (PENDING, reason)

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
    assert entry.holder == "the-other-user"
    assert "the-other-user" not in f"{lines}{entry.recorded}"


@pytest.mark.parametrize("users", [2, 3, 7])
@pytest.mark.parametrize("reason", sorted(TAKEN))
async def test_users_who_want_each_others_in_a_circle_do_not_wait_for_ever(
    bench: Bench, users: int, reason: Reason
) -> None:
    names = [f"user-{n}" for n in range(users)]
    entries = [bench.database.add(name) for name in names]
    bench.keycloak.always |= {name: taken_by(names[n - 1], reason) for n, name in enumerate(names)}

    async with bench.running():
        await bench.done(*entries)

    assert [(entry.state, entry.reason) for entry in entries] == [(DEAD_LETTER, reason)] * users


async def test_who_waits_for_somebody_in_such_a_circle_waits_until_it_is_broken(bench: Bench) -> None:
    entry = bench.database.add("alice")
    circle = [bench.database.add("bob"), bench.database.add("carol")]
    bench.keycloak.always |= {
        "alice": taken_by("bob"),
        "bob": taken_by("carol"),
        "carol": taken_by("bob"),
    }

    async with bench.running():
        await bench.done(*circle)
        await bench.done(entry)

    assert entry.recorded[0].outcome == "DEFER"
    assert (entry.state, entry.reason) == (DEAD_LETTER, "email_in_use")


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


class TestHealing:
    """A user in doubt, whose address somebody else has by now."""

    @staticmethod
    def in_doubt(bench: Bench) -> bytes:
        entry = bench.database.add("alice", data={"email_verified": True})
        known = {"email": "a@example.org", "first_name": "Alice"}
        bench.database.folds[entry.lane_id] = Fold(
            exists=True,
            fields={name: Value(value, None) for name, value in known.items()},
            suspect_since=bench.database.now(),
            suspect_kind="timeout",
        )
        return entry.lane_id

    @staticmethod
    def refuse(bench: Bench, holder: str | None, *, times: int = 1_000_000) -> None:
        left = [taken_by(holder)] * times
        bench.keycloak.heals = lambda known: left.pop() if "email" in known.data and left else None

    async def test_waits_while_they_may_give_it_up(self, bench: Bench) -> None:
        bench.database.add("bob", state=HELD)
        lane = self.in_doubt(bench)
        self.refuse(bench, "bob")

        async with bench.running():
            for _ in range(20):
                await bench.advance(20.0)
            await until(lambda: len(bench.keycloak.healed) > 3)

        assert all("email" in known.data for known in bench.keycloak.healed)
        assert bench.database.folds[lane].suspect_since is not None

    async def test_makes_everything_else_equal_when_they_keep_it(self, bench: Bench) -> None:
        lane = self.in_doubt(bench)
        self.refuse(bench, "the-other-user")

        with structlog.testing.capture_logs() as lines:
            async with bench.running():
                for _ in range(4):
                    await bench.advance(20.0)
                await until(lambda: bench.database.folds[lane].suspect_since is None)

        whole, rest = (known.data for known in bench.keycloak.healed)
        assert set(whole) - set(rest) == {"email", "email_verified"}
        assert rest == {"first_name": "Alice"}
        fold = bench.database.folds[lane]
        assert (fold.heal_refused, fold.user_id) == ("email_in_use", "0b5c")
        # What was delivered stays known: a later heal asks for it again.
        assert fold.fields["email"].value == whole["email"]
        assert "the-other-user" not in str(lines)

    async def test_asks_again_for_an_address_that_nobody_has_any_more(self, bench: Bench) -> None:
        lane = self.in_doubt(bench)
        self.refuse(bench, None, times=1)

        async with bench.running():
            for _ in range(4):
                await bench.advance(20.0)
            await until(lambda: bench.database.folds[lane].suspect_since is None)

        assert len(bench.keycloak.healed) == 2
        assert bench.database.folds[lane].heal_refused is None

    async def test_with_the_outbox_away_is_put_off(self, bench: Bench) -> None:
        lane = self.in_doubt(bench)
        self.refuse(bench, "bob")
        bench.database.faults["unfinished"].append(DatabaseUnavailable())

        async with bench.running():
            for _ in range(8):
                await bench.advance(20.0)
            await until(lambda: bench.database.folds[lane].suspect_since is None)

        assert len(bench.keycloak.healed) == 3
        assert bench.database.folds[lane].heal_refused == "email_in_use"
