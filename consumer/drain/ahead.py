"""How many heads are claimed ahead of their calls, and when. Pure."""

from __future__ import annotations

from consumer.frozen import quick_dataclass

__all__ = ["Ahead", "claim_ahead"]

_SHORTEST = 1.0
_LONGEST = 2.0
"""Seconds of calls for which heads are claimed ahead."""


@quick_dataclass(frozen=True, slots=True)
class Ahead:
    """What is claimed next.

    Attributes:
        enough: while more than so many wait for their calls, nothing.
        room: otherwise so many at most.
    """

    enough: int
    room: int


def claim_ahead(
    *, waiting: int, at_once: int, pace: float, claim_took: float, per_second: float | None, batch: int
) -> Ahead:
    """As many as are called in a second, or while three claims are made, but in two seconds at most.

    An owner who dies leaves them in doubt. Again before what waits has been called, by twice the time that the last
    claim took; and not many more than wait already, or these would be called before the others are claimed
    (docs/decisions/0040, 0041).

    Args:
        waiting: Heads that are claimed and wait for their calls.
        at_once: Calls that may be under way.
        pace: Calls a second, lately.
        claim_took: Seconds that the last claim took.
        per_second: Calls that may begin in a second; None: as many as can.
        batch: The most heads that wait.
    """
    wanted = max(2 * at_once, int(pace * min(max(_SHORTEST, 3 * claim_took), _LONGEST)))
    if per_second is not None:
        wanted = min(wanted, max(1, int(per_second / 2)))
    wanted = min(wanted, batch)
    called_meanwhile = int(2 * pace * claim_took)
    return Ahead(
        enough=min(max(at_once, called_meanwhile), wanted - max(1, wanted // 4)),
        room=min(wanted - waiting, max(4 * at_once, 2 * waiting, int(pace / 10))),
    )
