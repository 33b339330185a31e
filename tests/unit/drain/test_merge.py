from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.delivery.opened import Clear
from consumer.delivery.representation import merged_user, named_fields, needs_merge, new_user
from consumer.drain.merge import group_of, merged
from consumer.drain.settle import data_of, fold_after
from consumer.outbox.drain_store import Head
from consumer.outbox.fold import Fold
from consumer.outbox.rows import EntryState
from tests.unit.drain.heads import EARLIER, delivered, head, position


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


# Singly or merged, the same is left: a user as Keycloak keeps one, and the fold.

Users = dict[str, Any]


def take(user: Users | None, entry_kind: str, data: dict[str, Any], password: bytes | None) -> Users | None:
    """What Keycloak holds after one call, by the representations that are really sent."""
    if entry_kind == CREATE and user is None:
        made = new_user("alice", data, None if password is None else Clear(password.decode()))
        credentials = made.pop("credentials", [{}])[0]
        return {"attributes": {}, **made, **_password(credentials.get("value"), data)}
    if user is None:
        return None
    sent = merged_user(user, data) if needs_merge(data) else named_fields(data)
    shown = _password(None if password is None else password.decode(), data)
    return {**user, **sent, **shown}


def _password(value: str | None, data: dict[str, Any]) -> Users:
    return {} if value is None else {"password": value, "temporary": bool(data.get("temporary", False))}


def tidy(user: Users | None) -> Users | None:
    """Keycloak keeps no empty attributes."""
    if user is None:
        return None
    return {**user, "attributes": {name: v for name, v in user["attributes"].items() if v}}


text = st.text(string.ascii_lowercase, min_size=1, max_size=3)
attributes = st.dictionaries(st.sampled_from("abc"), st.lists(text, max_size=2), max_size=3)
profile = st.fixed_dictionaries(
    {},
    optional={
        "email": text,
        "first_name": text,
        "last_name": text,
        "name": st.lists(text, min_size=1, max_size=3).map(" ".join),
        "enabled": st.booleans(),
        "attributes": attributes,
    },
)
passwords = st.binary(min_size=1, max_size=3).map(lambda raw: raw.hex().encode())
entries = st.one_of(
    st.builds(lambda data: head(UPDATE, data=data), profile),
    st.builds(
        lambda data, sealed: head(CREATE, data=data, credential=sealed), profile, st.none() | passwords
    ),
    st.builds(
        lambda temporary, sealed: head(PASSWORD, data=temporary, credential=sealed),
        st.fixed_dictionaries({}, optional={"temporary": st.booleans()}),
        passwords,
    ),
)


@given(
    waiting=st.lists(entries, min_size=1, max_size=8),
    exists=st.booleans(),
)
def test_merged_and_single_calls_leave_the_same_user_and_the_same_fold(
    waiting: list[Head],
    exists: bool,  # noqa: FBT001 - drawn
) -> None:
    there: Users | None = {"username": "alice", "enabled": True, "attributes": {}} if exists else None
    group = group_of(lane(*waiting), limit=20)

    single, single_fold = there, Fold()
    for member in group:
        existed = single is not None
        single = take(single, member.kind, dict(data_of(member)), member.credential)
        if single is None:
            return  # Keycloak does not accept this sequence singly.
        single_fold = fold_after(replace(member, fold=single_fold), delivered(existed=existed))

    said = merged(group)
    together = take(there, said.kind, dict(said.data), said.credential)
    fold = Fold()
    for member in group:
        fold = fold_after(replace(member, fold=fold), delivered(existed=exists))

    assert tidy(together) == tidy(single)
    # That a created user is enabled stands in the fold of the event that created them, whoever comes after.
    assert {n: v.value for n, v in fold.fields.items()} == {n: v.value for n, v in single_fold.fields.items()}
    assert fold.credential == single_fold.credential
