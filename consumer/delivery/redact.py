"""Keeping people out of error texts.

Keycloak's answers, and a proxy's even more so, may repeat what was sent. What is kept is the message; what stands
in quotation marks, looks like an address or a token, or is known to be the user's, is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_MASK = "…"
_PATTERNS = (
    (re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*){1,2}"), "<token>"),
    (re.compile(r"[^\s'\"<>(),;:]+@[^\s'\"<>(),;:]+"), "<email>"),
    # The place of somebody in a directory: [uid=...,ou=people,dc=example,dc=org].
    (re.compile(r"\[[\w.-]+=[^\]]*\]"), f"[{_MASK}]"),
    (re.compile(r"'[^']*'"), f"'{_MASK}'"),
    (re.compile(r'"[^"]*"'), f'"{_MASK}"'),
)
_SHORTEST = 3
"""Shorter values are left: masking every "a" would leave no message, and tells nothing about anybody."""


def scrub(text: str) -> str:
    """Take out of a foreign text what may be somebody's: quoted values, e-mail addresses, tokens."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def mask(text: str, values: Iterable[str]) -> str:
    """Take the given values out of a text, whatever their case, longest first."""
    telling = sorted({value for value in values if len(value) >= _SHORTEST}, key=len, reverse=True)
    if not telling:
        return text
    return re.sub("|".join(re.escape(value) for value in telling), _MASK, text, flags=re.IGNORECASE)


def strings_in(value: Any) -> Iterable[str]:
    """Yield every string inside a JSON value, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from strings_in(inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from strings_in(inner)
