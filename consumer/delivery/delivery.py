"""Applying one change to Keycloak."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from consumer.delivery.errors import CallFailed, LeaseTooShort, PasswordUnreadable, UnknownSealingKey
from consumer.delivery.handlers.create import CreateHandler
from consumer.delivery.handlers.delete import DeleteHandler, DeleteMode
from consumer.delivery.handlers.password import PasswordHandler
from consumer.delivery.handlers.update import UpdateHandler
from consumer.delivery.outcome import (
    Blame,
    DeadLetter,
    Defer,
    Failure,
    NotDelivered,
    Outcome,
    Reason,
)
from consumer.delivery.redact import mask, strings_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.delivery.change import Change
    from consumer.delivery.handlers.handler import Handler
    from consumer.delivery.keycloak import Keycloak
    from consumer.delivery.passwords import KeyRing

_OURS = frozenset({"mode", "reason"})
"""Data of ours, not of the user's: masking "delete" would spoil messages and protect nobody."""


class Delivery:
    """Applies changes to Keycloak, each at once and at most once a call of `deliver`: repeating is the drain's part.

    Args:
        keycloak: Where to.
        keys: Open sealed passwords.
        delete_mode: What a delete without a mode means.
    """

    def __init__(self, *, keycloak: Keycloak, keys: KeyRing, delete_mode: DeleteMode = "delete") -> None:
        self._keycloak = keycloak
        self._handlers: dict[str, Handler] = {
            "password_change": PasswordHandler(keys),
            "user_create": CreateHandler(keys),
            "user_delete": DeleteHandler(delete_mode),
            "user_update": UpdateHandler(),
        }

    async def deliver(self, change: Change, before_call: Callable[[], None]) -> Outcome:
        """Apply one change.

        Args:
            change: The change.
            before_call: Called as the last statement before each request about the user leaves: after token and
                free slot have been waited for. It raises `LeaseTooShort` to stop the request.

        Returns:
            What it came to. Every answer of Keycloak, and none, is an outcome.

        Raises:
            asyncio.CancelledError: The caller was cancelled; a call under way may have taken effect.
            Exception: `before_call` raised something else, or this is a defect.
        """
        handler = self._handlers.get(change.kind)
        if handler is None:
            return _local(
                Reason.KIND_UNREGISTERED, f"no handler for {change.kind}: a newer version knows this kind"
            )
        try:
            with self._keycloak.calls(before_call):
                return await handler(change, self._keycloak.users(change.realm))
        except CallFailed as failed:
            return _without_user(failed.outcome, change)
        except LeaseTooShort:
            return _local(Reason.LEASE_TOO_SHORT, "the lease would have ended before the call's timeout")
        except UnknownSealingKey as missing:
            return _local(Reason.UNKNOWN_SEALING_KEY, str(missing))
        except PasswordUnreadable:
            failure = Failure(blame=Blame.LOCAL, detail="the sealed password does not open with its key")
            return DeadLetter(reason=Reason.PASSWORD_UNREADABLE, failure=failure)


def _local(reason: Reason, detail: str) -> Defer:
    return Defer(reason=reason, failure=Failure(blame=Blame.LOCAL, detail=detail))


def _without_user(outcome: NotDelivered, change: Change) -> NotDelivered:
    values = {field: value for field, value in change.data.items() if field not in _OURS}
    theirs = (change.username, change.username_key, *strings_in(values))
    failure = outcome.failure
    return replace(outcome, failure=replace(failure, detail=mask(failure.detail, theirs)))
