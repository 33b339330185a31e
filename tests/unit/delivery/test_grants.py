"""Groups, roles and required actions: what is looked up, what is refused, and what that costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from consumer.delivery.delivery import Delivery
from consumer.delivery.known_user import KnownUser
from consumer.delivery.late_effects import LateEffects
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Delivered, Outcome, Reason, Retry
from consumer.delivery.passwords import Keys
from tests.simulation.direct_link import DirectKeycloak, Fate
from tests.simulation.fake_keycloak import FakeKeycloak, Reply, User
from tests.unit.delivery.late_fields import late_field
from tests.unit.delivery.test_broken_off import change

REALM = "shop"
USER = f"{REALM}/users/u-0"
FIND = f"GET {REALM}/users"


class Link:
    """A user, and the way to them."""

    def __init__(self, realm: str = REALM, fates: dict[int, Fate] | None = None) -> None:
        self.fake = FakeKeycloak(
            frozenset({realm}),
            groups=frozenset({"/staff", "/staff/dev ops", "/admins", "/admins/below"}),
            realm_roles=frozenset({"gold", "boss"}),
            rights=frozenset({"/admins", "boss"}),
        )
        self.user = self.fake.users[realm]["u-0"] = User(id="u-0", username="alice", enabled=True)
        self.keycloak = DirectKeycloak(self.fake, [realm], fates)
        self.delivery = Delivery(keycloak=self.keycloak, keys=cast(Keys, None))

    async def update(self, **data: Any) -> Outcome:
        return await self.delivery.deliver(change("user_update", data, password=False), lambda: None)

    @property
    def asked(self) -> list[str]:
        return self.keycloak.asked


@pytest.fixture
def link() -> Link:
    return Link()


class TestCosts:
    async def test_nothing_for_an_event_that_names_none(self, link: Link) -> None:
        await link.update(email="a@example.org", enabled=False)

        assert link.asked == [FIND, f"PUT {USER}"]

    async def test_a_look_at_each_name_once(self, link: Link) -> None:
        for _ in range(2):
            await link.update(groups={"add": ["/staff"]}, realm_roles={"add": ["gold"]})

        looks = [f"GET {REALM}/group-by-path/staff", f"GET {REALM}/roles/gold"]
        gives = [f"PUT {USER}/groups/{_id_of(link, '/staff')}", f"POST {USER}/role-mappings/realm"]
        assert link.asked == [FIND, *looks, *gives, FIND, *gives]

    async def test_a_look_at_the_parents_of_a_group_and_for_names_with_slashes(self, link: Link) -> None:
        await link.update(groups={"add": ["/staff/dev ops"]})

        assert link.asked[1:4] == [
            f"GET {REALM}/groups",
            f"GET {REALM}/group-by-path/staff",
            f"GET {REALM}/group-by-path/staff/dev%20ops",
        ]

    async def test_no_look_at_what_every_keycloak_can_ask_of_a_user(self, link: Link) -> None:
        await link.update(required_actions=["VERIFY_EMAIL"])

        assert link.asked == [FIND, f"PUT {USER}"]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("data", "reason", "place"),
        [
            ({"groups": {"add": ["/staff", "/none"]}}, Reason.GROUP_MISSING, "data.groups.add[1]"),
            ({"groups": {"add": ["/STAFF"]}}, Reason.GROUP_MISSING, "data.groups.add[0]"),
            ({"realm_roles": {"add": ["none"]}}, Reason.ROLE_MISSING, "data.realm_roles.add[0]"),
            ({"required_actions": ["NONE"]}, Reason.REQUIRED_ACTION_MISSING, "data.required_actions[0]"),
        ],
    )
    async def test_what_does_not_exist_is_tried_again_before_anything_is_written(
        self, link: Link, data: dict[str, Any], reason: Reason, place: str
    ) -> None:
        outcome = await link.update(email="a@example.org", **data)

        assert isinstance(outcome, Retry)
        assert (outcome.reason, outcome.failure.blame, outcome.failure.partial) == (reason, Blame.USER, False)
        assert outcome.failure.detail.startswith(f"{place}: ")
        assert (link.user.email, link.user.groups) == (None, set())

    @pytest.mark.parametrize("side", ["add", "remove"])
    @pytest.mark.parametrize(
        ("field", "name"),
        [("groups", "/admins"), ("groups", "/admins/below"), ("realm_roles", "boss")],
    )
    async def test_rights_over_the_realm_are_neither_given_nor_taken(
        self, link: Link, side: str, field: str, name: str
    ) -> None:
        outcome = await link.update(email="a@example.org", **{field: {side: [name]}})

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.GRANT_REFUSED
        assert (link.user.email, link.user.groups, link.user.realm_roles) == (None, set(), set())

    async def test_nothing_is_given_in_the_realm_that_rules_the_others(self) -> None:
        link = Link("master")

        outcome = await link.delivery.deliver(
            replace(change("user_update", {"groups": {"add": ["/staff"]}}, password=False), realm="master"),
            lambda: None,
        )

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.GRANT_REFUSED

    async def test_names_are_not_shown(self, link: Link) -> None:
        outcome = await link.update(groups={"add": ["/oncology"]})

        assert isinstance(outcome, Retry)
        assert "oncology" not in outcome.failure.detail

    async def test_without_the_right_to_read_roles_the_event_waits(self) -> None:
        def forbidden(_: Any) -> Reply:
            return Reply(403, b'{"error":"HTTP 403 Forbidden"}', {"Content-Type": "application/json"})

        outcome = await Link(fates={2: forbidden}).update(realm_roles={"add": ["gold"]})

        assert isinstance(outcome, Defer)
        assert (outcome.reason, outcome.failure.blame) == (Reason.ROLES_UNREADABLE, Blame.LOCAL)
        assert "view-realm" in outcome.failure.detail


class TestWhatIsGone:
    async def test_cannot_be_taken_from_anybody(self, link: Link) -> None:
        outcome = await link.update(groups={"remove": ["/none"]}, realm_roles={"remove": ["none"]})

        assert isinstance(outcome, Delivered)

    async def test_is_looked_up_again(self, link: Link) -> None:
        await link.update(groups={"add": ["/staff"]}, realm_roles={"add": ["gold"]})
        link.fake.groups -= {"/staff", "/staff/dev ops"}
        link.fake.realm_roles.remove("gold")

        outcome = await link.update(email="a@example.org", groups={"add": ["/staff"]})
        removed = await link.update(realm_roles={"add": ["gold"]})

        assert isinstance(outcome, Retry)
        assert (outcome.reason, outcome.failure.partial) == (Reason.GROUP_MISSING, True)
        assert isinstance(removed, Retry)
        assert removed.reason is Reason.ROLE_MISSING

    async def test_is_no_obstacle_to_healing(self, link: Link) -> None:
        known = KnownUser(
            realm=REALM,
            username_key="alice",
            exists=True,
            data={},
            credential=None,
            credential_event_id="",
            user_id=None,
        )
        late = LateEffects(
            fields=(
                *(late_field("group", f"/{name}") for name in ("none", "staff")),
                late_field("group", "/admins", wanted=False),
                *(late_field("realm_role", name) for name in ("boss", "gold", "none")),
                late_field("field", "required_actions", wanted=["NONE", "VERIFY_EMAIL"], late=[]),
            )
        )

        outcome = await link.delivery.heal(known, late, lambda: None)

        assert isinstance(outcome, Delivered), outcome
        assert (link.user.groups, link.user.realm_roles) == ({"/staff"}, {"gold"})
        assert link.user.required_actions == ["VERIFY_EMAIL"]


def _id_of(link: Link, path: str) -> str:
    (asked,) = {each for each in link.asked if each.startswith(f"PUT {USER}/groups/")}
    assert path in link.user.groups
    return asked.rpartition("/")[2]
