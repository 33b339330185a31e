"""Passwords that the producer hashes, as Keycloak would: Argon2id, version 1.3."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Final, Literal, Self

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from producer_lib._errors import InvalidEvent
from producer_lib._sealing import clear_bytes

PasswordForm = Literal["sealed", "prehashed"]
"""What becomes of a password in clear before it leaves the application."""

PREHASHED_ALG: Final = "argon2id"

SALT_BYTES: Final = 16
DIGEST_BYTES: Final = 32

_MEMORY: Final = range(7168, 65536 + 1)
_ITERATIONS: Final = range(1, 10 + 1)
_PARALLELISM: Final = range(1, 4 + 1)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PrehashedPassword:
    """The Argon2id hash of a password, as Keycloak stores it. Nobody behind the producer ever has the password.

    Keycloak takes it as it is: none of the realm's password policies (length, history, blacklist …) is asked. Check the
    password yourself. The hash can be guessed against, so it is a secret too: it is sealed when published, and its repr
    shows nothing of it.

    Attributes:
        salt: 16 random bytes.
        digest: 32 bytes.
        memory: KiB, 7168 to 65536.
        iterations: 1 to 10.
        parallelism: 1 to 4.
    """

    salt: bytes
    digest: bytes
    memory: int = 7168
    iterations: int = 5
    parallelism: int = 1

    def __post_init__(self) -> None:
        if len(self.salt) != SALT_BYTES or len(self.digest) != DIGEST_BYTES:
            raise InvalidEvent(
                "data.password", f"must have a salt of {SALT_BYTES} bytes and a digest of {DIGEST_BYTES}"
            )
        for name, value, allowed in (
            ("memory", self.memory, _MEMORY),
            ("iterations", self.iterations, _ITERATIONS),
            ("parallelism", self.parallelism, _PARALLELISM),
        ):
            if value not in allowed:
                raise InvalidEvent(
                    f"data.password.prehashed.{name}", f"must be {allowed.start} to {allowed.stop - 1}"
                )

    def __repr__(self) -> str:
        return f"PrehashedPassword(memory={self.memory}, iterations={self.iterations}, parallelism={self.parallelism})"

    @classmethod
    async def of(
        cls, password: str, *, memory: int = 7168, iterations: int = 5, parallelism: int = 1
    ) -> Self:
        """Hash a password, in a thread: some 30 ms of CPU and `memory` KiB. The defaults are Keycloak's own.

        Raises:
            InvalidEvent: The password is blank, longer than 1,024 bytes of UTF-8 or no valid Unicode, or a number is out
                of its bounds.
        """
        clear = clear_bytes(password)
        # Checked before they are paid for.
        cls(
            salt=bytes(SALT_BYTES),
            digest=bytes(DIGEST_BYTES),
            memory=memory,
            iterations=iterations,
            parallelism=parallelism,
        )
        salt = os.urandom(SALT_BYTES)
        hashing = Argon2id(
            salt=salt, length=DIGEST_BYTES, iterations=iterations, lanes=parallelism, memory_cost=memory
        )
        digest = await asyncio.to_thread(hashing.derive, clear)
        return cls(salt=salt, digest=digest, memory=memory, iterations=iterations, parallelism=parallelism)
