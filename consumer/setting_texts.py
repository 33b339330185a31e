"""What is said about a setting: its variable, what it may hold, its value for people, and what is wrong with it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import SecretStr

from consumer.database_address import DatabaseAddress
from consumer.durations import format_duration
from consumer.environment import PREFIX, Problem
from consumer.telemetry.redaction import MASK, redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails


class ContradictionError(ValueError):
    """Values that are each right and do not go together."""

    def __init__(self, contradictions: Sequence[tuple[str, str, str]]) -> None:
        self.contradictions = contradictions
        super().__init__("; ".join(f"{field}: {reason}" for field, reason, _ in contradictions))


def variable_of(field: str) -> str:
    """Give the environment variable of a field of `Settings`."""
    return PREFIX + field.upper()


def is_secret(info: FieldInfo) -> bool:
    """Tell whether a field of `Settings` holds something that must not be shown."""
    return not _types_of(info).isdisjoint({SecretStr, DatabaseAddress})


def allowed_values(info: FieldInfo) -> str:
    """Say what a field of `Settings` may hold."""
    if isinstance(info.json_schema_extra, dict) and "allowed" in info.json_schema_extra:
        return str(info.json_schema_extra["allowed"])
    types = _types_of(info)
    choices = [
        choice for candidate in types if get_origin(candidate) is Literal for choice in get_args(candidate)
    ]
    if choices:
        return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
    lowest = next((bound.ge for bound in info.metadata if isinstance(bound, Ge)), None)
    highest = next((bound.le for bound in info.metadata if isinstance(bound, Le)), None)
    if isinstance(lowest, timedelta) and isinstance(highest, timedelta):
        return f"a duration from {format_duration(lowest)} to {format_duration(highest)}, such as 30s, 5m or 1h30m"
    for kind, text in (
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
        (Path, "a path"),
    ):
        if kind in types:
            return text if lowest is None else f"{text} from {lowest} to {highest}"
    return "text"


def _types_of(info: FieldInfo) -> set[Any]:
    def inner(annotation: Any) -> list[Any]:
        if get_origin(annotation) in {Union, UnionType}:
            return [found for member in get_args(annotation) for found in inner(member)]
        return inner(get_args(annotation)[0]) if get_origin(annotation) is Annotated else [annotation]

    return set(inner(info.annotation))


def display(value: object) -> str:
    """Write a setting's value as a person would type it, secrets masked."""
    match value:
        case None:
            return "not set"
        case SecretStr():
            return MASK
        case bool():
            return "true" if value else "false"
        case timedelta():
            return format_duration(value)
        case frozenset():
            # Names of users stand in no log, and the start banner is one.
            return f"{len(value)} listed"
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)


_REASONS: Final = {
    "missing": "it is required and not set",
    "greater_than_equal": "it is too small",
    "less_than_equal": "it is too large",
    "int_parsing": "it is not a whole number",
    "int_from_float": "it is not a whole number",
    "float_parsing": "it is not a number",
    "bool_parsing": "it is neither true nor false",
    "literal_error": "there is no such choice",
    "string_pattern_mismatch": "it has characters that are not allowed, or too many",
}


def problems_in(
    details: ErrorDetails, fields: Mapping[str, FieldInfo], texts: Mapping[str, str]
) -> list[Problem]:
    """Say for people what pydantic found wrong.

    Args:
        details: One finding.
        fields: All fields of `Settings`.
        texts: What stood in the variables, by variable.
    """
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, ContradictionError):
        return [
            Problem(variable_of(field), _text_of(field, fields[field], texts), reason, allowed)
            for field, reason, allowed in cause.contradictions
        ]
    field = str(details["loc"][0])
    info = fields[field]
    # Ours carry the bare reason; what is allowed is said once, below.
    reason = (
        getattr(cause, "reason", str(cause))
        if cause is not None
        else _REASONS.get(details["type"], details["msg"])
    )
    return [Problem(variable_of(field), _text_of(field, info, texts), reason, allowed_values(info))]


def _text_of(field: str, info: FieldInfo, texts: Mapping[str, str]) -> str | None:
    text = texts.get(variable_of(field))
    return None if text is None or is_secret(info) else redact_text(text)
