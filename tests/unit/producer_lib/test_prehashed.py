from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from producer_lib import (
    InvalidEvent,
    PasswordChange,
    PrehashedPassword,
    SealingKey,
    SealingKeyMissing,
    UserChange,
    UserCreate,
    UserUpdate,
    check_event,
    prehashed_info,
)
from producer_lib._changes import as_event
from producer_lib._passwords import as_password, prehashed, prehashed_all

PRIVATE = X25519PrivateKey.generate()
KEY = SealingKey("2026-11", PRIVATE.public_key().public_bytes_raw())
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


async def test_a_hash_is_that_of_the_password() -> None:
    made = await PrehashedPassword.of("pässword", memory=7200, iterations=1, parallelism=2)

    again = Argon2id(salt=made.salt, length=32, iterations=1, lanes=2, memory_cost=7200)
    again.verify("pässword".encode(), made.digest)


async def test_two_hashes_of_a_password_have_their_own_salts() -> None:
    one, other = [await PrehashedPassword.of("password", iterations=1) for _ in range(2)]

    assert (one.salt, one.digest) != (other.salt, other.digest)


async def test_a_hash_shows_nothing() -> None:
    made = await PrehashedPassword.of("password", iterations=1)
    change = PasswordChange(username="ada", password=made)

    assert repr(made) == "PrehashedPassword(memory=7168, iterations=1, parallelism=1)"
    assert "password=***" in repr(change)


@pytest.mark.parametrize(
    ("password", "numbers", "field"),
    [
        (" ", {}, "data.password"),
        ("x" * 1025, {}, "data.password"),
        ("\ud800", {}, "data.password"),
        ("password", {"memory": 1024}, "data.password.prehashed.memory"),
        ("password", {"memory": 1 << 20}, "data.password.prehashed.memory"),
        ("password", {"iterations": 0}, "data.password.prehashed.iterations"),
        ("password", {"parallelism": 5}, "data.password.prehashed.parallelism"),
    ],
)
async def test_what_cannot_be_hashed_is_refused(password: str, numbers: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        await PrehashedPassword.of(password, **numbers)

    assert refused.value.field == field
    assert refused.value.__context__ is None


def test_salt_and_digest_have_their_lengths() -> None:
    with pytest.raises(InvalidEvent, match="salt of 16 bytes"):
        PrehashedPassword(salt=b"short", digest=bytes(32))


async def test_the_event_holds_the_hash_sealed_and_its_numbers_open() -> None:
    made = await PrehashedPassword.of("password", iterations=2)
    change = PasswordChange(username="Ada", password=made, event_id="e-1", temporary=True)
    password = as_password(change, key=KEY, realm="customers", username_key="ada")

    event = as_event(change, source="/test", realm="customers", password=password)

    check_event(event)
    written: dict[str, Any] = event["data"]["password"]["prehashed"]
    assert (written["alg"], written["memory"], written["iterations"], written["parallelism"]) == (
        "argon2id",
        7168,
        2,
        1,
    )
    ciphertext = base64.urlsafe_b64decode(written["sealed"]["ciphertext"] + "==")
    info = prehashed_info("customers", "ada", "e-1")
    assert SUITE.decrypt(ciphertext, PRIVATE, info=info) == made.salt + made.digest


async def test_a_hash_needs_a_key_as_a_password_does() -> None:
    change = PasswordChange(username="ada", password=await PrehashedPassword.of("password", iterations=1))

    with pytest.raises(SealingKeyMissing):
        as_password(change, key=None, realm="customers", username_key="ada")


async def test_only_a_password_in_clear_is_hashed() -> None:
    hashed = await prehashed(UserCreate(username="ada", password="password"))
    update = UserUpdate(username="ada", enabled=True)

    assert isinstance(hashed, UserCreate)
    assert isinstance(hashed.password, PrehashedPassword)
    assert await prehashed(update) is update
    assert await prehashed(hashed) is hashed


async def test_of_many_the_first_that_cannot_be_hashed_is_named() -> None:
    changes: list[UserChange] = [
        UserUpdate(username="ada", enabled=True),
        PasswordChange(username="ada", password=" "),
        PasswordChange(username="bob", password=""),
    ]

    with pytest.raises(InvalidEvent) as refused:
        await prehashed_all(changes)

    assert refused.value.field == "events[1].data.password"
