"""When a lane is healed, what is kept of its doubt, and when it is looked at again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta

import pytest

from consumer.delivery.outcome import Blame, Delivered, Failure, Reason, Retry
from consumer.drain.password_looks import PasswordLooks
from consumer.outbox.doubt import Doubt
from consumer.outbox.drain_store import WriteBack
from consumer.outbox.fold import Credential, Fold, Value
from consumer.outbox.rows import EntryState
from tests.unit.drain.bench_of_drainers import POLICY, Bench, settle_down, until
from tests.unit.drain.heads import LANE, TIMEOUT
from tests.unit.drain.outbox_in_memory import Entry

DOUBT = Doubt(fields={"first_name": ("Old",)})
DELIVERED = Delivered(reason=Reason.AS_DELIVERED, user_id="0b5c", existed=True)
LEFT = Delivered(reason=Reason.LEFT_AS_FOUND, user_id="0b5c", existed=True, drift={"first_name": "changed"})


@pytest.fixture
def bench() -> Bench:
    return Bench()


def in_doubt(bench: Bench, username: str = "alice", **changes: object) -> Entry:
    """A user with nothing to do but a doubt."""
    entry = bench.database.add(username, state=EntryState.DELIVERED)
    fold = Fold(
        exists=True,
        fields={"first_name": Value("Ada", None)},
        suspect_since=bench.database.now(),
        suspect_kind="timeout",
        doubt=DOUBT,
    )
    bench.database.folds[entry.lane_id] = replace(fold, **changes)  # type: ignore[arg-type]
    bench.database.lanes[entry.lane_id].state = "IDLE"
    return entry


async def pass_by(bench: Bench, seconds: float) -> None:
    """Let so many seconds pass, in steps that leave the leases alive."""
    while seconds > 0:
        await bench.advance(min(seconds, 20.0))
        seconds -= 20.0


class TestADoubt:
    async def test_remembers_what_the_call_may_leave(self, bench: Bench) -> None:
        bench.instance()
        bench.keycloak.always["alice"] = TIMEOUT
        lost = bench.database.add("alice", data={"first_name": "Ada"})

        async with bench.running():
            await until(lambda: lost.calls == 1)

        doubt = bench.database.folds[lost.lane_id].doubt
        assert doubt is not None
        assert doubt.fields == {"first_name": ("Ada",)}

    async def test_of_a_takeover_is_that_of_the_call_that_nobody_recorded(self, bench: Bench) -> None:
        bench.instance()
        entry = bench.database.add(
            "alice", data={"first_name": "Ada"}, claimed_at=bench.database.now(), claim_token=99
        )
        bench.clock.advance(40)

        async with bench.running():
            await until(lambda: entry.state is EntryState.DELIVERED)

        doubt = bench.database.folds[entry.lane_id].doubt
        assert doubt is not None
        assert doubt.fields == {"first_name": ("Ada",)}

    async def test_is_noted_by_who_has_lost_the_shard(self, bench: Bench) -> None:
        """A request may leave after the new owner's own doubt began."""
        one = bench.instance()
        entry = bench.database.add("alice", data={"first_name": "Ada"})
        gate = bench.keycloak.hold("alice")

        async with bench.running():
            await until(lambda: bench.keycloak.calls)
            lease = bench.database.leases[entry.lane_id[0]]
            lease.owner, lease.token = "another", lease.token + 1
            gate.set()
            await until(lambda: one.drainer.counts.fenced)
            bench.notify()
            await until(lambda: bench.database.doubts)

        (noted,) = bench.database.doubts.values()
        assert (noted.lane_id, noted.kind) == (entry.lane_id, "fenced")
        assert noted.doubt.fields == {"first_name": ("Ada",)}
        assert noted.due_at >= bench.clock() + POLICY.server_limit

    async def test_that_was_noted_is_taken_in_and_over(self, bench: Bench) -> None:
        one = bench.instance()
        entry = in_doubt(bench, suspect_since=None, doubt=None)
        store = one.healer.store
        await store.note_doubts({entry.lane_id: DOUBT}, kind="fenced", after=0.0)

        async with bench.running():
            await until(lambda: one.healer.healed == 1)
            await settle_down()

        (late,) = bench.keycloak.late
        assert [each.name for each in late.fields] == ["first_name"]
        assert not late.only_looks
        assert bench.database.doubts == {}


class TestTheServerLimit:
    async def test_does_not_run_while_the_circuit_is_open(self, bench: Bench) -> None:
        """What a frozen Keycloak has taken in takes effect when it goes on."""
        one = bench.instance()
        in_doubt(bench)

        async with bench.running():
            one.circuit.closed_for = 59.0
            await pass_by(bench, 120.0)
            assert bench.keycloak.healed == []
            one.circuit.closed_for = 61.0
            await pass_by(bench, 20.0)
            await until(lambda: one.healer.healed == 1)

    async def test_of_a_create_that_was_lost_begins_when_the_circuit_has_closed(self, bench: Bench) -> None:
        one = bench.instance()
        lost = bench.database.add("alice", "user_create")
        bench.keycloak.plans[lost.event_id].append(TIMEOUT)

        async with bench.running():
            await until(lambda: lost.calls == 1)
            one.circuit.closed_for = 1.0
            await pass_by(bench, 120.0)
            # Its turn came; whether it took effect cannot be said yet.
            assert bench.keycloak.order("alice") == [lost.event_id]
            one.circuit.closed_for = 100.0
            await bench.done(lost)

        assert bench.keycloak.order("alice") == [lost.event_id, lost.event_id]


async def test_heals_have_turns_of_their_own_beside_a_backlog(bench: Bench) -> None:
    one = bench.instance()
    backlog = [bench.database.add(f"user{n}") for n in range(400)]
    in_doubt(bench, suspect_since=bench.database.now() - timedelta(hours=1))

    async with bench.running():
        await until(lambda: one.healer.healed == 1)
        called = len(bench.keycloak.calls)
        await bench.done(*backlog)

    assert called < 200


class TestLooks:
    async def test_are_two_and_the_last_ends_the_doubt(self, bench: Bench) -> None:
        one = bench.instance()
        entry = in_doubt(bench)
        bench.keycloak.heals = DELIVERED

        async with bench.running():
            await pass_by(bench, 80.0)
            await until(lambda: one.healer.healed == 1)
            await settle_down()
            fold = bench.database.folds[entry.lane_id]
            assert (fold.suspect_since, fold.looks) == (None, 0)
            assert fold.doubt is not None
            await pass_by(bench, 560.0)
            assert one.healer.healed == 1
            await pass_by(bench, 60.0)
            await until(lambda: one.healer.healed == 2)
            await pass_by(bench, 2940.0)
            assert one.healer.healed == 2
            await pass_by(bench, 80.0)
            await until(lambda: one.healer.healed == 3)
            await settle_down()

        assert [late.only_looks for late in bench.keycloak.late] == [False, True, True]
        fold = bench.database.folds[entry.lane_id]
        assert (fold.doubt, fold.looks, fold.look_at) == (None, 0, None)

    async def test_begin_again_where_one_has_undone_something(self, bench: Bench) -> None:
        one = bench.instance()
        entry = in_doubt(bench, suspect_since=None, looks=1, look_at=bench.database.now())

        async with bench.running():
            await until(lambda: one.healer.undone == 1)
            await settle_down()

        fold = bench.database.folds[entry.lane_id]
        assert fold.looks == 0
        assert fold.look_at is not None
        assert fold.look_at > bench.database.now() + timedelta(seconds=500)


class TestDrift:
    async def test_is_kept_and_ends_when_it_is_over(self, bench: Bench) -> None:
        one = bench.instance()
        entry = in_doubt(bench)
        bench.keycloak.heals = LEFT

        async with bench.running():
            await pass_by(bench, 80.0)
            await until(lambda: one.healer.healed == 1)
            await settle_down()
            fold = bench.database.folds[entry.lane_id]
            assert fold.drift == {"first_name": "changed"}
            assert fold.drift_at is not None
            bench.keycloak.heals = DELIVERED
            await pass_by(bench, 640.0)
            await until(lambda: one.healer.healed == 2)
            await settle_down()

        fold = bench.database.folds[entry.lane_id]
        assert (fold.drift, fold.drift_at) == ({}, None)

    async def test_is_undone_at_once_when_somebody_asks(self, bench: Bench) -> None:
        one = bench.instance()
        entry = in_doubt(
            bench, suspect_since=None, drift={"first_name": "changed"}, drift_at=bench.database.now()
        )
        asked = Doubt(asked=frozenset({"first_name"}))
        await one.healer.store.note_doubts({entry.lane_id: asked}, kind="asked", after=0.0)

        async with bench.running():
            await until(lambda: one.healer.healed == 1)
            await settle_down()

        (late,) = bench.keycloak.late
        assert late.asked == {"first_name"}
        fold = bench.database.folds[entry.lane_id]
        assert fold.drift == {}
        assert fold.doubt is not None
        assert fold.doubt.asked == frozenset()

    async def test_is_shown_no_more_when_somebody_accepts_it(self, bench: Bench) -> None:
        one = bench.instance()
        entry = in_doubt(
            bench, suspect_since=None, drift={"first_name": "changed"}, drift_at=bench.database.now()
        )
        bench.keycloak.heals = DELIVERED
        accepted = Doubt(accepted=frozenset({"first_name"}))
        await one.healer.store.note_doubts({entry.lane_id: accepted}, kind="asked", after=0.0)

        async with bench.running():
            await until(lambda: one.healer.healed == 1)
            await settle_down()

        (late,) = bench.keycloak.late
        assert late.fields == ()
        assert bench.database.folds[entry.lane_id].drift == {}


async def test_a_restore_that_is_broken_off_leaves_what_it_had_not_done(bench: Bench) -> None:
    one = bench.instance()
    fields = {"groups./staff": Value(True, None)}
    entry = in_doubt(bench, fields=fields, credential=Credential(b"{}", "e-0", None))
    failure = Failure(blame=Blame.KEYCLOAK, ambiguous=True, restoring=True)
    bench.keycloak.heals = Retry(reason=Reason.TIMEOUT, failure=failure)

    async with bench.running():
        await pass_by(bench, 80.0)
        await until(lambda: bench.keycloak.healed)
        await until(
            lambda: (
                (doubt := bench.database.folds[entry.lane_id].doubt) is not None
                and "groups./staff" in doubt.fields
            )
        )
        assert one.healer.healed == 0

    doubt = bench.database.folds[entry.lane_id].doubt
    assert doubt is not None
    assert doubt.fields["groups./staff"] == (False,)
    assert [call.event_id for call in doubt.passwords] == ["e-0"]


class TestPasswords:
    @staticmethod
    def password(bench: Bench, username: str = "alice") -> Entry:
        return bench.database.add(
            username, "password_change", credential=b'{"kid":"k1"}', data={"temporary": True}
        )

    async def test_are_looked_at_once_more_and_their_date_is_kept(self, bench: Bench) -> None:
        bench.instance()
        entry = self.password(bench)
        date = bench.database.now().replace(tzinfo=UTC)
        bench.keycloak.looks = Delivered(
            reason=Reason.AS_DELIVERED, user_id="0b5c", existed=True, credential_date=date
        )

        async with bench.running():
            await bench.done(entry)
            assert bench.keycloak.looked_at == []
            await bench.advance(4.0)
            await until(lambda: bench.database.folds[entry.lane_id].credential_date is not None)

        (look,) = bench.keycloak.looked_at
        assert (look.event_id, look.user_id, look.temporary) == (entry.event_id, "0b5c", True)
        assert bench.database.folds[entry.lane_id].credential_date == date.replace(tzinfo=None)

    async def test_are_left_when_the_user_has_moved_on(self, bench: Bench) -> None:
        bench.instance()
        entry = self.password(bench)

        async with bench.running():
            await bench.done(entry)
            later = bench.database.add("alice")
            await bench.done(later)
            await bench.advance(10.0)
            await settle_down()

        assert bench.keycloak.looked_at == []

    async def test_whose_second_setting_was_lost_are_in_doubt(self, bench: Bench) -> None:
        bench.instance()
        entry = self.password(bench)
        bench.keycloak.looks = TIMEOUT

        async with bench.running():
            await bench.done(entry)
            await bench.advance(4.0)
            await until(lambda: bench.database.folds[entry.lane_id].suspect_since is not None)

        doubt = bench.database.folds[entry.lane_id].doubt
        assert doubt is not None
        assert [call.event_id for call in doubt.passwords] == [entry.event_id]

    async def test_are_not_looked_at_while_deliveries_are_stopped(self, bench: Bench) -> None:
        one = bench.instance()
        entry = self.password(bench)

        async with bench.running():
            await bench.done(entry)
            one.realms.maintain(frozenset({"shop"}))
            await bench.advance(10.0)
            await settle_down()

        assert bench.keycloak.looked_at == []

    def test_wait_in_a_bounded_queue(self) -> None:
        looks = PasswordLooks()

        for number in range(10_050):
            lane = replace(LANE, lane_id=number.to_bytes(16, "big"))
            looks.note(lane.lane_id, "a look")  # type: ignore[arg-type]
            looks.written(WriteBack(lane=lane, token=1, fold=Fold()), now=0.0)

        due = list(looks.due(10.0, tokens={0: 1}, in_hand=(), limit=20_000))
        assert len(due) == 10_000
        assert due[0].lane.lane_id == (50).to_bytes(16, "big")
