"""Logs poison: the first records of a minute one by one, the others of it together in one line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from consumer.outbox.rows import PoisonRow

__all__ = ["PoisonLog"]

_log = structlog.get_logger(__name__)
_INTERVAL = 60.0
_ONE_BY_ONE = 10


class PoisonLog:
    """Says which records are poison and why. A producer that is wrong may write thousands of them a second."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = float("-inf")
        self._said = 0
        self._others: Counter[str] = Counter()

    def note(self, poison: Sequence[PoisonRow]) -> None:
        """These were written down as poison."""
        if not poison:
            return
        if self._clock() - self._began >= _INTERVAL:
            self.summarise()
            self._began, self._said = self._clock(), 0
        for row in poison:
            if self._said == _ONE_BY_ONE:
                self._others[row.reason] += 1
                continue
            self._said += 1
            _log.error(
                "record is poison",
                partition=row.position.partition,
                offset=row.position.offset,
                reason=row.reason,
                detail=row.detail,
            )

    def tick(self) -> None:
        """Time goes by: once the minute is over, say what of it was not said one by one."""
        if self._others and self._clock() - self._began >= _INTERVAL:
            self.summarise()

    def summarise(self) -> None:
        """Say at once what was not said one by one."""
        if self._others:
            _log.error("more records are poison", records=self._others.total(), reasons=dict(self._others))
            self._others.clear()
