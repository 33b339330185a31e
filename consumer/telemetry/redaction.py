"""The last line of defence: what looks like a secret or a username is masked before a text leaves the process.

Nothing relies on it. Code that knows a value is secret keeps it out of texts in the first place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

MASK: Final = "****"

_SENSITIVE_WORDS: Final = frozenset(
    {"authorization", "dsn", "passwd", "password", "secret", "token", "username"}
)
_WORDS: Final = re.compile(r"[a-z0-9]+")
_CAMEL_CASE: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_DEEPEST: Final = 8

_PATTERNS: Final = (
    # user:password@ of a URL; the last @ before the path ends it.
    (re.compile(r"(?<=://)[^/\s]*@"), f"{MASK}@"),
    (
        re.compile(r"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?)(?:(?:bearer|basic)\s+)?[^\s\"',;]+"),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)(\bbearer\s+)[\w.~+/-]{16,}=*"), rf"\1{MASK}"),
    # JSON Web Tokens, wherever they stand.
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), MASK),
    # name=value of query strings and key-value texts, "name": "value" of JSON.
    (
        re.compile(
            r"(?i)([\w-]*(?:password|passwd|secret|token|username)[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s&\"',;)}]+)"
        ),
        rf"\1{MASK}",
    ),
)


def redact_text(text: str) -> str:
    """Mask credentials and usernames that stand in a text: URLs, headers, query strings, JSON, tokens."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def is_sensitive(key: str) -> bool:
    """Tell whether a key's name says that its value must not be shown: `client_secret`, `newPassword`, `username`."""
    return not _SENSITIVE_WORDS.isdisjoint(_WORDS.findall(_CAMEL_CASE.sub("_", key).lower()))


def redact(key: str, value: object) -> object:
    """Mask a value by its key and, if it is text or holds texts, by what it looks like.

    A number under a key with `token` in it passes: it is a fencing token, and on-call people compare those.
    """
    return _redact(key, value, _DEEPEST)


def _redact(key: str, value: object, depth: int) -> object:
    harmless = value is None or isinstance(value, bool) or (isinstance(value, int) and "token" in key.lower())
    if depth == 0 or (is_sensitive(key) and not harmless):
        return MASK
    match value:
        case str():
            return redact_text(value)
        case bytes():
            # Raw bytes are ciphertext, keys or whole events: a log line needs none of them.
            return f"<{len(value)} bytes>"
        case Mapping():
            return {str(name): _redact(str(name), item, depth - 1) for name, item in value.items()}
        case list() | tuple():
            return [_redact(key, item, depth - 1) for item in value]
        case _:
            return value
