from __future__ import annotations

import asyncio
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any, cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.outcome import Delivered, Outcome
from consumer.delivery.passwords import Keys
from consumer.drain.known import known_user
from consumer.drain.late import late_effects
from consumer.drain.merge import group_of, merged
from consumer.drain.settle import fold_after, fold_after_all
from consumer.outbox.doubt import Doubt
from consumer.outbox.drain_store import Head
from consumer.outbox.fold import Fold
from consumer.outbox.rows import EntryState
from producer_lib import SEALING_ALG, sealing_info
from tests.simulation.direct_link import DirectKeycloak
from tests.simulation.fake_keycloak import FakeKeycloak, User
from tests.unit.drain.heads import EARLIER, head, position


def lane(*entries: Head) -> Head:
    first, *followers = (
        replace(entry, entry_id=number, event_id=f"e-{number}", position=position(number))
        for number, entry in enumerate(entries, start=1)
    )
    return replace(first, followers=tuple(followers))


def kinds(group: Sequence[Head]) -> list[str]:
    return [member.kind for member in group]


CREATE, UPDATE, PASSWORD, DELETE = "user_create", "user_update", "password_change", "user_delete"


class TestWhoSharesACall:
    @pytest.mark.parametrize(
        ("waiting", "share"),
        [
            ([UPDATE], 1),
            ([UPDATE, UPDATE, UPDATE], 3),
            ([UPDATE, PASSWORD, UPDATE], 1),
            ([PASSWORD, PASSWORD, UPDATE], 2),
            ([CREATE, UPDATE, PASSWORD, UPDATE], 4),
            ([CREATE, CREATE], 1),
            ([UPDATE, DELETE], 1),
            ([DELETE, CREATE, UPDATE], 1),
            ([DELETE, DELETE], 1),
            (["somebody_elses", "somebody_elses"], 1),
        ],
    )
    def test_by_kind(self, waiting: list[str], share: int) -> None:
        group = group_of(lane(*map(head, waiting)), limit=20)

        assert kinds(group) == waiting[:share]

    @pytest.mark.parametrize(
        "barrier",
        [
            {"state": EntryState.HELD},
            {"due_in": 0.5},
            {"claimed_at": EARLIER},
            {"maybe_applied_since": EARLIER},
        ],
    )
    def test_only_what_is_due_and_as_certain_as_the_head(self, barrier: dict[str, Any]) -> None:
        group = group_of(lane(head(), head(**barrier), head()), limit=20)

        assert len(group) == 1

    def test_a_head_in_doubt_shares_with_those_it_was_called_with(self) -> None:
        in_doubt: dict[str, Any] = {"maybe_applied_since": EARLIER}

        assert len(group_of(lane(head(**in_doubt), head(**in_doubt), head()), limit=20)) == 2

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_no_more_than_the_limit(self, limit: int) -> None:
        assert len(group_of(lane(head(), head(), head(), head()), limit=limit)) == limit


class TestWhatIsSaid:
    def test_one_alone_is_said_as_it_is(self) -> None:
        data = {"name": "Ada Lovelace", "attributes": {"team": ["x"]}, "enabled": True}

        said = merged([head(data=data)])

        assert (said.kind, said.data, said.credential) == (UPDATE, data, None)

    def test_the_later_wins_field_by_field_and_attribute_by_attribute(self) -> None:
        first = head(data={"email": "a", "enabled": True, "attributes": {"a": ["1"], "b": ["1"]}})
        second = head(data={"email": "b", "attributes": {"b": ["2"], "c": []}})

        assert merged([first, second]).data == {
            "email": "b",
            "enabled": True,
            "attributes": {"a": ["1"], "b": ["2"], "c": []},
        }

    def test_the_last_password_wins_with_what_it_is_bound_to(self) -> None:
        create = head(CREATE, credential=b"one", event_id="e-1", data={"email": "a"})
        change = head(PASSWORD, credential=b"two", event_id="e-2", data={"temporary": True})

        said = merged([create, change, head(data={"email": "b"})])

        assert (said.kind, said.credential, said.credential_event_id) == (CREATE, b"two", "e-2")
        assert said.data == {"email": "b", "temporary": True}

    def test_a_password_is_lasting_unless_its_own_event_says_otherwise(self) -> None:
        temporary = head(PASSWORD, credential=b"one", data={"temporary": True})

        assert merged([temporary, head(PASSWORD, credential=b"two")]).data == {"temporary": False}

    def test_what_is_joined_and_left_adds_up_and_sessions_are_ended_if_one_says_so(self) -> None:
        first = head(data={"groups": {"add": ["/a", "/b"]}, "enabled": False, "end_sessions": True})
        second = head(data={"groups": {"add": ["/c"], "remove": ["/b"]}, "realm_roles": {"remove": ["x"]}})

        assert merged([first, second]).data == {
            "enabled": False,
            "groups": {"add": ["/a", "/c"], "remove": ["/b"]},
            "realm_roles": {"remove": ["x"]},
            "end_sessions": True,
        }

    def test_an_event_that_replaces_all_attributes_forgets_those_before_it(self) -> None:
        first = head(data={"attributes": {"a": ["1"], "b": ["1"]}})
        second = head(data={"attributes": {"b": ["2"]}, "attributes_mode": "replace"})
        third = head(
            data={"attributes": {"c": ["3"]}, "attributes_mode": "merge", "clear": ["attributes.b", "email"]}
        )

        assert merged([first, second, third]).data == {
            "attributes": {"b": [], "c": ["3"]},
            "attributes_mode": "replace",
            "email": "",
        }

    def test_the_later_of_a_password_and_required_actions_says_whether_it_must_be_changed(self) -> None:
        create = head(
            CREATE, credential=b"one", event_id="e-1", data={"required_actions": ["UPDATE_PASSWORD", "X"]}
        )

        assert merged([create]).data == {"required_actions": ["X"], "temporary": True}
        assert merged([create, head(PASSWORD, credential=b"two")]).data == {
            "required_actions": ["X"],
            "temporary": False,
        }


# Singly or merged, the same is left: a user as Keycloak keeps one, and the fold.

REALM = "shop"
RUNNER = asyncio.Runner()
GROUPS, ROLES = ["/a", "/a/b", "/c"], ["x", "y"]


def a_keycloak(*, exists: bool) -> FakeKeycloak:
    fake = FakeKeycloak(frozenset({REALM}), groups=frozenset(GROUPS), realm_roles=frozenset(ROLES))
    if exists:
        user = User(
            id="u-0", username="alice", enabled=True, attributes={"a": ["0"]}, groups={"/a"}, sessions=[1]
        )
        fake.users[REALM][user.id] = user
    return fake


def apply(fake: FakeKeycloak, keys: Keys, group: Sequence[Head]) -> Outcome:
    """Deliver a group with one call, by what really delivers."""
    first, said = group[0], merged(group)
    change = Change(
        event_id=first.event_id,
        kind=said.kind,
        realm=REALM,
        username="Alice",
        username_key="alice",
        data=said.data,
        credential=None if said.credential is None else orjson.loads(said.credential),
        credential_event_id=said.credential_event_id,
        known=None,
        user_id=None,
        maybe_applied_since=None,
    )
    delivery = Delivery(keycloak=DirectKeycloak(fake, [REALM]), keys=keys)
    return RUNNER.run(delivery.deliver(change, lambda: None))


class Opened:
    """Keys of passwords that are not sealed."""

    def open(self, sealed: Mapping[str, Any], info: bytes) -> bytes:
        assert info == sealing_info(REALM, "alice", sealed["for"])
        return str(sealed["password"]).encode()


KEYS = cast(Keys, Opened())


def as_kept(fake: FakeKeycloak) -> dict[str, Any] | None:
    """What the fake has of the user, without what tells when and how often it was asked."""
    user = fake.find(REALM, "alice")
    if user is None:
        return None
    unlike = {"made_at", "password_set_at", "former_passwords", "required_actions"}
    return {name: value for name, value in asdict(user).items() if name not in unlike} | {
        "required_actions": sorted(user.required_actions)
    }


text = st.text(string.ascii_lowercase, min_size=1, max_size=3)
names = st.sets(st.sampled_from("abc"), max_size=3)


@st.composite
def memberships(draw: st.DrawFn, known: list[str]) -> dict[str, list[str]]:
    sides = draw(st.dictionaries(st.sampled_from(known), st.sampled_from(["add", "remove"]), min_size=1))
    said: dict[str, list[str]] = {}
    for name, side in sides.items():
        said.setdefault(side, []).append(name)
    return said


@st.composite
def profiles(draw: st.DrawFn, *, ends: bool) -> dict[str, Any]:
    data: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "email": text.map("{}@example.org".format),
                "first_name": text,
                "last_name": text,
                "name": st.lists(text, min_size=1, max_size=3).map(" ".join),
                "enabled": st.booleans(),
                "attributes": st.dictionaries(
                    st.sampled_from("abc"), st.lists(text, min_size=1, max_size=2), max_size=3
                ),
                "required_actions": st.lists(
                    st.sampled_from(["UPDATE_PASSWORD", "VERIFY_EMAIL", "UPDATE_PROFILE"]), unique=True
                ),
                "groups": memberships(GROUPS),
                "realm_roles": memberships(ROLES),
            },
        )
    )
    if "name" in data:
        data.pop("first_name", None)
        data.pop("last_name", None)
    if "attributes" in data and draw(st.booleans()):
        data["attributes_mode"] = draw(st.sampled_from(["merge", "replace"]))
    free = {"email", "first_name", "last_name", *(f"attributes.{name}" for name in "abc")} - data.keys()
    free -= {f"attributes.{name}" for name in data.get("attributes", {})}
    if "name" in data:
        free -= {"first_name", "last_name"}
    if cleared := draw(st.sets(st.sampled_from(sorted(free)), max_size=2) if free else st.just(set())):
        data["clear"] = sorted(cleared)
    if ends and data.get("enabled") is False and draw(st.booleans()):
        data["end_sessions"] = True
    return data


def with_password(entry: Head, password: str) -> Head:
    return replace(entry, credential=password.encode())


entries = st.one_of(
    st.builds(lambda data: head(UPDATE, data=data), profiles(ends=True)),
    st.builds(lambda data: head(CREATE, data=data), profiles(ends=False)),
    st.builds(
        lambda data, password: with_password(head(CREATE, data=data), password), profiles(ends=False), text
    ),
    st.builds(
        lambda data, password: with_password(head(PASSWORD, data=data), password),
        st.fixed_dictionaries({}, optional={"temporary": st.booleans(), "end_sessions": st.booleans()}),
        text,
    ),
)


def sealed(entry: Head) -> Head:
    """Bind an entry's password to its event."""
    if entry.credential is None:
        return entry
    said = {"alg": SEALING_ALG, "password": entry.credential.decode(), "for": entry.event_id}
    return replace(entry, credential=orjson.dumps(said))


@settings(deadline=None, max_examples=150)
@given(
    waiting=st.lists(entries, min_size=1, max_size=8),
    exists=st.booleans(),
)
def test_merged_and_single_calls_leave_the_same_user_and_the_same_fold(
    waiting: list[Head],
    exists: bool,  # noqa: FBT001 - drawn
) -> None:
    group = [sealed(entry) for entry in group_of(lane(*waiting), limit=20)]
    singly, at_once = a_keycloak(exists=exists), a_keycloak(exists=exists)

    single_fold = Fold()
    for member in group:
        outcome = apply(singly, KEYS, [member])
        if not isinstance(outcome, Delivered):
            return  # Keycloak does not accept this sequence singly.
        single_fold = fold_after(replace(member, fold=single_fold), outcome)

    outcome = apply(at_once, KEYS, group)
    assert isinstance(outcome, Delivered)
    fold = fold_after_all(group, outcome)

    assert as_kept(at_once) == as_kept(singly)
    # That a created user is enabled stands in the fold of the event that created them, whoever comes after.
    assert {n: v.value for n, v in fold.fields.items()} == {n: v.value for n, v in single_fold.fields.items()}
    assert fold.credential == single_fold.credential
    _assert_restored(fold, at_once)


def _assert_restored(fold: Fold, left: FakeKeycloak) -> None:
    """What the fold knows makes of nothing, and of the user as left, what the calls have left."""
    known = known_user(lane(head()).lane, fold)
    asked = fold.doubting(Doubt(asked=frozenset(fold.fields)))
    late = late_effects(asked, server_limit=60.0, ahead=timedelta(0), only_looks=False)
    for fake in (a_keycloak(exists=False), left):
        before = as_kept(left)
        outcome = RUNNER.run(
            Delivery(keycloak=DirectKeycloak(fake, [REALM]), keys=KEYS).heal(known, late, lambda: None)
        )
        assert isinstance(outcome, Delivered)
        user, told = as_kept(fake), as_kept(left)
        assert told == before or fake is left
        assert user is not None
        assert before is not None
        for field in ("email", "first_name", "last_name"):
            if field in known.data:
                assert user[field] == before[field]
        if "attributes_mode" in known.data:
            assert user["attributes"] == before["attributes"]
        if "groups" in known.data:
            assert user["groups"].issuperset(known.data["groups"].get("add", ()))
            assert user["groups"].isdisjoint(known.data["groups"].get("remove", ()))
        if "required_actions" in known.data:
            assert user["required_actions"] == before["required_actions"]
        assert user["password"] == before["password"]
