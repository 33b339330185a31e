"""The rule of the fold (design.md 3.6), clause by clause, and as a join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.outbox.fold import (
    EVERY_OTHER,
    EVERY_OTHER_ATTRIBUTE,
    Applied,
    Credential,
    Fold,
    Value,
    fields_of,
)
from consumer.outbox.rows import Position

DATE = datetime(2026, 11, 21, 22, 33, 44)  # noqa: DTZ001 - naive UTC, as stored


def at(offset: int, partition: int = 0) -> Position:
    return Position(1, partition, offset)


def update(offset: int, *, partition: int = 0, **fields: Any) -> Applied:
    return Applied(position=at(offset, partition), exists=True, fields=fields)


def delete(offset: int) -> Applied:
    return Applied(position=at(offset), exists=False)


def password(offset: int) -> Applied:
    credential = Credential(f"sealed-{offset}".encode(), f"e-{offset}", at(offset))
    return Applied(position=at(offset), exists=True, credential=credential)


def folded(*events: Applied, start: Fold | None = None) -> Fold:
    fold = start or Fold()
    for applied in events:
        fold = fold.join(applied)
    return fold


def values(fold: Fold) -> dict[str, Any]:
    return {
        name: known.value
        for name, known in fold.fields.items()
        if name not in {EVERY_OTHER, EVERY_OTHER_ATTRIBUTE}
    }


class TestFields:
    def test_nothing_is_known_at_first(self) -> None:
        assert (Fold().exists, Fold().fields, Fold().credential) == (None, {}, None)

    def test_of_several_events_add_up_with_the_position_that_set_each(self) -> None:
        fold = folded(update(1, email="a", first_name="A"), update(2, email="b"))

        assert fold.fields == {"email": Value("b", at(2)), "first_name": Value("A", at(1))}

    def test_the_later_position_wins_whatever_comes_first(self) -> None:
        assert values(folded(update(2, email="b"), update(1, email="a"))) == {"email": "b"}

    def test_the_same_event_again_changes_nothing(self) -> None:
        once = folded(update(1, email="a"))

        assert once.join(update(1, email="a")) == once

    def test_positions_of_two_partitions_do_not_compare_so_the_joined_one_wins(self) -> None:
        assert values(folded(update(9, email="a"), update(1, partition=1, email="b"))) == {"email": "b"}

    def test_a_command_without_a_position_wins(self) -> None:
        command = Applied(position=None, exists=True, fields={"email": "c"})

        assert values(folded(update(9, email="a"), command)) == {"email": "c"}


class TestExistence:
    @pytest.mark.parametrize(
        ("events", "exists"),
        [
            ((), None),
            ((update(1),), True),
            ((password(1),), True),
            ((delete(1),), False),
            ((update(1), delete(2)), False),
            ((delete(2), update(1)), False),
            ((delete(1), update(2)), True),
            ((update(2), delete(1)), True),
        ],
    )
    def test_is_what_the_latest_event_says(self, events: tuple[Applied, ...], exists: bool | None) -> None:  # noqa: FBT001 - a row of the table
        assert folded(*events).exists is exists

    def test_of_somebody_deleted_has_no_id(self) -> None:
        known = replace(folded(update(1)), user_id="0b5c")

        assert known.join(delete(2)).user_id is None
        assert known.join(delete(0)).user_id == "0b5c"


class TestADelete:
    def test_writes_every_field(self) -> None:
        assert values(folded(update(1, email="a", first_name="A"), password(2), delete(3))) == {}

    def test_leaves_what_came_after_it(self) -> None:
        assert values(folded(update(3, email="b"), delete(2))) == {"email": "b"}

    def test_writes_also_the_fields_that_nobody_has_named_yet(self) -> None:
        assert values(folded(delete(3), update(2, email="old"))) == {}

    def test_still_stands_when_the_user_has_been_created_again(self) -> None:
        again = folded(delete(3), update(4, first_name="B"))

        assert values(again.join(update(2, email="old", first_name="old"))) == {"first_name": "B"}

    def test_takes_the_password_with_it(self) -> None:
        assert folded(password(1), delete(2)).credential is None

    def test_leaves_a_later_password(self) -> None:
        assert folded(password(3), delete(2)).credential == password(3).credential

    def test_no_older_password_comes_back_after_it(self) -> None:
        assert folded(delete(3), password(2)).credential is None
        assert folded(delete(3), update(4), password(2)).credential is None


def replacing(offset: int, **attributes: Any) -> Applied:
    """An event that replaces all attributes by these."""
    fields = fields_of({"attributes_mode": "replace", "attributes": attributes})
    return Applied(position=at(offset), exists=True, fields=fields)


def attribute(offset: int, name: str) -> Applied:
    return Applied(position=at(offset), exists=True, fields={f"attributes.{name}": [offset]})


def attributes_of(fold: Fold) -> dict[str, Any]:
    prefix = "attributes."
    return {
        name.removeprefix(prefix): value for name, value in values(fold).items() if name.startswith(prefix)
    }


class TestReplacingAllAttributes:
    def test_writes_every_attribute_and_nothing_else(self) -> None:
        fold = folded(update(1, email="a"), attribute(2, "x"), replacing(3, y=["3"]))

        assert attributes_of(fold) == {"y": ["3"]}
        assert fold.fields["email"] == Value("a", at(1))

    def test_writes_also_the_attributes_that_nobody_has_named_yet(self) -> None:
        assert attributes_of(folded(replacing(3), attribute(2, "x"))) == {}

    def test_leaves_what_came_after_it(self) -> None:
        assert attributes_of(folded(attribute(4, "x"), replacing(3, x=["3"], y=["3"]))) == {
            "x": [4],
            "y": ["3"],
        }

    def test_before_a_delete_is_gone_with_it(self) -> None:
        assert (
            folded(replacing(2, x=["2"]), delete(3))
            == folded(delete(3))
            == folded(delete(3), replacing(2, x=["2"]))
        )


class TestTheCredential:
    def test_is_the_latest(self) -> None:
        assert folded(password(1), password(3), password(2)).credential == password(3).credential

    def test_is_left_alone_by_events_without_one(self) -> None:
        assert folded(password(1), update(2, email="a")).credential == password(1).credential

    def test_takes_keycloaks_date_of_the_one_before_with_it(self) -> None:
        dated = replace(folded(password(1)), credential_date=DATE)

        assert dated.join(password(2)).credential_date is None
        assert dated.join(password(0)).credential_date == DATE
        assert dated.join(delete(2)).credential_date is None

    def test_is_not_shown(self) -> None:
        assert "sealed-1" not in repr(folded(password(1)))


class TestFieldsOf:
    def test_each_attribute_is_a_field_of_its_own(self) -> None:
        data = {"email": "a", "attributes": {"team": ["x"], "email": ["y"]}}

        assert fields_of(data) == {"email": "a", "attributes.team": ["x"], "attributes.email": ["y"]}

    def test_how_and_why_to_delete_are_none(self) -> None:
        assert fields_of({"mode": "delete", "reason": "left"}) == {}

    def test_an_attribute_is_never_taken_for_every_other_field(self) -> None:
        assert EVERY_OTHER not in fields_of({"attributes": {EVERY_OTHER: ["x"]}})
        assert EVERY_OTHER_ATTRIBUTE not in fields_of({"attributes": {"": ["x"], "attributes": ["x"]}})

    def test_each_group_and_each_role_is_a_field_of_its_own(self) -> None:
        data = {
            "groups": {"add": ["/a", "/b"], "remove": ["/c"]},
            "realm_roles": {"remove": ["groups./a"]},
            "end_sessions": True,
        }

        assert fields_of(data) == {
            "groups./a": True,
            "groups./b": True,
            "groups./c": False,
            "realm_roles.groups./a": False,
        }


NAMES = ["email", "first_name", "attributes.team", "attributes.city", "groups./staff", "realm_roles.author"]


@st.composite
def histories(draw: st.DrawFn) -> list[Applied]:
    """Events of one partition, each at an offset of its own."""
    offsets = draw(st.lists(st.integers(0, 30), unique=True, max_size=8))
    events = []
    for offset in offsets:
        kind = draw(st.sampled_from(["update", "replace", "delete", "password"]))
        named = draw(st.sets(st.sampled_from(NAMES))) if kind in {"update", "replace"} else set()
        everything = {EVERY_OTHER_ATTRIBUTE: None} if kind == "replace" else {}
        credential = password(offset).credential if kind == "password" else None
        events.append(
            Applied(
                position=at(offset),
                exists=kind != "delete",
                fields={**{name: [offset] for name in named}, **everything},
                credential=credential,
            )
        )
    return events


def by_the_rule(events: Sequence[Applied]) -> tuple[Any, ...]:
    """What the rule says, without a fold: read all events in order, and keep the last word on each field."""
    exists: bool | None = None
    fields: dict[str, Any] = {}
    credential: Credential | None = None
    for applied in sorted(events, key=lambda applied: applied.position.offset if applied.position else 0):
        exists = applied.exists
        if not applied.exists:
            fields, credential = {}, None
        if EVERY_OTHER_ATTRIBUTE in applied.fields:
            fields = {name: value for name, value in fields.items() if not name.startswith("attributes.")}
        fields |= {name: value for name, value in applied.fields.items() if name != EVERY_OTHER_ATTRIBUTE}
        credential = applied.credential or credential
    return exists, fields, credential


@settings(deadline=None, max_examples=300)
@given(events=histories(), random=st.randoms(use_true_random=False))
def test_in_one_partition_the_order_of_joining_does_not_matter(events: list[Applied], random: Any) -> None:
    shuffled = [*events, *events[:3]]
    random.shuffle(shuffled)

    fold = folded(*shuffled)

    assert (fold.exists, values(fold), fold.credential) == by_the_rule(events)
    assert fold == folded(*events)


@settings(deadline=None)
@given(events=histories(), again=st.integers(0, 7))
def test_joining_an_event_again_changes_nothing(events: list[Applied], again: int) -> None:
    fold = folded(*events)

    for applied in events[again : again + 1]:
        assert fold.join(applied) == fold


@settings(deadline=None)
@given(events=histories())
def test_what_is_stored_is_read_back(events: list[Applied]) -> None:
    fold = folded(*events)

    assert Fold.load_fields(fold.dump_fields()) == fold.fields


def test_what_is_stored_is_read_back_without_a_position_too() -> None:
    fold = Fold(fields={"email": Value({"any": ["json", 1, None]}, None)})

    assert Fold.load_fields(fold.dump_fields()) == fold.fields
