from __future__ import annotations

import io
import threading
import time
from datetime import timedelta

from consumer.telemetry.line_writer import LineWriter

SOON = timedelta(seconds=5)


class StuckStream(io.StringIO):
    """A stream that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.free = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.free.wait(30)
        return super().write(text)


def lost_line(lost: int) -> str:
    return f"{lost} lost"


def test_lines_come_in_order() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, lost_line=lost_line)
    for number in range(100):
        writer.write(str(number))

    assert writer.close(SOON)
    assert stream.getvalue().splitlines() == [str(number) for number in range(100)]


def test_a_stuck_stream_never_blocks_and_what_it_cost_is_said() -> None:
    stream = StuckStream()
    writer = LineWriter(stream, lost_line=lost_line, capacity=2)
    writer.write("first")
    assert stream.reached.wait(5)
    begun = time.monotonic()
    for number in range(5):
        writer.write(str(number))  # Two of the five fit.

    assert time.monotonic() - begun < 0.5
    assert not writer.close(timedelta(milliseconds=50))
    stream.free.set()
    assert writer.close(SOON)
    assert stream.getvalue().splitlines() == ["first", "3 lost", "0", "1"]


def test_a_broken_stream_is_nobodys_error() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, lost_line=lost_line)
    stream.close()
    writer.write("into the void")

    assert writer.close(SOON)
