"""Groups whose names hold slashes, in both spellings of Keycloak: which one a path means, and what that costs."""

from __future__ import annotations

import itertools
from typing import cast

import pytest

from consumer.delivery.delivery import Delivery
from consumer.delivery.known_user import KnownUser
from consumer.delivery.late_effects import LateEffects
from consumer.delivery.outcome import DeadLetter, Defer, Delivered, Outcome, Reason, Retry
from consumer.delivery.passwords import Keys
from tests.simulation.direct_link import DirectKeycloak
from tests.simulation.fake_keycloak import FakeKeycloak, Reply, User
from tests.unit.delivery.late_fields import late_field
from tests.unit.delivery.test_broken_off import change

REALM = "shop"

GROUPS = frozenset(
    {
        "/org",
        "/org/team",
        "/org/team/x",
        "/org/team~/x",
        "/org/team~/x/below",
        "/a",
        "/a/b",
        "/a~/b",
        "/a~/b/c",
        "/w_st",
        "/w_st/w_st",
        "/w_st/wust",
        "/w_st/x~/y",
        "/bosses~/all",
        "/bosses~/all/below",
    }
)
"""`~/` stands for a slash in a name."""


class Realm:
    """A realm with a user, whose groups may be changed."""

    def __init__(self, groups: frozenset[str] = GROUPS, *, escapes: bool = False) -> None:
        self.fake = FakeKeycloak(
            frozenset({REALM}),
            groups=groups,
            rights=frozenset({"/bosses~/all"}),
            escapes_slashes=escapes,
        )
        self.user = self.fake.users[REALM]["u-0"] = User(id="u-0", username="alice", enabled=True)
        self.keycloak = DirectKeycloak(self.fake, [REALM])
        self.delivery = Delivery(keycloak=self.keycloak, keys=cast(Keys, None))

    async def move(self, side: str, *paths: str) -> Outcome:
        data = {"groups": {side: list(paths)}}
        return await self.delivery.deliver(change("user_update", data, password=False), lambda: None)


@pytest.mark.parametrize(
    ("escapes", "path", "group"),
    [
        (False, "/org", "/org"),
        (False, "/org/team", "/org/team"),
        # Found by no look-up of Keycloak's own: it stops at /a and at /org/team.
        (False, "/a/b/c", "/a~/b/c"),
        (False, "/org/team/x/below", "/org/team~/x/below"),
        (False, "/w_st/w_st", "/w_st/w_st"),
        (False, "/w_st/x/y", "/w_st/x~/y"),
        (True, "/org/team/x", "/org/team/x"),
        (True, "/org/team~/x", "/org/team~/x"),
        (True, "/org/team~/x/below", "/org/team~/x/below"),
        (True, "/a/b", "/a/b"),
        (True, "/a~/b", "/a~/b"),
        (True, "/a~/b/c", "/a~/b/c"),
        (True, "/w_st/x~/y", "/w_st/x~/y"),
    ],
)
async def test_a_path_means_the_group_that_keycloak_shows_by_it(
    *, escapes: bool, path: str, group: str
) -> None:
    realm = Realm(escapes=escapes)

    joined = await realm.move("add", path)
    assert isinstance(joined, Delivered), joined
    assert realm.user.groups == {group}

    left = await realm.move("remove", path)
    assert isinstance(left, Delivered), left
    assert realm.user.groups == set()


@pytest.mark.parametrize("side", ["add", "remove"])
@pytest.mark.parametrize("path", ["/org/team/x", "/a/b"])
async def test_a_path_of_two_groups_is_refused(side: str, path: str) -> None:
    realm = Realm()

    outcome = await realm.move(side, "/org", path)

    assert isinstance(outcome, DeadLetter), outcome
    assert outcome.reason is Reason.GROUP_AMBIGUOUS
    assert outcome.failure.detail.startswith(f"data.groups.{side}[1]: the path may mean several groups")
    assert "team" not in outcome.failure.detail
    assert realm.user.groups == set()


@pytest.mark.parametrize(
    ("escapes", "path"),
    [
        (False, "/org/team~/x"),
        (False, "/a~/b"),
        (False, "/a/b/d"),
        (True, "/a/b/c"),
        (True, "/w_st/x/y"),
        (False, "/w_st/w%st"),
        (False, "/ORG/team/x/below"),
        (True, "/org/TEAM~/x"),
        (False, "/x/y"),
    ],
)
async def test_a_path_of_no_group_is_missing(*, escapes: bool, path: str) -> None:
    realm = Realm(escapes=escapes)

    outcome = await realm.move("add", path)

    assert isinstance(outcome, Retry), outcome
    assert outcome.reason is Reason.GROUP_MISSING
    assert isinstance(await realm.move("remove", path), Delivered)


@pytest.mark.parametrize("path", ["/bosses/all", "/bosses/all/below"])
async def test_rights_over_the_realm_come_from_parents_with_slashes_too(path: str) -> None:
    outcome = await Realm().move("add", path)

    assert isinstance(outcome, DeadLetter), outcome
    assert outcome.reason is Reason.GRANT_REFUSED


async def test_what_has_become_ambiguous_is_no_obstacle_to_healing() -> None:
    realm = Realm()
    known = KnownUser(
        realm=REALM,
        username_key="alice",
        exists=True,
        data={},
        credential=None,
        credential_event_id="",
        user_id=None,
    )

    late = LateEffects(fields=(late_field("group", "/a/b"), late_field("group", "/org")))

    outcome = await realm.delivery.heal(known, late, lambda: None)

    assert isinstance(outcome, Delivered), outcome
    assert realm.user.groups == {"/org"}


class TestCosts:
    async def test_little_where_no_name_holds_a_slash(self) -> None:
        realm = Realm(frozenset({"/a", "/a/b", "/a/b/c"}))

        await realm.move("add", "/a/b/c")
        await realm.move("add", "/a/b")
        looks = [asked for asked in realm.keycloak.asked if "group" in asked and "users" not in asked]

        assert looks == [
            f"GET {REALM}/groups",
            *(f"GET {REALM}/group-by-path{p}" for p in ("/a", "/a/b", "/a/b/c")),
        ]

    @pytest.mark.parametrize("escapes", [False, True])
    async def test_at_most_two_requests_a_step_however_deep(self, *, escapes: bool) -> None:
        names = [f"n{n}" for n in range(60)]
        straight = {"/" + "/".join(names[: n + 1]) for n in range(60)}
        crooked = {f"{path}~/z" for path in straight} | {f"{path}~/z/z~/z" for path in straight}
        realm = Realm(frozenset(straight | crooked), escapes=escapes)

        outcome = await realm.move("add", max(straight, key=len))

        assert isinstance(outcome, Delivered), outcome
        assert len(realm.keycloak.asked) <= 2 * 60 + 4

    async def test_a_path_of_very_many_meanings_is_not_followed(self) -> None:
        ways = {
            "/" + "".join(f"{'~/' if bent and at else '/' if at else ''}a" for at, bent in enumerate(way))
            for length in range(1, 9)
            for way in itertools.product((False, True), repeat=length)
        }
        realm = Realm(frozenset(ways))

        outcome = await realm.move("add", "/a" * 8)

        assert isinstance(outcome, DeadLetter), outcome
        assert outcome.reason is Reason.GROUP_AMBIGUOUS
        assert len(realm.keycloak.asked) < 40

    async def test_a_group_that_was_deleted_and_made_again_is_found_once_more(self) -> None:
        realm = Realm(frozenset({"/a", "/a~/b"}))
        await realm.move("add", "/a/b")
        realm.fake.groups = {"/a", "/a/b"}

        outcome = await realm.move("add", "/a/b")

        assert isinstance(outcome, Delivered), outcome
        assert realm.user.groups == {"/a~/b", "/a/b"}


async def test_groups_that_come_back_without_their_roles_are_not_taken_for_harmless() -> None:
    """As Keycloak 26.8 answers whoever may not see them, by its notes."""
    realm = Realm(frozenset({"/a"}))
    stripped = b'{"id":"1","name":"a","path":"/a"}'
    realm.keycloak = DirectKeycloak(
        realm.fake, [REALM], {2: lambda _: Reply(200, stripped, {"Content-Type": "application/json"})}
    )
    realm.delivery = Delivery(keycloak=realm.keycloak, keys=cast(Keys, None))

    outcome = await realm.move("add", "/a")

    assert isinstance(outcome, Defer), outcome
    assert outcome.reason is Reason.ROLES_UNREADABLE
    assert realm.user.groups == set()
