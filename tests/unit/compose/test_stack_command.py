from __future__ import annotations

import signal
import socket
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from compose.native import __main__ as command
from compose.native import ports, process
from compose.native.errors import NotReady, StackError
from compose.native.server import Launch, Server
from compose.native.stack import Stack
from compose.native.state import Instance
from consumer.delivery.passwords import generate_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from compose.native.progress import Progress


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for stacks, in place of the repository's, and an empty cache."""
    root = tmp_path / "stacks"
    monkeypatch.setattr(command, "ROOT", root)
    monkeypatch.setattr(command, "Stack", lambda name: Stack(name, root))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("KCSYNC_STACK_CACHE", str(tmp_path / "cache"))
    for variable in filter(None, ports.PORTS.values()):
        monkeypatch.delenv(variable, raising=False)
    return root


class TestTheCommand:
    def test_without_a_jdk_is_one_sentence_and_exit_code_2(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "bin").mkdir()
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        monkeypatch.delenv("JAVA_HOME", raising=False)

        assert command.main(["up"]) == command.FAILED

        assert capsys.readouterr().err.startswith("No java was found on the PATH. Install a JDK 17")

    def test_without_maven_is_one_sentence_and_exit_code_2(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text("#!/bin/sh\necho 'openjdk version \"21\"' >&2\n", encoding="utf-8")
        java.chmod(0o755)
        monkeypatch.setenv("PATH", str(java.parent))
        monkeypatch.delenv("JAVA_HOME", raising=False)

        assert command.main(["up"]) == command.FAILED

        assert capsys.readouterr().err.startswith("No mvn was found on the PATH")

    def test_with_a_cache_that_cannot_be_written_names_the_place(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("KCSYNC_STACK_CACHE", str(tmp_path / "file" / "cache"))

        assert command.main(["up"]) == command.FAILED

        assert f"The disk or the system refused {tmp_path / 'file'}" in capsys.readouterr().err

    def test_says_how_to_start_a_stack_that_never_was(
        self, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command.main(["env", "--name", "one"]) == command.FAILED

        assert "python -m compose.native up --name one" in capsys.readouterr().err

    def test_takes_down_what_never_was_without_a_word_of_complaint(self, root: Path) -> None:
        assert command.main(["down", "--all", "--quiet"]) == command.DONE
        assert command.main(["down", "--name", "one", "--quiet"]) == command.DONE
        assert not (root / "one").exists()

    def test_prints_the_environment_of_a_consumer(
        self, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        instance = Instance("dev", root)
        instance.create()
        instance.state.ports.update(dict.fromkeys(ports.PORTS, 12345))
        instance.save()
        public = generate_key(Stack("dev", root).endpoints.keys_dir, "stack-1")

        assert command.main(["env"]) == command.DONE

        lines = capsys.readouterr().out.splitlines()
        password = instance.state.secrets["mariadb_kcsync_password"]
        assert f"export KCSYNC_DATABASE_DSN=mysql://kcsync:{password}@127.0.0.1:12345/kcsync" in lines
        assert "export KCSYNC_KAFKA_BOOTSTRAP=127.0.0.1:12345" in lines
        assert f"export KCSYNC_STACK_SEALING_KEY={public}" in lines
        assert "export OTEL_EXPORTER_ZIPKIN_ENDPOINT=http://127.0.0.1:12345/api/v2/spans" in lines

    def test_shows_stopped_servers_by_its_exit_code(
        self, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        instance = Instance("dev", root)
        instance.create()
        instance.state.ports.update(dict.fromkeys(ports.PORTS, 12345))
        instance.save()

        assert command.main(["status"]) == command.DEGRADED

        assert capsys.readouterr().out.count("stopped") == 4


class TestEndpoints:
    def test_show_no_secret(self, root: Path) -> None:
        instance = Instance("dev", root)
        instance.create()
        instance.state.ports.update(dict.fromkeys(ports.PORTS, 12345))
        instance.save()

        shown = repr(Stack("dev", root).endpoints)

        assert "keycloak_url='http://127.0.0.1:12345'" in shown
        assert not any(secret in shown for secret in instance.state.secrets.values())


class TestMariaDB:
    @pytest.mark.parametrize(
        "name", ["keycloak", "kcsync", "mysql", "Upper", "a`b", "a b", "", "1a", "a" * 64]
    )
    def test_never_drops_a_database_of_a_server_nor_runs_odd_names(self, root: Path, name: str) -> None:
        with pytest.raises(StackError, match="cannot name a new database"):
            Stack("dev", root).mariadb.new_database(name)

    def test_keeps_its_socket_path_short_enough_for_the_kernel(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "gettempdir", lambda: "/tmp")  # noqa: S108 (only a length)
        near = Stack("dev", tmp_path).mariadb._socket()
        far = Stack("dev", tmp_path / ("x" * 100)).mariadb._socket()

        assert near == tmp_path / "dev" / "mariadb" / "mariadb.sock" or len(str(tmp_path)) > 80
        assert len(str(far)) <= 107
        assert far != Stack("dev", tmp_path / ("y" * 100)).mariadb._socket()


class _Fake(Server):
    """A server that is a shell script, and ready when told."""

    name = "zipkin"
    title = "Fake"
    ports = ("zipkin",)
    patience = 5
    script = "sleep 600"
    ready: Callable[[], bool] = staticmethod(lambda: False)

    def install(self, progress: Progress) -> Path:
        return self.instance.directory

    def launch(self, program: Path) -> Launch:
        return Launch(("sh", "-c", self.script), {"PATH": "/usr/bin:/bin"})

    def answers(self) -> bool:
        return self.ready()


class TestAServer:
    @pytest.fixture
    def fake(self, root: Path) -> _Fake:
        stack = Stack("dev", root)
        instance = Instance("dev", root)
        instance.create()
        instance.state.ports["zipkin"] = ports.free_port()
        return _Fake(instance, stack.zipkin.artifacts)

    def test_that_never_becomes_ready_is_given_up_with_its_log(
        self, fake: _Fake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_Fake, "patience", 0.5)
        fake.script = "echo no luck; sleep 600"
        try:
            with pytest.raises(NotReady, match=r"Fake was not ready after 0 s\. Its log is .*\n    no luck"):
                fake.start()
        finally:
            fake.kill()

    def test_that_ends_early_is_not_waited_for(self, fake: _Fake) -> None:
        fake.script = "echo broken >&2; exit 1"
        begun = time.monotonic()

        with pytest.raises(NotReady, match=r"Fake ended before it was ready\. .*\n    broken"):
            fake.start()
        assert time.monotonic() - begun < fake.patience

    def test_that_runs_is_not_started_twice(self, fake: _Fake) -> None:
        fake.script = "echo begun; exec sleep 600"
        # In the middle of the exec a process shows no mark.
        fake.ready = lambda: [member.name() for member in process.members(fake.marked)] == ["sleep"]
        try:
            fake.start()
            fake.start()
            assert fake.log.read_text(encoding="utf-8") == "begun\n"
            assert len(process.members(fake.marked)) == 1
        finally:
            fake.kill()
        assert not fake.running

    def test_whose_port_was_taken_says_so(self, fake: _Fake) -> None:
        with (
            socket.create_server((ports.HOST, fake.port)),
            pytest.raises(StackError, match=rf"Port {fake.port}, wanted for Fake, is in use"),
        ):
            fake.start()
        assert not fake.running
