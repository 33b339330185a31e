"""Which shards should this instance take or give back? Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from consumer.outbox.lane import SHARDS

__all__ = ["Exchange", "exchange"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """Shards to acquire, and shards to give back as soon as they are idle."""

    acquire: tuple[int, ...] = ()
    leave: tuple[int, ...] = ()


def exchange(
    *, me: str, owned: Collection[int], free: Sequence[int], alive: Sequence[str], leaving: Collection[int]
) -> Exchange:
    """Move towards an equal share among the living instances.

    The first `256 mod n` instances in name order may have one shard more, so that shares always add up to all of
    them. Which shards go does not depend on where work is: of few users, the idle shards would be those of nobody.

    Args:
        me: our name.
        owned: shards that are ours, with those that we are giving back.
        free: shards that nobody owns.
        alive: names of the living instances, sorted.
        leaving: shards that we are giving back already.
    """
    others = sorted({*alive, me})
    share, extra = divmod(SHARDS, len(others))
    mine = share + (others.index(me) < extra)
    if len(owned) > mine:
        chosen = sorted(owned, key=lambda shard: (shard not in leaving, shard))
        return Exchange(leave=tuple(chosen[: len(owned) - mine]))
    return Exchange(acquire=tuple(free[: mine - len(owned)]))
