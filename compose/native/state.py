"""What one instance of the stack remembers between commands: its ports, its secrets, whether it was set up."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from compose.native.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from compose.native.progress import Say

ROOT = (Path(__file__).resolve().parents[2] / ".stack").resolve()

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_SECRETS = (
    "mariadb_admin_password",
    "mariadb_keycloak_password",
    "mariadb_kcsync_password",
    "keycloak_admin_password",
    "client_secret",
    "observer_client_secret",
)


@dataclass(slots=True)
class State:
    """The content of the state file.

    Attributes:
        ports: port by name, as in `compose.native.ports.PORTS`.
        secrets: random passwords by name; never printed, logged or part of an error.
        keycloak_filled: Keycloak was seen ready once, so its database holds its whole schema.
        complete: every server was seen ready and holds what the stack puts there.
    """

    ports: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    keycloak_filled: bool = False
    complete: bool = False


class Instance:
    """One named stack: a folder `.stack/<name>` with data, logs and the state file.

    Raises:
        StackError: the name could not be a folder, or the state file is damaged.
    """

    def __init__(self, name: str, root: Path = ROOT) -> None:
        if not _NAME.fullmatch(name):
            raise StackError(
                f"'{name}' cannot name a stack. Use lower-case letters, digits and hyphens, at most 31."
            )
        self.name = name
        self.directory = root / name
        self.logs = self.directory / "logs"
        self._file = self.directory / "state.json"
        self.state = self._read()

    @property
    def exists(self) -> bool:
        """Whether this instance was ever brought up."""
        return self._file.exists()

    def create(self) -> None:
        """Make the folder and the secrets, if they are not there."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        for name in _SECRETS:
            self.state.secrets.setdefault(name, secrets.token_urlsafe(24))
        self.save()

    def save(self) -> None:
        """Write the state file; a crash leaves the old or the new one, readable by its owner only."""
        write_private(self._file, json.dumps(asdict(self.state), indent=2) + "\n")

    @contextlib.contextmanager
    def locked(self, say: Say) -> Iterator[None]:
        """Let one command at a time work on this instance; the state is read anew once it is our turn.

        Args:
            say: is told if there is somebody to wait for.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(
            self.directory / "lock", lambda: say(f"Waiting for another command on '{self.name}' ...")
        ):
            self.state = self._read()
            yield

    def _read(self) -> State:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return State(
                ports=dict(content["ports"]),
                secrets=dict(content["secrets"]),
                keycloak_filled=bool(content["keycloak_filled"]),
                complete=bool(content["complete"]),
            )
        except FileNotFoundError:
            return State()
        except (ValueError, KeyError, TypeError):
            raise StackError(
                f"{self._file} is damaged. Delete the folder {self.directory} and start anew."
            ) from None


@contextlib.contextmanager
def exclusive(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock among threads and processes; the kernel frees it when its holder dies.

    Args:
        path: the lock's file, made if it is not there.
        on_wait: called once if somebody else holds the lock.
    """
    with path.open("a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_private(path: Path, text: str) -> None:
    """Write a whole file that only its owner may read; never seen half-written."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
