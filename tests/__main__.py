"""`make test`: all tests, in two processes side by side, each with servers of its own.

Most integration tests wait for servers more than they work, and those that kill a server must have it for themselves.
What the second process says is shown when the first has ended. Arguments are handed to pytest.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent
BESIDE = ("circuit", "cli", "crash", "ingest", "native", "outbox", "producer")
"""Rooms of the integration tests that start processes or kill servers, and as many others as make both equally long."""


def main(arguments: list[str]) -> int:
    """Run both; the worse of their exit codes."""
    # A shell that runs us in the background has interrupts ignored, and every process of the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    beside = [str(ROOT / "integration" / room) for room in BESIDE]
    log = ROOT.parent / "build" / "test-beside.log"
    log.parent.mkdir(exist_ok=True)
    pytest = [sys.executable, "-m", "pytest", *arguments]
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [*pytest, "-p", "no:cacheprovider", *beside],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "KCSYNC_TEST_STACK": "test-beside"},
        ) as second,
    ):
        try:
            first = subprocess.call([*pytest, *(f"--ignore={room}" for room in beside)])
            worse = max(first, second.wait())
        except KeyboardInterrupt:
            # Both were told by the terminal; the second takes its servers down.
            second.wait()
            raise
    sys.stdout.write(f"\nBeside it, with servers of their own: {', '.join(BESIDE)}\n")
    sys.stdout.write(log.read_text(encoding="utf-8", errors="replace"))
    return worse


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
