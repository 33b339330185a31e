from __future__ import annotations

from typing import Any

import pytest

from consumer.delivery.new_user_rules import NewUserRules

REALM = {"defaultRole": {"name": "default-roles-shop"}, "defaultGroups": ["/everybody"]}
ADMIN = {"permissions": {"view": ["admin"], "edit": ["admin", "user"]}}
USERNAME = {
    "name": "username",
    "validations": {
        "length": {"min": 3, "max": 255},
        "username-prohibited-characters": {},
        "up-username-not-idn-homograph": {},
    },
    **ADMIN,
}
EMAIL = {
    "name": "email",
    "validations": {"email": {}, "length": {"max": 255}},
    "required": {"roles": ["user"]},
    **ADMIN,
}
FIRST, LAST = (
    {
        "name": name,
        "validations": {"length": {"max": 255}, "person-name-prohibited-characters": {}},
        "required": {"roles": ["user"]},
        **ADMIN,
    }
    for name in ("firstName", "lastName")
)
ACTIONS = [
    {"alias": "VERIFY_EMAIL", "enabled": True, "defaultAction": True},
    {"alias": "TERMS", "enabled": False, "defaultAction": True},
    {"alias": "UPDATE_PASSWORD", "enabled": True, "defaultAction": False},
]


def rules(*fields: dict[str, Any], realm: dict[str, Any] | None = None) -> NewUserRules:
    read = NewUserRules.read(realm or REALM, {"attributes": list(fields) or DEFAULT}, ACTIONS)
    assert read is not None
    return read


DEFAULT = [USERNAME, EMAIL, FIRST, LAST]
ALICE: dict[str, Any] = {"username": "alice", "enabled": True}


def test_a_new_user_is_given_what_the_realm_gives() -> None:
    assert rules().complete(ALICE) == {
        **ALICE,
        "realmRoles": ["default-roles-shop"],
        "groups": ["/everybody"],
        "requiredActions": ["VERIFY_EMAIL"],
    }


@pytest.mark.parametrize(
    "user",
    [
        ALICE,
        {**ALICE, "email": "alice.smith+test@mail.example.org", "emailVerified": True},
        {**ALICE, "firstName": "Zoë", "lastName": "O'Neil-Smith"},
        {**ALICE, "lastName": "de la Cruz"},
        {**ALICE, "lastName": "日本"},
        {**ALICE, "credentials": [{"type": "password", "secretData": "{}", "credentialData": "{}"}]},
    ],
)
def test_a_plain_user_may_be_imported(user: dict[str, Any]) -> None:
    assert rules().admits(user)


@pytest.mark.parametrize(
    "user",
    [
        {**ALICE, "username": "al"},
        {**ALICE, "username": "ali ce"},
        {**ALICE, "username": "аlice"},  # noqa: RUF001 - its first letter is Cyrillic: that is the point.
        {**ALICE, "username": "a" * 256},
        {**ALICE, "email": "alice@[1.2.3.4]"},
        {**ALICE, "email": "alice..smith@example.org"},
        {**ALICE, "email": "alice.@example.org"},
        {**ALICE, "email": f"{'a' * 65}@example.org"},
        {**ALICE, "email": "not-an-email"},
        {**ALICE, "firstName": "<script>"},
        {**ALICE, "firstName": ""},
        {**ALICE, "firstName": "a" * 256},
        {**ALICE, "attributes": {"team": ["red"]}},
        {**ALICE, "credentials": [{"type": "password", "value": "in clear"}]},
        {**ALICE, "credentials": [{"type": "password", "secretData": "{}", "temporary": True}]},
    ],
)
def test_who_might_be_refused_goes_one_by_one(user: dict[str, Any]) -> None:
    assert not rules().admits(user)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([{**USERNAME, "validations": {"pattern": {"pattern": "[a-z]+"}}}], id="unknown rule"),
        pytest.param([{**USERNAME, "validations": {"length": {"min": 6}}}], id="longer names"),
        pytest.param([{**USERNAME, "validations": {"length": {"min": "six"}}}], id="no length"),
        pytest.param([{**USERNAME, "permissions": {"edit": ["user"]}}], id="not ours to set"),
        pytest.param([USERNAME, {**EMAIL, "required": {"roles": ["admin"]}}], id="we must give it"),
        pytest.param([USERNAME, {**EMAIL, "required": {}}], id="everybody must give it"),
        pytest.param([USERNAME, {"name": "badge", "required": {}}], id="an attribute must be given"),
    ],
)
def test_a_profile_that_asks_for_more_is_for_a_create_to_judge(fields: list[dict[str, Any]]) -> None:
    assert not rules(*fields).admits(ALICE)


def test_a_realm_whose_usernames_are_addresses_is_left_alone() -> None:
    assert not rules(realm={**REALM, "registrationEmailAsUsername": True}).admits(ALICE)


@pytest.mark.parametrize(
    ("realm", "profile", "actions"),
    [
        ({}, {"attributes": []}, []),
        (REALM, {}, []),
        (REALM, {"attributes": []}, {}),
        (None, None, None),
    ],
)
def test_other_answers_are_no_rules(realm: Any, profile: Any, actions: Any) -> None:
    assert NewUserRules.read(realm, profile, actions) is None
