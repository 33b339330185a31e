"""Rules of the real server that the fake must follow, beside those that tests/conformance holds both to."""

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
    def test_lets_the_holder_of_an_email_be_found(self, keycloak: FakeKeycloak) -> None:
        made(keycloak, email="a@example.org")

        found = ask(keycloak, "GET", USERS, email="A@example.org", exact="True")
        other = ask(keycloak, "GET", USERS, email="a@example", exact="True")

        assert [user["username"] for user in json.loads(found.body)] == ["alice"]
        assert json.loads(other.body) == []


class TestPasswords:
    def test_the_last_one_logs_in(self, keycloak: FakeKeycloak) -> None:
        user = made(keycloak, credentials=[{"type": "password", "value": "one"}])

        assert ask(keycloak, "PUT", f"{user}/reset-password", {"value": "two"}).status == 204

        assert keycloak.logs_in("shop", "alice", "two")
        assert not keycloak.logs_in("shop", "alice", "one")


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
