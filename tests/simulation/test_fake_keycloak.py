"""The rules of the real server that the fake must follow; each stands in research or in tests/integration/delivery."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.simulation.fake_keycloak import FakeKeycloak, Reply, Request

USERS = "admin/realms/shop/users"


@pytest.fixture
def keycloak() -> FakeKeycloak:
    return FakeKeycloak(
        frozenset({"shop"}),
        password_history=3,
        groups=frozenset({"/staff", "/staff/night", "/admins"}),
        realm_roles=frozenset({"author"}),
        rights=frozenset({"/admins"}),
    )


def ask(keycloak: FakeKeycloak, method: str, path: str, body: Any = None, **query: str) -> Reply:
    text = "" if body is None else json.dumps(body)
    return keycloak.answer(Request(method=method, path=path, query=query, body=text), 1_000)


def made(keycloak: FakeKeycloak, **fields: Any) -> str:
    reply = ask(keycloak, "POST", USERS, {"username": "alice", "enabled": True, **fields})
    assert reply.status == 201, reply
    return f"{USERS}/{reply.headers['Location'].rpartition('/')[2]}"


def said(reply: Reply) -> tuple[int, str]:
    body = json.loads(reply.body)
    return reply.status, body.get("errorMessage") or body.get("error")


class TestCreate:
    def test_stores_names_and_addresses_in_lower_case(self, keycloak: FakeKeycloak) -> None:
        ask(keycloak, "POST", USERS, {"username": "Alice", "email": "A@Example.org"})

        user = keycloak.find("shop", "ALICE")
        assert user is not None
        assert (user.username, user.email) == ("alice", "a@example.org")

    def test_without_enabled_makes_a_disabled_user(self, keycloak: FakeKeycloak) -> None:
        ask(keycloak, "POST", USERS, {"username": "alice"})

        assert (
            json.loads(ask(keycloak, "GET", USERS, username="alice", exact="True").body)[0]["enabled"]
            is False
        )

    def test_lets_the_holder_of_an_email_be_found(self, keycloak: FakeKeycloak) -> None:
        made(keycloak, email="a@example.org")

        found = ask(keycloak, "GET", USERS, email="A@example.org", exact="True")
        other = ask(keycloak, "GET", USERS, email="a@example", exact="True")

        assert [user["username"] for user in json.loads(found.body)] == ["alice"]
        assert json.loads(other.body) == []

    def test_repeated_word_for_word_complains_about_the_email(self, keycloak: FakeKeycloak) -> None:
        made(keycloak, email="a@example.org")

        again = ask(keycloak, "POST", USERS, {"username": "alice", "email": "a@example.org"})
        other = ask(keycloak, "POST", USERS, {"username": "alice"})

        assert said(again) == (409, "User exists with same email")
        assert said(other) == (409, "User exists with same username")

    @pytest.mark.parametrize(
        ("fields", "answer"),
        [
            ({"email": "nobody"}, "error-invalid-email"),
            ({"username": "al"}, "error-invalid-length"),
            ({"username": "al<ice"}, "error-username-invalid-character"),
            ({"name": "Alice"}, 'Unrecognized field "name"'),
        ],
    )
    def test_refuses(self, keycloak: FakeKeycloak, fields: dict[str, Any], answer: str) -> None:
        reply = ask(keycloak, "POST", USERS, {"username": "alice", **fields})

        assert said(reply) == (400, answer)
        assert keycloak.users["shop"] == {}


class TestUpdate:
    def test_keeps_what_it_does_not_name(self, keycloak: FakeKeycloak) -> None:
        user = made(keycloak, email="a@example.org", firstName="A", attributes={"team": ["blue"]})

        assert ask(keycloak, "PUT", user, {"lastName": "B"}).status == 204

        whole = json.loads(ask(keycloak, "GET", user).body)
        assert (whole["email"], whole["firstName"], whole["lastName"]) == ("a@example.org", "A", "B")
        assert whole["attributes"] == {"team": ["blue"]}

    def test_with_attributes_clears_what_it_does_not_name(self, keycloak: FakeKeycloak) -> None:
        user = made(keycloak, email="a@example.org", firstName="A", attributes={"team": ["blue"]})

        ask(keycloak, "PUT", user, {"attributes": {"seq": ["1"]}})

        whole = json.loads(ask(keycloak, "GET", user).body)
        assert "email" not in whole
        assert "firstName" not in whole
        assert whole["attributes"] == {"seq": ["1"]}
        assert whole["enabled"] is True

    def test_takes_no_other_users_email(self, keycloak: FakeKeycloak) -> None:
        made(keycloak, email="a@example.org")
        bob = made(keycloak, username="bob")

        assert said(ask(keycloak, "PUT", bob, {"email": "A@example.org"})) == (
            409,
            "User exists with same email",
        )


class TestPasswords:
    def test_the_last_one_logs_in(self, keycloak: FakeKeycloak) -> None:
        user = made(keycloak, credentials=[{"type": "password", "value": "one"}])

        assert ask(keycloak, "PUT", f"{user}/reset-password", {"value": "two"}).status == 204

        assert keycloak.logs_in("shop", "alice", "two")
        assert not keycloak.logs_in("shop", "alice", "one")

    def test_a_history_refuses_the_present_one_too(self, keycloak: FakeKeycloak) -> None:
        user = made(keycloak, credentials=[{"type": "password", "value": "one"}])

        again = ask(keycloak, "PUT", f"{user}/reset-password", {"value": "one"})

        assert said(again) == (400, "invalidPasswordHistoryMessage")
        assert json.loads(ask(keycloak, "GET", f"{user}/credentials").body)[0]["createdDate"] == 1_000

    def test_a_temporary_one_must_be_changed(self, keycloak: FakeKeycloak) -> None:
        user = made(keycloak)

        ask(keycloak, "PUT", f"{user}/reset-password", {"value": "two", "temporary": True})
        before = json.loads(ask(keycloak, "GET", user).body)["requiredActions"]
        ask(keycloak, "PUT", f"{user}/reset-password", {"value": "three", "temporary": False})
        after = json.loads(ask(keycloak, "GET", user).body)["requiredActions"]

        assert (before, after) == (["UPDATE_PASSWORD"], [])


class TestWhatIsNotThere:
    def test_is_said_in_different_words(self, keycloak: FakeKeycloak) -> None:
        user = made(keycloak)
        assert ask(keycloak, "DELETE", user).status == 204

        assert said(ask(keycloak, "DELETE", user)) == (404, "User not found")
        assert said(ask(keycloak, "GET", "admin/realms/none/users")) == (404, "Realm not found.")
        assert ask(keycloak, "GET", USERS, username="alice", exact="True").body == b"[]"


class TestGroupsAndRoles:
    """As tests/integration/delivery/test_every_field_on_keycloak.py and docs/decisions/0025 saw them."""

    def test_are_found_by_their_names(self, keycloak: FakeKeycloak) -> None:
        night = json.loads(ask(keycloak, "GET", "admin/realms/shop/group-by-path/staff/night").body)
        loud = json.loads(ask(keycloak, "GET", "admin/realms/shop/group-by-path/STAFF").body)
        admins = json.loads(ask(keycloak, "GET", "admin/realms/shop/group-by-path/admins").body)
        role = json.loads(ask(keycloak, "GET", "admin/realms/shop/roles/author").body)

        assert (night["path"], night["parentId"]) == ("/staff/night", loud["id"])
        assert (loud["path"], admins["clientRoles"]) == ("/staff", {"realm-management": ["manage-realm"]})
        assert (role["name"], role["composite"]) == ("author", False)

    def test_that_are_missing_are_said_in_different_words(self, keycloak: FakeKeycloak) -> None:
        user = made(keycloak)
        wrong = [{"id": "none", "name": "author"}]

        assert said(ask(keycloak, "GET", "admin/realms/shop/group-by-path/none")) == (
            404,
            "Group path does not exist",
        )
        assert said(ask(keycloak, "PUT", f"{user}/groups/none")) == (404, "Group not found")
        assert said(ask(keycloak, "GET", "admin/realms/shop/roles/none")) == (404, "Could not find role")
        assert said(ask(keycloak, "POST", f"{user}/role-mappings/realm", wrong)) == (404, "Role not found")

    @pytest.mark.parametrize("times", [1, 2])
    def test_are_given_and_taken_however_often(self, keycloak: FakeKeycloak, times: int) -> None:
        user = made(keycloak)
        group = json.loads(ask(keycloak, "GET", "admin/realms/shop/group-by-path/staff").body)
        role = json.loads(ask(keycloak, "GET", "admin/realms/shop/roles/author").body)
        of_group, of_roles = f"{user}/groups/{group['id']}", f"{user}/role-mappings/realm"

        given = [
            ask(keycloak, method, path, [role]).status
            for method, path in [("PUT", of_group), ("POST", of_roles)] * times
        ]
        has = [json.loads(ask(keycloak, "GET", part).body) for part in (f"{user}/groups", of_roles)]
        taken = [ask(keycloak, "DELETE", path, [role]).status for path in [of_group, of_roles] * times]

        assert {*given, *taken} == {204}
        assert ([each["path"] for each in has[0]], [each["name"] for each in has[1]]) == (
            ["/staff"],
            ["author"],
        )
        assert ask(keycloak, "GET", f"{user}/groups").body == ask(keycloak, "GET", of_roles).body == b"[]"


class TestWhatAUserMustDo:
    def test_is_replaced_and_kept_only_where_it_is_known(self, keycloak: FakeKeycloak) -> None:
        user = made(keycloak, requiredActions=["UPDATE_PROFILE"])

        ask(keycloak, "PUT", user, {"requiredActions": ["VERIFY_EMAIL", "NOT_THERE"]})

        assert json.loads(ask(keycloak, "GET", user).body)["requiredActions"] == ["VERIFY_EMAIL"]

    @pytest.mark.parametrize("temporary", [True, False])
    def test_adds_up_at_a_create_with_a_password(self, keycloak: FakeKeycloak, *, temporary: bool) -> None:
        password = {"type": "password", "value": "one", "temporary": temporary}
        user = made(keycloak, requiredActions=["UPDATE_PASSWORD"], credentials=[password])

        assert json.loads(ask(keycloak, "GET", user).body)["requiredActions"] == ["UPDATE_PASSWORD"]
