from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_lib import InvalidEvent, username_key

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "schemas" / "username_keys.json").read_bytes()
)

# sha256 of "<code point in hex> <key>\n" for each accepted "a<character>b" that changes, as Java 17 and Java 25 lower it.
JAVA = "7ce113758a0650af38b4586aaecf24d53c55fb454fd73224873fe2ce518c380d"


def key_or_none(username: str) -> str | None:
    try:
        return username_key(username)
    except InvalidEvent:
        return None


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: vector["why"])
def test_the_key_is_what_the_vector_says(vector: dict[str, str]) -> None:
    assert vector["key"] == username_key(vector["username"])


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["why"])
def test_the_vector_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(InvalidEvent) as refused:
        username_key(vector["username"])

    assert refused.value.field == "subject"
    assert vector["username"] not in str(refused.value)


def test_every_character_of_unicode_is_lowered_as_java_does_or_refused() -> None:
    digest = hashlib.sha256()
    for point in range(0x110000):
        username = f"a{chr(point)}b"
        if (lowered := username.lower()) != username and key_or_none(username) is not None:
            digest.update(f"{point:x} {lowered}\n".encode())

    assert digest.hexdigest() == JAVA, (
        "this Python lowers other characters: extend the refused ones in fields.v1.json"
    )


@given(st.text(min_size=3, max_size=40))
def test_the_key_of_a_key_is_itself(username: str) -> None:
    key = key_or_none(username)

    assert key is None or username_key(key) == key


@given(st.text(st.characters(max_codepoint=0x24F), min_size=3, max_size=20))
def test_case_never_makes_two_users(username: str) -> None:
    key = key_or_none(username)
    # ß and a few others have no single capital; their capitals are other letters.
    if key is not None and username.upper().lower() == username.lower():
        assert username_key(username.upper()) == key


@pytest.mark.parametrize("username", [5, None, b"ada", ["ada"], "\ud800da"])
def test_what_is_no_text_is_refused(username: Any) -> None:
    with pytest.raises(InvalidEvent) as refused:
        username_key(username)

    assert refused.value.field == "subject"
    assert refused.value.__context__ is None
