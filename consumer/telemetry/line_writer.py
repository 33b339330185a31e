"""Lines written to a stream by a thread of their own, so that a stuck terminal or pipe never stops the program."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import TextIO

_END: Final = None


class LineWriter:
    """A bounded queue of lines in front of a stream; what does not fit is dropped, and said so once there is room."""

    def __init__(self, stream: TextIO, *, lost_line: Callable[[int], str], capacity: int = 10_000) -> None:
        """Start the thread.

        Args:
            stream: Where lines go.
            lost_line: The line that says how many were dropped.
            capacity: The most lines that wait; more only if the stream is stuck, for which no memory is enough.
        """
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(capacity)
        self._lost_line = lost_line
        self._lost = 0
        self._lost_lock = threading.Lock()
        self._thread = threading.Thread(target=self._write_all, name="kcsync-log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue a line (without its line end); never blocks."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            with self._lost_lock:
                self._lost += 1

    def close(self, within: timedelta) -> bool:
        """Write what waits and stop; blocks for at most the time given.

        Returns:
            Whether all was written.
        """
        with contextlib.suppress(queue.Full):
            self._lines.put(_END, timeout=within.total_seconds())
            self._thread.join(within.total_seconds())
        return not self._thread.is_alive()

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not _END:
            # A closed or broken stream leaves nobody to tell.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(line + "\n")
                if self._lost:
                    with self._lost_lock:
                        lost, self._lost = self._lost, 0
                    self._stream.write(self._lost_line(lost) + "\n")
                if self._lines.empty():
                    self._stream.flush()
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
