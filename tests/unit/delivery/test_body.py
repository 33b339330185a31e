"""The JSON that Keycloak is sent."""

from __future__ import annotations

import json

import pytest

from consumer.delivery.body import body_of


@pytest.mark.parametrize(
    "value",
    [
        {"firstName": "Zoë", "attributes": {"team": ["a", "b"]}, "enabled": True, "notBefore": 0},
        [{"id": "1", "name": "editor"}],
        {"lastName": "half a pair: \ud83d"},
        {"number": 2**70},
    ],
    ids=["an object", "an array", "half a surrogate pair", "more than 64 bits"],
)
def test_says_what_it_was_given(value: object) -> None:
    text = body_of(value)  # type: ignore[arg-type]

    assert json.loads(text) == value
    # It can be sent.
    assert text.encode()
