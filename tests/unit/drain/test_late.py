from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

import pytest

from consumer.drain.late import doubt_of, late_effects
from consumer.outbox.doubt import Doubt, PasswordCall
from consumer.outbox.drain_store import Head
from consumer.outbox.fold import Credential, Fold, Value
from tests.unit.drain.heads import CLAIMED_AT, ENDED_AT, head

SEALED = b'{"kid":"k1","alg":"x","ciphertext":"y"}'
KNOWN = Fold(
    exists=True,
    fields={
        "first_name": Value("Ada", None),
        "enabled": Value(True, None),
        "attributes.team": Value(["blue"], None),
        "groups./staff": Value(True, None),
        "groups./gone": Value(False, None),
    },
    credential=Credential(SEALED, "e-0", None),
)


def left(*group: Head, **more: Any) -> Doubt:
    return doubt_of(group, began=CLAIMED_AT, ended=ENDED_AT, **more)


class TestWhatACallMayLeave:
    def test_is_what_it_names(self) -> None:
        data = {"email": "a@example.org", "enabled": False, "groups": {"remove": ["/staff"]}}

        doubt = left(head(data=data, fold=KNOWN))

        assert doubt.fields == {"email": ("a@example.org",), "enabled": (False,), "groups./staff": (False,)}
        assert (doubt.passwords, doubt.deletes) == ((), False)

    def test_of_attributes_is_the_whole_profile_as_it_was_read(self) -> None:
        """Such a write replaces the profile; flags, groups and roles are none of it."""
        doubt = left(head(data={"attributes": {"seq": ["2"]}}, fold=KNOWN))

        assert doubt.fields == {
            "attributes.seq": (["2"],),
            "attributes.team": (["blue"],),
            "first_name": ("Ada",),
            "last_name": ("",),
            "email": ("",),
            "attributes": (["seq", "team"],),
        }

    def test_of_a_password_is_remembered_by_its_call(self) -> None:
        doubt = left(head("password_change", credential=SEALED, data={"temporary": True}))

        assert doubt.passwords == (PasswordCall("e-1", CLAIMED_AT, ENDED_AT),)
        assert doubt.fields == {"temporary": (True,)}

    @pytest.mark.parametrize(
        ("mode", "fields", "deletes"),
        [
            ("delete", {}, True),
            ("disable", {"enabled": (False,)}, False),
            # Which of the two it means, delivery knows.
            (None, {"enabled": (False,)}, True),
        ],
    )
    def test_of_a_delete_is_the_end_or_a_bar(
        self, mode: str | None, fields: dict[str, Any], *, deletes: bool
    ) -> None:
        doubt = left(head("user_delete", data={} if mode is None else {"mode": mode}))

        assert (doubt.fields, doubt.deletes) == (fields, deletes)

    def test_of_a_merge_is_what_its_members_say_together(self) -> None:
        first = head("user_create", data={"first_name": "A"})
        second = head("password_change", event_id="e-2", credential=SEALED)
        third = head(data={"first_name": "B"})

        doubt = left(first, second, third)

        assert doubt.fields == {"first_name": ("B",), "temporary": (False,)}
        assert doubt.passwords[0].event_id == "e-2"

    def test_of_making_a_lost_user_again_is_one_without_groups(self) -> None:
        doubt = left(head(data={}, fold=KNOWN), restoring=True)

        assert doubt.fields == {"groups./staff": (False,)}
        assert doubt.passwords == (PasswordCall("e-0", CLAIMED_AT, ENDED_AT),)


class TestWhatAHealIsTold:
    def told(self, fold: Fold) -> dict[str, tuple[Any, Any, bool]]:
        late = late_effects(fold, server_limit=60.0, ahead=timedelta(0), only_looks=False)
        return {each.name: (each.late, each.wanted, each.is_known) for each in late.fields}

    def test_are_late_values_and_those_delivered_since(self) -> None:
        fold = KNOWN.doubting(Doubt(fields={"first_name": ("Old",), "last_name": ("New",)}))

        assert self.told(fold) == {
            "first_name": (("Old",), "Ada", True),
            "last_name": (("New",), None, False),
        }

    def test_of_a_replacement_is_that_every_other_attribute_may_be_gone(self) -> None:
        fold = KNOWN.doubting(Doubt(fields={"attributes.seq": (["1"],), "attributes": (["seq"],)}))

        assert self.told(fold) == {
            "attributes.seq": ((["1"],), None, False),
            "attributes.team": (([],), ["blue"], True),
        }

    def test_are_moments_by_our_clock(self) -> None:
        fold = KNOWN.doubting(Doubt(passwords=(PasswordCall("e-1", CLAIMED_AT, ENDED_AT),)))

        late = late_effects(fold, server_limit=60.0, ahead=timedelta(seconds=5), only_looks=True)

        (password,) = late.passwords
        assert password.earliest == CLAIMED_AT.replace(tzinfo=UTC) + timedelta(seconds=5)
        assert password.latest == ENDED_AT.replace(tzinfo=UTC) + timedelta(seconds=65)
        assert late.only_looks

    def test_of_the_last_password_itself_is_nothing(self) -> None:
        """Set late, it is no other than the last; what it does to the demand for a new one is healed by itself."""
        calls = (PasswordCall("e-0", CLAIMED_AT, ENDED_AT), PasswordCall("e-9", CLAIMED_AT, ENDED_AT))
        fold = KNOWN.doubting(Doubt(passwords=calls))

        late = late_effects(fold, server_limit=60.0, ahead=timedelta(0), only_looks=False)

        assert [call.event_id for call in late.passwords] == ["e-9"]

    def test_is_what_an_operator_asks_for(self) -> None:
        fold = KNOWN.doubting(Doubt(asked=frozenset({"enabled", "exists"})))
        late = late_effects(fold, server_limit=60.0, ahead=timedelta(0), only_looks=False)

        (enabled,) = late.fields
        assert (enabled.name, enabled.asked, enabled.late) == ("enabled", True, ())
        assert late.asked == {"enabled", "exists"}
