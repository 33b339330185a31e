"""The consumer of the demo: a real process, `kcsync start`, with a log file of its own."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

from compose.native import process
from compose.native.stack import Endpoints
from compose.native.state import write_private

# It stands beside the interpreter of the virtual environment.
_KCSYNC: Final = str(Path(sys.executable).with_name("kcsync"))
# The consumer itself gives calls under way 20 s, and its readers 15 s.
_GRACE: Final = 45.0
_STATUS_PATIENCE: Final = 30.0


def consumer_environment(
    endpoints: Endpoints, *, topic: str, group: str, database_dsn: str
) -> dict[str, str]:
    """Give the consumer its settings; times are short, so that an outage fits into a minute.

    Args:
        endpoints: of the stack.
        topic: of this run.
        group: of this run.
        database_dsn: an empty database.
    """
    return process.bare_environment(
        KCSYNC_KAFKA_BOOTSTRAP=endpoints.kafka_bootstrap,
        KCSYNC_KAFKA_TOPIC=topic,
        KCSYNC_KAFKA_GROUP=group,
        KCSYNC_DATABASE_DSN=database_dsn,
        KCSYNC_KEYCLOAK_URL=endpoints.keycloak_url,
        KCSYNC_KEYCLOAK_REALMS=endpoints.realm,
        KCSYNC_KEYCLOAK_CLIENT_ID=endpoints.client_id,
        KCSYNC_KEYCLOAK_CLIENT_SECRET=endpoints.client_secret,
        KCSYNC_KEYS_DIR=str(endpoints.keys_dir),
        KCSYNC_SYNC_INTERVAL="5s",
        # It doubles with each probe that fails: Keycloak is asked 3, 9, 21 and 45 s after the opening.
        KCSYNC_COOLDOWN="3s",
        KCSYNC_SERVER_LIMIT="5s",
        # Every user is new: the guard knows too few of them yet for a share of them to mean anything.
        KCSYNC_DELETION_PERCENT="100",
        KCSYNC_HEALTH_CACHE="1s",
        OTEL_TRACES_EXPORTER="zipkin",
        OTEL_EXPORTER_ZIPKIN_ENDPOINT=f"{endpoints.zipkin_url}/api/v2/spans",
        OTEL_SERVICE_NAME="kcsync",
    )


class ConsumerProcess:
    """One consumer, in a session of its own: Ctrl-C is for the demo, which stops it in order.

    It carries the stack's mark, so that taking the stack down ends it too, whatever became of the demo.

    Args:
        directory: the stack's folder.
        environment: the consumer's whole environment.

    Attributes:
        log: what it says.
        variables: a file of shell lines with its settings, secrets among them, for its owner alone.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._marked = _mark(directory)
        self._process: psutil.Process | None = None
        self.log = directory / "consumer.log"
        self.variables = directory / "consumer.env"

    def start(self) -> None:
        """Start it, with an empty log.

        Raises:
            StackError: there is no `kcsync` beside this interpreter.
        """
        settings = {
            name: value for name, value in self._environment.items() if name.startswith(("KCSYNC_", "OTEL_"))
        }
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
        write_private(self.variables, "".join(lines))
        self.log.unlink(missing_ok=True)
        process.spawn((_KCSYNC, "start"), self._environment, self.log, self._marked)
        (self._process,) = process.members(self._marked)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._exit_code(within=0) is None

    @property
    def last_words(self) -> str:
        """The last lines of its log."""
        return process.tail(self.log)

    def stop(self) -> int | None:
        """SIGTERM, and wait until it has ended; SIGKILL to one that does not.

        Returns:
            Its exit code, negative if a signal ended it; None if it was never started.
        """
        if self._process is None:
            return None
        if self.running:
            self._process.terminate()
        if self._exit_code(_GRACE) is None:
            self._process.kill()
        return self._exit_code(_GRACE)

    def status(self) -> str:
        """Run `kcsync status` as an operator would, and give its screen, or what it complains of."""
        try:
            answer = subprocess.run(
                (_KCSYNC, "status"),
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_STATUS_PATIENCE,
                # Its exit code says how things stand; while Keycloak is away that is no zero.
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"kcsync status did not answer in {_STATUS_PATIENCE:.0f} s"
        return answer.stdout or answer.stderr

    def _exit_code(self, within: float) -> int | None:
        """Give the exit code, once it has ended; None if it has not."""
        assert self._process is not None
        try:
            return self._process.wait(within)
        except psutil.TimeoutExpired:
            return None


def stop_leftover(directory: Path) -> None:
    """Stop the consumer that an earlier demo left, if there is one."""
    process.stop(process.members(_mark(directory)), _GRACE)


def _mark(directory: Path) -> str:
    return process.mark(directory, "consumer")
