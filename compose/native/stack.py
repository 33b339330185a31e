"""The native stack as a whole: four servers, brought up together and taken down together."""

from __future__ import annotations

import contextlib
import fcntl
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compose.native import process
from compose.native.artifacts import Artifacts
from compose.native.cache import Cache, default_folder
from compose.native.errors import NotUp, PortTaken
from compose.native.kafka import PARTITIONS, TOPIC, Kafka
from compose.native.keycloak import ADMIN, Keycloak
from compose.native.mariadb import MariaDB
from compose.native.ports import PORTS, choose, fixed_port
from compose.native.progress import Progress, Say, silent
from compose.native.realm import LOGIN_CLIENT, OBSERVER_CLIENT, REALM, SERVICE_CLIENT, Provisioner
from compose.native.server import SETUP
from compose.native.state import ROOT, Instance
from compose.native.tools import QUICK_START, find_java
from compose.native.zipkin import Zipkin
from consumer.delivery.passwords import KeyRing, generate_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from compose.native.server import Server

_KEY_ID = "stack-1"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Everything a program needs to use a stack. Secrets are left out of the repr.

    Attributes:
        kafka_bootstrap: host:port.
        topic: the topic of user events.
        mariadb_dsn: the consumer's own database and user, `mysql://user:password@host:port/database`.
        keycloak_url: base URL.
        keycloak_management_url: base URL of health and metrics.
        keycloak_admin_username: an administrator of the master realm.
        keycloak_admin_password: that administrator's password.
        realm: the realm that is served.
        client_id: the consumer's client, with the role `manage-users` only.
        client_secret: its secret.
        observer_client_id: a client for tests and the demo, which may look at events and change the realm.
        observer_client_secret: its secret.
        login_client_id: a public client with which a user's password can be tried.
        zipkin_url: base URL of the screen; spans go to /api/v2/spans below it.
        keys_dir: folder of the private sealing keys.
    """

    kafka_bootstrap: str
    topic: str
    mariadb_dsn: str = field(repr=False)
    keycloak_url: str
    keycloak_management_url: str
    keycloak_admin_username: str
    keycloak_admin_password: str = field(repr=False)
    realm: str
    client_id: str
    client_secret: str = field(repr=False)
    observer_client_id: str
    observer_client_secret: str = field(repr=False)
    login_client_id: str
    zipkin_url: str
    keys_dir: Path

    @property
    def sealing_key(self) -> str:
        """The public key that producers seal passwords to, as `producer_lib.SealingKey.from_text` reads it."""
        keys = KeyRing.load(self.keys_dir)
        return keys.public_keys()[keys.current]


class Stack:
    """One named stack.

    The methods block; call them from a thread or before a loop runs. Several objects of one name, also in several
    processes, speak of the same servers.

    Args:
        name: lower-case letters, digits and hyphens.
        root: the folder of all stacks.
        cache: the folder of downloads; the default is that of `compose.native.cache.default_folder`.
        at_full_speed: start servers that are slow at first and fast in the end, to measure them, and not the other way
            round.

    Attributes:
        kafka: the broker.
        mariadb: the database server.
        keycloak: the identity server.
        zipkin: the trace store.

    Raises:
        StackError: the name is not allowed, or the state file is damaged.
    """

    def __init__(
        self, name: str, root: Path = ROOT, cache: Path | None = None, *, at_full_speed: bool = False
    ) -> None:
        self.name = name
        self._instance = Instance(name, root)
        self._setup = process.mark(self._instance.directory, SETUP)
        self._artifacts = Artifacts(Cache(cache or default_folder()), self._setup)
        java_options = () if at_full_speed else QUICK_START
        self.kafka = Kafka(self._instance, self._artifacts, java_options)
        self.mariadb = MariaDB(self._instance, self._artifacts)
        self.keycloak = Keycloak(self._instance, self._artifacts, java_options=java_options)
        self.zipkin = Zipkin(self._instance, self._artifacts)

    @property
    def servers(self) -> tuple[Server, ...]:
        """All four, slowest first."""
        return self.keycloak, self.mariadb, self.kafka, self.zipkin

    @property
    def running(self) -> bool:
        """Whether all four live and were seen ready and set up."""
        return self._instance.state.complete and all(server.running for server in self.servers)

    @property
    def endpoints(self) -> Endpoints:
        """How to use it.

        Raises:
            NotUp: it was never brought up.
        """
        if not self._instance.exists:
            raise NotUp(self.name)
        secrets = self._instance.state.secrets
        return Endpoints(
            kafka_bootstrap=self.kafka.bootstrap,
            topic=TOPIC,
            mariadb_dsn=self.mariadb.dsn,
            keycloak_url=self.keycloak.url,
            keycloak_management_url=self.keycloak.management_url,
            keycloak_admin_username=ADMIN,
            keycloak_admin_password=secrets["keycloak_admin_password"],
            realm=REALM,
            client_id=SERVICE_CLIENT,
            client_secret=secrets["client_secret"],
            observer_client_id=OBSERVER_CLIENT,
            observer_client_secret=secrets["observer_client_secret"],
            login_client_id=LOGIN_CLIENT,
            zipkin_url=self.zipkin.url,
            keys_dir=self._keys,
        )

    def up(self, say: Say = silent) -> None:
        """Start what does not run, wait until all is ready, and set up what is missing.

        A second call does nothing. A call that fails or is interrupted stops what it started.

        Args:
            say: takes one line at a time.

        Raises:
            StackError: it cannot; the sentence says what to do.
        """
        with self._instance.locked(say):
            if self.running:
                say(f"The stack '{self.name}' is up already.")
                return
            find_java()
            # What an `up` that was killed left at work.
            process.kill(process.members(self._setup))
            self._instance.create()
            self._choose_ports()
            self._instance.state.complete = False
            self._instance.save()
            if not any(self._keys.glob("*.key")):
                generate_key(self._keys, _KEY_ID)
            begun = time.monotonic()
            self._bring_up(Progress(say))
            self._instance.state.complete = True
            self._instance.save()
            took = time.monotonic() - begun
            downloads = self._artifacts.download_seconds
            say(
                f"The stack '{self.name}' is up after {took:.1f} s"
                + (f", {downloads:.1f} s of it downloads." if downloads else ".")
            )

    def down(self, say: Say = silent) -> None:
        """Stop every process of this stack, also what a crashed or killed `up` left; data and ports are kept.

        Args:
            say: takes one line at a time.
        """
        if self._instance.directory.is_dir():
            with self._instance.locked(say):
                self._take_down()

    @contextlib.contextmanager
    def session(self, say: Say = silent, *, keep: bool = False) -> Iterator[Stack]:
        """Have it up for a while, and take it down at the end unless another session still uses it.

        Args:
            say: takes one line at a time.
            keep: leave it up at the end.
        """
        self._instance.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._instance.directory / "sessions").open("a", encoding="ascii") as users:
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                self.up(say)
                yield self
            finally:
                fcntl.flock(users, fcntl.LOCK_UN)
                if not keep:
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        self.down(say)

    @property
    def _keys(self) -> Path:
        return self._instance.directory / "keys"

    def _take_down(self) -> None:
        # MariaDB goes last, because Keycloak says goodbye to it.
        first = [server for server in self.servers if server is not self.mariadb]
        with ThreadPoolExecutor(len(first)) as pool:
            for future in [pool.submit(server.stop) for server in first]:
                future.result()
        self.mariadb.stop()
        process.kill(process.members(str(self._instance.directory), whole_instance=True))

    def _choose_ports(self) -> None:
        """Give every server that does not run the ports it will have.

        Raises:
            PortTaken: a fixed port is in use, or a server that runs has another one than is fixed.
        """
        ports = self._instance.state.ports
        for server in self.servers:
            if server.running:
                fixed = fixed_port(server.name)
                if fixed not in {None, ports.get(server.name)}:
                    remedy = f"{server.title} runs at port {server.port}; run `down` first, or unset {PORTS[server.name]}."
                    raise PortTaken(server.title, server.port, remedy)
                continue
            for name in server.ports:
                others = frozenset(port for other, port in ports.items() if other != name)
                chosen = choose(name, ports.get(name), others)
                if name == "mariadb" and ports.get(name) not in {None, chosen}:
                    # Keycloak learns where its database is when it starts.
                    self.keycloak.stop()
                ports[name] = chosen

    def _bring_up(self, progress: Progress) -> None:
        already = {server.name for server in self.servers if server.running}
        pool = ThreadPoolExecutor(len(self.servers))
        try:
            database = pool.submit(self._start, self.mariadb, progress)
            futures: list[Future[None]] = [
                database,
                pool.submit(self._start_keycloak, progress, database),
                pool.submit(self._start_kafka, progress),
                pool.submit(self._start, self.zipkin, progress),
            ]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            progress.brake()
            ours = [server for server in self.servers if server.name not in already]
            # Twice: first so that no thread waits for an answer any more, then what a thread had just started.
            for server in ours:
                server.kill()
            pool.shutdown()
            for server in ours:
                server.kill()
            raise
        pool.shutdown()

    def _start_keycloak(self, progress: Progress, database: Future[None]) -> None:
        self.keycloak.install(progress)
        database.result()
        state = self._instance.state
        if not state.keycloak_filled:
            self.keycloak.kill()
            self.mariadb.empty_keycloak()
        self._start(self.keycloak, progress)
        state.keycloak_filled = True
        self._instance.save()
        provisioner = Provisioner(self.keycloak.url, ADMIN, state.secrets["keycloak_admin_password"])
        provisioner.provide(state.secrets["client_secret"], state.secrets["observer_client_secret"])

    def _start_kafka(self, progress: Progress) -> None:
        self._start(self.kafka, progress)
        self.kafka.create_topic(TOPIC, PARTITIONS)

    @staticmethod
    def _start(server: Server, progress: Progress) -> None:
        seconds = server.start(progress)
        progress.say(f"{server.title:9} ready in {seconds:4.1f} s at {server.address}")
