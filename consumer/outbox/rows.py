"""What ingest hands to the outbox: rows that know their position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from consumer.frozen import quick_dataclass

__all__ = [
    "FLOWS",
    "KEPT_OF_POISON",
    "Duplicate",
    "EntryState",
    "NewEntry",
    "PartitionProgress",
    "PauseNote",
    "PoisonRoom",
    "PoisonRow",
    "Position",
    "Seen",
    "Watermark",
]


KEPT_OF_POISON = 64 * 1024
"""Bytes that are kept of a record that is no event, from its beginning: enough to see what it is and who writes it. Sealed
and written as a literal they are 180 KB, which fits into a packet of 1 MiB, the smallest that is supported."""


class EntryState(StrEnum):
    """What has become of an entry. The last three are terminal."""

    PENDING = "PENDING"
    HELD = "HELD"
    DELIVERED = "DELIVERED"
    DEAD_LETTER = "DEAD_LETTER"
    SUPERSEDED = "SUPERSEDED"


@quick_dataclass(frozen=True, slots=True)
class Position:
    """Where an event stands. Two positions compare only inside one topic partition."""

    topic_id: int
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """How far a partition was ingested, and what its last record looked like."""

    next_offset: int
    writer_token: int
    kafka_group: str
    last_offset: int | None
    last_timestamp: int | None
    last_hash: bytes | None


@dataclass(frozen=True, slots=True)
class LimitNote:
    """How an instance's limit of calls stands.

    Attributes:
        limit: calls under way at most.
        ceiling: what the limit never exceeds.
        per_second: calls that this instance may begin in a second; None: as many as it can.
        why: why the limit last changed.
        changed_ago: seconds since then; None if it never did.
    """

    limit: int
    ceiling: int
    per_second: float | None
    why: str
    changed_ago: float | None


@dataclass(frozen=True, slots=True)
class PauseNote:
    """Why a partition is not read, and whether it is read all the same because of Kafka's retention."""

    reasons: tuple[str, ...]
    yields: bool


FLOWS = PauseNote((), yields=False)
"""Nothing holds the partition."""


@dataclass(frozen=True, slots=True)
class LogNote:
    """What Kafka holds of a partition, [start, end), as the process with this writer token saw it."""

    partition: int
    writer_token: int
    start: int
    end: int


@dataclass(slots=True, kw_only=True)
class NewEntry:
    """An event that passed all checks, on its way into the outbox.

    Not frozen, though nobody changes it: making a frozen one costs some 4 µs more, a tenth of what ingest spends on
    an event (measured).
    """

    position: Position
    lane_id: bytes
    realm: str
    username: str
    username_key: str
    kind: str
    schema_version: int
    source: str
    event_id: str
    event_hash: bytes
    content_hash: bytes
    tenant: str | None
    priority: int
    event_time: datetime
    traceparent: bytes | None
    tracestate: bytes | None
    data: bytes = field(repr=False)
    credential: bytes | None = field(repr=False)
    state: EntryState = EntryState.PENDING
    state_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonRow:
    """A record that is no event, and why it was refused.

    Attributes:
        position: where it stands.
        reason: a code.
        detail: the same for people.
        lane_id: the lane that its key names, if it names one.
        key: the beginning of its key.
        timestamp: its own, milliseconds.
        length: bytes of its whole value.
        digest: SHA-256 of its whole value.
        kept: bytes of its value that `sealed` holds, from its beginning.
        kid: the key of ours that they are sealed to.
        sealed: those bytes, sealed.
    """

    position: Position
    reason: str
    detail: str
    lane_id: bytes | None
    key: bytes | None
    timestamp: int | None
    length: int
    digest: bytes
    kept: int
    kid: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PoisonRoom:
    """How much more poison may be kept: so many records, with so many bytes of their values in all.

    Somebody who publishes what is no event may do so a thousand times a second; what is kept are samples.
    """

    records: int
    size: int

    def fitting(self, poison: Sequence[PoisonRow]) -> list[PoisonRow]:
        """Those that are kept, in their order, up to the first that does not fit."""
        kept: list[PoisonRow] = []
        size = 0
        for row in poison:
            size += row.kept
            if len(kept) >= self.records or size > self.size:
                break
            kept.append(row)
        return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the ledger knows of an event: its first position and its content."""

    position: Position
    content_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """A second record of an event that has an entry already."""

    position: Position
    lane_id: bytes
    first: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionProgress:
    """How one batch moves one partition's watermark."""

    partition: int
    writer_token: int
    from_offset: int
    next_offset: int
    last_offset: int
    last_timestamp: int
    last_hash: bytes
