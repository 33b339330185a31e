"""What can go wrong with the stack. Every message is a sentence that ends with what to do.

* StackError
  * ToolMissing
  * DownloadFailed
  * DiskFull
  * PortTaken
  * CommandFailed
  * NotReady
  * NotUp
  * Stopped
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CommandFailed",
    "DiskFull",
    "DownloadFailed",
    "NotReady",
    "NotUp",
    "PortTaken",
    "StackError",
    "Stopped",
    "ToolMissing",
]


class StackError(Exception):
    """The stack cannot do what was asked."""


class ToolMissing(StackError):
    """A program that must be on the machine is absent or too old."""

    def __init__(self, tool: str, problem: str, remedy: str) -> None:
        self.tool = tool
        super().__init__(f"{problem}. {remedy}")


class DownloadFailed(StackError):
    """Maven did not deliver an artifact, or delivered something else."""

    def __init__(self, what: str, reason: str, log: Path) -> None:
        self.what = what
        self.log = log
        super().__init__(
            f"Maven could not deliver {what}: {reason} "
            f"Check the network and any mirror in ~/.m2/settings.xml, then run the command again. Maven's words: {log}"
        )


class DiskFull(StackError):
    """There is no room for a download."""

    def __init__(self, folder: Path, free: int, needed: int) -> None:
        self.folder = folder
        self.free = free
        super().__init__(
            f"The disk of {folder} has {free // 2**20} MB free, and a download needs {needed // 2**20}. "
            "Free some space, or name a folder on another disk in KCSYNC_STACK_CACHE."
        )


class PortTaken(StackError):
    """A port that must be this one is in use by another program."""

    def __init__(self, what: str, port: int, remedy: str) -> None:
        self.port = port
        super().__init__(f"Port {port}, wanted for {what}, is in use by another program. {remedy}")


class CommandFailed(StackError):
    """A program that prepares a server ended with an error."""

    def __init__(self, what: str, status: int, log: Path, tail: str) -> None:
        self.status = status
        self.log = log
        super().__init__(f"{what} failed with status {status}. Its log is {log}; it ends with:\n{tail}")


class NotReady(StackError):
    """A server was started and did not become ready."""

    def __init__(self, server: str, reason: str, log: Path, tail: str) -> None:
        self.server = server
        self.log = log
        super().__init__(f"{server} {reason}. Its log is {log}; it ends with:\n{tail}")


class NotUp(StackError):
    """The stack was asked for something that only a started stack can give."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"The stack '{name}' was never started. Run: python -m compose.native up --name {name}"
        )


class Stopped(StackError):
    """Work was given up because somebody asked for it, or because another part of it failed."""

    def __init__(self) -> None:
        super().__init__("Stopped before the end, as asked.")
