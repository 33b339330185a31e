"""Passwords that were set some seconds ago and are looked at once more, as long as their lanes have not moved on. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from consumer.delivery.password_look import PasswordLook
from consumer.outbox.drain_store import ReadyLane, WriteBack
from consumer.outbox.fold import Fold

__all__ = ["DueLook", "PasswordLooks"]

_AFTER: Final = 3.0
"""Seconds after which a password is looked at: a login that was under way when it was set has ended."""
_MOST: Final = 10_000
"""Looks that wait; a first load sets more passwords than anybody could look at, and the oldest are given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueLook:
    """A look whose time has come.

    Attributes:
        lane: whose password.
        token: the fencing token under which the delivery was written.
        fold: the lane's fold, as it was written then.
        look: what is looked at.
        due_at: when it is due, in seconds of the drain's clock.
    """

    lane: ReadyLane
    token: int
    fold: Fold
    look: PasswordLook
    due_at: float


class PasswordLooks:
    """The looks that wait. They are this process's alone: one that is lost costs knowledge, no correctness."""

    def __init__(self) -> None:
        self._set: dict[bytes, PasswordLook] = {}
        self._waiting: OrderedDict[bytes, DueLook] = OrderedDict()

    def note(self, lane: bytes, look: PasswordLook) -> None:
        """A password was set; what became of it is about to be written."""
        self._set[lane] = look

    def drop(self, lane: bytes) -> None:
        """The lane has moved on."""
        self._set.pop(lane, None)
        self._waiting.pop(lane, None)

    def written(self, write_back: WriteBack, now: float) -> None:
        """What a lane had to write is written: a password that was set in it is looked at later, any earlier one no more."""
        lane = write_back.lane.lane_id
        look = self._set.pop(lane, None)
        self._waiting.pop(lane, None)
        if look is None or write_back.fold is None or write_back.fold.suspect_since is not None:
            # In doubt, the lane is read again anyway.
            return
        self._waiting[lane] = DueLook(
            lane=write_back.lane,
            token=write_back.token,
            fold=write_back.fold,
            look=look,
            due_at=now + _AFTER,
        )
        if len(self._waiting) > _MOST:
            self._waiting.popitem(last=False)

    def due(
        self, now: float, *, tokens: Mapping[int, int], in_hand: Collection[bytes], limit: int
    ) -> Iterator[DueLook]:
        """Take what is due out, the longest waiting first: of lanes that are still ours, and that nobody has in hand.

        Args:
            now: seconds of the drain's clock.
            tokens: our shards with their fencing tokens.
            in_hand: lanes that are busy.
            limit: how many at most.
        """
        for lane, due in list(self._waiting.items()):
            if limit <= 0 or due.due_at > now:
                return
            if lane in in_hand:
                continue
            del self._waiting[lane]
            if tokens.get(lane[0]) == due.token:
                limit -= 1
                yield due
