"""What a request says, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["body_of"]


def body_of(value: Mapping[str, object] | Sequence[object]) -> str:
    """The JSON text of an object or an array."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # Half a surrogate pair, which a user of Keycloak's may hold, and numbers of more than 64 bits.
        return json.dumps(value)
