"""How lengths of time are written by people: `500ms`, `30`, `30s`, `5m`, `2h`, `7d`, `1h30m`, `PT30S`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

EXAMPLES: Final = "500ms, 30, 30s, 5m, 2h, 7d, 1h30m or PT30S"

_SECONDS: Final = re.compile(r"[0-9]+")
_SHORT: Final = re.compile(
    r"(?:(?P<days>[0-9]+)d)?(?:(?P<hours>[0-9]+)h)?(?:(?P<minutes>[0-9]+)m(?!s))?"
    r"(?:(?P<seconds>[0-9]+)s)?(?:(?P<milliseconds>[0-9]+)ms)?"
)
_ISO_8601: Final = re.compile(
    r"P(?=[0-9T])(?:(?P<days>[0-9]+)D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]+)H)?(?:(?P<minutes>[0-9]+)M)?(?:(?P<seconds>[0-9]+)S)?)?"
)


class DurationError(ValueError):
    """A text that is not a duration.

    Attributes:
        text: What was given.
        reason: Why it is refused.
    """

    def __init__(self, text: str, reason: str) -> None:
        self.text = text
        self.reason = reason
        super().__init__(f"{reason}; write it like {EXAMPLES}")


def parse_duration(text: str) -> timedelta:
    """Read a length of time.

    Args:
        text: A whole number of seconds (`30`), numbers with units from the largest to the smallest
            (`1d12h`, `5m`, `500ms`), or an ISO 8601 duration of days and smaller (`P7D`, `PT1H30M`).

    Raises:
        DurationError: The text is none of these, is negative, or is longer than Python can hold.
    """
    written = text.strip()
    if not written:
        raise DurationError(text, "it is empty")
    if written.startswith(("-", "P-", "PT-")):
        raise DurationError(text, "a duration cannot be negative")
    try:
        if _SECONDS.fullmatch(written):
            return timedelta(seconds=int(written))
        match = _SHORT.fullmatch(written) or _ISO_8601.fullmatch(written)
        if match is None:
            raise DurationError(text, "it is not a duration")
        return timedelta(**{unit: int(count) for unit, count in match.groupdict().items() if count})
    except (OverflowError, ValueError) as error:
        if isinstance(error, DurationError):
            raise
        raise DurationError(text, "it is too long") from None


def format_duration(duration: timedelta) -> str:
    """Write a length of time so that `parse_duration` reads it back; below a millisecond is cut off.

    Up to two minutes stay in seconds and up to two days in hours, as people say them: `60s`, `24h`.
    """
    rest = duration // timedelta(milliseconds=1)
    if rest == 0:
        return "0s"
    sign, rest = ("-", -rest) if rest < 0 else ("", rest)
    parts: list[str] = []
    for unit, size, least in (
        ("d", 86_400_000, 2 * 86_400_000),
        ("h", 3_600_000, 3_600_000),
        ("m", 60_000, 2 * 60_000),
        ("s", 1_000, 1_000),
        ("ms", 1, 1),
    ):
        if rest >= least:
            count, rest = divmod(rest, size)
            parts.append(f"{count}{unit}")
    return sign + "".join(parts)


def format_age(age: timedelta) -> str:
    """Write about how long something took or lies back, in one unit: `12s`, `45m`, `30h`, `9d`."""
    seconds = max(0, age // timedelta(seconds=1))
    for unit, size, limit in (("s", 1, 120), ("m", 60, 7_200), ("h", 3_600, 172_800)):
        if seconds < limit:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"
