"""A password that was opened for the call that follows, and how Keycloak is told of it. Nothing here is kept."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consumer.delivery.body import body_of
from consumer.delivery.errors import PasswordUnreadable
from producer_lib import PREHASHED_ALG, InvalidEvent, PrehashedPassword, prehashed_info, sealing_info

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.delivery.passwords import Keys

_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Clear:
    """A password in clear: Keycloak checks it by its policies and hashes it."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Hashed:
    """The hash of a password: Keycloak stores it as it is, past its policies. Applied twice, it leaves the same."""

    hashed: PrehashedPassword


Password = Clear | Hashed


def open_sealed(
    credential: Mapping[str, Any], *, realm: str, username_key: str, event_id: str, keys: Keys
) -> Password:
    """Open the password of one event of one user.

    Args:
        credential: As the event has it: `{kid, alg, ciphertext}`, or the parameters of a hash with such an object under
            `sealed`.
        realm: The user's realm.
        username_key: The user.
        event_id: The event it is bound to.
        keys: Open it.

    Raises:
        UnknownSealingKey: We do not have its key.
        PasswordUnreadable: It was changed, belongs to another user or event, or is no password.
    """
    if credential["alg"] == PREHASHED_ALG:
        return _hash_of(
            credential, keys.open(credential["sealed"], prehashed_info(realm, username_key, event_id))
        )
    try:
        return Clear(keys.open(credential, sealing_info(realm, username_key, event_id)).decode("utf-8"))
    except UnicodeDecodeError:
        # Its message would show the bytes.
        raise PasswordUnreadable from None


def credential_of(password: Password, *, temporary: bool) -> dict[str, Any]:
    """Return the password as a credential of Keycloak's user representation.

    Keycloak keeps a hash as two texts of JSON, in the form of its own Argon2 provider (research on the Admin API, 3.3).
    """
    if isinstance(password, Clear):
        return {"type": "password", "value": password.text, "temporary": temporary}
    hashed = password.hashed
    return {
        "type": "password",
        "temporary": temporary,
        "credentialData": body_of(
            {
                "hashIterations": hashed.iterations,
                "algorithm": "argon2",
                "additionalParameters": {
                    "hashLength": [str(len(hashed.digest))],
                    "memory": [str(hashed.memory)],
                    "type": ["id"],
                    "version": ["1.3"],
                    "parallelism": [str(hashed.parallelism)],
                },
            }
        ),
        "secretData": body_of(
            {
                "value": b64encode(hashed.digest).decode(),
                "salt": b64encode(hashed.salt).decode(),
                "additionalParameters": {},
            }
        ),
    }


def _hash_of(credential: Mapping[str, Any], opened: bytes) -> Hashed:
    try:
        # JSON Schema takes 5.0 for a whole number, Keycloak does not.
        return Hashed(
            PrehashedPassword(
                salt=opened[:_SALT_BYTES],
                digest=opened[_SALT_BYTES:],
                memory=int(credential["memory"]),
                iterations=int(credential["iterations"]),
                parallelism=int(credential["parallelism"]),
            )
        )
    except InvalidEvent:
        # Its producer sealed something else than salt and hash.
        raise PasswordUnreadable from None
