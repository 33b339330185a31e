"""Whose e-mail address it is that somebody else asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from consumer.delivery.errors import CallFailed
from consumer.delivery.outcome import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.delivery.users import RealmUsers


async def naming_holder(
    failed: CallFailed, users: RealmUsers, username_key: str, *written: Mapping[str, Any]
) -> CallFailed:
    """Add to a refused e-mail address who has it; any other failure stays as it is.

    Args:
        failed: What the delivery came to.
        users: The realm's users.
        username_key: Whose delivery it is.
        written: What it may write, as the data of events names it.

    Raises:
        CallFailed: Keycloak did not say whose the address is.
    """
    outcome = failed.outcome
    if outcome.reason is Reason.EMAIL_IN_USE:
        for data in written:
            holder = await users.holder_of(data["email"]) if data.get("email") else None
            if holder is not None and holder != username_key:
                return CallFailed(replace(outcome, failure=replace(outcome.failure, holder=holder)))
    # Another failure, or the address was freed in the meantime.
    return failed
