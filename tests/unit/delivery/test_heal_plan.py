from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from consumer.delivery.heal_plan import Drift, HealPlan, plan_heal
from consumer.delivery.late_effects import LateEffects, LateField, LatePassword
from tests.unit.delivery.late_fields import late_field


def plan(user: dict[str, Any], *fields: LateField, **more: Any) -> HealPlan:
    groups, realm_roles = more.pop("groups", ()), more.pop("realm_roles", ())
    return plan_heal(user, LateEffects(fields=fields, **more), groups=groups, realm_roles=realm_roles)


class TestOneValue:
    @pytest.mark.parametrize(
        ("key", "user", "wanted", "late"),
        [
            ("first_name", {"firstName": "Old"}, "Ada", "Old"),
            # Empty and missing are one; addresses are kept in lower case.
            ("first_name", {}, "Ada", ""),
            ("email", {"email": "old@example.org"}, "ada@example.org", "OLD@example.org"),
            ("email_verified", {"emailVerified": True}, False, True),
            ("email_verified", {"emailVerified": False}, True, False),
            ("enabled", {"enabled": True}, False, True),
        ],
    )
    def test_that_a_late_call_left_is_written_over(
        self, key: str, user: dict[str, Any], wanted: Any, late: Any
    ) -> None:
        assert plan(user, late_field("field", key, wanted=wanted, late=late)) == HealPlan(
            data={key: wanted}, drift={}
        )

    @pytest.mark.parametrize(
        ("key", "user", "wanted"),
        [
            ("first_name", {"firstName": "Ada"}, "Ada"),
            ("email", {"email": "ada@example.org"}, "Ada@example.org"),
            ("last_name", {}, ""),
            ("enabled", {"enabled": True}, True),
        ],
    )
    def test_that_is_as_was_delivered_is_left(self, key: str, user: dict[str, Any], wanted: Any) -> None:
        late = late_field("field", key, wanted=wanted, late=wanted)

        assert plan(user, late) == HealPlan(data={}, drift={})

    def test_that_somebody_has_chosen_since_is_left_and_told(self) -> None:
        late = late_field("field", "first_name", wanted="Ada", late="Old")

        assert plan({"firstName": "Married"}, late) == HealPlan(data={}, drift={"first_name": Drift.CHANGED})

    @pytest.mark.parametrize("late", [True, False])
    def test_that_bars_an_account_is_never_written_over(self, *, late: bool) -> None:
        """A flag cannot tell who set it."""
        barred = late_field("field", "enabled", wanted=True, late=late)

        assert plan({"enabled": False}, barred) == HealPlan(data={}, drift={"enabled": Drift.BARRED})

    def test_that_bars_an_account_is_written_over_for_an_operator(self) -> None:
        barred = late_field("field", "enabled", wanted=True, late=False, asked=True)

        assert plan({"enabled": False}, barred).data == {"enabled": True}

    @pytest.mark.parametrize(
        ("held", "drift"), [("Late", {"first_name": Drift.UNKNOWN}), ("Other", {})], ids=["ours", "theirs"]
    )
    def test_of_which_nothing_was_delivered_is_left(self, held: str, drift: dict[str, Drift]) -> None:
        late = late_field("field", "first_name", wanted=None, late="Late", is_known=False)

        assert plan({"firstName": held}, late) == HealPlan(data={}, drift=drift)


class TestAttributes:
    @pytest.mark.parametrize(
        ("held", "written"),
        [(["0"], True), (["1", "2"], False), (["2", "1"], False), (["3"], False)],
        ids=["late", "delivered", "delivered in another order", "somebody else's"],
    )
    def test_count_one_by_one(self, held: list[str], *, written: bool) -> None:
        late = late_field("attribute", "seq", wanted=["1", "2"], late=["0"])

        done = plan({"attributes": {"seq": held, "own": ["x"]}}, late)

        assert done.data == ({"attributes": {"seq": ["1", "2"]}} if written else {})
        assert done.drift == ({"seq": Drift.CHANGED} if held == ["3"] else {})

    @pytest.mark.parametrize("held", [None, [], [""], [" "]])
    def test_without_a_value_are_not_there(self, held: list[str] | None) -> None:
        attributes = {} if held is None else {"seq": held}
        late = late_field("attribute", "seq", wanted=["", "1"], late=[])

        assert plan({"attributes": attributes}, late).data == {"attributes": {"seq": ["", "1"]}}
        assert plan({}, late_field("attribute", "seq", wanted=[" "], late=["x"])).data == {}


class TestMemberships:
    @pytest.mark.parametrize("wanted", [True, False])
    @pytest.mark.parametrize(("part", "kind"), [("group", "groups"), ("realm_role", "realm_roles")])
    def test_that_a_late_call_left_are_undone(self, part: str, kind: str, *, wanted: bool) -> None:
        late = late_field(part, "/staff", wanted=wanted)
        members = {kind: () if wanted else ("/staff",)}

        assert plan({}, late, **members).data == {kind: {"add" if wanted else "remove": ["/staff"]}}

    def test_that_an_administrator_gave_are_left(self) -> None:
        late = late_field("group", "/staff", wanted=False, late=False)

        assert plan({}, late, groups=("/staff",)) == HealPlan(data={}, drift={"/staff": Drift.CHANGED})


class TestRequiredActions:
    @pytest.mark.parametrize(
        ("held", "wanted", "late", "left"),
        [
            # Late, one came back that the user had done; an administrator's stays.
            (["VERIFY_EMAIL", "CONFIGURE_TOTP"], [], ["VERIFY_EMAIL"], ["CONFIGURE_TOTP"]),
            # A late list took one away.
            ([], ["VERIFY_EMAIL"], [], ["VERIFY_EMAIL"]),
            # Done by the user: what the call in doubt carried is no other than what was delivered.
            ([], ["VERIFY_EMAIL"], ["VERIFY_EMAIL"], None),
            # An administrator's, beside what was delivered.
            (["CONFIGURE_TOTP"], [], [], None),
        ],
    )
    def test_count_one_by_one(
        self, held: list[str], wanted: list[str], late: list[str], left: list[str] | None
    ) -> None:
        done = plan(
            {"requiredActions": held}, late_field("field", "required_actions", wanted=wanted, late=late)
        )

        assert done.data == ({} if left is None else {"required_actions": left})

    @pytest.mark.parametrize("carries_password", [True, False])
    def test_demand_a_new_password_with_the_password_or_by_themselves(
        self, *, carries_password: bool
    ) -> None:
        late = late_field("field", "temporary", wanted=False)
        moment = datetime(2026, 11, 30, tzinfo=UTC)
        passwords = (LatePassword("e", moment, moment),) if carries_password else ()

        done = plan({"requiredActions": ["UPDATE_PASSWORD"]}, late, passwords=passwords)

        assert done.data == ({} if carries_password else {"required_actions": []})
