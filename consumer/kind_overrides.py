"""Settings that one kind of event has for itself: `user_delete.max_attempts=10`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator

__all__ = ["FORM", "MISSING_USER_KINDS", "OVERRIDABLE", "KindOverride", "KindOverrides"]

OVERRIDABLE: Final = (
    "batch_size",
    "missing_user",
    "max_attempts",
    "backoff_base",
    "backoff_factor",
    "backoff_cap",
    "pending_max_age",
    "delivered_retention",
    "dead_letter_retention",
)
MISSING_USER_KINDS: Final = ("user_update", "password_change")
"""Kinds that need a user who is there."""
FORM: Final = (
    f"<kind>.<setting>=<value>, several separated by commas; the settings are {', '.join(OVERRIDABLE)}"
)

_ONE: Final = re.compile(r"([a-z][a-z0-9_]{0,63})\.([a-z_]+)\s*=\s*(.+)")


@dataclass(frozen=True, slots=True)
class KindOverride:
    """What a setting is for one kind; the value is still a text, and is read as the setting's own."""

    kind: str
    setting: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.setting}={self.value}"


def _parse(value: object) -> object:
    if not isinstance(value, str):
        return value
    found: dict[tuple[str, str], KindOverride] = {}
    for text in value.split(","):
        match = _ONE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text.strip()!r} is not <kind>.<setting>=<value>")
        override = KindOverride(match[1], match[2], match[3])
        if override.setting not in OVERRIDABLE:
            raise ValueError(f"{override.setting} cannot differ by kind")
        if override.setting == "missing_user" and override.kind not in MISSING_USER_KINDS:
            raise ValueError(f"missing_user is for {' and '.join(MISSING_USER_KINDS)} alone")
        if (override.kind, override.setting) in found:
            raise ValueError(f"it sets {override.kind}.{override.setting} twice")
        found[override.kind, override.setting] = override
    return tuple(found.values())


KindOverrides = Annotated[tuple[KindOverride, ...], BeforeValidator(_parse)]
