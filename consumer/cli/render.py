"""The few shapes that all screens are made of: rows, tables, relative times, and values that are not known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from consumer.durations import format_age

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

RULE: Final = "=" * 70
_LABEL_WIDTH: Final = 20


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that could not be found out. It is never shown as zero, nor as false.

    Attributes:
        reason: Why, in a few words: `the database did not answer`.
    """

    reason: str

    def __str__(self) -> str:
        return f"unknown ({self.reason})"


def row(label: str, value: object, width: int = _LABEL_WIDTH) -> str:
    """Write one line of a group: an indented label and its value, values below each other."""
    return f"  {label + ':':<{width}} {value}"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Write rows below headings, each column as wide as its widest cell, indented like a group's rows."""
    cells = [[str(cell) for cell in line] for line in (headings, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def when(at: datetime | Unknown | None, now: datetime) -> str:
    """Write a point in time as clocks show it where `now` is, and how long ago: `2026-02-07 10:01:00+01:00 (12s ago)`."""
    relative = ago(at, now)
    return f"{clock_time(at, now)} ({relative})" if isinstance(at, datetime) else relative


def clock_time(at: datetime, now: datetime) -> str:
    """Write a point in time with its offset from UTC, as clocks show it where `now` is."""
    return at.astimezone(now.tzinfo).isoformat(sep=" ", timespec="seconds")


def ago(at: datetime | Unknown | None, now: datetime) -> str:
    """Write a point in time as people say it: `12s ago`, `in 40s`, `never`."""
    if at is None:
        return "never"
    if isinstance(at, Unknown):
        return str(at)
    # A clock may run ahead of the database's; say so rather than "now".
    return f"{format_age(now - at)} ago" if at <= now else f"in {format_age(at - now)}"


def age(value: timedelta | Unknown | None) -> str:
    """Write how old something is; `none` if there is no such thing."""
    if value is None:
        return "none"
    return str(value) if isinstance(value, Unknown) else format_age(value)
