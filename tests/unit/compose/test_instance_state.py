from __future__ import annotations

import stat
import threading
from typing import TYPE_CHECKING

import pytest

from compose.native.errors import NotUp, StackError
from compose.native.progress import silent
from compose.native.stack import Stack
from compose.native.state import Instance, exclusive

if TYPE_CHECKING:
    from pathlib import Path


class TestTheStateFile:
    def test_is_remembered_by_the_next_command(self, tmp_path: Path) -> None:
        first = Instance("one", tmp_path)
        first.create()
        first.state.ports["kafka"] = 12345
        first.state.keycloak_filled = True
        first.save()

        second = Instance("one", tmp_path)

        assert second.state == first.state
        assert second.exists

    def test_is_readable_by_its_owner_only(self, tmp_path: Path) -> None:
        instance = Instance("one", tmp_path)
        instance.create()

        (file,) = instance.directory.glob("state*")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_holds_secrets_that_stay_and_that_no_repr_shows(self, tmp_path: Path) -> None:
        instance = Instance("one", tmp_path)
        instance.create()
        secrets = dict(instance.state.secrets)
        instance.create()

        assert instance.state.secrets == secrets
        assert len(set(secrets.values())) == len(secrets)
        assert not any(secret in repr(instance.state) for secret in secrets.values())

    def test_says_what_to_do_when_it_is_damaged(self, tmp_path: Path) -> None:
        instance = Instance("one", tmp_path)
        instance.create()
        (instance.directory / "state.json").write_text('{"ports": {', encoding="utf-8")

        with pytest.raises(
            StackError, match=rf"is damaged\. Delete the folder {instance.directory} and start anew"
        ):
            Instance("one", tmp_path)

    @pytest.mark.parametrize("name", ["", "..", "a/b", "Dev", "-x", "a" * 32])
    def test_lies_in_no_folder_of_an_odd_name(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(StackError, match="cannot name a stack"):
            Instance(name, tmp_path)

    def test_tells_before_the_first_up_that_there_are_no_endpoints(self, tmp_path: Path) -> None:
        with pytest.raises(NotUp, match=r"Run: python -m compose\.native up --name one"):
            _ = Stack("one", tmp_path).endpoints


class TestTheLock:
    def test_lets_one_command_at_a_time_in_and_shows_it_the_newest_state(self, tmp_path: Path) -> None:
        first, second = Instance("one", tmp_path), Instance("one", tmp_path)
        first.create()
        said: list[str] = []
        seen: list[int] = []
        waiting = threading.Event()

        def say(line: str) -> None:
            said.append(line)
            waiting.set()

        def enter() -> None:
            with second.locked(say):
                seen.append(second.state.ports["kafka"])

        with first.locked(silent):
            thread = threading.Thread(target=enter)
            thread.start()
            assert waiting.wait(10)
            first.state.ports["kafka"] = 12345
            first.save()
        thread.join(10)

        assert said == ["Waiting for another command on 'one' ..."]
        assert seen == [12345]

    def test_is_free_again_after_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "lock"):
            _ = 1 / 0

        with exclusive(tmp_path / "lock", lambda: pytest.fail("it was still held")):
            pass


class TestASession:
    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What was done to the servers, of which there are none here."""
        calls: list[str] = []
        monkeypatch.setattr(Stack, "up", lambda *_: calls.append("up"))
        monkeypatch.setattr(Stack, "down", lambda *_: calls.append("down"))
        return calls

    def test_takes_the_stack_down_at_its_end_also_after_an_interrupt(
        self, tmp_path: Path, calls: list[str]
    ) -> None:
        with pytest.raises(KeyboardInterrupt), Stack("one", tmp_path).session():
            raise KeyboardInterrupt

        assert calls == ["up", "down"]

    def test_leaves_the_stack_to_another_session_that_uses_it(self, tmp_path: Path, calls: list[str]) -> None:
        with Stack("one", tmp_path).session():
            with Stack("one", tmp_path).session():
                pass
            assert calls == ["up", "up"]

        assert calls == ["up", "up", "down"]

    def test_keeps_the_stack_up_when_asked(self, tmp_path: Path, calls: list[str]) -> None:
        with Stack("one", tmp_path).session(keep=True):
            pass

        assert calls == ["up"]
