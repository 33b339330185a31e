from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, cast

import pytest

from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.errors import CallFailed
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.outcome import DeadLetter, Defer, Delivered, NotDelivered, Outcome, Reason
from consumer.delivery.passwords import KeyRing
from consumer.delivery.transport import CallScope
from consumer.delivery.users import RealmUsers
from consumer.drain.merge import group_of, merged
from consumer.drain.settle import fold_after
from consumer.ingest.decode import Poison, decode
from consumer.kind_overrides import KindOverride
from consumer.kinds import GROUP, Kind, KindRefused, check_overrides, load_kinds
from consumer.outbox.fold import Fold, Value
from consumer.outbox.rows import EntryState, NewEntry
from producer_lib import CustomKind
from tests.example_kind.shop_badges.contract import BADGE
from tests.example_kind.shop_badges.handler import KIND
from tests.unit.drain.heads import CONFLICT, TIMEOUT, head, position
from tests.unit.ingest.records import event, record

HANDLER = KIND.handler


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An installed module with what a test puts into it."""
    module = ModuleType("somebodys_kinds")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def point(value: str) -> EntryPoint:
    return EntryPoint(value.partition(":")[2] or value, value, GROUP)


class TestLoading:
    def test_finds_kinds_by_name(self, module: ModuleType) -> None:
        vars(module)["badge"] = KIND

        assert load_kinds([point("somebodys_kinds:badge")]) == {"shop_badge": KIND}

    def test_finds_none_where_none_is_installed(self) -> None:
        assert load_kinds() == {}

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("somebodys_missing_kinds:x", "cannot be loaded: ModuleNotFoundError"),
            ("somebodys_kinds:missing", "cannot be loaded: AttributeError"),
            ("somebodys_kinds:text", "is not a consumer.kinds.Kind"),
            ("somebodys_kinds:no_handler", "is not a consumer.kinds.Kind with a handler"),
        ],
    )
    def test_refuses_what_is_no_kind_and_names_it(self, module: ModuleType, value: str, said: str) -> None:
        handler: Any = None
        vars(module).update(text="badge", no_handler=Kind(contract=BADGE, handler=handler))

        with pytest.raises(KindRefused, match=said) as error:
            load_kinds([point(value)])
        assert value in str(error.value)

    def test_refuses_two_of_one_name(self, module: ModuleType) -> None:
        other = Kind(contract=CustomKind(name="shop_badge", schema={}), handler=HANDLER)
        vars(module).update(one=KIND, two=other)

        with pytest.raises(KindRefused, match="both bring the kind shop_badge"):
            load_kinds([point("somebodys_kinds:one"), point("somebodys_kinds:two")])


class TestOverrides:
    def test_of_any_known_kind_are_right(self) -> None:
        check_overrides(
            [
                KindOverride("shop_badge", "max_attempts", "3"),
                KindOverride("user_create", "max_attempts", "3"),
            ],
            ["shop_badge"],
        )

    def test_of_a_kind_that_nobody_brings_are_refused(self) -> None:
        with pytest.raises(
            KindRefused, match=r"there is no kind user_delte; there are password_change, user_create"
        ):
            check_overrides([KindOverride("user_delte", "max_attempts", "3")], [])


class TestIngest:
    def decoded(self, type_: str = "kcsync.shop_badge.v1", **changes: Any) -> NewEntry | Poison:
        whole = {**event(), "type": type_, "data": {"badge": "gold"}, **changes}
        return decode(record(whole), {whole["realm"]}, {"shop_badge": BADGE})

    def test_knows_a_registered_kind(self) -> None:
        entry = self.decoded()

        assert isinstance(entry, NewEntry)
        assert (entry.kind, entry.state, entry.priority) == ("shop_badge", EntryState.PENDING, 7)

    def test_takes_the_events_own_priority_first(self) -> None:
        entry = self.decoded(priority=1)

        assert isinstance(entry, NewEntry)
        assert entry.priority == 1

    def test_holds_a_newer_version(self) -> None:
        entry = self.decoded("kcsync.shop_badge.v2", data={"stars": 3})

        assert isinstance(entry, NewEntry)
        assert (entry.state, entry.state_reason) == (EntryState.HELD, "schema_newer")

    def test_holds_a_kind_that_nobody_registered(self) -> None:
        entry = self.decoded("kcsync.other_badge.v1")

        assert isinstance(entry, NewEntry)
        assert (entry.state, entry.state_reason) == (EntryState.HELD, "kind_unregistered")

    @pytest.mark.parametrize("data", [{"badge": "tin"}, {"badge": "gold", "password": "geheim"}])
    def test_refuses_what_breaks_its_schema(self, data: dict[str, Any]) -> None:
        poison = self.decoded(data=data)

        assert isinstance(poison, Poison)
        assert poison.reason == "invalid"


class TestInTheDrain:
    def test_it_is_never_merged(self) -> None:
        first = head(
            "shop_badge", followers=(head("shop_badge", entry_id=12), head("user_update", entry_id=13))
        )
        update = head("user_update", followers=(head("shop_badge", entry_id=12),))

        assert [len(group_of(each, limit=20)) for each in (first, update)] == [1, 1]

    def test_its_data_reaches_the_handler_as_it_is(self) -> None:
        data = {"attributes": ["no", "mapping"], "name": "a b", "temporary": 3}

        assert merged((head("shop_badge", data=data),)).data == data

    def test_what_it_wrote_is_kept_in_the_fold(self) -> None:
        outcome = Delivered(
            reason=Reason.UPDATED, user_id="0b5c", existed=True, wrote={"attributes": {"badge": ["gold"]}}
        )

        fold = fold_after(head("shop_badge", data={"badge": "gold"}), outcome)

        assert (fold.exists, fold.user_id) == (True, "0b5c")
        assert fold.fields == {"attributes.badge": Value(["gold"], position())}

    def test_it_changes_nothing_of_the_fold_if_it_does_not_say(self) -> None:
        known = Fold(exists=True, fields={"email": Value("a@b.c", position(3))}, user_id="0b5c")
        outcome = Delivered(reason=Reason.UPDATED, user_id=None, existed=True)

        assert fold_after(head("shop_badge", data={"email": "x"}, fold=known), outcome) == known


class TestInDoubtWithItsAttemptsUsedUp:
    """It cannot be read back: it is repeated."""

    async def test_it_waits_where_nobody_knows_it(self) -> None:
        """Taken over by a process without the package, nothing of it can be read back."""
        found = await self.looked(CONFLICT, registered=False)

        assert isinstance(found, Defer)
        assert found.reason is Reason.KIND_UNREGISTERED

    async def looked(self, answer: Delivered | NotDelivered, *, registered: bool = True) -> Outcome:
        async def handler(change: Change, users: RealmUsers) -> Delivered:
            if isinstance(answer, Delivered):
                return answer
            raise CallFailed(answer)

        keycloak, keys = cast(Keycloak, NoKeycloak()), cast(KeyRing, None)
        delivery = Delivery(
            keycloak=keycloak, keys=keys, custom={"shop_badge": handler} if registered else {}
        )
        change = Change(
            event_id="e-1",
            kind="shop_badge",
            realm="shop",
            username="Alice",
            username_key="alice",
            data={"badge": "gold"},
            credential=None,
            credential_event_id="e-1",
            known=None,
            user_id=None,
            maybe_applied_since=None,
        )
        return await delivery.read_back(change, lambda: None)

    async def test_what_went_well_is_delivered(self) -> None:
        done = Delivered(reason=Reason.UPDATED, user_id="0b5c", existed=True)

        assert await self.looked(done) == done

    async def test_what_was_refused_is_a_dead_letter(self) -> None:
        assert await self.looked(CONFLICT) == DeadLetter(reason=Reason.CONFLICT, failure=CONFLICT.failure)

    async def test_what_keycloak_did_not_answer_stays_in_doubt(self) -> None:
        assert await self.looked(TIMEOUT) == TIMEOUT


class NoUsers:
    """What is asked of users after a failure."""

    @property
    def directories(self) -> NoUsers:
        """None either."""
        return self

    def known_of(self, user_id: str) -> None:
        """They come from nowhere."""

    async def explained(self, failed: CallFailed, username_key: str, user_id: str | None) -> CallFailed:
        """There is nothing behind it."""
        return failed

    async def may_drop(self, _: object) -> dict[str, str]:
        """They keep whatever they are given."""
        return {}

    async def bearers(self, **_: str) -> list[tuple[str, str]]:
        """Nobody has any name or address."""
        return []


class NoKeycloak:
    """Lets handlers call nobody."""

    def users(self, realm: str) -> NoUsers:
        """Nobody's."""
        return NoUsers()

    def calls(self, before_call: Callable[[], None], watch: object) -> CallScope:
        return CallScope(before_call, 1.0, asyncio.Semaphore())
