"""How the limit of calls is found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LimitPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitPolicy:
    """How the limit is found. Spans are seconds.

    Attributes:
        ceiling: the limit never exceeds it.
        floor: nor does it fall below this, or the ceiling. Two, so that one call that hangs does not stop everybody.
        start: the limit before anything is known.
        round_trips: a turn is so many calls for each that may be under way,
        fewest: and no fewer than these,
        shortest: and no shorter span.
        turns: what stands is seen for so many turns before its rivals are tried. A trial has so many of each limit, and
            more while they do not say clearly which is better,
        longest_trial: until it has lasted so long.
        worth: an added call must bring this share of what those before it bring.
        slow: calls that take so many times their best are a reason not to add more, if other instances do the same,
        too_slow: and from so many times on, a reason to take some away.
        rest: after a trial that did not pay the limit rests so long; twice as long after each further one,
        longest_rest: up to this.
        cut_memory: so long after calls were turned away the limit stays below where that happened.
        memory: the best time of a kind is forgotten over this span.
    """

    ceiling: int = 16
    floor: int = 2
    start: int = 4
    round_trips: int = 4
    fewest: int = 16
    shortest: float = 0.15
    turns: int = 4
    longest_trial: float = 10.0
    worth: float = 0.05
    slow: float = 3.0
    too_slow: float = 5.0
    rest: float = 5.0
    longest_rest: float = 30.0
    cut_memory: float = 60.0
    memory: float = 1800.0

    @property
    def lowest(self) -> int:
        """The floor, or the ceiling if that is lower."""
        return min(self.floor, self.ceiling)
