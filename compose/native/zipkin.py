"""Zipkin: keeps traces in memory and shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import httpx

from compose.native import process
from compose.native.ports import HOST
from compose.native.server import Launch, Server
from compose.native.tools import QUICK_START, find_java

if TYPE_CHECKING:
    from pathlib import Path

    from compose.native.progress import Progress

_JVM = ("-Xms64m", "-Xmx256m", *QUICK_START, "-XX:+UseSerialGC")


class Zipkin(Server):
    """The trace store and its screen."""

    name: ClassVar[str] = "zipkin"
    title: ClassVar[str] = "Zipkin"
    ports: ClassVar[tuple[str, ...]] = ("zipkin",)

    @property
    def url(self) -> str:
        """Where its screen is."""
        return f"http://{self.address}"

    @property
    def spans_url(self) -> str:
        """Where spans are sent, for OTEL_EXPORTER_ZIPKIN_ENDPOINT."""
        return f"{self.url}/api/v2/spans"

    def install(self, progress: Progress) -> Path:
        """Provide the jar; there is nothing else."""
        return self.artifacts.zipkin(progress)

    def launch(self, program: Path) -> Launch:
        """Start the jar, on loopback only."""
        # One property of the list replaces the whole list, so all three are given.
        listener = {"ip": HOST, "port": self.port, "protocols[0]": "http"}
        options = tuple(f"-Darmeria.ports[0].{name}={value}" for name, value in listener.items())
        return Launch((find_java(), *_JVM, *options, "-jar", str(program)), process.bare_environment())

    def answers(self) -> bool:
        """Ask for its health."""
        try:
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        except httpx.TransportError:
            return False
