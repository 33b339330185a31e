"""Fields of which calls in doubt may have left another value, for tests of healing."""

from __future__ import annotations

from typing import Any

from consumer.delivery.late_effects import LateField


def late_field(part: Any, key: str, *, wanted: Any = True, late: Any = None, **more: Any) -> LateField:
    """One that should be `wanted`, while a call in doubt may have left `late`: the opposite, if that is not said."""
    values = {
        "name": key,
        "part": part,
        "key": key,
        "late": (not wanted if late is None else late,),
        "is_known": True,
        "wanted": wanted,
    }
    return LateField(**{**values, **more})
