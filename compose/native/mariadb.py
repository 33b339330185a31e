"""MariaDB: the outbox's database and Keycloak's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

import pymysql

from compose.native import process
from compose.native.artifacts import MARIADB_VERSION, Artifacts
from compose.native.cache import Cache, default_folder
from compose.native.errors import StackError
from compose.native.ports import HOST, free_port
from compose.native.progress import Progress, Say, silent
from compose.native.server import SETUP, Launch, Server
from compose.native.state import Instance, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ADMIN = "stack_admin"
_OWN_DATABASES = ("keycloak", "kcsync")
_DATABASE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_RESERVED = frozenset({*_OWN_DATABASES, "mysql", "sys", "information_schema", "performance_schema"})
# The kernel's limit for the path of a Unix socket, its final zero byte included, is 108.
_LONGEST_SOCKET = 107


class MariaDB(Server):
    """The database server. It makes its databases and users each time it starts, before it listens.

    Args:
        instance: whose it is.
        artifacts: where its programs come from.
        version: one that `artifacts` gives.
        options: more options of mariadbd. By default it does without TLS: it would make itself a certificate at every
            start, which takes up to ten seconds, and all is on loopback.
    """

    name: ClassVar[str] = "mariadb"
    title: ClassVar[str] = "MariaDB"
    ports: ClassVar[tuple[str, ...]] = ("mariadb",)

    def __init__(
        self,
        instance: Instance,
        artifacts: Artifacts,
        version: str = MARIADB_VERSION,
        options: Sequence[str] = ("--skip-ssl",),
    ) -> None:
        super().__init__(instance, artifacts)
        self._version = version
        self._options = options

    @property
    def dsn(self) -> str:
        """The consumer's own database and user, for KCSYNC_DATABASE_DSN."""
        return self._dsn("kcsync")

    def new_database(self, name: str) -> str:
        """Create an empty database that the consumer's user owns; one of that name is dropped first.

        Args:
            name: lower-case letters, digits and underscores.

        Returns:
            Its DSN.

        Raises:
            StackError: the name is not allowed, or belongs to a server.
        """
        if not _DATABASE_NAME.fullmatch(name) or name in _RESERVED:
            raise StackError(
                f"'{name}' cannot name a new database. Use a-z, 0-9 and _, and no name of a server's own."
            )
        self._empty(name, owner="kcsync")
        return self._dsn(name)

    def empty_keycloak(self) -> None:
        """Drop and create Keycloak's database: one that Keycloak began to fill and did not finish stops it for ever."""
        self._empty("keycloak", owner="keycloak")

    def install(self, progress: Progress) -> Path:
        """Provide the programs, and make the data folder once."""
        base = self.artifacts.mariadb(self._version, progress)
        self._temporary.mkdir(parents=True, exist_ok=True)
        if self._data.is_dir():
            return base
        # Made aside and renamed: a half-made data folder must not count as one.
        half = self.directory / "data.half"
        shutil.rmtree(half, ignore_errors=True)
        process.run(
            "mariadb-install-db",
            (
                str(base / "scripts" / "mariadb-install-db"),
                "--no-defaults",
                f"--basedir={base}",
                f"--datadir={half}",
                "--skip-test-db",
                "--skip-name-resolve",
                *_as_root(),
            ),
            self._environment(base),
            self.instance.logs / "mariadb-install.log",
            self.setup_marked,
            progress,
        )
        half.rename(self._data)
        return base

    def launch(self, program: Path) -> Launch:
        """Start mariadbd with a file of statements that set up users and databases."""
        write_private(self._setup, self._statements())
        command = (
            str(program / "bin" / "mariadbd"),
            "--no-defaults",
            f"--basedir={program}",
            f"--datadir={self._data}",
            f"--init-file={self._setup}",
            f"--socket={self._socket()}",
            f"--pid-file={self.directory / 'mariadbd.pid'}",
            f"--bind-address={HOST}",
            f"--port={self.port}",
            "--skip-name-resolve",
            *self._options,
            "--character-set-server=utf8mb4",
            "--innodb-buffer-pool-size=256M",
            "--max-connections=400",
            *_as_root(),
        )
        return Launch(command, self._environment(program))

    def answers(self) -> bool:
        """Run a query as the consumer's user."""
        try:
            with self._connect("kcsync", "mariadb_kcsync_password", "kcsync") as connection:
                connection.ping(reconnect=False)
        except pymysql.MySQLError:
            return False
        return True

    @contextlib.contextmanager
    def administrator(self) -> Iterator[pymysql.cursors.Cursor]:
        """Give a cursor of the account that may do everything."""
        with self._connect(_ADMIN, "mariadb_admin_password") as connection, connection.cursor() as cursor:
            yield cursor

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _temporary(self) -> Path:
        return self.directory / "tmp"

    @property
    def _setup(self) -> Path:
        return self.directory / "setup.sql"

    def _socket(self) -> Path:
        near = self.directory / "mariadb.sock"
        if len(os.fsencode(near)) <= _LONGEST_SOCKET:
            return near
        digest = hashlib.sha256(os.fsencode(near)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"kcsync-{digest}.sock"

    def _environment(self, base: Path) -> dict[str, str]:
        # A server that starts removes every temporary table it finds, also those of one that runs beside it.
        return process.bare_environment(LD_LIBRARY_PATH=str(base / "libs"), TMPDIR=str(self._temporary))

    def _empty(self, database: str, owner: str) -> None:
        # An underscore would stand for any character in a grant.
        pattern = database.replace("_", r"\_")
        try:
            with self.administrator() as cursor:
                # Tables that a broken-off migration left may refer to each other, which forbids to drop them.
                cursor.execute("SET foreign_key_checks = 0")
                cursor.execute(f"CREATE OR REPLACE DATABASE `{database}` CHARACTER SET utf8mb4")
                cursor.execute(f"GRANT ALL PRIVILEGES ON `{pattern}`.* TO '{owner}'@'{HOST}'")
        except pymysql.MySQLError as error:
            raise StackError(
                f"MariaDB did not make the database {database}: {error}. See {self.log}, and run `up` again."
            ) from None

    def _dsn(self, database: str) -> str:
        password = self.instance.state.secrets["mariadb_kcsync_password"]
        return f"mysql://kcsync:{password}@{self.address}/{database}"

    def _connect(
        self, user: str, secret: str, database: str | None = None
    ) -> pymysql.Connection[pymysql.cursors.Cursor]:
        return pymysql.connect(
            host=HOST,
            port=self.port,
            user=user,
            password=self.instance.state.secrets[secret],
            database=database,
            connect_timeout=5,
            read_timeout=30,
        )

    def _statements(self) -> str:
        """Write what the server executes before it listens; one statement a line, harmless when repeated."""
        secrets = self.instance.state.secrets
        lines = []
        for user, secret in (
            (_ADMIN, secrets["mariadb_admin_password"]),
            *((database, secrets[f"mariadb_{database}_password"]) for database in _OWN_DATABASES),
        ):
            lines.append(f"CREATE USER IF NOT EXISTS '{user}'@'{HOST}' IDENTIFIED BY '{secret}';")
            lines.append(f"ALTER USER '{user}'@'{HOST}' IDENTIFIED BY '{secret}';")
        for database in _OWN_DATABASES:
            lines.append(f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4;")
            lines.append(f"GRANT ALL PRIVILEGES ON `{database}`.* TO '{database}'@'{HOST}';")
        lines.append(f"GRANT ALL PRIVILEGES ON *.* TO '{_ADMIN}'@'{HOST}' WITH GRANT OPTION;")
        return "\n".join(lines) + "\n"


@contextlib.contextmanager
def lone_mariadb(
    version: str, options: Sequence[str] = ("--skip-ssl",), say: Say = silent
) -> Iterator[MariaDB]:
    """Have one MariaDB without the rest of the stack for a while; at the end it is stopped and its data removed.

    One that a killed process left behind is stopped by `down --all`.

    Args:
        version: one of `compose.native.artifacts`.
        options: as of `MariaDB`.
        say: takes one line at a time.

    Raises:
        StackError: it cannot be had; the sentence says what to do.
    """
    instance = Instance(f"mariadb-{uuid4().hex[:8]}")
    artifacts = Artifacts(Cache(default_folder()), process.mark(instance.directory, SETUP))
    server = MariaDB(instance, artifacts, version, options)
    try:
        with instance.locked(say):
            instance.create()
            instance.state.ports["mariadb"] = free_port()
            instance.save()
            server.start(Progress(say))
        yield server
    finally:
        process.kill(process.members(str(instance.directory), whole_instance=True))
        shutil.rmtree(instance.directory, ignore_errors=True)


def _as_root() -> tuple[str, ...]:
    """Tell MariaDB that running as root is meant, where we do."""
    return ("--user=root",) if os.geteuid() == 0 else ()
