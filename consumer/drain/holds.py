"""After a dead letter: does its lane go on, or wait for somebody? Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from consumer.outbox.drain_store import WriteBack
from consumer.outbox.rows import EntryState

__all__ = ["hold_after"]

_NEVER_HOLD: Final = frozenset({"user_protected"})
"""Reasons after which waiting helps nobody: every other change of that user is refused as well."""


def hold_after(write_back: WriteBack, holding: Collection[str]) -> WriteBack:
    """Let an entry that dies hold its lane, if its kind is one of `holding`.

    The hold stands in the fold, written together with the dead letter, so that no crash comes between the two.
    """
    for settlement in write_back.settlements:
        head = settlement.head
        if (
            settlement.state is EntryState.DEAD_LETTER
            and head.kind in holding
            and settlement.reason not in _NEVER_HOLD
        ):
            fold = write_back.fold or head.fold
            held = replace(fold, held_by_entry=head.entry_id, held_reason=settlement.reason)
            return replace(write_back, fold=held)
    return write_back
