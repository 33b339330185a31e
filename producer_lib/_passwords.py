"""What a change's password becomes in its event."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from producer_lib._changes import PasswordChange, UserChange, UserCreate
from producer_lib._errors import InvalidEvent, SealingKeyMissing
from producer_lib._prehashed import PREHASHED_ALG, PrehashedPassword
from producer_lib._sealing import SealedPassword, prehashed_info, seal, seal_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producer_lib._sealing import SealingKey


async def prehashed(change: UserChange) -> UserChange:
    """Return the change with its password hashed, if it has one in clear.

    Raises:
        InvalidEvent: As `PrehashedPassword.of`.
    """
    if isinstance(change, UserCreate | PasswordChange) and isinstance(change.password, str):
        return replace(change, password=await PrehashedPassword.of(change.password))
    return change


async def prehashed_all(changes: Iterable[UserChange]) -> list[UserChange]:
    """Return the changes with their passwords hashed, several at a time.

    Raises:
        InvalidEvent: As `prehashed`; the field begins with the change's index.
    """
    hashed: list[UserChange] = []
    found = await asyncio.gather(*map(prehashed, changes), return_exceptions=True)
    for index, change in enumerate(found):
        if isinstance(change, InvalidEvent):
            raise InvalidEvent(f"events[{index}].{change.field}", change.reason)
        if isinstance(change, BaseException):
            raise change
        hashed.append(change)
    return hashed


def as_password(
    change: UserChange, *, key: SealingKey | None, realm: str, username_key: str
) -> dict[str, Any] | None:
    """Return the change's password as its event has it; None for a change without one.

    Raises:
        InvalidEvent: As `seal`, or it is no password at all.
        SealingKeyMissing: There is something to seal, and no key.
    """
    password = getattr(change, "password", None)
    if password is None:
        return None
    if isinstance(password, SealedPassword):
        return {"sealed": _sealed(password)}
    if not isinstance(password, str | PrehashedPassword):
        raise InvalidEvent("data.password", "must be a text, a PrehashedPassword or a SealedPassword")
    if key is None:
        raise SealingKeyMissing
    event_id = change.event_id
    if isinstance(password, str):
        sealed = seal(password, key=key, realm=realm, username_key=username_key, event_id=event_id)
        return {"sealed": _sealed(sealed)}
    info = prehashed_info(realm, username_key, event_id)
    return {
        "prehashed": {
            "alg": PREHASHED_ALG,
            "memory": password.memory,
            "iterations": password.iterations,
            "parallelism": password.parallelism,
            "sealed": _sealed(seal_bytes(password.salt + password.digest, key=key, info=info)),
        }
    }


def _sealed(password: SealedPassword) -> dict[str, str]:
    return {"kid": password.kid, "alg": password.alg, "ciphertext": password.ciphertext}
