"""What is a held event, now that this version knows its kind?"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
import pytest

from consumer.ingest.reread import known_versions, reread
from consumer.outbox.rows import EntryState, Position
from consumer.outbox.unknown_store import Reread, UnknownEntry
from tests.example_kind.shop_badges.contract import BADGE

CUSTOM = {"shop_badge": BADGE}
SEALED = {"sealed": {"kid": "k1", "alg": "HPKE-X25519-SHA256-AES256GCM", "ciphertext": "A" * 86}}


def read(kind: str, data: dict[str, Any], *, version: int = 1) -> Reread:
    entry = UnknownEntry(
        entry_id=7,
        lane_id=b"l" * 16,
        shard=1,
        position=Position(1, 2, 3),
        kind=kind,
        version=version,
        realm="shop",
        source="/accounts",
        event_id="e-1",
        username="Alice",
        event_time=datetime(2026, 11, 21, 22, 33, 44),  # noqa: DTZ001 - naive UTC, as stored
        sealed=orjson.dumps(data),
    )

    def open_sealed(sealed: bytes, context: bytes) -> bytes:
        assert context == b"held\0001\0002\0003"
        return sealed

    return reread(entry, open_sealed, CUSTOM)


def test_one_that_is_right_goes_on_with_its_data() -> None:
    found = read("shop_badge", {"badge": "gold"})

    assert (found.state, found.data, found.credential) == (EntryState.PENDING, b'{"badge":"gold"}', None)


def test_its_sealed_password_is_kept_apart() -> None:
    found = read("password_change", {"temporary": True, "password": SEALED})

    assert found.data == b'{"temporary":true}'
    assert found.credential == orjson.dumps(SEALED["sealed"])


@pytest.mark.parametrize(
    ("kind", "data"), [("shop_badge", {"badge": "tin"}), ("password_change", {"password": "geheim"})]
)
def test_one_that_breaks_its_schema_is_a_dead_letter(kind: str, data: dict[str, Any]) -> None:
    found = read(kind, data)

    assert (found.state, found.reason, found.data) == (EntryState.DEAD_LETTER, "invalid_data", None)


def test_the_known_versions_are_those_of_all_kinds() -> None:
    assert known_versions(CUSTOM) == {
        "password_change": 1,
        "shop_badge": 1,
        "user_create": 1,
        "user_delete": 1,
        "user_update": 1,
    }
