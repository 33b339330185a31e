from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from compose.native import tools
from compose.native.errors import ToolMissing

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH; empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def program(file: Path, *, stderr: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n/bin/cat >&2 <<'END'\n{stderr}\nEND\n", encoding="utf-8")
    file.chmod(0o755)
    return file


class TestJava:
    @pytest.mark.parametrize(
        "answer",
        [
            'openjdk version "17.0.15" 2025-04-15',
            'openjdk version "25" 2025-09-16',
            'java version "21.0.1" LTS',
        ],
    )
    def test_that_is_new_enough_is_found(self, path: Path, answer: str) -> None:
        java = program(path / "java", stderr=answer)

        assert tools.find_java() == str(java)

    def test_that_is_missing_is_named_with_the_remedy(self, path: Path) -> None:
        with pytest.raises(ToolMissing) as caught:
            tools.find_java()

        assert caught.value.tool == "java"
        assert str(caught.value) == (
            "No java was found on the PATH. Install a JDK 17 or newer "
            "(Debian: apt-get install openjdk-17-jdk-headless) and have java on the PATH, or set JAVA_HOME."
        )

    @pytest.mark.parametrize(
        ("answer", "found"),
        [
            ('openjdk version "11.0.2" 2019-01-15', "version 11"),
            ('java version "1.8.0_292"', "version 8"),
            ("command not understood", "of a version that it does not tell"),
        ],
    )
    def test_that_is_too_old_is_named_with_its_version(self, path: Path, answer: str, found: str) -> None:
        java = program(path / "java", stderr=answer)

        with pytest.raises(
            ToolMissing, match=f"{java} is {found}, but Keycloak and Kafka need 17. Install a JDK 17"
        ):
            tools.find_java()

    def test_of_java_home_goes_first(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program(path / "java", stderr='version "11.0.2"')
        chosen = program(tmp_path / "jdk" / "bin" / "java", stderr='version "21"')
        monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))

        assert tools.find_java() == str(chosen)

    def test_that_java_home_only_claims_is_an_error(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program(path / "java", stderr='version "21"')
        monkeypatch.setenv("JAVA_HOME", "/nowhere")

        with pytest.raises(ToolMissing, match="JAVA_HOME is '/nowhere', where no bin/java is"):
            tools.find_java()


class TestMaven:
    def test_is_found_on_the_path(self, path: Path) -> None:
        maven = program(path / "mvn")

        assert tools.find_maven() == str(maven)

    def test_that_is_missing_is_named_with_the_remedy(self, path: Path) -> None:
        with pytest.raises(ToolMissing) as caught:
            tools.find_maven()

        assert str(caught.value) == (
            "No mvn was found on the PATH, and the servers are downloaded by Maven. "
            "Install Maven 3.6 or newer (Debian: apt-get install maven)."
        )
