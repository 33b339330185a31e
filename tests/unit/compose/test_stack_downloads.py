from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path

import pytest

from compose.native.cache import Cache, default_folder, link_tree
from compose.native.download import Artifact, Downloader, Libraries
from compose.native.errors import DiskFull, DownloadFailed, Stopped
from compose.native.progress import Progress

WANTED = Artifact("Thing 1.0 (1 MB)", "org.example:thing:1.0:zip", hashlib.sha256(b"thing\n").hexdigest())
# The output folder is the only argument of that beginning.
_FIND_FOLDER = 'for each in "$@"; do case $each in -DoutputDirectory=*) out=${each#*=};; esac; done\n'
DELIVERS = _FIND_FOLDER + 'echo thing > "$out/thing-1.0.zip"\n'
REFUSES = (
    "printf '\\033[0m'; echo '[ERROR] '; echo '[ERROR] Failed to execute goal copy: Could not find artifact org.example:thing:zip:1.0 in central "
    "-> [Help 1]'\nexit 1\n"
)


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for mvn; a test writes what it does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "mvn"


def does(maven: Path, script: str) -> None:
    maven.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
    maven.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


class TestADownload:
    def test_gives_the_file_and_says_what_it_took(self, maven: Path, folder: Path, into: Path) -> None:
        does(maven, DELIVERS)
        said: list[str] = []
        downloader = Downloader(folder, "mark")

        file = downloader.artifact(WANTED, into, Progress(said.append))

        assert file.read_text(encoding="utf-8") == "thing\n"
        assert downloader.seconds > 0
        assert said == [
            "downloading Thing 1.0 (1 MB) ...",
            f"downloaded  Thing 1.0 (1 MB) in {downloader.seconds:.1f} s",
        ]

    def test_that_fails_gives_mavens_reason_and_what_to_do(
        self, maven: Path, folder: Path, into: Path
    ) -> None:
        does(maven, REFUSES)

        with pytest.raises(DownloadFailed) as caught:
            Downloader(folder, "mark").artifact(WANTED, into, Progress())

        assert str(caught.value) == (
            "Maven could not deliver Thing 1.0 (1 MB): Failed to execute goal copy: Could not find artifact "
            "org.example:thing:zip:1.0 in central. Check the network and any mirror in ~/.m2/settings.xml, "
            f"then run the command again. Maven's words: {folder / 'maven-thing-1.0.log'}"
        )

    def test_of_another_file_than_the_pinned_one_is_refused(
        self, maven: Path, folder: Path, into: Path
    ) -> None:
        does(maven, _FIND_FOLDER + 'echo other > "$out/thing-1.0.zip"\n')

        with pytest.raises(
            DownloadFailed, match=f"its SHA-256 is [0-9a-f]{{64}}, not the pinned {WANTED.sha256}"
        ):
            Downloader(folder, "mark").artifact(WANTED, into, Progress())

    def test_of_libraries_asks_for_all_roots_at_once(
        self, maven: Path, folder: Path, into: Path, tmp_path: Path
    ) -> None:
        does(maven, f'cp "{into}/pom.xml" "{tmp_path}/seen.xml"\n{DELIVERS}')

        Downloader(folder, "mark").libraries(Libraries("Two", ("a.b:one:1", "c.d:two:2")), into, Progress())

        pom = (tmp_path / "seen.xml").read_text(encoding="utf-8")
        assert "<groupId>a.b</groupId><artifactId>one</artifactId><version>1</version>" in pom
        assert "<groupId>c.d</groupId><artifactId>two</artifactId><version>2</version>" in pom
        assert [path.name for path in into.iterdir()] == ["thing-1.0.zip"]

    def test_ends_at_once_when_the_brake_is_pulled(self, maven: Path, folder: Path, into: Path) -> None:
        does(maven, "sleep 600\n")
        progress = Progress()
        threading.Timer(0.2, progress.brake).start()

        with pytest.raises(Stopped):
            Downloader(folder, "mark").artifact(WANTED, into, progress)

    def test_is_not_begun_on_a_full_disk(
        self, maven: Path, folder: Path, into: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        does(maven, DELIVERS)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 5 * 2**20))

        with pytest.raises(DiskFull) as caught:
            Downloader(folder, "mark").artifact(WANTED, into, Progress())

        assert str(caught.value) == (
            f"The disk of {folder} has 5 MB free, and a download needs 600. "
            "Free some space, or name a folder on another disk in KCSYNC_STACK_CACHE."
        )
        assert list(into.iterdir()) == []


class TestTheCache:
    def test_makes_a_folder_once(self, folder: Path) -> None:
        made: list[Path] = []

        def make(half: Path) -> None:
            made.append(half)
            (half / "file").touch()

        first = Cache(folder).provide("thing-1", make)
        second = Cache(folder).provide("thing-1", make)

        assert first == second == folder / "thing-1"
        assert (first / "file").exists()
        assert len(made) == 1

    def test_never_counts_a_broken_off_folder_as_made(self, folder: Path) -> None:
        def break_off(half: Path) -> None:
            (half / "file").touch()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Cache(folder).provide("thing-1", break_off)

        assert not (folder / "thing-1").exists()
        assert Cache(folder).provide("thing-1", lambda half: (half / "whole").touch()).is_dir()
        assert [path.name for path in (folder / "thing-1").iterdir()] == ["whole"]

    def test_clears_what_a_killed_maker_left(self, folder: Path) -> None:
        left = folder / ".thing-1.half-abc"
        left.mkdir()
        (left / "half").touch()

        Cache(folder).provide("thing-1", lambda half: (half / "whole").touch())

        assert not left.exists()

    def test_lets_two_who_want_the_same_wait_for_one_maker(self, folder: Path) -> None:
        making, go_on = threading.Event(), threading.Event()
        makers: list[str] = []

        def slowly(half: Path) -> None:
            makers.append("first")
            making.set()
            assert go_on.wait(10)
            (half / "file").touch()

        first = threading.Thread(target=Cache(folder).provide, args=("thing-1", slowly))
        first.start()
        assert making.wait(10)
        second = threading.Thread(
            target=Cache(folder).provide, args=("thing-1", lambda _: makers.append("second"))
        )
        second.start()
        go_on.set()
        first.join(10)
        second.join(10)

        assert makers == ["first"]

    def test_stands_where_the_environment_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KCSYNC_STACK_CACHE", "/a")
        monkeypatch.setenv("XDG_CACHE_HOME", "/b")
        assert default_folder() == Path("/a")

        monkeypatch.delenv("KCSYNC_STACK_CACHE")
        assert default_folder() == Path("/b/kcsync")

        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", "/home/somebody")
        assert default_folder() == Path("/home/somebody/.cache/kcsync")


class TestALinkedTree:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        (tmp_path / "source" / "bin").mkdir(parents=True)
        (tmp_path / "source" / "bin" / "run").write_text("run", encoding="utf-8")
        (tmp_path / "source" / "bin" / "run").chmod(0o755)
        return tmp_path / "source"

    def test_shares_its_files_and_not_its_folders(self, source: Path, tmp_path: Path) -> None:
        link_tree(source, tmp_path / "one")
        link_tree(source, tmp_path / "two")
        (tmp_path / "one" / "data").mkdir()

        assert (tmp_path / "one" / "bin" / "run").samefile(source / "bin" / "run")
        assert not (tmp_path / "two" / "data").exists()

    def test_is_a_copy_where_links_are_impossible(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError("another file system")

        monkeypatch.setattr(os, "link", refuse)

        link_tree(source, tmp_path / "one")

        copied = tmp_path / "one" / "bin" / "run"
        assert not copied.samefile(source / "bin" / "run")
        assert os.access(copied, os.X_OK)

    def test_replaces_what_was_broken_off(self, source: Path, tmp_path: Path) -> None:
        (tmp_path / ".one.half" / "rubbish").mkdir(parents=True)

        link_tree(source, tmp_path / "one")

        assert [path.name for path in (tmp_path / "one").iterdir()] == ["bin"]
        assert not (tmp_path / ".one.half").exists()
