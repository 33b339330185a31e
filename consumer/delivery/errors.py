"""What can go wrong in delivery.

DeliveryError
  LeaseTooShort        raised by the drain's `before_call`: the request did not leave
  CallFailed           a call came to nothing; carries the outcome it means
  SealingError
    KeyFolderError     the folder of private keys cannot be used
    UnknownSealingKey  sealed to a key we do not have
    PasswordUnreadable cannot be opened with its own key
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.delivery.outcome import NotDelivered


class DeliveryError(Exception):
    """Delivery could not do what was asked."""


class LeaseTooShort(DeliveryError):
    """The lease ends before the call's timeout would; the call was not made."""


class CallFailed(DeliveryError):
    """A call to Keycloak came to nothing.

    Attributes:
        outcome: What that means for the delivery, unless its handler knows better.
    """

    def __init__(self, outcome: NotDelivered) -> None:
        super().__init__(outcome.reason.value)
        self.outcome = outcome


class SealingError(DeliveryError):
    """A password could not be opened, or no key is there to open it."""


class KeyFolderError(SealingError):
    """The folder of private sealing keys cannot be used.

    Attributes:
        path: The folder or the file at fault.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class UnknownSealingKey(SealingError):
    """A password is sealed to a key that is not in the key folder.

    Attributes:
        kid: The key's id.
        known: The ids that are there.
    """

    def __init__(self, kid: str, known: frozenset[str]) -> None:
        super().__init__(
            f"sealed to key {kid!r}, but only {', '.join(sorted(known)) or 'no key'} is there: "
            f"put {kid}.key into the key folder"
        )
        self.kid = kid
        self.known = known


class PasswordUnreadable(SealingError):
    """A sealed password does not open with its key: it was changed, or sealed for another user or event."""
