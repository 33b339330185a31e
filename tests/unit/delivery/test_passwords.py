from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import pytest

from consumer.delivery.errors import KeyFolderError, PasswordUnreadable, UnknownSealingKey
from consumer.delivery.opened import Clear, Hashed, Password, open_sealed
from consumer.delivery.passwords import KeyRing, Keys, generate_key
from producer_lib import (
    PasswordChange,
    PrehashedPassword,
    SealingKey,
    prehashed_info,
    seal,
    sealing_info,
)
from producer_lib._passwords import as_password

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "correct horse ✓"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generate_key(tmp_path / "keys", "2026-01")
    return tmp_path / "keys"


def sealed_for(folder: Path, kid: str = "2026-01", password: str = PASSWORD) -> dict[str, str]:
    key = SealingKey.from_text(KeyRing.load(folder).public_keys()[kid])
    sealed = seal(password, key=key, realm="shop", username_key="alice", event_id="e-1")
    return {"kid": sealed.kid, "alg": sealed.alg, "ciphertext": sealed.ciphertext}


def opened(
    keys: Keys, credential: dict[str, Any], realm: str = "shop", user: str = "alice", event: str = "e-1"
) -> Password:
    return open_sealed(credential, realm=realm, username_key=user, event_id=event, keys=keys)


class TestOpening:
    def test_what_a_producer_seals_opens(self, folder: Path) -> None:
        assert opened(KeyRing.load(folder), sealed_for(folder)) == Clear(PASSWORD)

    @pytest.mark.parametrize(
        ("realm", "user", "event"),
        [("other", "alice", "e-1"), ("shop", "bob", "e-1"), ("shop", "alice", "e-2")],
    )
    def test_it_opens_for_nothing_else(self, folder: Path, realm: str, user: str, event: str) -> None:
        with pytest.raises(PasswordUnreadable):
            opened(KeyRing.load(folder), sealed_for(folder), realm, user, event)

    @pytest.mark.parametrize("damage", ["", "AAAA", "not base64!", "é"])
    def test_what_was_tampered_with_does_not_open(self, folder: Path, damage: str) -> None:
        with pytest.raises(PasswordUnreadable):
            opened(KeyRing.load(folder), {**sealed_for(folder), "ciphertext": damage})

    def test_another_algorithm_does_not_open(self, folder: Path) -> None:
        with pytest.raises(PasswordUnreadable):
            opened(KeyRing.load(folder), {**sealed_for(folder), "alg": "none"})

    def test_bytes_that_are_no_text_do_not_show(self, folder: Path) -> None:
        keys = KeyRing.load(folder)
        sealed = keys.seal(b"\xff\xfesecret", sealing_info("shop", "alice", "e-1"))

        with pytest.raises(PasswordUnreadable) as unreadable:
            opened(keys, sealed)
        assert "secret" not in repr(unreadable.value)
        assert unreadable.value.__suppress_context__

    def test_an_unknown_key_is_named(self, folder: Path) -> None:
        sealed = {**sealed_for(folder), "kid": "2031-07"}

        with pytest.raises(UnknownSealingKey, match=r"2031-07.*2026-01") as unknown:
            opened(KeyRing.load(folder), sealed)
        assert unknown.value.kid == "2031-07"

    def test_every_key_opens_its_own(self, folder: Path) -> None:
        generate_key(folder, "2026-02")
        keys = KeyRing.load(folder)

        assert keys.kids == {"2026-01", "2026-02"}
        for kid in keys.kids:
            assert opened(keys, sealed_for(folder, kid)) == Clear(PASSWORD)


class TestOpeningAHash:
    HASH = PrehashedPassword(salt=bytes(range(16)), digest=bytes(range(32)), memory=8192)

    def credential(self, folder: Path) -> dict[str, Any]:
        key = SealingKey.from_text(KeyRing.load(folder).public_keys()["2026-01"])
        change = PasswordChange(username="alice", password=self.HASH, event_id="e-1")
        password = as_password(change, key=key, realm="shop", username_key="alice")
        assert password is not None
        prehashed: dict[str, Any] = password["prehashed"]
        return prehashed

    def test_what_a_producer_hashed_opens_as_a_hash(self, folder: Path) -> None:
        assert opened(KeyRing.load(folder), self.credential(folder)) == Hashed(self.HASH)

    def test_a_number_that_json_writes_as_a_fraction_is_a_whole_one(self, folder: Path) -> None:
        found = opened(KeyRing.load(folder), {**self.credential(folder), "iterations": 5.0})

        assert found == Hashed(self.HASH)
        assert isinstance(found, Hashed)
        assert isinstance(found.hashed.iterations, int)

    @pytest.mark.parametrize(
        ("realm", "user", "event"),
        [("other", "alice", "e-1"), ("shop", "bob", "e-1"), ("shop", "alice", "e-2")],
    )
    def test_it_opens_for_nothing_else(self, folder: Path, realm: str, user: str, event: str) -> None:
        with pytest.raises(PasswordUnreadable):
            opened(KeyRing.load(folder), self.credential(folder), realm, user, event)

    def test_it_never_opens_as_a_password_nor_a_password_as_a_hash(self, folder: Path) -> None:
        keys = KeyRing.load(folder)

        with pytest.raises(PasswordUnreadable):
            opened(keys, self.credential(folder)["sealed"])
        with pytest.raises(PasswordUnreadable):
            opened(keys, {**self.credential(folder), "sealed": sealed_for(folder, password="x" * 48)})

    def test_something_else_than_salt_and_hash_is_unreadable(self, folder: Path) -> None:
        keys = KeyRing.load(folder)
        sealed = keys.seal(b"secret of 17 byte", prehashed_info("shop", "alice", "e-1"))

        with pytest.raises(PasswordUnreadable) as unreadable:
            opened(keys, {**self.credential(folder), "sealed": sealed})
        assert unreadable.value.__suppress_context__

    def test_what_was_opened_shows_nothing(self) -> None:
        assert repr(Clear("secret")) == "Clear()"
        assert "secret" not in repr(
            Hashed(PrehashedPassword(salt=b"secret" + bytes(10), digest=b"secret" + bytes(26)))
        )


class TestSealing:
    def test_what_is_sealed_to_ourselves_opens(self, folder: Path) -> None:
        keys = KeyRing.load(folder)

        assert keys.open(keys.seal(b"\x00poison", b"place"), b"place") == b"\x00poison"

    def test_it_is_bound_to_its_place(self, folder: Path) -> None:
        keys = KeyRing.load(folder)

        with pytest.raises(PasswordUnreadable):
            keys.open(keys.seal(b"poison", b"place"), b"elsewhere")

    def test_the_newest_key_seals(self, folder: Path) -> None:
        generate_key(folder, "2026-02")

        assert KeyRing.load(folder).seal(b"x", b"")["kid"] == "2026-02"


class TestKeyFolder:
    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(KeyFolderError, match="KCSYNC_KEYS_DIR"):
            KeyRing.load(tmp_path / "none")

    def test_an_empty_folder_says_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "README").write_text("not a key")

        with pytest.raises(KeyFolderError, match=r"put a <kid>\.key there"):
            KeyRing.load(tmp_path)

    @pytest.mark.parametrize("text", ["", "AAAA", "*" * 43, "é" * 43, "A" * 86])
    def test_a_bad_key_is_named_and_not_shown(self, folder: Path, text: str) -> None:
        bad = folder / "bad.key"
        bad.touch(0o600)
        bad.write_text(text)

        with pytest.raises(KeyFolderError, match=r"bad\.key: is no sealing key") as error:
            KeyRing.load(folder)
        assert not text or text not in str(error.value)

    def test_a_bad_name_is_named(self, folder: Path) -> None:
        (folder / "2026-01.key").rename(folder / "a b.key")

        with pytest.raises(KeyFolderError, match="is no key id"):
            KeyRing.load(folder)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
    def test_a_key_that_others_can_read_is_refused(self, folder: Path, mode: int) -> None:
        (folder / "2026-01.key").chmod(mode)

        with pytest.raises(KeyFolderError, match="chmod 600"):
            KeyRing.load(folder)

    def test_padding_and_line_ends_do_not_matter(self, folder: Path) -> None:
        file = folder / "2026-01.key"
        before = KeyRing.load(folder).public_keys()
        file.write_text(file.read_text().strip() + "=\r\n")

        assert KeyRing.load(folder).public_keys() == before

    def test_the_repr_shows_ids_only(self, folder: Path) -> None:
        assert repr(KeyRing.load(folder)) == "KeyRing(kids=['2026-01'])"


class TestGeneratingAKey:
    def test_it_is_for_its_owner_alone(self, folder: Path) -> None:
        assert stat.S_IMODE((folder / "2026-01.key").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_its_text_is_what_producers_take(self, folder: Path) -> None:
        text = generate_key(folder, "next")

        assert SealingKey.from_text(text).to_text() == text
        assert KeyRing.load(folder).public_keys()["next"] == text

    def test_it_never_overwrites_one(self, folder: Path) -> None:
        before = (folder / "2026-01.key").read_text()

        with pytest.raises(KeyFolderError, match="exists already"):
            generate_key(folder, "2026-01")
        assert (folder / "2026-01.key").read_text() == before

    @pytest.mark.parametrize("kid", ["", "../evil", "a b", ".hidden", "x" * 65])
    def test_a_bad_id_is_refused(self, folder: Path, kid: str) -> None:
        with pytest.raises(KeyFolderError, match="cannot name a key"):
            generate_key(folder, kid)
