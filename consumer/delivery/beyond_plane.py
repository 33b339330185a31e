"""Characters beyond Unicode's basic plane in an event (U+10000 and above: emoji, rare Chinese characters).

In a MariaDB or MySQL, Keycloak's columns of usernames, names, attribute values and groups do not hold them; those of
attribute names do, and in a PostgreSQL all do (26.7.4 on MariaDB seen).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["beyond_plane"]

_BASIC_PLANE = "\uffff"


def beyond_plane(username: str, data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the places of an event whose text leaves the basic plane, such as `data.attributes.motto`.

    Args:
        username: The event's username.
        data: Its data; the names of attributes are not looked at.
    """
    return tuple(dict.fromkeys((*_places("username", username), *_places("data", data))))


def _places(place: str, value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if max(value, default="") > _BASIC_PLANE:
            yield place
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _places(f"{place}.{name}", inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _places(place, inner)
