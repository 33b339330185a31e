"""Why do partitions stand still? The one place where reasons are collected. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["PausePolicy", "PauseReason", "Pausing"]


class PauseReason(StrEnum):
    """Why records are left in Kafka. The values are stored and shown: they do not change."""

    CIRCUIT = "circuit"
    """Nothing can be delivered: the circuit is open."""
    MAINTENANCE = "maintenance"
    """Nothing is delivered, because an operator wants it so."""
    BACKLOG = "backlog"
    """The outbox holds as many undelivered entries as it should."""
    OPERATOR = "operator"
    """An operator wants partitions to stand still."""


class PausePolicy(StrEnum):
    """When partitions pause by themselves."""

    IMMEDIATELY = "immediately"
    """As soon as nothing is delivered, or the backlog is full."""
    ON_BACKLOG = "on_backlog"
    """When the backlog is full."""
    NEVER = "never"
    """Not at all: the outbox takes whatever comes."""


_HEEDED = {
    PausePolicy.IMMEDIATELY: frozenset(PauseReason),
    PausePolicy.ON_BACKLOG: frozenset({PauseReason.BACKLOG, PauseReason.OPERATOR}),
    PausePolicy.NEVER: frozenset({PauseReason.OPERATOR}),
}


@dataclass(slots=True)
class Pausing:
    """The reasons there are, and which of them hold the partitions."""

    policy: PausePolicy
    _reasons: set[PauseReason] = field(default_factory=set)

    def begin(self, reason: PauseReason) -> None:
        """There is a reason."""
        self._reasons.add(reason)

    def end(self, reason: PauseReason) -> None:
        """The reason is gone."""
        self._reasons.discard(reason)

    @property
    def heeded(self) -> frozenset[PauseReason]:
        """The reasons that hold partitions now, by the policy; empty: they flow."""
        return _HEEDED[self.policy] & self._reasons

    def paused(
        self, assigned: Collection[int], *, taken: Collection[int], endangered: Collection[int]
    ) -> set[int]:
        """Which of the assigned partitions stand still.

        Args:
            assigned: to this member of the group.
            taken: those it writes; of the others it does not know yet where to read.
            endangered: those whose unread records Kafka would soon remove: they flow whatever the reason.
        """
        held = set(assigned) - set(taken)
        return held | (set(assigned) - set(endangered)) if self.heeded else held
