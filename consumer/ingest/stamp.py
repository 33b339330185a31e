"""The stamp on our committed offsets: tells our own commits from an operator's reset.

It names cluster, partition and offset, so that a tool that copies commit metadata to another place does not forge it.
"""

from __future__ import annotations

__all__ = ["is_ours", "stamp"]


def stamp(cluster: str, partition: int, offset: int) -> str:
    """The commit metadata for one partition (Kafka allows 4,096 bytes)."""
    return f"kcsync1;{cluster};{partition};{offset}"


def is_ours(metadata: str | None, cluster: str, partition: int, offset: int) -> bool:
    """Whether a committed offset was committed by us, here, at this offset."""
    return metadata == stamp(cluster, partition, offset)
