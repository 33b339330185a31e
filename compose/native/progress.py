"""How long work tells what it does, and how it is asked to end early."""

from __future__ import annotations

import threading
from collections.abc import Callable

Say = Callable[[str], None]


def silent(_line: str) -> None:
    """Say nothing."""


class Progress:
    """One action's voice and its brake; shared by the threads that work for it.

    Args:
        say: takes one line of text at a time, without a newline.
    """

    def __init__(self, say: Say = silent) -> None:
        self._say = say
        self._voice = threading.Lock()
        self._brake = threading.Event()

    def say(self, line: str) -> None:
        """Tell one line; lines of different threads never mix."""
        with self._voice:
            self._say(line)

    def brake(self) -> None:
        """Ask every thread of this action to give up at its next pause."""
        self._brake.set()

    @property
    def braked(self) -> bool:
        """Whether the action was asked to end."""
        return self._brake.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait; true if the brake was pulled meanwhile."""
        return self._brake.wait(seconds)
