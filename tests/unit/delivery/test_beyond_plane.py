from __future__ import annotations

from typing import Any

import pytest

from consumer.delivery.beyond_plane import beyond_plane


@pytest.mark.parametrize(
    ("data", "places"),
    [
        ({}, ()),
        ({"last_name": "Ærøskøbing 吉田 \uffff", "enabled": True, "attributes": {"n": ["1"]}}, ()),
        ({"last_name": "𠮷田"}, ("data.last_name",)),
        (
            {"first_name": "😀", "attributes": {"motto": ["plain", "a😀"]}},
            ("data.first_name", "data.attributes.motto"),
        ),
        (
            {"groups": {"add": ["/staff", "/😀"], "remove": ["/😀"]}},
            ("data.groups.add", "data.groups.remove"),
        ),
        # Keycloak stores the names of attributes in full.
        ({"attributes": {"a😀": ["plain"]}}, ()),
        ({"attributes": {"a": ["😀", "😀"]}}, ("data.attributes.a",)),
    ],
)
def test_places_are_named(data: dict[str, Any], places: tuple[str, ...]) -> None:
    assert beyond_plane("alice", data) == places


def test_the_username_is_a_place() -> None:
    assert beyond_plane("alice😀", {"last_name": "𠮷"}) == ("username", "data.last_name")
