"""How processes are started, found again and stopped.

A process of a stack carries a mark in its environment: the instance's folder and the server's name. The mark is its
identity. It is there from the first moment, children inherit it, it survives the death of the launcher, and a
recycled process id does not have it, so nothing foreign is ever signalled. Signals go through psutil, which compares
the start time of the process it looked at before it sends one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from compose.native.errors import CommandFailed, StackError, Stopped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from compose.native.progress import Progress

_MARK = "KCSYNC_STACK_PROCESS"
_INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ")
_TAIL_LINES = 15
_ERROR_LINES = 5
_KILL_GRACE = 10.0


def mark(directory: Path, server: str) -> str:
    """Build the mark of one server of one instance."""
    return f"{directory}:{server}"


def bare_environment(**additions: str) -> dict[str, str]:
    """Build an environment in which no variable of the user configures a server by accident."""
    return {**{name: os.environ[name] for name in _INHERITED if name in os.environ}, **additions}


def spawn(command: Sequence[str], environment: Mapping[str, str], log: Path, marked: str) -> None:
    """Start a server that outlives us, in a session of its own, its output appended to `log`.

    posix_spawn rather than Popen: the server is not ours to wait for, and a Popen that is forgotten warns.
    """
    program = shutil.which(command[0])
    if program is None:
        raise StackError(f"{command[0]} is not a program that can be started.")
    pid = os.posix_spawn(
        program,
        list(command),
        {**environment, _MARK: marked},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGINT, signal.SIGTERM],
    )
    # The kernel lets us go on a moment before it shows the new environment; until then the process has no mark.
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while not _carries(process, marked) and not _ended(process):
            time.sleep(0.001)


def run(
    what: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    marked: str,
    progress: Progress,
    directory: Path | None = None,
) -> None:
    """Run a program to its end, its output in `log`.

    Raises:
        CommandFailed: it ended with another status than 0.
        Stopped: the brake was pulled; the program and its children are dead.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**environment, _MARK: marked},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while (status := process.poll()) is None:
                if progress.pause(0.05):
                    raise Stopped
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status != 0:
        raise CommandFailed(what, status, log, tail(log))


def members(marked: str, *, whole_instance: bool = False) -> list[psutil.Process]:
    """Find the living processes that carry a mark.

    Args:
        marked: a mark, or with `whole_instance` an instance's folder.
        whole_instance: find every process of that instance.
    """
    return [
        process
        for process in psutil.process_iter()
        if _carries(process, marked, whole_instance=whole_instance)
    ]


def kill(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL, and wait until they are gone."""
    _signal(processes, signal.SIGKILL)
    _wait(processes, _KILL_GRACE)


def stop(processes: Sequence[psutil.Process], grace: float) -> None:
    """SIGTERM; SIGKILL to those still there after `grace` seconds."""
    _signal(processes, signal.SIGTERM)
    kill(_wait(processes, grace))


def tail(log: Path) -> str:
    """Give the last lines of a log, indented; before them what speaks of an error further up."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    errors = [line for line in lines[:-_TAIL_LINES] if "ERROR" in line][-_ERROR_LINES:]
    shown = [*errors, *(["..."] if errors else []), *lines[-_TAIL_LINES:]]
    return "\n".join(f"    {line[:300]}" for line in shown) or "    (it is empty)"


def _carries(process: psutil.Process, marked: str, *, whole_instance: bool = False) -> bool:
    """Whether a process lives and has a mark that we can see."""
    try:
        value = process.environ().get(_MARK, "")
        owner = value.rpartition(":")[0] if whole_instance else value
        return owner == marked and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _wait(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended, and give those that have not."""
    deadline = time.monotonic() + seconds
    while (
        alive := [process for process in processes if not _ended(process)]
    ) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _ended(process: psutil.Process) -> bool:
    """Whether a process has ended; if it is our child we bury it.

    A zombie whose other threads are still dying has not: it holds its ports and files.
    """
    try:
        if process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1):
            return False
    except psutil.NoSuchProcess:
        return True
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(process.pid, os.WNOHANG)[0] == process.pid
    return True
