"""A lane's identity: which user, and which shard owns it."""

from __future__ import annotations

import hashlib
from functools import lru_cache

__all__ = ["SHARDS", "lane_id", "shard_of"]

SHARDS = 256
"""Fixed for ever: a lane's shard is the first byte of its id."""


# The same users come again and again; bounded to some 10 MB.
@lru_cache(maxsize=65_536)
def lane_id(realm: str, username_key: str) -> bytes:
    """16 bytes that name a lane. The same for every version of kcsync: it stands in the tables."""
    realm_bytes = realm.encode()
    return hashlib.sha256(
        len(realm_bytes).to_bytes(2, "big") + realm_bytes + username_key.encode(),
    ).digest()[:16]


def shard_of(lane: bytes) -> int:
    """The shard of a lane, 0 to 255."""
    return lane[0]
