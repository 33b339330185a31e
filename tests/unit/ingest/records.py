"""Records as Kafka hands them over, for tests of ingest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from consumer.ingest.decode import Poison, Record, decode
from consumer.outbox.rows import NewEntry, Position

REALMS = frozenset({"shop"})
# Now: ingest takes care of records that Kafka's retention is about to remove.
RECORDED = int(time.time() * 1000)
CIPHERTEXT = "A" * 66
SEALED = {"sealed": {"kid": "k1", "alg": "HPKE-X25519-SHA256-AES256GCM", "ciphertext": CIPHERTEXT}}


def event(kind: str = "user_update", *, without: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    whole = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/accounts",
        "type": f"kcsync.{kind}.v1",
        "subject": "Alice",
        "time": "2026-11-21T22:33:44.5Z",
        "realm": "shop",
        "data": {"email": "alice@example.org"},
        **changes,
    }
    return {name: value for name, value in whole.items() if name not in without}


def record(
    value: dict[str, Any] | bytes | None,
    *,
    offset: int = 3,
    partition: int = 2,
    key: bytes | None = b"alice",
    headers: Mapping[str, bytes | None] | None = None,
) -> Record:
    return Record(
        position=Position(1, partition, offset),
        timestamp=RECORDED,
        key=key,
        value=orjson.dumps(value) if isinstance(value, dict) else value,
        headers=headers or {},
    )


def entry(of: Record, realms: frozenset[str] = REALMS) -> NewEntry:
    result = decode(of, realms)
    assert isinstance(result, NewEntry), result
    return result


def poison(of: Record, realms: frozenset[str] = REALMS) -> Poison:
    result = decode(of, realms)
    assert isinstance(result, Poison), result
    return result
