"""Kafka: one KRaft node that is broker and controller."""

from __future__ import annotations

import asyncio
import shutil
import socket
import uuid
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from compose.native import process
from compose.native.errors import StackError
from compose.native.ports import HOST
from compose.native.server import Launch, Server
from compose.native.tools import QUICK_START, find_java

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from pathlib import Path
    from typing import TypeVar

    from compose.native.artifacts import Artifacts
    from compose.native.progress import Progress
    from compose.native.state import Instance

    Result = TypeVar("Result")

TOPIC = "kcsync.user-events"
PARTITIONS = 12

_HEAP = ("-Xms256m", "-Xmx384m")
_LOGGING = """\
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
"""


class Kafka(Server):
    """The broker. `bootstrap` is what clients are given."""

    name: ClassVar[str] = "kafka"
    title: ClassVar[str] = "Kafka"
    ports: ClassVar[tuple[str, ...]] = ("kafka", "kafka_controller")

    def __init__(
        self, instance: Instance, artifacts: Artifacts, java_options: Sequence[str] = QUICK_START
    ) -> None:
        super().__init__(instance, artifacts)
        self._java_options = java_options

    @property
    def bootstrap(self) -> str:
        """Host and port for KCSYNC_KAFKA_BOOTSTRAP."""
        return self.address

    def install(self, progress: Progress) -> Path:
        """Provide the jars, and format the data folder once."""
        jars = self.artifacts.kafka(progress)
        self.directory.mkdir(exist_ok=True)
        (self.directory / "log4j2.properties").write_text(_LOGGING, encoding="ascii")
        self._configure()
        if not (self.directory / "data" / "meta.properties").exists():
            # What a broken-off formatting left is worth nothing.
            shutil.rmtree(self.directory / "data", ignore_errors=True)
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
            # A cluster id that begins with a hyphen would be read as an option.
            cluster = f"k{cluster[1:]}"
            process.run(
                "Formatting Kafka's data folder",
                (
                    *self._java(jars, *QUICK_START),
                    "kafka.tools.StorageTool",
                    "format",
                    "--ignore-formatted",
                    "--cluster-id",
                    cluster,
                    "--config",
                    str(self.directory / "server.properties"),
                ),
                process.bare_environment(),
                self.instance.logs / "kafka-format.log",
                self.setup_marked,
                progress,
            )
        return jars

    def launch(self, program: Path) -> Launch:
        """Start `kafka.Kafka` with the configuration of now."""
        self._configure()
        command = (
            *self._java(program, *_HEAP, *self._java_options),
            "kafka.Kafka",
            str(self.directory / "server.properties"),
        )
        return Launch(command, process.bare_environment())

    def answers(self) -> bool:
        """Ask for the cluster's metadata; true once the broker is in it."""
        with socket.socket() as probe:
            probe.settimeout(1)
            # Without this look, the client would log each refused connection.
            if probe.connect_ex((HOST, self.port)) != 0:
                return False
        return _in_own_loop(_has_broker(self.bootstrap))

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic with one replica, unless it exists.

        Raises:
            StackError: Kafka refused, with its reason.
        """
        try:
            _in_own_loop(_create_topic(self.bootstrap, name, partitions))
        except KafkaError as error:
            raise StackError(
                f"Kafka did not make the topic {name}: {type(error).__name__}. See {self.log}, and run `up` again."
            ) from None

    def _java(self, jars: Path, *options: str) -> tuple[str, ...]:
        return (
            find_java(),
            *options,
            f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}",
            "-cp",
            f"{jars}/*",
        )

    def _configure(self) -> None:
        controller = f"{HOST}:{self.port_of('kafka_controller')}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.directory / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # A broker that was killed is let in again when its old session is over: 9 s by default.
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "1000",
            # Groups of tests form at once.
            "group.initial.rebalance.delay.ms": "0",
        }
        text = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self.directory / "server.properties").write_text(text, encoding="utf-8")


async def _has_broker(bootstrap: str) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
    return bool(cluster["brokers"])


async def _create_topic(bootstrap: str, name: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=15_000)
    await admin.start()
    try:
        if name in await admin.list_topics():
            return
        answer = await admin.create_topics([NewTopic(name, partitions, 1)])
    finally:
        await admin.close()
    for topic, code, *_ in answer.topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise for_code(code)(topic)


def _in_own_loop(work: Coroutine[None, None, Result]) -> Result:
    """Run a coroutine to its end, also where a loop already runs in this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
