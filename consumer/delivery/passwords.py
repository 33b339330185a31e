"""The private sealing keys, and what they open.

Producers seal a password to a public key of ours (HPKE base mode, RFC 9180), bound by `info` to realm, user and event:
moved to another user or event it does not open. The private keys lie in a folder, one file `<kid>.key` each: 32 raw bytes
as base64url text, readable by their owner alone.
"""

from __future__ import annotations

import os
import re
import stat
from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from consumer.delivery.errors import KeyFolderError, PasswordUnreadable, UnknownSealingKey
from producer_lib import SEALING_ALG

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_SUFFIX = ".key"
_KEY_BYTES = 32
_KID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Keys(Protocol):
    """The private keys at hand, whichever they are at this moment."""

    def open(self, sealed: Mapping[str, Any], info: bytes) -> bytes:
        """Open a sealed object `{kid, alg, ciphertext}`.

        Raises:
            UnknownSealingKey: We do not have its key.
            PasswordUnreadable: It does not open with its key and this `info`.
        """

    def seal(self, plaintext: bytes, info: bytes) -> dict[str, str]:
        """Seal bytes to our own current key, bound to `info`; returns the sealed object."""


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """Every private key at one moment. Its repr shows their ids only.

    Attributes:
        keys: The keys by id.
    """

    keys: Mapping[str, X25519PrivateKey]

    def __repr__(self) -> str:
        # The keys' own repr shows nothing today; that is not ours to rely on.
        return f"KeyRing(kids={sorted(self.keys)})"

    @classmethod
    def load(cls, folder: Path) -> KeyRing:
        """Read every `<kid>.key` in a folder; other files are left alone.

        Raises:
            KeyFolderError: There is no such folder, no key in it, or a key that is unreadable, malformed or readable
                by others.
        """
        try:
            files = key_files(folder)
        except OSError as error:
            problem = f"cannot be read as a folder of sealing keys ({error.strerror}); check KCSYNC_KEYS_DIR"
            raise KeyFolderError(folder, problem) from None
        if not files:
            raise KeyFolderError(
                folder, "holds no sealing key; put a <kid>.key there, or make one with `kcsync keys generate`"
            )
        return cls({file.stem: _load(file) for file in files})

    @property
    def kids(self) -> frozenset[str]:
        """The ids of the keys."""
        return frozenset(self.keys)

    @property
    def current(self) -> str:
        """The id of the key that `seal` uses: the last in the order of names, so that `2026-02` follows `2026-01`."""
        return max(self.keys)

    def public_keys(self) -> dict[str, str]:
        """Return for each key id the text that producers are given, `<kid>:<public key as base64url>`."""
        return {
            kid: f"{kid}:{_text(key.public_key().public_bytes_raw())}"
            for kid, key in sorted(self.keys.items())
        }

    def seal(self, plaintext: bytes, info: bytes) -> dict[str, str]:
        """Seal bytes to our own current key.

        Args:
            plaintext: What to seal.
            info: What it belongs to; the same is needed to open it.

        Returns:
            The sealed object `{kid, alg, ciphertext}`.
        """
        sealed = _SUITE.encrypt(plaintext, self.keys[self.current].public_key(), info=info)
        return {"kid": self.current, "alg": SEALING_ALG, "ciphertext": _text(sealed)}

    def open(self, sealed: Mapping[str, Any], info: bytes) -> bytes:
        """Open a sealed object `{kid, alg, ciphertext}`.

        Raises:
            UnknownSealingKey: We do not have its key.
            PasswordUnreadable: It does not open with its key and this `info`.
        """
        kid = sealed["kid"]
        key = self.keys.get(kid)
        if key is None:
            raise UnknownSealingKey(kid, self.kids)
        if sealed["alg"] != SEALING_ALG:
            raise PasswordUnreadable
        try:
            return _SUITE.decrypt(_bytes(sealed["ciphertext"]), key, info=info)
        except (InvalidTag, ValueError):
            # Which of them is of no use to anybody but somebody who probes for it.
            raise PasswordUnreadable from None


def key_files(folder: Path) -> list[Path]:
    """The key files of a folder, in the order of their names.

    Raises:
        OSError: The folder cannot be read.
    """
    return sorted(file for file in folder.iterdir() if file.suffix == _SUFFIX)


def generate_key(folder: Path, kid: str) -> str:
    """Make a new private key; an existing one is never overwritten.

    Args:
        folder: Where to; made if it is missing.
        kid: The key's id: 1 to 64 letters, digits, dots, dashes or underscores.

    Returns:
        The text that producers are given.

    Raises:
        KeyFolderError: The id is malformed or taken, or the folder cannot be written.
    """
    file = folder / f"{kid}{_SUFFIX}"
    if not _KID.fullmatch(kid):
        raise KeyFolderError(
            folder, f"{kid!r} cannot name a key: use 1 to 64 letters, digits, dots, dashes, underscores"
        )
    key = X25519PrivateKey.generate()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFolderError(file, "exists already; choose another key id") from None
    except OSError as error:
        raise KeyFolderError(file, f"cannot be written ({error.strerror})") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(_text(key.private_bytes_raw()) + "\n")
    return KeyRing({kid: key}).public_keys()[kid]


def retire_key(folder: Path, kid: str) -> Path:
    """Take a key out of use: its file moves to the folder's own folder `retired`, where nothing is read.

    Moved back, it is accepted again.

    Returns:
        Where it is now.

    Raises:
        KeyFolderError: There is no such key, it is somebody else's to take away, or it cannot be moved.
    """
    file, retired = folder / f"{kid}{_SUFFIX}", folder / "retired"
    if not _KID.fullmatch(kid) or not file.is_file():
        raise KeyFolderError(folder, f"holds no key {kid!r}")
    if file.is_symlink():
        raise KeyFolderError(
            file,
            "is a link, as mounted secrets have it; take the key out of the secret itself, it is not in use",
        )
    moved = retired / file.name
    try:
        retired.mkdir(mode=0o700, exist_ok=True)
        # `rename` would write over a key that was retired before under the same id.
        os.link(file, moved)
        file.unlink()
    except FileExistsError:
        raise KeyFolderError(
            moved, "exists already, from an earlier key of this id; move one of them away"
        ) from None
    except OSError as error:
        problem = f"cannot be moved to {moved} ({error.strerror}); take it away by hand, it is not in use"
        raise KeyFolderError(file, problem) from None
    return moved


def _load(file: Path) -> X25519PrivateKey:
    if not _KID.fullmatch(file.stem):
        raise KeyFolderError(
            file, "its name is no key id: use 1 to 64 letters, digits, dots, dashes or underscores"
        )
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            raise KeyFolderError(
                file, f"others may read or change it (mode {mode:04o}); run `chmod 600` on it"
            )
        raw = _bytes(file.read_text("ascii").strip())
    except OSError as error:
        raise KeyFolderError(file, f"cannot be read ({error.strerror})") from None
    except ValueError:
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise KeyFolderError(file, "is no sealing key: it must hold 32 bytes as base64url text")
    return X25519PrivateKey.from_private_bytes(raw)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _bytes(text: str) -> bytes:
    bare = text.rstrip("=")
    return b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
