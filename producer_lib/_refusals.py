"""What does the error say? From a validator's finding to an `InvalidEvent` without values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from jsonschema_rs import ValidationErrorKind as Kind

from producer_lib._errors import InvalidEvent
from producer_lib._schemas import CUSTOM, description

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jsonschema_rs

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_TYPES: Final = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a text",
}

_FORMATS: Final = {
    "date-time": "must be a date and time that exist",
    "idn-email": "must be an e-mail address",
    "uri": "must be a URI",
    "uri-reference": "must be a URI reference",
}

_ENDS_SESSIONS: Final = "/dependentSchemas/end_sessions/"
_UPDATE: Final = "urn:kcsync:user_update:"
_NO_RENAME: Final = (
    "cannot be changed (rename_not_supported): publish a user_create with the new username, "
    "then a user_delete of the old one"
)


def refusal(error: jsonschema_rs.ValidationError) -> InvalidEvent:
    """Say which field is refused and why.

    Names come from the message too: one that does not look like a name, or stands inside a password, is shown as `?`.
    """
    path: list[str | int] = list(error.instance_path)
    match error.kind:
        case Kind.Required(property=name):
            path.append(name)
        case (
            Kind.AdditionalProperties(unexpected=[name, *_])
            | Kind.UnevaluatedProperties(unexpected=[name, *_])
        ):
            path.append("?" if "password" in path else name)
            if path == ["data", "username"] and (error.absolute_keyword_location or "").startswith(_UPDATE):
                return InvalidEvent("data.username", _NO_RENAME)
    return InvalidEvent(_dotted(path), _reason(error))


def _dotted(path: Sequence[str | int]) -> str:
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += "." + (step if _PLAIN_NAME.fullmatch(step) else "?")
    return text.removeprefix(".") or "event"


def _is_custom(error: jsonschema_rs.ValidationError) -> bool:
    """Whether the schema that is broken is a custom kind's: what its keywords mean there is not known here."""
    return (error.absolute_keyword_location or "").startswith(CUSTOM)


def _reason(error: jsonschema_rs.ValidationError) -> str:  # noqa: C901, PLR0912 - one line for each keyword
    match error.kind:
        case Kind.Required() | Kind.Constant() if _ENDS_SESSIONS in (error.absolute_keyword_location or ""):
            return "must be false beside end_sessions: a user who stays enabled logs in again at once"
        case Kind.Required():
            return "is missing"
        case Kind.AdditionalProperties() | Kind.UnevaluatedProperties():
            return "is not a field of this event"
        case Kind.Type() | Kind.MinProperties() | Kind.MaxProperties() if error.instance_path == [
            "data",
            "password",
        ]:
            return 'must be {"sealed": {...}} or {"prehashed": {...}}, never a password in clear'
        case Kind.Type(types=types):
            return "must be " + " or ".join(_TYPES[name] for name in types)
        case Kind.Constant(expected_value=value):
            return f"must be {value!r}"
        case Kind.Enum(options=options):
            return "must be one of " + ", ".join(repr(option) for option in options)
        case Kind.Minimum(limit=limit):
            return f"must be {limit} or more"
        case Kind.Maximum(limit=limit):
            return f"must be {limit} or less"
        case Kind.MinLength(limit=1) | Kind.MinItems(limit=1):
            return "must not be empty"
        case Kind.MinLength(limit=limit):
            return f"must have {limit} characters or more"
        case Kind.MaxLength(limit=limit):
            return f"must have {limit} characters or fewer"
        case Kind.MaxItems(limit=limit):
            return f"must have {limit} items or fewer"
        case Kind.UniqueItems():
            return "must not name the same twice"
        case Kind.MinProperties():
            return "must name at least one field"
        case Kind.MaxProperties(limit=limit):
            return f"must have {limit} names or fewer"
        case Kind.Format(format=name):
            return _FORMATS.get(name, f"must have the format {name}")
        case Kind.PropertyNames() | Kind.FalseSchema() if _is_custom(error):
            return f"breaks the schema's `{error.kind.name}`"
        case Kind.PropertyNames(error=inner) if isinstance(inner.kind, Kind.Not):
            return "must not name email, firstName, lastName or username: they have fields of their own"
        case Kind.PropertyNames():
            return "has a name that is empty, longer than 255 characters or holds control characters"
        case Kind.FalseSchema():
            return "must not stand beside name: give either name or its parts"
        case Kind.Pattern():
            said = description(error.absolute_keyword_location or "")
            return said or "breaks the schema's `pattern`"
        case kind:
            return f"breaks the schema's `{kind.name}`"
