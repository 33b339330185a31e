from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from compose.native import process
from compose.native.errors import CommandFailed, Stopped
from compose.native.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BARE = {"PATH": os.environ["PATH"]}
# A parent that does not die of SIGTERM, with a child, as a shell around a JVM.
STUBBORN_PAIR = "trap '' TERM; sleep 600 & echo ready; wait; sleep 600"


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[str]:
    marked = process.mark(tmp_path, "server")
    yield marked
    process.kill(process.members(marked))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


class TestAServerProcess:
    def test_is_found_by_its_mark_with_its_children(self, marked: str, log: Path, tmp_path: Path) -> None:
        process.spawn(("sh", "-c", "sleep 600 & sleep 600"), BARE, log, marked)

        until(lambda: len(process.members(marked)) == 3)
        assert len(process.members(str(tmp_path), whole_instance=True)) == 3
        assert process.members(process.mark(tmp_path, "other")) == []

    def test_is_found_from_the_first_moment(self, marked: str, log: Path) -> None:
        for number in range(1, 101):
            process.spawn(("sleep", "600"), BARE, log, marked)

            assert len(process.members(marked)) == number

    def test_is_gone_with_its_children_after_a_kill(self, marked: str, log: Path) -> None:
        process.spawn(("sh", "-c", STUBBORN_PAIR), BARE, log, marked)
        until(lambda: "ready" in log.read_text(encoding="utf-8"))
        pids = [member.pid for member in process.members(marked)]

        process.kill(process.members(marked))

        assert len(pids) == 2
        assert not any(
            psutil.pid_exists(pid) and process._ended(psutil.Process(pid)) is False for pid in pids
        )
        assert process.members(marked) == []

    def test_that_ignores_sigterm_is_killed_after_its_grace(self, marked: str, log: Path) -> None:
        process.spawn(("sh", "-c", STUBBORN_PAIR), BARE, log, marked)
        until(lambda: "ready" in log.read_text(encoding="utf-8"))

        begun = time.monotonic()
        process.stop(process.members(marked), grace=0.3)

        assert time.monotonic() - begun >= 0.3
        assert process.members(marked) == []

    def test_that_hears_sigterm_is_not_waited_for_longer_than_it_takes(self, marked: str, log: Path) -> None:
        process.spawn(("sleep", "600"), BARE, log, marked)
        until(lambda: process.members(marked))

        begun = time.monotonic()
        process.stop(process.members(marked), grace=30)

        assert time.monotonic() - begun < 10
        assert process.members(marked) == []

    def test_appends_to_its_log(self, marked: str, log: Path) -> None:
        log.write_text("before\n", encoding="utf-8")
        process.spawn(("sh", "-c", "echo out; echo err >&2"), BARE, log, marked)

        until(lambda: log.read_text(encoding="utf-8") == "before\nout\nerr\n")

    def test_outlives_its_launcher_and_is_found_still(self, marked: str, log: Path) -> None:
        launcher = (
            "import os, signal, pathlib; from compose.native import process;"
            f"process.spawn(('sleep', '600'), dict(os.environ), pathlib.Path({str(log)!r}), {marked!r});"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )

        done = subprocess.run([sys.executable, "-c", launcher], check=False)

        assert done.returncode == -9
        assert [member.name() for member in process.members(marked)] == ["sleep"]


class TestAForeignProcess:
    def test_without_the_mark_is_never_found(self, tmp_path: Path, marked: str) -> None:
        """A recycled process id belongs to a process that carries no mark, or another one."""
        other = process.mark(tmp_path / "elsewhere", "server")
        with subprocess.Popen(["/bin/sleep", "600"], env={**BARE, "KCSYNC_STACK_PROCESS": other}) as foreign:
            try:
                until(lambda: [member.pid for member in process.members(other)] == [foreign.pid])
                process.kill(process.members(marked))
                process.kill(process.members(str(tmp_path), whole_instance=True))

                assert foreign.poll() is None
            finally:
                foreign.kill()


class TestAPreparingProgram:
    def test_that_fails_shows_the_end_of_its_log(self, log: Path, marked: str) -> None:
        with pytest.raises(CommandFailed) as caught:
            process.run("The build", ("sh", "-c", "echo why; exit 3"), BARE, log, marked, Progress())

        assert caught.value.status == 3
        assert (
            str(caught.value) == f"The build failed with status 3. Its log is {log}; it ends with:\n    why"
        )

    def test_is_killed_with_its_children_when_the_brake_is_pulled(self, log: Path, marked: str) -> None:
        progress = Progress()
        threading.Timer(0.3, progress.brake).start()

        with pytest.raises(Stopped):
            process.run("The build", ("sh", "-c", "sleep 600 & sleep 600"), BARE, log, marked, progress)

        # One that is killed shows its mark until the kernel has taken it apart.
        deadline = time.monotonic() + 30
        while left := process.members(marked):
            assert time.monotonic() < deadline, left
            time.sleep(0.01)


class TestTheTailOfALog:
    def test_is_its_last_lines_indented(self, log: Path) -> None:
        log.write_text("".join(f"line {number}\n" for number in range(40)), encoding="utf-8")

        assert process.tail(log) == "\n".join(f"    line {number}" for number in range(25, 40))

    def test_shows_first_what_an_error_said_further_up(self, log: Path) -> None:
        advice = "".join(f"advice {number}\n" for number in range(20))
        log.write_text(f"starting\n[ERROR] no such table\n{advice}", encoding="utf-8")

        assert process.tail(log).splitlines()[:3] == ["    [ERROR] no such table", "    ...", "    advice 5"]

    def test_of_a_log_that_is_not_there_says_so(self, log: Path) -> None:
        assert process.tail(log) == "    (it is empty)"


class TestTheEnvironmentOfAServer:
    def test_holds_nothing_that_could_configure_it_by_accident(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KC_DB", "postgres")
        monkeypatch.setenv("STORAGE_TYPE", "cassandra3")

        environment = process.bare_environment(JAVA="/a/java")

        assert environment["JAVA"] == "/a/java"
        assert environment["PATH"] == os.environ["PATH"]
        assert not {"KC_DB", "STORAGE_TYPE"} & environment.keys()
