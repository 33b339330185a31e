"""The command `kcsync` as its users run it: a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

KCSYNC = Path(sys.executable).with_name("kcsync")


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


async def kcsync(environment: Mapping[str, str], *arguments: str, within: float = 60.0) -> Finished:
    """Run one command to its end."""
    process = await asyncio.create_subprocess_exec(
        KCSYNC,
        *arguments,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(within):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


class Running:
    """A `kcsync start` that runs until it is ended. What it says goes to a file."""

    def __init__(
        self, environment: Mapping[str, str], log: Path, *arguments: str, program: Path = KCSYNC
    ) -> None:
        self.log = log
        self._out: IO[bytes] = log.open("ab")
        self._process = subprocess.Popen(
            [program, "start", *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    async def ended(self, within: float) -> int:
        """Its exit code; it has so many seconds to end."""
        async with asyncio.timeout(within):
            while (code := self._process.poll()) is None:
                await asyncio.sleep(0.02)
        return code

    async def stop(self, within: float = 20.0) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended(within)

    async def kill(self) -> None:
        """SIGKILL, as a crash would be."""
        if self.alive:
            self.signal(signal.SIGKILL)
        await self.ended(10)

    def close(self) -> None:
        if self.alive:
            self._process.kill()
        self._process.wait(10)
        self._out.close()
