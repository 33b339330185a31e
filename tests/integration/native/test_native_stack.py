from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import psutil
import pymysql
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from compose.native import process
from compose.native.kafka import PARTITIONS
from compose.native.state import ROOT
from consumer.delivery.passwords import KeyRing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from compose.native.stack import Endpoints, Stack


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def pids(stack: Stack) -> set[int]:
    return {member.pid for server in stack.servers for member in process.members(server.marked)}


def sign_in(endpoints: Endpoints, client_id: str, **form: str) -> httpx.Response:
    url = f"{endpoints.keycloak_url}/realms/{endpoints.realm}/protocol/openid-connect/token"
    return httpx.post(url, data={"client_id": client_id, **form}, timeout=30)


class Admin:
    """Calls Keycloak's Admin API as one of the realm's clients."""

    def __init__(self, endpoints: Endpoints, client_id: str, secret: str) -> None:
        answer = sign_in(endpoints, client_id, client_secret=secret, grant_type="client_credentials")
        answer.raise_for_status()
        self._url = f"{endpoints.keycloak_url}/admin/realms/{endpoints.realm}"
        self._headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return httpx.request(method, f"{self._url}{path}", json=body, headers=self._headers, timeout=30)


@pytest.fixture
def service(stack: Stack) -> Admin:
    return Admin(stack.endpoints, stack.endpoints.client_id, stack.endpoints.client_secret)


@pytest.fixture
def observer(stack: Stack) -> Admin:
    return Admin(stack.endpoints, stack.endpoints.observer_client_id, stack.endpoints.observer_client_secret)


class TestASecondUp:
    def test_starts_nothing_and_takes_no_time(self, stack: Stack) -> None:
        before = pids(stack)
        said: list[str] = []

        begun = time.monotonic()
        stack.up(said.append)

        assert time.monotonic() - begun < 3
        assert said == [f"The stack '{stack.name}' is up already."]
        assert pids(stack) == before
        assert len(before) >= 4


class TestTheServiceClient:
    def test_manages_users(self, service: Admin) -> None:
        assert service.call("GET", "/users?max=1").status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("PUT", "", {"displayName": "changed"}),
            ("GET", "/admin-events", None),
            ("GET", "/clients/realm-management", None),
            ("POST", "/roles", {"name": "any"}),
            ("POST", "/partialImport", {"ifResourceExists": "SKIP", "users": []}),
        ],
    )
    def test_may_do_nothing_else(self, service: Admin, method: str, path: str, body: Any) -> None:
        assert service.call(method, path, body).status_code == 403

    def test_cannot_be_used_to_sign_in_with_a_password(self, stack: Stack) -> None:
        endpoints = stack.endpoints
        answer = sign_in(
            endpoints,
            endpoints.client_id,
            client_secret=endpoints.client_secret,
            grant_type="password",
            username="anybody",
            password="anything",
        )

        assert answer.json()["error"] == "unauthorized_client"


class TestTheRealm:
    def test_keeps_unmanaged_attributes_and_records_admin_events(
        self, service: Admin, observer: Admin
    ) -> None:
        username = f"native-{uuid.uuid4().hex}"
        created = service.call("POST", "/users", {"username": username, "attributes": {"sequence": ["1"]}})
        user_id = created.headers["Location"].rpartition("/")[2]

        assert service.call("GET", f"/users/{user_id}").json()["attributes"] == {"sequence": ["1"]}
        (event,) = observer.call("GET", f"/admin-events?resourcePath=users/{user_id}").json()
        assert event["operationType"] == "CREATE"
        assert username in event["representation"]

    def test_lets_its_login_client_prove_a_password(self, stack: Stack, service: Admin) -> None:
        username = f"native-{uuid.uuid4().hex}"
        profile = {"email": f"{username}@example.org", "firstName": "A", "lastName": "B", "enabled": True}
        credential = {"type": "password", "value": "right-password", "temporary": False}
        created = service.call(
            "POST", "/users", {"username": username, **profile, "credentials": [credential]}
        )
        assert created.status_code == 201

        def answer(password: str) -> dict[str, Any]:
            form = {"grant_type": "password", "username": username, "password": password}
            content: dict[str, Any] = sign_in(stack.endpoints, stack.endpoints.login_client_id, **form).json()
            return content

        assert "access_token" in answer("right-password")
        assert answer("wrong-password") == {
            "error": "invalid_grant",
            "error_description": "Invalid user credentials",
        }

    @pytest.mark.long
    def test_outlives_the_death_of_keycloak(self, stack: Stack, service: Admin) -> None:
        username = f"native-{uuid.uuid4().hex}"
        assert service.call("POST", "/users", {"username": username}).status_code == 201

        stack.keycloak.kill()
        assert not stack.keycloak.running
        with pytest.raises(httpx.TransportError):
            service.call("GET", "/users?max=1")
        stack.keycloak.start()

        (found,) = service.call("GET", f"/users?exact=true&username={username}").json()
        assert found["username"] == username


class TestTheSealingKey:
    def test_is_one_that_a_consumer_can_load(self, stack: Stack) -> None:
        assert KeyRing.load(stack.endpoints.keys_dir).kids == {"stack-1"}


class TestKafka:
    @pytest.mark.long
    async def test_has_the_topic_with_its_partitions_also_after_its_death(self, stack: Stack) -> None:
        def restart() -> None:
            stack.kafka.kill()
            stack.kafka.start()

        await asyncio.to_thread(restart)

        admin = AIOKafkaAdminClient(bootstrap_servers=stack.endpoints.kafka_bootstrap)
        await admin.start()
        try:
            (topic,) = await admin.describe_topics([stack.endpoints.topic])
        finally:
            await admin.close()
        assert len(topic["partitions"]) == PARTITIONS == 12

    async def test_creates_topics_for_tests_from_within_a_loop(self, stack: Stack) -> None:
        name = f"native-{uuid.uuid4().hex}"
        stack.kafka.create_topic(name, 3)
        stack.kafka.create_topic(name, 3)


class TestMariaDB:
    @staticmethod
    def connect(dsn: str) -> pymysql.Connection[pymysql.cursors.Cursor]:
        parts = urlsplit(dsn)
        return pymysql.connect(
            host=parts.hostname or "",
            port=parts.port or 0,
            user=parts.username,
            password=parts.password or "",
            database=parts.path[1:],
        )

    def test_gives_the_consumers_user_its_own_database_and_no_other(self, stack: Stack) -> None:
        with self.connect(stack.endpoints.mariadb_dsn) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@character_set_database, @@innodb_flush_log_at_trx_commit")
            assert cursor.fetchone() == ("utf8mb4", 1)
            with pytest.raises(pymysql.err.OperationalError, match="SELECT command denied"):
                cursor.execute("SELECT 1 FROM keycloak.REALM")

    def test_empties_a_new_database_that_exists(self, stack: Stack) -> None:
        dsn = stack.mariadb.new_database("native_test")
        with self.connect(dsn) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE left_over (id INT)")

        assert stack.mariadb.new_database("native_test") == dsn
        with self.connect(dsn) as connection, connection.cursor() as cursor:
            assert cursor.execute("SHOW TABLES") == 0

    def test_keeps_what_was_committed_when_it_dies(self, stack: Stack) -> None:
        dsn = stack.mariadb.new_database("native_death")
        with self.connect(dsn) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept (id INT)")
            cursor.execute("INSERT INTO kept VALUES (7)")
            connection.commit()
            stack.mariadb.kill()

        stack.mariadb.start()
        with self.connect(dsn) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM kept")
            assert cursor.fetchone() == (7,)


class TestALauncherThatDies:
    """These use stacks of their own, and take down only what is half-made."""

    @pytest.fixture
    def name(self) -> Iterator[str]:
        name = f"test-{uuid.uuid4().hex[:8]}"
        yield name
        self.command("down", name)
        shutil.rmtree(ROOT / name)

    @staticmethod
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        command, name = arguments
        words = [sys.executable, "-m", "compose.native", command, "--name", name]
        return subprocess.run(
            words, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT.parent
        )

    @staticmethod
    def launch(name: str, log: Path) -> subprocess.Popen[bytes]:
        """Bring a stack up, and give its launcher once the first servers run."""
        with log.open("wb") as output:
            launcher = subprocess.Popen(
                [sys.executable, "-m", "compose.native", "up", "--name", name],
                cwd=ROOT.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            until(lambda: names_of(name) >= {"mariadbd", "java"}, 60)
        except BaseException:
            launcher.kill()
            launcher.wait()
            raise
        return launcher

    def test_by_sigkill_leaves_what_down_then_stops(self, stack: Stack, name: str, tmp_path: Path) -> None:
        others = pids(stack)
        with self.launch(name, tmp_path / "up.log") as launcher:
            launcher.kill()
        left = of(name)
        assert left

        done = self.command("down", name)

        assert done.returncode == 0, done.stderr
        assert not any(map(lives, left))
        assert of(name) == []
        assert pids(stack) == others

    @pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
    def test_by_a_polite_signal_takes_its_servers_with_it(
        self, stack: Stack, name: str, tmp_path: Path, number: signal.Signals
    ) -> None:
        others = pids(stack)
        log = tmp_path / "up.log"
        with self.launch(name, log) as launcher:
            launcher.send_signal(number)
            status = launcher.wait(60)

        assert status == 130, log.read_text(encoding="utf-8")
        assert "Interrupted; what this command started was stopped." in log.read_text(encoding="utf-8")
        assert of(name) == []
        assert pids(stack) == others


def names_of(name: str) -> set[str]:
    """What the living processes of a stack are called; a starting stack has some that end as soon as they are seen."""
    names = set()
    for member in of(name):
        with suppress(psutil.NoSuchProcess):
            names.add(member.name())
    return names


def lives(member: psutil.Process) -> bool:
    try:
        return member.is_running() and member.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def of(name: str) -> list[psutil.Process]:
    """Every living process of a stack of this repository."""
    return process.members(str(ROOT / name), whole_instance=True)
