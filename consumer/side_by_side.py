"""Several pieces of work at once, all of which have ended before anything goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar, cast

__all__ = ["side_by_side"]

T = TypeVar("T")


async def side_by_side(pieces: Iterable[Awaitable[T]]) -> list[T]:
    """Do pieces of work at once; their results, in their order.

    Raises:
        BaseException: What the first of them that failed raised, when all have ended.
    """
    ended = await asyncio.gather(*pieces, return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException):
            raise each
    return cast("list[T]", ended)
