from __future__ import annotations

import pytest

from consumer.delivery.redact import mask, scrub, strings_in


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("User exists with same email", "User exists with same email"),
        ("Value 'hunter2' refused", "Value '…' refused"),
        (
            "Could not modify attribute for DN [cn=Ann Meyer,ou=people,dc=example,dc=org]: refused",
            "Could not modify attribute for DN […]: refused",
        ),
        (
            "Failed to fetch results from the LDAP [dir] provider",
            "Failed to fetch results from the LDAP [dir] provider",
        ),
        ('Unrecognized field "nickname"', 'Unrecognized field "…"'),
        ("mail to alice.b+c@example.org, please", "mail to <email>, please"),
        ("bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "bearer <token>"),
    ],
)
def test_what_may_be_somebodys_is_taken_out(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed


class TestMask:
    def test_known_values_go_whatever_their_case(self) -> None:
        assert mask("user ALICE.SMITH is taken", ["alice.smith"]) == "user … is taken"

    def test_the_longest_goes_first(self) -> None:
        assert mask("ann-marie", ["ann", "ann-marie"]) == "…"

    def test_values_are_no_patterns(self) -> None:
        assert mask("axb a.b(", ["a.b("]) == "axb …"

    def test_values_too_short_to_tell_anything_stay(self) -> None:
        assert mask("error at A", ["a", ""]) == "error at A"


def test_every_string_of_a_value_is_found() -> None:
    value = {"email": "a@b", "attributes": {"team": ["x", "y"], "n": [1, None, True]}, "enabled": True}

    assert list(strings_in(value)) == ["a@b", "x", "y"]
