"""What a badge's event holds. Applications import this module alone."""

from __future__ import annotations

from producer_lib import CustomKind

BADGE = CustomKind(
    name="shop_badge",
    version=1,
    priority=7,
    schema={
        "type": "object",
        "required": ["badge"],
        "additionalProperties": False,
        "properties": {"badge": {"enum": ["bronze", "silver", "gold"]}},
    },
)
