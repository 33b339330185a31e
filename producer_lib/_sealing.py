"""Passwords that only the consumer can open: HPKE (RFC 9180), base mode, X25519, HKDF-SHA256, AES-256-GCM."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from producer_lib._errors import InvalidEvent, InvalidSealingKey

SEALING_ALG: Final = "HPKE-X25519-SHA256-AES256GCM"

MAX_PASSWORD_BYTES: Final = 1024
"""The longest password, in bytes of UTF-8."""

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_CONTEXT: Final = b"kcsync/sealed-password/v1"
_HASH_CONTEXT: Final = b"kcsync/prehashed-password/v1"
_KID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The consumer's public key. It seals and cannot open, so it is no secret.

    Attributes:
        kid: The key's id: 1 to 64 letters, digits, dots, hyphens and underscores, beginning with a letter or digit.
        public_key: 32 bytes, an X25519 public key.
    """

    kid: str
    public_key: bytes

    def __post_init__(self) -> None:
        if _KID.fullmatch(self.kid) is None:
            raise InvalidSealingKey(
                "the key id must be letters, digits, dots, hyphens and underscores, 64 at most"
            )
        if len(self.public_key) != _KEY_BYTES:
            raise InvalidSealingKey(f"the key has {len(self.public_key)} bytes instead of {_KEY_BYTES}")
        try:
            _SUITE.encrypt(b"trial", X25519PublicKey.from_public_bytes(self.public_key))
        except ValueError as error:
            raise InvalidSealingKey("X25519 refuses these bytes") from error

    @classmethod
    def from_text(cls, text: str) -> SealingKey:
        """Read `<kid>:<base64url>`, as an operator hands it out.

        Raises:
            InvalidSealingKey: The text is something else.
        """
        kid, colon, encoded = text.strip().partition(":")
        if not colon:
            raise InvalidSealingKey("there is no colon between the key id and the key")
        unpadded = encoded.rstrip("=")
        if _BASE64URL.fullmatch(unpadded) is None or len(unpadded) % 4 == 1:
            raise InvalidSealingKey("the part after the colon is not base64url")
        public_key = base64.urlsafe_b64decode(unpadded + "=" * (-len(unpadded) % 4))
        return cls(kid, public_key)

    def to_text(self) -> str:
        """Write what `from_text` reads."""
        return f"{self.kid}:{_base64url(self.public_key)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPassword:
    """A password sealed for one event of one user in one realm.

    Attributes:
        kid: The id of the key that opens it.
        ciphertext: base64url without padding: 32 bytes of encapsulated key, the encrypted password, 16 bytes of tag.
        alg: How it is sealed.
    """

    kid: str
    ciphertext: str
    alg: str = SEALING_ALG


def sealing_info(realm: str, username_key: str, event_id: str) -> bytes:
    """Return HPKE's `info`: what a sealed password is bound to, so that it opens for nothing else.

    The text `kcsync/sealed-password/v1`, then for each part its length in bytes of UTF-8 (4 bytes, big-endian) and its bytes.
    """
    return _CONTEXT + _bound_to(realm, username_key, event_id)


def prehashed_info(realm: str, username_key: str, event_id: str) -> bytes:
    """Return HPKE's `info` of a hash: as `sealing_info`, with the text `kcsync/prehashed-password/v1`.

    So a hash opens for nothing else either, and never as a password.
    """
    return _HASH_CONTEXT + _bound_to(realm, username_key, event_id)


def _bound_to(*parts: str) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in (text.encode() for text in parts))


def clear_bytes(password: str) -> bytes:
    """Return a password as it is sealed or hashed.

    Raises:
        InvalidEvent: It is blank (Keycloak would refuse it), longer than 1,024 bytes of UTF-8, or no valid Unicode;
            `field` is `data.password`.
    """
    if not password.strip():
        raise InvalidEvent("data.password", "must not be blank")
    # A lone surrogate cannot be UTF-8; "replace" here and the comparison spare an exception that would hold the password.
    clear = password.encode(errors="replace")
    if clear.decode() != password:
        raise InvalidEvent("data.password", "must be a text that UTF-8 can write")
    if len(clear) > MAX_PASSWORD_BYTES:
        raise InvalidEvent("data.password", f"must have {MAX_PASSWORD_BYTES:,} bytes of UTF-8 or fewer")
    return clear


def seal(password: str, *, key: SealingKey, realm: str, username_key: str, event_id: str) -> SealedPassword:
    """Seal a password for one event. About 60 µs.

    Raises:
        InvalidEvent: As `clear_bytes`.
    """
    return seal_bytes(clear_bytes(password), key=key, info=sealing_info(realm, username_key, event_id))


def seal_bytes(clear: bytes, *, key: SealingKey, info: bytes) -> SealedPassword:
    """Seal what belongs to an event, bound to it by `info`."""
    sealed = _SUITE.encrypt(clear, X25519PublicKey.from_public_bytes(key.public_key), info=info)
    return SealedPassword(kid=key.kid, ciphertext=_base64url(sealed))


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
