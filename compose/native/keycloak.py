"""Keycloak, with its schema in the stack's MariaDB."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

import httpx

from compose.native import process
from compose.native.artifacts import KEYCLOAK_VERSION, Artifacts
from compose.native.cache import Cache, default_folder, link_tree
from compose.native.mariadb import MariaDB
from compose.native.ports import HOST, free_port
from compose.native.progress import Progress, Say, silent
from compose.native.server import SETUP, Launch, Server
from compose.native.state import Instance
from compose.native.tools import QUICK_START, find_java

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ADMIN = "stack-admin"
OTLP_VARIABLE = "KCSYNC_STACK_OTLP_ENDPOINT"


class Keycloak(Server):
    """The identity server. It needs MariaDB to run.

    Args:
        instance: whose it is.
        artifacts: where its programs come from.
        version: one that `artifacts` gives.
        java_options: of its virtual machine.
        options: further ones of its `start` command.
    """

    name: ClassVar[str] = "keycloak"
    title: ClassVar[str] = "Keycloak"
    ports: ClassVar[tuple[str, ...]] = ("keycloak", "keycloak_management")
    patience: ClassVar[float] = 180.0

    def __init__(
        self,
        instance: Instance,
        artifacts: Artifacts,
        version: str = KEYCLOAK_VERSION,
        java_options: Sequence[str] = QUICK_START,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(instance, artifacts)
        self._version = version
        self._java_options = java_options
        self._options = options

    @property
    def url(self) -> str:
        """Its base URL, for KCSYNC_KEYCLOAK_URL."""
        return f"http://{self.address}"

    @property
    def management_url(self) -> str:
        """Where health and metrics are."""
        return f"http://{HOST}:{self.port_of('keycloak_management')}"

    def install(self, progress: Progress) -> Path:
        """Give this instance a home of its own, because Keycloak writes below it."""
        built = self.artifacts.keycloak(self._version, find_java(), progress)
        home = self.directory / built.name
        link_tree(built, home)
        return home

    def launch(self, program: Path) -> Launch:
        """Start the built server; secrets and addresses by environment, so that no process list shows them."""
        secrets = self.instance.state.secrets
        environment = process.bare_environment(
            JAVA=find_java(),
            JAVA_OPTS_KC_HEAP="-Xms128m -Xmx768m",
            JAVA_OPTS_APPEND=" ".join(self._java_options),
            KC_DB_URL=f"jdbc:mariadb://{HOST}:{self.port_of('mariadb')}/keycloak",
            KC_DB_USERNAME="keycloak",
            KC_DB_PASSWORD=secrets["mariadb_keycloak_password"],
            KC_BOOTSTRAP_ADMIN_USERNAME=ADMIN,
            KC_BOOTSTRAP_ADMIN_PASSWORD=secrets["keycloak_admin_password"],
        )
        command = (
            str(program / "bin" / "kc.sh"),
            "start",
            "--optimized",
            "--cache=local",
            "--http-enabled=true",
            "--hostname-strict=false",
            f"--http-host={HOST}",
            f"--http-port={self.port}",
            f"--http-management-host={HOST}",
            f"--http-management-port={self.port_of('keycloak_management')}",
            # Each question for its readiness that is answered with "not yet" would be a line.
            "--log-level=info,io.smallrye.health:warn",
            # A pooled connection that MariaDB's death broke is found out before it is used, not by a user's 500.
            "-Dquarkus.datasource.jdbc.foreground-validation-interval=500ms",
            *_tracing(os.environ.get(OTLP_VARIABLE)),
            *self._options,
        )
        return Launch(command, environment)

    def answers(self) -> bool:
        """Ask for its readiness, which includes its database."""
        try:
            return httpx.get(f"{self.management_url}/health/ready", timeout=5).is_success
        except httpx.TransportError:
            return False


@contextlib.contextmanager
def lone_keycloak(version: str, say: Say = silent, *, options: Sequence[str] = ()) -> Iterator[Keycloak]:
    """Have one Keycloak, with a MariaDB of its own, for a while; at the end both are stopped and their data removed.

    Those that a killed process left behind are stopped by `down --all`.

    Args:
        version: one of `compose.native.artifacts`.
        say: takes one line at a time.
        options: further ones of its `start` command.

    Raises:
        StackError: it cannot be had; the sentence says what to do.
    """
    instance = Instance(f"keycloak-{uuid4().hex[:8]}")
    artifacts = Artifacts(Cache(default_folder()), process.mark(instance.directory, SETUP))
    mariadb, keycloak = MariaDB(instance, artifacts), Keycloak(instance, artifacts, version, options=options)
    try:
        with instance.locked(say):
            instance.create()
            for name in (*mariadb.ports, *keycloak.ports):
                instance.state.ports[name] = free_port()
            instance.save()
            mariadb.start(Progress(say))
            keycloak.start(Progress(say))
        yield keycloak
    finally:
        process.kill(process.members(str(instance.directory), whole_instance=True))
        shutil.rmtree(instance.directory, ignore_errors=True)


def _tracing(endpoint: str | None) -> tuple[str, ...]:
    """Send spans to an OTLP endpoint if there is one; Zipkin is none.

    Without one the whole SDK is off, because the exporter would write a warning for every batch it cannot send.
    """
    if endpoint is None:
        return ("-Dquarkus.otel.sdk.disabled=true",)
    return f"--tracing-endpoint={endpoint}", "--tracing-protocol=http/protobuf"
