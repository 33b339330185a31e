"""Which claimed heads of several lanes may share a call: creates of users of whom nothing is known yet. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from consumer.delivery.together import LARGEST, WORTH_IT
from consumer.drain.healer import Suspect
from consumer.drain.password_looks import DueLook
from consumer.drain.turns import Claimed

__all__ = ["sharing_a_call"]


def sharing_a_call(waiting: Iterable[Claimed | Suspect | DueLook]) -> list[Claimed]:
    """Those that may go with the first of what waits; empty if it goes by itself."""
    chosen: list[Claimed] = []
    for work in waiting:
        if isinstance(work, Claimed) and _is_new(work):
            if not chosen or work.head.lane.realm == chosen[0].head.lane.realm:
                chosen.append(work)
        elif not chosen:
            return []
        if len(chosen) == LARGEST:
            break
    return chosen if len(chosen) >= WORTH_IT else []


def _is_new(work: Claimed) -> bool:
    """Whether this is the first call for a user whom no delivery of ours has touched."""
    head = work.head
    return (
        not work.alone
        and head.kind == "user_create"
        and head.calls == 0
        and head.claimed_at is None
        and head.maybe_applied_since is None
        and head.fold.exists is None
    )
