from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from consumer.outbox.doubt import Doubt, PasswordCall, joined
from consumer.outbox.fold import Applied, Fold, Value
from consumer.outbox.rows import Position

NOON = datetime(2026, 11, 30, 12)  # noqa: DTZ001 - naive UTC, as stored
CALL = PasswordCall("e-1", NOON, NOON + timedelta(seconds=10))
DOUBT = Doubt(
    fields={"first_name": ("Ada", None), "attributes.a": (["1"], []), "groups./a": (True,)},
    passwords=(CALL,),
    deletes=True,
    asked=frozenset({"enabled"}),
    accepted=frozenset({"email"}),
)


def test_comes_out_as_it_went_in() -> None:
    assert Doubt.load(DOUBT.dump()) == DOUBT


def test_of_several_calls_holds_what_any_of_them_may_leave() -> None:
    other = Doubt(fields={"first_name": ("Eve", "Ada"), "email": ("e@example.org",)}, passwords=(CALL,))

    both = joined([DOUBT, other])

    assert both.fields["first_name"] == ("Ada", None, "Eve")
    assert both.fields["email"] == ("e@example.org",)
    assert (both.passwords, both.deletes, both.asked) == ((CALL,), True, frozenset({"enabled"}))


class TestInAFold:
    def test_of_a_user_who_was_deleted_only_the_delete_is_left(self) -> None:
        """Requests name the user by Keycloak's id."""
        fold = Fold(exists=True, doubt=DOUBT).join(Applied(position=Position(1, 0, 7), exists=False))

        assert fold.doubt == Doubt(deletes=True)

    def test_goes_on_through_other_deliveries(self) -> None:
        fold = Fold(doubt=DOUBT, looks=1, look_at=NOON).join(Applied(position=None, exists=True))

        assert (fold.doubt, fold.looks, fold.look_at) == (DOUBT, 1, NOON)

    def test_is_nothing_any_more_about_what_an_operator_accepts(self) -> None:
        fold = Fold(doubt=DOUBT, drift={"first_name": "changed", "email": "changed"}, drift_at=NOON)

        accepted = fold.accepting({"first_name", "password"})

        assert accepted.doubt is not None
        assert "first_name" not in accepted.doubt.fields
        assert accepted.doubt.passwords == ()
        assert (accepted.drift, accepted.drift_at) == ({"email": "changed"}, NOON)
        assert fold.accepting({"first_name", "email"}).drift_at is None


class TestDrift:
    def test_ends_where_an_event_writes_the_field(self) -> None:
        known = Fold(
            exists=True,
            exists_position=Position(1, 0, 1),
            fields={"first_name": Value("Ada", Position(1, 0, 1))},
            drift={"first_name": "changed", "enabled": "barred"},
            drift_at=NOON,
        )

        after = known.join(Applied(position=Position(1, 0, 2), exists=True, fields={"first_name": "Eve"}))

        assert after.drift == {"enabled": "barred"}
        assert replace(after, drift_at=NOON) == after

    def test_ends_with_the_user(self) -> None:
        known = Fold(exists=True, drift={"first_name": "changed"}, drift_at=NOON)

        after = known.join(Applied(position=Position(1, 0, 2), exists=False))

        assert (after.drift, after.drift_at) == ({}, None)
