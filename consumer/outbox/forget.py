"""Going through the ledger and the marks in pieces, and removing what horizon.py lets go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from consumer.outbox.database import Transaction
from consumer.outbox.horizon import Horizon, SeenLog, horizons
from consumer.outbox.statements import load_statements

__all__ = ["events_piece", "finish_walk", "marks_piece", "read_horizons", "walked_within"]

_SQL = load_statements("forget")
# Rows that are looked at: of the ledger most stay, whenever it is gone through.
_PIECE = 5000
_LAST_HASH = b"\xff" * 16


async def read_horizons(age: timedelta, tx: Transaction) -> list[Horizon]:
    """What may be forgotten now."""
    return horizons([SeenLog(**row) for row in await tx.fetch(_SQL["seen_logs"])], age)


async def events_piece(
    found: Sequence[Horizon], after: bytes, tx: Transaction, *, remove: bool
) -> tuple[int, bytes | None]:
    """Go through the next piece of the ledger, in the order of its hashes.

    The ledger has no index by position or age: each insert of ingest would pay for it, and removing by it would touch
    the table's pages at random, where this reads each once.

    Returns:
        How many rows go, and after which hash to go on (None: that was all).
    """
    last = await tx.fetch_one(_SQL["ledger_piece_end"], {"after": after, "offset": _PIECE - 1})
    until: bytes = _LAST_HASH if last is None else last["event_hash"]
    hashes: list[bytes] = []
    for horizon in found:
        parameters = {
            "after": after,
            "until": until,
            "topic_id": horizon.topic_id,
            "before": horizon.before,
        }
        hashes += [row["event_hash"] for row in await tx.fetch(_SQL["forgettable_events"], parameters)]
    if remove and hashes:
        await tx.execute(_SQL["delete_events"], {"hashes": tuple(hashes)})
    return len(hashes), None if last is None else until


async def marks_piece(
    horizon: Horizon, partition: int, first: int, tx: Transaction, *, remove: bool
) -> tuple[int, int | None]:
    """Go through the next piece of a partition's marks before Kafka's log start, from the offset `first` on.

    Returns:
        How many rows go, and at which offset to go on (None: that was all).
    """
    start = horizon.starts[partition]
    of = {"topic_id": horizon.topic_id, "partition": partition, "first": first}
    end = await tx.fetch_one(_SQL["marks_piece_end"], {**of, "start": start, "offset": _PIECE - 1})
    last = start - 1 if end is None else int(end["log_offset"])
    rows = await tx.fetch(_SQL["forgettable_marks"], {**of, "last": last, "before": horizon.before})
    if remove and rows:
        offsets = tuple(sorted({row["log_offset"] for row in rows}))
        await tx.execute(_SQL["delete_marks"], {**of, "offsets": offsets, "before": horizon.before})
    return len(rows), None if end is None else last + 1


async def finish_walk(tx: Transaction) -> None:
    """Remember that the ledger was gone through."""
    await tx.execute(_SQL["finish_walk"])


async def walked_within(seconds: float, tx: Transaction) -> bool:
    """Whether the ledger was gone through so many seconds ago, or less."""
    return await tx.fetch_one(_SQL["walked_within"], {"seconds": seconds}) is not None
