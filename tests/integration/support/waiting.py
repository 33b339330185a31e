"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from inspect import isawaitable
from typing import Any


async def until(look: Callable[[], Any], *, what: str, within: float = 30.0) -> None:
    """Look again and again, by a function or coroutine function, until there is something."""
    ends_at = time.monotonic() + within
    while True:
        seen = look()
        if isawaitable(seen):
            seen = await seen
        if seen:
            return
        if time.monotonic() > ends_at:
            raise AssertionError(f"after {within:.0f} s still not: {what} (last seen: {seen!r})")
        await asyncio.sleep(0.05)
