"""A real LDAP server, and a realm of Keycloak whose users come from it.

The in-memory directory server of the UnboundID LDAP SDK: it starts in a second, holds what its LDIF file says, and
forgets what was written to it when it is stopped. `entryUUID` stands in the file, or Keycloak would take everybody for
somebody else after each start.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from compose.native.artifacts import Artifacts
from compose.native.cache import Cache, default_folder
from compose.native.ports import HOST, free_port
from compose.native.process import bare_environment, mark
from compose.native.progress import Progress
from compose.native.server import SETUP
from compose.native.tools import QUICK_START, find_java
from tests.integration.support.waiting import until

BASE = "dc=example,dc=org"
ADMIN = "cn=admin"
ADMIN_PASSWORD = "adminpw"
PASSWORD = "Directory-1"
"""Everybody's password in the directory."""


def directory_jar() -> Path:
    """The program, downloaded if it is not there."""
    cache = default_folder()
    return Artifacts(Cache(cache), mark(cache, SETUP)).directory(Progress(print))


_ONLY_READ = ("--allowedOperationType", "bind", "--allowedOperationType", "search")


@dataclass(slots=True)
class Directory:
    """One directory server.

    Attributes:
        jar: the program.
        folder: for its LDIF and its log.
        people: the uids it has from its next start on, each as the directory spells it.
        writable: whether it takes changes from its next start on, or only answers.
        port: on loopback; the same after each start.
    """

    jar: Path
    folder: Path
    people: tuple[str, ...]
    writable: bool = True
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ldap://{HOST}:{self.port}"

    async def start(self) -> None:
        """Start it, with `people` and nobody else, and wait until it listens."""
        ldif, log = self.folder / "people.ldif", self.folder / "directory.log"
        ldif.write_text(_ldif(self.people), encoding="utf-8")
        command = (
            find_java(),
            "-Xmx96m",
            *QUICK_START,
            "-cp",
            str(self.jar),
            "com.unboundid.ldap.listener.InMemoryDirectoryServerTool",
            *("--baseDN", BASE, "--port", str(self.port), "--useDefaultSchema", "--ldifFile", str(ldif)),
            *("--additionalBindDN", ADMIN, "--additionalBindPassword", ADMIN_PASSWORD),
            *(() if self.writable else _ONLY_READ),
        )
        with log.open("wb") as output:
            # Awaited would be its end; what matters is that it listens.
            self._process = subprocess.Popen(  # noqa: ASYNC220
                command,
                env=bare_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        await until(
            lambda: b"Listening for client connections" in log.read_bytes(), what="a directory", within=60
        )

    def stop(self) -> None:
        """Kill it: connections are refused from now on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it hang inside the block: it takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Have it stopped inside the block, and back afterwards."""
        self.stop()
        try:
            yield
        finally:
            await self.start()


def realm_with_directory(name: str, client: tuple[str, str], login_client: str) -> dict[str, Any]:
    """What `POST /admin/realms` takes: a realm with our client, which may manage users and nothing else."""
    client_id, secret = client
    return {
        "realm": name,
        "enabled": True,
        "groups": [{"name": "staff"}],
        "clients": [
            {
                "clientId": client_id,
                "secret": secret,
                "serviceAccountsEnabled": True,
                "standardFlowEnabled": False,
            },
            {
                "clientId": login_client,
                "publicClient": True,
                "standardFlowEnabled": False,
                "directAccessGrantsEnabled": True,
            },
        ],
        "users": [
            {
                "username": f"service-account-{client_id}",
                "enabled": True,
                "serviceAccountClientId": client_id,
                "clientRoles": {"realm-management": ["manage-users"]},
            }
        ],
    }


def component(directory: Directory, *, mode: str, imports: bool = True, **config: str) -> dict[str, Any]:
    """What `POST /components` takes, for a federation named `dir`."""
    settings = {
        "enabled": "true",
        "priority": "0",
        "fullSyncPeriod": "-1",
        "changedSyncPeriod": "-1",
        # Keycloak would otherwise answer for a directory that is away from its cache, sometimes.
        "cachePolicy": "NO_CACHE",
        "batchSizeForSync": "1000",
        "editMode": mode,
        "importEnabled": str(imports).lower(),
        "syncRegistrations": "false",
        "vendor": "other",
        "usernameLDAPAttribute": "uid",
        "rdnLDAPAttribute": "uid",
        "uuidLDAPAttribute": "entryUUID",
        "userObjectClasses": "inetOrgPerson, organizationalPerson",
        "connectionUrl": directory.url,
        "usersDn": f"ou=people,{BASE}",
        "authType": "simple",
        "bindDn": ADMIN,
        "bindCredential": ADMIN_PASSWORD,
        "searchScope": "1",
        "pagination": "false",
        "connectionTimeout": "2000",
        "readTimeout": "2000",
        **config,
    }
    return {
        "name": "dir",
        "providerId": "ldap",
        "providerType": "org.keycloak.storage.UserStorageProvider",
        "config": {name: [value] for name, value in settings.items()},
    }


def _ldif(people: tuple[str, ...]) -> str:
    rows = [
        f"dn: {BASE}\nobjectClass: top\nobjectClass: domain\ndc: example\n",
        f"dn: ou=people,{BASE}\nobjectClass: top\nobjectClass: organizationalUnit\nou: people\n",
    ]
    rows += [
        f"dn: uid={uid},ou=people,{BASE}\n"
        "objectClass: top\nobjectClass: person\nobjectClass: organizationalPerson\nobjectClass: inetOrgPerson\n"
        f"uid: {uid}\ncn: {uid}\nsn: Directory\nmail: {uid.lower()}@directory.example.org\n"
        f"userPassword: {PASSWORD}\nentryUUID: {uuid5(NAMESPACE_DNS, uid)}\n"
        for uid in people
    ]
    return "\n".join(rows)
