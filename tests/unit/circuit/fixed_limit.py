"""A limit of calls that stays where it is, for tests of something else."""

from __future__ import annotations

from consumer.circuit.calls import CallLimit
from consumer.circuit.limit_policy import LimitPolicy


def fixed_limit(calls: int) -> CallLimit:
    """So many at once, whatever happens."""
    return CallLimit(LimitPolicy(ceiling=calls, floor=calls))
