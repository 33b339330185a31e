"""What a realm keeps of a user's attributes."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.delivery.handlers.read_back import holds
from consumer.delivery.profile_rules import ProfileRules, is_keycloaks_own, kept_values
from consumer.delivery.representation import merged_user


def rules(policy: str | None, **declared: list[str]) -> ProfileRules:
    fields = [{"name": name, "permissions": {"edit": editors}} for name, editors in declared.items()]
    read = ProfileRules.read({"attributes": fields, "unmanagedAttributePolicy": policy})
    assert read is not None
    return read


@pytest.mark.parametrize(
    ("policy", "dropped"),
    [
        ("ENABLED", {"locale", "terms_and_conditions", "kc.email.pending", "mine"}),
        ("ADMIN_EDIT", {"locale", "terms_and_conditions", "kc.email.pending", "mine"}),
        ("ADMIN_VIEW", {"locale", "terms_and_conditions", "kc.email.pending", "mine", "free"}),
        (None, {"locale", "terms_and_conditions", "kc.email.pending", "mine", "free"}),
    ],
)
def test_what_may_be_dropped(policy: str | None, dropped: set[str]) -> None:
    """As seen with 26.7.4."""
    named = {
        name: ["1"]
        for name in ("locale", "terms_and_conditions", "kc.email.pending", "mine", "free", "department")
    }

    assert rules(policy, department=["admin"], mine=["user"]).may_drop(named).keys() == dropped


def test_what_is_declared_is_kept_whatever_its_name() -> None:
    assert rules(None, locale=["admin", "user"]).may_drop({"locale": ["de"]}) == {}


@pytest.mark.parametrize("values", [[], [""], [" "]])
def test_what_is_taken_away_is_not_dropped(values: list[str]) -> None:
    assert rules(None).may_drop({"free": values}) == {}


@pytest.mark.parametrize("answer", [None, [], {}, {"attributes": {}}, {"error": "unknown_error"}])
def test_another_answer_is_no_profile(answer: Any) -> None:
    assert ProfileRules.read(answer) is None


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("saml.persistent.name.id.for.https://sp.example.org", True),
        ("terms_and_conditions", True),
        ("locale", True),
        ("kc.email.pending", True),
        ("LDAP_ID", True),
        ("disabledReason", True),
        ("team", False),
        ("samlx", False),
        ("kc", False),
    ],
)
def test_what_keycloak_keeps_for_itself_outlives_a_replacement(name: str, *, own: bool) -> None:
    existing = {"username": "ada", "attributes": {name: ["kept"], "team": ["red"]}}
    replacing = {"attributes": {"floor": ["3"]}, "attributes_mode": "replace"}

    assert is_keycloaks_own(name) is own
    written = merged_user(existing, replacing)["attributes"]
    assert written == {"floor": ["3"], **({name: ["kept"]} if own else {})}
    assert holds({"attributes": written}, replacing)


def test_what_an_event_names_is_replaced_all_the_same() -> None:
    existing = {"username": "ada", "attributes": {"locale": ["de"], "kc.x": ["1"]}}
    replacing = {"attributes": {"locale": ["en"], "kc.x": []}, "attributes_mode": "replace"}

    assert merged_user(existing, replacing)["attributes"] == {"locale": ["en"], "kc.x": []}


class TestWhatAUserHolds:
    @pytest.mark.parametrize(
        ("asked", "held"),
        [
            (["", "y"], ["y"]),
            ([" "], None),
            ([""], None),
            ([], None),
            (["b", "a"], ["a", "b"]),
        ],
    )
    def test_values_as_keycloak_keeps_them(self, asked: list[str], held: list[str] | None) -> None:
        user = {"attributes": {} if held is None else {"a": held}}

        assert holds(user, {"attributes": {"a": asked}})
        assert not holds({"attributes": {"a": ["z"]}}, {"attributes": {"a": asked}})
        assert kept_values(asked) == kept_values(held)

    @pytest.mark.parametrize("asked", [[], ["VERIFY_EMAIL"]])
    def test_more_required_actions_of_a_new_user(self, asked: list[str]) -> None:
        """A realm may have default actions."""
        user = {"requiredActions": ["VERIFY_EMAIL", "TERMS_AND_CONDITIONS"]}

        assert holds(user, {"required_actions": asked}, creates=True)
        assert not holds(user, {"required_actions": asked})
        assert not holds({"requiredActions": []}, {"required_actions": ["VERIFY_EMAIL"]}, creates=True)

    def test_without_what_keycloak_may_not_have_kept(self) -> None:
        data = {"attributes": {"locale": ["de"], "team": ["red"]}}

        assert not holds({"attributes": {"team": ["red"]}}, data)
        assert holds({"attributes": {"team": ["red"]}}, data, leaving_out={"locale"})
