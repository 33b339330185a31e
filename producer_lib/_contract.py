"""Is this message an event we know, and is it valid? The contract, for both sides of the topic."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

import jsonschema_rs
import orjson

from producer_lib._contradictions import refuse_contradictions
from producer_lib._errors import InvalidEvent
from producer_lib._refusals import refusal
from producer_lib._schemas import validator
from producer_lib._username import lower_case

MAX_EVENT_BYTES: Final = 256 * 1024
"""The largest message, in bytes of JSON. Refused unread beyond it: what a consumer parses is bounded."""

CONTENT_TYPE: Final = "application/cloudevents+json"

_VERSIONS: Final = {"password_change": 1, "user_create": 1, "user_delete": 1, "user_update": 1}
_KINDS: Final = frozenset(_VERSIONS)
_TYPE: Final = re.compile(r"kcsync\.([a-z][a-z0-9_]{0,63})\.v([1-9][0-9]{0,8})")

_VALIDATORS: Final = {
    f"kcsync.{kind}.v{version}": validator(f"urn:kcsync:{kind}:v{version}")
    for kind, version in _VERSIONS.items()
}
_ENVELOPE: Final = validator("urn:kcsync:envelope:v1")


def kinds() -> frozenset[str]:
    """Return the kinds of this version of the contract, such as `user_create`."""
    return _KINDS


def event_type(kind: str) -> str:
    """Return the CloudEvents type that a producer of this version writes for a kind."""
    return f"kcsync.{kind}.v{_VERSIONS[kind]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """A kind and version this library has a schema for. `check_event` says whether the event is valid."""

    kind: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewerSchema:
    """A known kind in a version this library has no schema for: its producer is newer than we are. Hold it."""

    kind: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisteredKind:
    """A well-formed type of a kind this library has no schema for. Hold it."""

    kind: str
    version: int


@dataclass(frozen=True, slots=True)
class NotOurs:
    """No type, or one that is not `kcsync.<kind>.v<version>`: not an event of this contract."""


Recognition: TypeAlias = Recognised | NewerSchema | UnregisteredKind | NotOurs


def recognise(event: dict[str, Any]) -> Recognition:
    """Say what an event's `type` claims to be. Looks at nothing else.

    What is recognised is checked with `check_event`. What is newer or unregistered is not invalid: check it with
    `check_envelope`, which tells whose it is, and hold it until a consumer that knows it runs.
    """
    name = event.get("type")
    return _recognise(name) if isinstance(name, str) else NotOurs()


# Bounded: what stands in a type comes from outside.
@lru_cache(maxsize=256)
def _recognise(name: str) -> Recognition:
    found = _TYPE.fullmatch(name)
    if found is None:
        return NotOurs()
    kind, version = found[1], int(found[2])
    if kind not in _VERSIONS:
        return UnregisteredKind(kind=kind, version=version)
    if version > _VERSIONS[kind]:
        return NewerSchema(kind=kind, version=version)
    return Recognised(kind=kind, version=version)


def parse_event(value: bytes) -> dict[str, Any]:
    """Read the bytes of a message in CloudEvents' structured JSON mode. Size and form only; then `recognise` it.

    Raises:
        InvalidEvent: More than `MAX_EVENT_BYTES`, no JSON, or no JSON object; `field` is `event`.
    """
    if len(value) > MAX_EVENT_BYTES:
        raise InvalidEvent("event", f"must have {MAX_EVENT_BYTES:,} bytes or fewer")
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        event = None  # Raised below: the error caught here holds the whole message.
    if not isinstance(event, dict):
        raise InvalidEvent("event", "must be a JSON object in UTF-8")
    return event


def check_event(event: dict[str, Any]) -> None:
    """Check a whole event against the schema of its type, and that it does not contradict itself.

    Raises:
        InvalidEvent: The first field that breaks the contract, and why. A type that is not of this version of the
            contract is refused too; ask `recognise` first where that must be told apart.
    """
    name = event.get("type")
    check = _VALIDATORS.get(name) if isinstance(name, str) else None
    if check is None:
        reason = "is missing" if name is None else "must be one of " + ", ".join(sorted(_VALIDATORS))
        raise InvalidEvent("type", reason)
    validate(check, event)
    refuse_contradictions(event)


def check_envelope(event: dict[str, Any]) -> None:
    """Check what every event has, whatever its kind and version: enough to know whose it is and to hold it.

    Raises:
        InvalidEvent: The first field that breaks the contract, and why.
    """
    validate(_ENVELOPE, event)


def validate(check: jsonschema_rs.Validator, event: dict[str, Any]) -> None:
    """Check an event with a compiled schema, and its username.

    Raises:
        InvalidEvent: The first field that breaks the contract, and why.
    """
    problem: InvalidEvent | None = None
    try:
        check.validate(event)
    except jsonschema_rs.ValidationError as error:
        problem = refusal(error)
    except ValueError:
        problem = InvalidEvent("event", "holds something JSON cannot write")
    # Raised here and not above: the errors caught there hold the values.
    if problem is not None:
        raise problem
    lower_case(event["subject"])
