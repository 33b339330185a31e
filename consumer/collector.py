"""Python's garbage collector, told not to look at everything all the time."""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["collect_less"]

_AFTER: Final = (10_000, 20, 20)
"""New objects until the youngest are looked at, and how many such looks until the older ones are: a delivery makes some
hundreds of objects, nearly all of which are gone when it ends. Python's own (700, 10, 10) cost a sixth of our time
(docs/decisions/0036)."""


def collect_less() -> None:
    """Look for cycles less often, and never again among what was imported until now. For a process that works for long."""
    gc.set_threshold(*_AFTER)
    gc.freeze()
