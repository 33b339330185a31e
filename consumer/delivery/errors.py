"""What can go wrong in delivery.

DeliveryError
  NotCalled            a request did not leave, so that it has changed nothing
    LeaseTooShort      raised by the drain's `before_call`
    CallsStopped       raised by the drain's `before_call`
    GoesAlone          no call of many users has this one among them
  CallFailed           a call came to nothing; carries the outcome it means
  SealingError
    KeyFolderError     the folder of private keys cannot be used
    UnknownSealingKey  sealed to a key we do not have
    PasswordUnreadable cannot be opened with its own key
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.delivery.outcome import NotDelivered


class DeliveryError(Exception):
    """Delivery could not do what was asked."""


class NotCalled(DeliveryError):
    """A request did not leave.

    Attributes:
        why: One word for traces.
    """

    why: ClassVar[str]


class LeaseTooShort(NotCalled):
    """The lease ends before the call's timeout would."""

    why = "lease_too_short"


class CallsStopped(NotCalled):
    """No calls are allowed now: the circuit is open, or there is maintenance."""

    why = "calls_stopped"


class GoesAlone(NotCalled):
    """The user of a create that shares a call is not among those whom that call created: it is to go by itself."""

    why = "goes_alone"


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
