"""What was looked up lately, by name, so that it is not asked for with each delivery."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["LookedUp"]

T = TypeVar("T")


@dataclass(slots=True)
class LookedUp(Generic[T]):
    """Remembers what a look has found; the one looked at first is forgotten first.

    Attributes:
        look: Asks Keycloak by name. What it raises is not remembered.
        seconds: How long its answer is taken for true.
        most: Answers remembered.
    """

    look: Callable[[str], Awaitable[T]]
    seconds: float = 300.0
    most: int = 10_000
    _known: OrderedDict[str, tuple[float, T]] = field(default_factory=OrderedDict)

    async def of(self, name: str) -> T:
        """Return what is known by this name; asks if it was not asked lately."""
        now = asyncio.get_running_loop().time()
        if (known := self._known.get(name)) is not None and now - known[0] < self.seconds:
            return known[1]
        found = await self.look(name)
        self.forget(name)
        self._known[name] = (now, found)
        if len(self._known) > self.most:
            self._known.popitem(last=False)
        return found

    def forget(self, name: str) -> None:
        """It is not so any more."""
        self._known.pop(name, None)
