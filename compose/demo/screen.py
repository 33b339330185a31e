"""What the demo shows: sentences, one line of progress that renews itself, tables. Plain lines where nobody watches live."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self, TextIO

from compose.demo.proof import Check
from compose.demo.watch import Glance

_WIDEST: Final = 110
_INDENT: Final = "     "
_PLAIN_EVERY: Final = 3.0
_MOST_PROBLEMS: Final = 10

_BOLD: Final = "1"
_DIM: Final = "2"
_GREEN: Final = "32"
_RED: Final = "31"


class Screen:
    """Writes to one stream.

    Args:
        out: the stream.
        live: whether a line can be renewed in place; without it, progress is a line every 3 seconds.
        colour: whether to use colours.
        width: gives the columns of now.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        live: bool,
        colour: bool,
        width: Callable[[], int] = lambda: shutil.get_terminal_size((100, 24)).columns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out
        self._live = live
        self._colour = colour
        self._width = width
        self._clock = clock
        self._renewing = False
        self._last = ""
        self._last_at = float("-inf")

    @classmethod
    def on(cls, out: TextIO, environ: Mapping[str, str]) -> Self:
        """Use what a stream can do; `NO_COLOR` (https://no-color.org) and a dumb terminal are respected."""
        live = out.isatty() and environ.get("TERM") != "dumb"
        return cls(out, live=live, colour=live and not environ.get("NO_COLOR"))

    def line(self, text: str = "") -> None:
        """Write one line as it is."""
        self._clear()
        self._write(f"{text}\n")

    def say(self, text: str) -> None:
        """Write a sentence, wrapped and indented."""
        for line in textwrap.wrap(text, min(self._width(), _WIDEST) - len(_INDENT)) or [""]:
            self.line(f"{_INDENT}{line}")

    def step(self, number: str, title: str, why: str) -> None:
        """Begin a step: its title, and in a sentence what happens and why it matters."""
        self.line()
        self.line(self._painted(f"{number:4} {title}", _BOLD))
        self.say(why)

    def progress(self, text: str) -> None:
        """Show how far it is; the next call renews it."""
        if self._live:
            shown = f"{_INDENT}{text}"[: self._width() - 1]
            self._write(f"\r\x1b[2K{self._painted(shown, _DIM)}")
            self._renewing = True
        elif text != self._last and self._clock() - self._last_at >= _PLAIN_EVERY:
            self._write(f"{_INDENT}{text}\n")
            self._last, self._last_at = text, self._clock()

    def checks(self, checks: Sequence[Check]) -> None:
        """Show what was checked as a table, then what is wrong: the first ten of each kind together."""
        what = max(len(check.what) for check in checks)
        source = max(len(check.source) for check in checks)
        self.line(
            self._painted(f"{_INDENT}{'What must hold':{what}}  {'Asked':{source}}  Compared  Result", _BOLD)
        )
        for check in checks:
            result = self._painted("holds", _GREEN) if check.holds else self._painted(_fault(check), _RED)
            self.line(
                f"{_INDENT}{check.what:{what}}  {check.source:{source}}  {check.looked_at:>8,}  {result}"
            )
        problems = [problem for check in checks for problem in check.problems]
        if problems:
            self.line()
            for problem in problems[:_MOST_PROBLEMS]:
                self.line(f"{_INDENT}{self._painted('wrong:', _RED)} {problem}")
            if len(problems) > _MOST_PROBLEMS:
                self.line(f"{_INDENT}and {len(problems) - _MOST_PROBLEMS:,} more")

    def verdict(self, text: str, *, good: bool) -> None:
        """Write the sentence that it all comes to."""
        self.line()
        self.line(self._painted(f"{_INDENT}{text}", _GREEN if good else _RED))

    def _clear(self) -> None:
        if self._renewing:
            self._renewing = False
            self._write("\r\x1b[2K")

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:
            # Whoever read our lines has seen enough. The demo goes on to its end, so that all is stopped in order.
            if self._out is sys.stdout:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def progress_line(published: int, glance: Glance | None) -> str:
    """Say in one line where the events are.

    Args:
        published: events that Kafka has confirmed.
        glance: what `kcsync status` said last; None before the first answer.
    """
    if glance is None:
        return f"published {published:,}"
    return "  ".join(
        (
            f"published {published:,}",
            f"in Kafka {_number(glance.in_kafka)}",
            f"in outbox {_number(glance.pending)}",
            f"delivered {_number(glance.delivered)}",
            f"circuit {glance.circuit or '?'}",
            f"paused {glance.paused}/{glance.partitions}",
        )
    )


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _fault(check: Check) -> str:
    return f"{len(check.problems):,} wrong" if check.problems else "nothing to compare"
