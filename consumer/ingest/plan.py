"""What becomes of a batch, once the ledger has said which events it knows. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from consumer.ingest.decode import Poison, Record
from consumer.ingest.reasons import PoisonReason
from consumer.outbox.ingest_store import BatchRows
from consumer.outbox.rows import (
    KEPT_OF_POISON,
    Duplicate,
    EntryState,
    NewEntry,
    PartitionProgress,
    PoisonRow,
    Position,
    Seen,
)

__all__ = ["held_context", "plan_batch", "progress_of"]

Seal = Callable[[bytes, bytes], tuple[str, bytes]]
"""Seals bytes to our own key, bound to a context; the key's id and the sealed bytes."""


def plan_batch(
    decoded: Sequence[tuple[Record, NewEntry | Poison]], seen: Mapping[bytes, Seen], seal: Seal
) -> BatchRows:
    """Sort a batch into entries, duplicates and poison.

    The same source and id a second time is a duplicate of the first, if it says the same; if it says something else,
    it is poison: one of the two events is not what its producer believes.

    Args:
        decoded: the batch, in the order of the partitions.
        seen: what the ledger knows of its events.
        seal: how poison bytes are kept.
    """
    known = dict(seen)
    entries: list[NewEntry] = []
    duplicates: list[Duplicate] = []
    poison: list[PoisonRow] = []
    for record, result in decoded:
        if isinstance(result, Poison):
            poison.append(_row(result, seal))
            continue
        first = known.get(result.event_hash)
        if first is None:
            known[result.event_hash] = Seen(position=result.position, content_hash=result.content_hash)
            entries.append(_kept(result, seal))
        elif first.content_hash == result.content_hash:
            duplicates.append(
                Duplicate(position=result.position, lane_id=result.lane_id, first=first.position)
            )
        else:
            reused = Poison(
                record=record,
                reason=PoisonReason.ID_REUSED.value,
                detail=f"the event at partition {first.position.partition}, offset {first.position.offset} "
                "has the same source and id, and says something else",
                lane_id=result.lane_id,
            )
            poison.append(_row(reused, seal))
    return BatchRows(entries=entries, duplicates=duplicates, poison=poison)


def progress_of(
    partition: int, writer_token: int, from_offset: int, last: Record, last_hash: bytes
) -> PartitionProgress:
    """How a batch that ends with `last` moves its partition's watermark."""
    return PartitionProgress(
        partition=partition,
        writer_token=writer_token,
        from_offset=from_offset,
        next_offset=last.position.offset + 1,
        last_offset=last.position.offset,
        last_timestamp=last.timestamp,
        last_hash=last_hash,
    )


def _kept(entry: NewEntry, seal: Seal) -> NewEntry:
    """What this version cannot read may hold anything, a password in clear too: it is kept sealed to our own key."""
    if entry.state is not EntryState.HELD:
        return entry
    _, sealed = seal(entry.data, held_context(entry.position))
    return replace(entry, data=sealed)


def held_context(position: Position) -> bytes:
    """What the data of a held entry is bound to."""
    return _context("held", position)


def _context(purpose: str, position: Position) -> bytes:
    return f"{purpose}\0{position.topic_id}\0{position.partition}\0{position.offset}".encode()


def _row(poison: Poison, seal: Seal) -> PoisonRow:
    record = poison.record
    position = record.position
    value = record.value or b""
    kept = value[:KEPT_OF_POISON]
    kid, sealed = seal(kept, _context("poison", position))
    return PoisonRow(
        position=position,
        reason=poison.reason,
        detail=poison.detail,
        lane_id=poison.lane_id,
        key=None if record.key is None else record.key[:1024],
        timestamp=record.timestamp,
        length=len(value),
        digest=hashlib.sha256(value).digest(),
        kept=len(kept),
        kid=kid,
        sealed=sealed,
    )
