"""What the four servers have in common: being started, waited for, stopped and killed."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from compose.native import process
from compose.native.errors import NotReady, NotUp, PortTaken, Stopped
from compose.native.ports import HOST, is_free
from compose.native.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from compose.native.artifacts import Artifacts
    from compose.native.state import Instance

# Marks what prepares servers and is none: Maven, builds, formatting.
SETUP = "setup"


@dataclass(frozen=True, slots=True)
class Launch:
    """How a prepared server is started.

    Attributes:
        command: program and arguments; no secrets, because every user of the machine can read them.
        environment: the whole environment; secrets go here.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]


class Server(ABC):
    """One server of one instance.

    Attributes:
        name: its key in `compose.native.ports.PORTS`.
        title: what people call it.
        ports: the names of all ports it listens on.
        patience: seconds it may take to become ready.
        grace: seconds it may take to end after SIGTERM.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    ports: ClassVar[tuple[str, ...]]
    patience: ClassVar[float] = 60.0
    grace: ClassVar[float] = 20.0

    def __init__(self, instance: Instance, artifacts: Artifacts) -> None:
        self.instance = instance
        self.artifacts = artifacts
        self.directory = instance.directory / self.name
        self.log = instance.logs / f"{self.name}.log"
        self.marked = process.mark(instance.directory, self.name)
        self.setup_marked = process.mark(instance.directory, SETUP)

    @abstractmethod
    def install(self, progress: Progress) -> Path:
        """Provide its program, and empty data where there is none; give the program's folder or file."""

    @abstractmethod
    def launch(self, program: Path) -> Launch:
        """Write its configuration for the ports of now, and say how it is started."""

    @abstractmethod
    def answers(self) -> bool:
        """Ask it for something that only a ready server can give."""

    @property
    def port(self) -> int:
        """The port its clients use.

        Raises:
            NotUp: none was chosen yet.
        """
        return self.port_of(self.name)

    def port_of(self, name: str) -> int:
        """Give one of the instance's ports by name.

        Raises:
            NotUp: none was chosen yet.
        """
        try:
            return self.instance.state.ports[name]
        except KeyError:
            raise NotUp(self.instance.name) from None

    @property
    def address(self) -> str:
        """Host and port its clients use."""
        return f"{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether a process of it lives."""
        return bool(process.members(self.marked))

    def start(self, progress: Progress | None = None) -> float:
        """Start it with the data and ports it has, and wait until it is ready.

        Does not start a second one: if it runs, this only waits.

        Returns:
            Seconds from its start until it was ready.

        Raises:
            NotUp: the stack was never brought up.
            PortTaken: another program took its port meanwhile.
            NotReady: it ended, or took longer than its patience.
            Stopped: the brake was pulled while waiting.
        """
        progress = progress or Progress()
        program = self.install(progress)
        begun = time.monotonic()
        if not self.running:
            for name in self.ports:
                if not is_free(self.port_of(name)):
                    raise PortTaken(
                        self.title, self.port_of(name), "Stop that program, or run `down` and `up` again."
                    )
            launch = self.launch(program)
            process.spawn(launch.command, launch.environment, self.log, self.marked)
        self._wait(begun, progress)
        return time.monotonic() - begun

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heard; nothing if it does not run."""
        process.stop(process.members(self.marked), self.grace)

    def kill(self) -> None:
        """SIGKILL, as a crash would be; nothing if it does not run."""
        process.kill(process.members(self.marked))

    def _wait(self, begun: float, progress: Progress) -> None:
        while not self.answers():
            if not self.running:
                raise NotReady(self.title, "ended before it was ready", self.log, process.tail(self.log))
            if time.monotonic() - begun > self.patience:
                reason = f"was not ready after {self.patience:.0f} s"
                raise NotReady(self.title, reason, self.log, process.tail(self.log))
            if progress.pause(0.1):
                raise Stopped
