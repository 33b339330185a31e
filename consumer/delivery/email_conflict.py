"""Whose e-mail address it is that somebody else asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from consumer.delivery.outcome import NotDelivered, Reason

if TYPE_CHECKING:
    from consumer.delivery.change import Change
    from consumer.delivery.users import RealmUsers


async def with_holder(outcome: NotDelivered, change: Change, users: RealmUsers) -> NotDelivered:
    """Add to a refused e-mail address who has it; any other outcome stays as it is.

    Raises:
        CallFailed: Keycloak did not say.
    """
    if outcome.reason is not Reason.EMAIL_IN_USE:
        return outcome
    # A lost user was created from what is known, before what the change names.
    for data in (change.data, {} if change.known is None else change.known.data):
        holder = await users.holder_of(data["email"]) if data.get("email") else None
        if holder is not None and holder != change.username_key:
            return replace(outcome, failure=replace(outcome.failure, holder=holder))
    # Freed in the meantime.
    return outcome
