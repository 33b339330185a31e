from __future__ import annotations

from typing import Any, ClassVar

import pytest

from consumer.delivery.handlers.read_back import holds
from consumer.delivery.opened import Clear
from consumer.delivery.representation import (
    is_written,
    merged_user,
    named_fields,
    needs_merge,
    new_user,
    split_name,
    written_out,
)

ALICE = {
    "id": "0b5c",
    "username": "alice",
    "email": "alice@example.org",
    "firstName": "Alice",
    "lastName": "Smith",
    "enabled": True,
    "emailVerified": True,
    "requiredActions": ["UPDATE_PASSWORD"],
    "createdTimestamp": 1,
    "access": {"manage": True},
    "attributes": {"team": ["blue"], "seq": ["1"]},
}


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("John Doe", "John", "Doe"),
        ("Mary Ann Evans", "Mary Ann", "Evans"),
        ("Cher", "Cher", ""),
        ("  Ada   Lovelace ", "Ada", "Lovelace"),
    ],
)
def test_a_name_is_split_at_its_last_space(name: str, first: str, last: str) -> None:
    assert split_name(name) == (first, last)


class TestNewUser:
    def test_is_enabled_unless_the_event_says_otherwise(self) -> None:
        assert new_user("alice", {}, None) == {"username": "alice", "enabled": True}
        assert new_user("alice", {"enabled": False}, None)["enabled"] is False

    def test_has_every_field_under_keycloaks_name(self) -> None:
        data = {
            "email": "alice@example.org",
            "email_verified": True,
            "first_name": "Alice",
            "last_name": "Smith",
            "attributes": {"team": ["blue"]},
        }

        assert new_user("alice", data, Clear("s3cret")) == {
            "username": "alice",
            "enabled": True,
            "email": "alice@example.org",
            "emailVerified": True,
            "firstName": "Alice",
            "lastName": "Smith",
            "attributes": {"team": ["blue"]},
            "credentials": [{"type": "password", "value": "s3cret", "temporary": False}],
        }

    def test_asks_for_another_password_also_where_the_temporary_one_was_not_kept(self) -> None:
        assert new_user("alice", {"temporary": True}, None)["requiredActions"] == ["UPDATE_PASSWORD"]
        assert "requiredActions" not in new_user("alice", {"temporary": True}, Clear("secret"))
        assert "requiredActions" not in new_user("alice", {"temporary": False}, None)

    def test_has_no_name_field(self) -> None:
        user = new_user("alice", {"name": "Alice Smith"}, None)

        assert user == {"username": "alice", "enabled": True, "firstName": "Alice", "lastName": "Smith"}


@pytest.mark.parametrize(
    ("data", "field", "written"),
    [
        ({"enabled": False}, "phone", False),
        ({"attributes": {"phone": ["1"]}}, "phone", True),
        ({"attributes": {"city": ["x"]}}, "phone", False),
        # Replacing them all writes the absence of the others.
        ({"attributes": {"city": ["x"]}, "attributes_mode": "replace"}, "phone", True),
        ({"attributes": {"city": ["x"]}, "attributes_mode": "replace"}, "lastName", False),
        ({"last_name": "x"}, "lastName", True),
        ({"name": "Ada Lovelace"}, "lastName", True),
        ({"email": ""}, "email", True),
        ({"first_name": "x"}, "email", False),
        ({"first_name": "x"}, "username", False),
        (written_out({"clear": ["attributes.phone", "email"]}), "phone", True),
        (written_out({"clear": ["attributes.phone", "email"]}), "email", True),
    ],
)
def test_a_field_is_written_or_not(data: dict[str, object], field: str, written: bool) -> None:  # noqa: FBT001
    assert is_written(data, field) is written


class TestUpdate:
    def test_names_only_what_the_event_names(self) -> None:
        assert named_fields({"first_name": "Alicia"}) == {"firstName": "Alicia"}

    @pytest.mark.parametrize("data", [{}, {"first_name": "A"}, {"attributes": {}}])
    def test_needs_no_read_without_attributes(self, data: dict[str, object]) -> None:
        assert not needs_merge(data)
        assert "attributes" not in named_fields(data)

    def test_with_attributes_keeps_the_rest_of_the_profile(self) -> None:
        merged = merged_user(ALICE, {"attributes": {"seq": ["2"], "new": ["x"]}})

        assert merged == {
            "username": "alice",
            "email": "alice@example.org",
            "firstName": "Alice",
            "lastName": "Smith",
            "attributes": {"team": ["blue"], "seq": ["2"], "new": ["x"]},
        }

    def test_with_attributes_lets_named_fields_win(self) -> None:
        merged = merged_user(ALICE, {"last_name": "Jones", "attributes": {"seq": ["2"]}})

        assert merged["lastName"] == "Jones"
        assert merged["firstName"] == "Alice"

    def test_with_attributes_copes_with_a_bare_user(self) -> None:
        merged = merged_user({"id": "1", "username": "bob", "email": None}, {"attributes": {"a": ["b"]}})

        assert merged == {"username": "bob", "attributes": {"a": ["b"]}}

    @pytest.mark.parametrize("field", ["enabled", "emailVerified", "requiredActions"])
    def test_never_echoes_what_is_a_decision(self, field: str) -> None:
        assert field not in merged_user(ALICE, {"attributes": {"a": ["b"]}})


class TestWrittenOut:
    def test_is_as_it_was_where_there_is_nothing_to_write_out(self) -> None:
        data = {"email": "a", "attributes": {"x": ["1"]}}

        assert written_out(data) is data

    def test_says_what_is_cleared_as_empty(self) -> None:
        data = {"clear": ["email", "attributes.y"], "attributes": {"x": ["1"]}, "first_name": "A"}

        assert written_out(data) == {"email": "", "attributes": {"x": ["1"], "y": []}, "first_name": "A"}
        assert data["attributes"] == {"x": ["1"]}

    @pytest.mark.parametrize("actions", [[], ["VERIFY_EMAIL"], ["UPDATE_PASSWORD"], ["X", "UPDATE_PASSWORD"]])
    def test_twice_is_as_once(self, actions: list[str]) -> None:
        once = written_out({"required_actions": actions})

        assert once["temporary"] == ("UPDATE_PASSWORD" in actions)
        assert written_out(once) == once
        assert sorted(named_fields(once)["requiredActions"]) == sorted(actions)


class TestWhatKeycloakItselfSets:
    LOCKED: ClassVar[dict[str, Any]] = {
        **ALICE,
        "enabled": False,
        "attributes": {"disabledReason": ["permanentLockout"], "seq": ["1"]},
    }

    @pytest.mark.parametrize(
        ("mode", "attributes"),
        [
            ("merge", {"disabledReason": ["permanentLockout"], "seq": ["1"], "team": ["red"]}),
            ("replace", {"disabledReason": ["permanentLockout"], "team": ["red"]}),
        ],
    )
    def test_stays_and_the_user_as_disabled_as_before(
        self, mode: str, attributes: dict[str, list[str]]
    ) -> None:
        merged = merged_user(self.LOCKED, {"attributes": {"team": ["red"]}, "attributes_mode": mode})

        assert merged["attributes"] == attributes
        assert "enabled" not in merged

    def test_is_no_difference_to_what_an_event_asked_for(self) -> None:
        data = {"attributes": {"seq": ["1"]}, "attributes_mode": "replace"}

        assert holds(self.LOCKED, data)
        assert not holds({**self.LOCKED, "attributes": {**self.LOCKED["attributes"], "x": ["1"]}}, data)
