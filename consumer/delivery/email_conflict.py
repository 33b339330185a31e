"""Whose e-mail address it is that somebody else asks for."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from consumer.delivery.errors import CallFailed
from consumer.delivery.outcome import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from consumer.delivery.users import RealmUsers


@asynccontextmanager
async def naming_holder(
    users: RealmUsers, username_key: str, *written: Mapping[str, Any]
) -> AsyncIterator[None]:
    """Add to a refused e-mail address who has it; any other failure stays as it is.

    Args:
        users: The realm's users.
        username_key: Whose delivery it is.
        written: What it may write, as the data of events names it.

    Raises:
        CallFailed: What the delivery came to, or that Keycloak did not say whose the address is.
    """
    try:
        yield
    except CallFailed as failed:
        outcome = failed.outcome
        if outcome.reason is not Reason.EMAIL_IN_USE:
            raise
        for data in written:
            holder = await users.holder_of(data["email"]) if data.get("email") else None
            if holder is not None and holder != username_key:
                failure = replace(outcome.failure, holder=holder)
                raise CallFailed(replace(outcome, failure=failure)) from None
        # Freed in the meantime.
        raise
