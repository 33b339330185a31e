from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from consumer.delivery.errors import KeyFolderError, UnknownSealingKey
from consumer.delivery.key_folder import KeyFolder
from consumer.delivery.passwords import KeyRing, generate_key, retire_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generate_key(tmp_path / "keys", "2026-01")
    return tmp_path / "keys"


def sealed_to_another(folder: Path, kid: str) -> dict[str, str]:
    """Something sealed to a key of another folder that is to come here."""
    elsewhere = folder.parent / "elsewhere"
    generate_key(elsewhere, kid)
    return KeyRing.load(elsewhere).seal(b"secret", b"place")


def bring(folder: Path, kid: str) -> None:
    os.replace(folder.parent / "elsewhere" / f"{kid}.key", folder / f"{kid}.key")  # noqa: PTH105 - atomic


def test_a_key_that_was_put_there_counts_when_it_is_first_needed(folder: Path) -> None:
    keys = KeyFolder(folder)
    sealed = sealed_to_another(folder, "2026-02")
    with pytest.raises(UnknownSealingKey):
        keys.open(sealed, b"place")

    bring(folder, "2026-02")

    assert keys.open(sealed, b"place") == b"secret"
    assert keys.seal(b"", b"")["kid"] == "2026-02"


def test_a_key_that_was_taken_away_no_longer_counts(folder: Path) -> None:
    generate_key(folder, "2026-02")
    keys = KeyFolder(folder)
    sealed = keys.seal(b"secret", b"place")
    (folder / "2026-02.key").unlink()

    keys.look()

    with pytest.raises(UnknownSealingKey, match="2026-02"):
        keys.open(sealed, b"place")


def test_a_key_of_the_same_name_that_is_another_is_noticed(folder: Path) -> None:
    keys = KeyFolder(folder)
    sealed = sealed_to_another(folder, "2026-01")
    bring(folder, "2026-01")

    keys.look()

    assert keys.open(sealed, b"place") == b"secret"


def test_a_mounted_secret_that_is_exchanged_as_a_whole_is_noticed(tmp_path: Path) -> None:
    """As Kubernetes does it: `..data` points to a folder of its own, the files are links through it."""
    for version in ("one", "two"):
        generate_key(tmp_path / version, "2026-01")
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "..data").symlink_to(tmp_path / "one")
    (mount / "2026-01.key").symlink_to(Path("..data") / "2026-01.key")
    keys = KeyFolder(mount)
    sealed = KeyRing.load(tmp_path / "two").seal(b"secret", b"place")

    (mount / "..new").symlink_to(tmp_path / "two")
    os.replace(mount / "..new", mount / "..data")  # noqa: PTH105 - atomic
    keys.look()

    assert keys.open(sealed, b"place") == b"secret"


@pytest.mark.parametrize("trouble", ["half written", "readable by others", "the last one gone"])
def test_what_cannot_be_used_leaves_the_keys_as_they_were(folder: Path, trouble: str) -> None:
    keys = KeyFolder(folder)
    sealed = keys.seal(b"secret", b"place")
    if trouble == "half written":
        (folder / "2026-02.key").write_text("AAAA")
        (folder / "2026-02.key").chmod(0o600)
    elif trouble == "readable by others":
        (folder / "2026-01.key").chmod(0o644)
    else:
        (folder / "2026-01.key").unlink()

    with capture_logs() as lines:
        keys.look()
        keys.look()

    assert keys.open(sealed, b"place") == b"secret"
    (line,) = lines
    assert line["log_level"] == "error"
    assert "those from before are kept" in line["event"]


def test_what_was_mended_is_taken(folder: Path) -> None:
    keys = KeyFolder(folder)
    (folder / "2026-01.key").chmod(0o644)
    keys.look()
    generate_key(folder, "2026-02")
    (folder / "2026-01.key").chmod(0o600)

    keys.look()

    assert keys.seal(b"", b"")["kid"] == "2026-02"


def test_a_folder_without_changes_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyFolder(folder)
    monkeypatch.setattr(KeyRing, "load", lambda _: pytest.fail("read again"))

    keys.look()


def test_a_missing_key_is_said_once_and_again_when_it_comes(folder: Path) -> None:
    keys = KeyFolder(folder)
    sealed = sealed_to_another(folder, "2026-02")

    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(UnknownSealingKey):
                keys.open(sealed, b"place")
        bring(folder, "2026-02")
        keys.look()

    said = [(line["log_level"], line.get("kid")) for line in lines]
    assert said == [("error", "2026-02"), ("info", None), ("info", "2026-02")]
    assert "put 2026-02.key into the key folder" in lines[0]["remedy"]


class TestRetiring:
    def test_moves_the_file_where_it_is_not_read(self, folder: Path) -> None:
        generate_key(folder, "2026-02")

        moved = retire_key(folder, "2026-01")

        assert moved == folder / "retired" / "2026-01.key"
        assert moved.stat().st_mode & 0o777 == 0o600
        assert KeyRing.load(folder).kids == {"2026-02"}
        assert KeyRing.load(moved.parent).kids == {"2026-01"}

    def test_writes_over_no_key_of_the_same_name(self, folder: Path) -> None:
        retire_key(folder, "2026-01")
        before = (folder / "retired" / "2026-01.key").read_bytes()
        generate_key(folder, "2026-01")

        with pytest.raises(KeyFolderError, match="exists already"):
            retire_key(folder, "2026-01")
        assert (folder / "retired" / "2026-01.key").read_bytes() == before
        assert KeyRing.load(folder).kids == {"2026-01"}

    def test_leaves_what_a_mounted_secret_holds(self, folder: Path) -> None:
        (folder / "2026-02.key").symlink_to(folder / "2026-01.key")

        with pytest.raises(KeyFolderError, match="take the key out of the secret"):
            retire_key(folder, "2026-02")

    @pytest.mark.parametrize("kid", ["2031-07", "../keys/2026-01"])
    def test_of_no_key_is_refused(self, folder: Path, kid: str) -> None:
        with pytest.raises(KeyFolderError, match="holds no key"):
            retire_key(folder, kid)
