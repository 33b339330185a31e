"""Which shards should this instance take or give back? Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from consumer.outbox.lane import SHARDS

__all__ = ["Exchange", "exchange"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """Shards to acquire and to release."""

    acquire: tuple[int, ...]
    release: tuple[int, ...]


def exchange(
    *, me: str, owned: Collection[int], free: Sequence[int], alive: Sequence[str], busy: Collection[int]
) -> Exchange:
    """Move towards an equal share among the living instances.

    The first `256 mod n` instances in name order may have one shard more, so that shares always add up to all of
    them. A shard with a call under way is kept until it is idle: a lane is handed over only between two calls.

    Args:
        me: our name.
        owned: shards that are ours.
        free: shards that nobody owns.
        alive: names of the living instances, sorted.
        busy: shards that have calls under way.
    """
    others = sorted({*alive, me})
    share, extra = divmod(SHARDS, len(others))
    mine = share + (others.index(me) < extra)
    if len(owned) > mine:
        idle = sorted(set(owned) - set(busy))
        return Exchange(acquire=(), release=tuple(idle[: len(owned) - mine]))
    return Exchange(acquire=tuple(free[: mine - len(owned)]), release=())
