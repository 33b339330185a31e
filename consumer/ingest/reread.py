"""What is a held event, now that this version knows its kind? Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC

import orjson

from consumer.ingest.decode import assess, split_password
from consumer.ingest.plan import held_context
from consumer.outbox.rows import EntryState
from consumer.outbox.unknown_store import Reread, UnknownEntry
from producer_lib import CustomKind, InvalidEvent, event_type, kinds

__all__ = ["known_versions", "reread"]

Open = Callable[[bytes, bytes], bytes]
"""Opens what ingest sealed to our own key; sealed bytes, context."""


def known_versions(custom: Mapping[str, CustomKind]) -> dict[str, int]:
    """The latest version that is known of each kind."""
    own = {kind: int(event_type(kind).rpartition(".v")[2]) for kind in kinds()}
    return {**own, **{name: kind.version for name, kind in custom.items()}}


def reread(entry: UnknownEntry, open_sealed: Open, custom: Mapping[str, CustomKind]) -> Reread:
    """Check a held event as if it came now. What breaks its schema is a dead letter, as it would have been poison.

    Raises:
        Exception: what `open_sealed` raises.
    """
    event = {
        "specversion": "1.0",
        "id": entry.event_id,
        "source": entry.source,
        "type": f"kcsync.{entry.kind}.v{entry.version}",
        "subject": entry.username,
        "time": entry.event_time.replace(tzinfo=UTC).isoformat(),
        "realm": entry.realm,
        "data": orjson.loads(open_sealed(entry.sealed, held_context(entry.position))),
    }
    try:
        assessed = assess(event, custom)
    except InvalidEvent:
        return Reread(entry=entry, state=EntryState.DEAD_LETTER, reason="invalid_data")
    assert assessed is not None
    assert assessed[1] is EntryState.PENDING, "asked for known versions only"
    rest, credential = split_password(event["data"])
    return Reread(
        entry=entry,
        state=EntryState.PENDING,
        data=orjson.dumps(rest, option=orjson.OPT_SORT_KEYS),
        credential=credential,
    )
