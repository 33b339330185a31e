"""What is this record? An event that becomes an entry, or poison. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from consumer.ingest.reasons import PoisonReason
from consumer.outbox.lane import lane_id
from consumer.outbox.rows import EntryState, NewEntry, Position
from producer_lib import (
    MAX_EVENT_BYTES,
    CustomKind,
    InvalidEvent,
    NewerSchema,
    Recognised,
    UnregisteredKind,
    check_envelope,
    check_event,
    parse_event,
    recognise,
    username_key,
)

__all__ = ["PRIORITY", "Poison", "Record", "assess", "decode", "split_password"]

PRIORITY: Mapping[str, int] = {"password_change": 1, "user_create": 3, "user_update": 5, "user_delete": 10}
"""Which lane goes next, by the kind of its most urgent entry (from the polling service). Unknown kinds: 5."""

_NO_KINDS: Mapping[str, CustomKind] = {}

_BINARY_MODE = "ce_"

_Known = Recognised | NewerSchema | UnregisteredKind


@dataclass(slots=True, kw_only=True)
class Record:
    """One Kafka record. The bytes are never shown: they may hold anything. Not frozen, for `NewEntry`'s reason."""

    position: Position
    timestamp: int
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Mapping[str, bytes | None] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """A record that cannot become an entry, and why. `detail` never repeats what the record holds."""

    record: Record
    reason: str
    detail: str
    lane_id: bytes | None = None


def decode(
    record: Record, realms: Collection[str], custom: Mapping[str, CustomKind] = _NO_KINDS
) -> NewEntry | Poison:
    """Read one record.

    A newer schema or a kind nobody has registered becomes a HELD entry, so that a rolling upgrade loses nothing.

    Args:
        record: the record.
        realms: the realms we serve; an event of another one is refused.
        custom: the kinds that other packages bring, by name.
    """
    if record.value is None:
        return _poison(record, realms, PoisonReason.TOMBSTONE, "the record has no value")
    if len(record.value) > MAX_EVENT_BYTES:
        return _poison(
            record, realms, PoisonReason.TOO_LARGE, f"the value has more than {MAX_EVENT_BYTES:,} bytes"
        )
    try:
        event = _event(record)
        assessed = assess(event, custom)
        if assessed is None:
            return _poison(record, realms, PoisonReason.FOREIGN_TYPE, "type is not kcsync.<kind>.v<version>")
        recognition, state, reason = assessed
        if event["realm"] not in realms:
            # No lane: the key names a user of that realm, not of ours.
            detail = "realm is none of those this consumer serves"
            return Poison(record=record, reason=PoisonReason.REALM_UNKNOWN.value, detail=detail)
        priority = custom[recognition.kind].priority if recognition.kind in custom else None
        return _entry(record, event, recognition, state, reason, priority)
    except _GrownError:
        return _poison(
            record,
            realms,
            PoisonReason.TOO_LARGE,
            f"written out, the data have more than {MAX_EVENT_BYTES:,} bytes",
        )
    except InvalidEvent as error:
        reason = PoisonReason.NOT_JSON if error.field == "event" else PoisonReason.INVALID
        return _poison(record, realms, reason, str(error)[:1024])


def assess(
    event: dict[str, Any], custom: Mapping[str, CustomKind]
) -> tuple[_Known, EntryState, str | None] | None:
    """What an event claims to be, and the state and reason of its entry; None if it is no event of ours.

    Raises:
        InvalidEvent: It breaks the schema of what it claims to be.
    """
    recognition = recognise(event)
    match recognition:
        case Recognised():
            check_event(event)
            return recognition, EntryState.PENDING, None
        case NewerSchema():
            check_envelope(event)
            return recognition, EntryState.HELD, "schema_newer"
        case UnregisteredKind(kind=kind, version=version) if kind in custom:
            check_envelope(event)
            if version > custom[kind].version:
                return recognition, EntryState.HELD, "schema_newer"
            custom[kind].check(event)
            return recognition, EntryState.PENDING, None
        case UnregisteredKind():
            check_envelope(event)
            return recognition, EntryState.HELD, "kind_unregistered"
        case _:
            return None


def split_password(data: dict[str, Any]) -> tuple[dict[str, Any], bytes | None]:
    """Part the data of an event that was checked into what it says and the password, which is kept apart.

    A sealed password is kept as `{kid, alg, ciphertext}`, a hash with its parameters beside it.
    """
    if "password" not in data:
        return data, None
    rest = {name: value for name, value in data.items() if name != "password"}
    password = data["password"]
    return rest, orjson.dumps(password["sealed"] if "sealed" in password else password["prehashed"])


def _entry(
    record: Record,
    event: dict[str, Any],
    known: _Known,
    state: EntryState,
    reason: str | None,
    priority: int | None,
) -> NewEntry:
    subject, realm = event["subject"], event["realm"]
    key = username_key(subject)
    data = event["data"]
    sealed_apart = "password" in data
    credential = None
    if state is EntryState.PENDING:
        rest, credential = split_password(data)
        data = rest
    else:
        rest = {name: value for name, value in data.items() if name != "password"} if sealed_apart else data
    # Sorted, so that the same content has the same hash.
    said = _dump(rest)
    source, event_id = event["source"], event["id"]
    trace = record.headers.get("traceparent") or event.get("traceparent", "").encode() or None
    state_header = record.headers.get("tracestate") or event.get("tracestate", "").encode() or None
    return NewEntry(
        position=record.position,
        lane_id=lane_id(realm, key),
        realm=realm,
        username=subject,
        username_key=key,
        kind=known.kind,
        schema_version=known.version,
        source=source,
        event_id=event_id,
        event_hash=_hash(len(source).to_bytes(2, "big"), source.encode(), event_id.encode()),
        # Time, trace and ciphertext differ when the same change is published again; what it says does not.
        content_hash=_hash(
            f"{event['type']}\0{realm}\0{subject}\0{sealed_apart}\0".encode(),
            said,
        ),
        tenant=event.get("tenant"),
        # JSON Schema takes 3.0 for a whole number.
        priority=int(event.get("priority") or priority or PRIORITY.get(known.kind, 5)),
        event_time=datetime.fromisoformat(event["time"]).astimezone(UTC).replace(tzinfo=None),
        traceparent=trace if trace is not None and len(trace) <= 55 else None,
        tracestate=state_header if state_header is not None and len(state_header) <= 512 else None,
        data=said if data is rest else _dump(data),
        credential=credential,
        state=state,
        state_reason=reason,
    )


class _GrownError(Exception):
    """Written out, the data are larger than an event may be: `1e15` takes four characters, and eighteen as a number."""


def _dump(data: Any) -> bytes:
    try:
        dumped = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # orjson reads 1,024 levels and writes 254.
        raise InvalidEvent("data", "must not be nested so deeply") from None
    if len(dumped) > MAX_EVENT_BYTES:
        raise _GrownError
    return dumped


def _event(record: Record) -> dict[str, Any]:
    assert record.value is not None
    if f"{_BINARY_MODE}specversion" not in record.headers:
        return parse_event(record.value)
    # CloudEvents' binary mode: the attributes are headers, the value is the data.
    event: dict[str, Any] = {
        name.removeprefix(_BINARY_MODE): _text(value)
        for name, value in record.headers.items()
        # Kafka allows a header without a value; it is as if it were not there.
        if name.startswith(_BINARY_MODE) and value is not None
    }
    if re.fullmatch("[0-9]{1,2}", event.get("priority", "")):
        event["priority"] = int(event["priority"])
    if (content_type := record.headers.get("content-type")) is not None:
        event["datacontenttype"] = content_type.decode("ascii", "replace")
    event["data"] = parse_event(record.value)
    return event


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        # Replaced characters would make it another user's event.
        raise InvalidEvent("headers", "must be UTF-8") from None


def _poison(record: Record, realms: Collection[str], reason: PoisonReason, detail: str) -> Poison:
    return Poison(record=record, reason=reason.value, detail=detail, lane_id=_lane_of_key(record, realms))


def _lane_of_key(record: Record, realms: Collection[str]) -> bytes | None:
    """The lane that a record's key names. Only with one realm does the key alone name a lane."""
    if record.key is None or len(realms) != 1:
        return None
    try:
        return lane_id(next(iter(realms)), username_key(record.key.decode()))
    except (UnicodeDecodeError, InvalidEvent):
        return None


def _hash(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()
