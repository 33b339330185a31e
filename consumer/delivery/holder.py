"""Who has the name or the e-mail address that somebody else is refused for.

Keycloak refuses a name or an address that another user has as either, and on MariaDB one that differs from it in accents
only (seen with 26.7.4). Its answer does not say who that is, and often not which of the two is meant.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from consumer.delivery.errors import CallFailed
from consumer.delivery.outcome import TAKEN, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.delivery.users import RealmUsers

__all__ = ["naming_holder"]


async def naming_holder(
    failed: CallFailed, users: RealmUsers, username_key: str, user_id: str | None, *written: Mapping[str, Any]
) -> CallFailed:
    """Add to a refused name or address who has it; any other failure stays as it is.

    Args:
        failed: What the delivery came to.
        users: The realm's users.
        username_key: Whose delivery it is.
        user_id: Keycloak's id of them, if it is known.
        written: What it may write, as the data of events names it.

    Raises:
        CallFailed: Keycloak did not say who has it.
    """
    outcome = failed.outcome
    if outcome.reason not in TAKEN:
        return failed
    addresses = [data["email"] for data in written if data.get("email")]
    texts = list(dict.fromkeys([*addresses, username_key]))
    if outcome.reason is Reason.USERNAME_IN_USE:
        texts.reverse()
    for text in texts:
        for asked in ({"email": text}, {"username": text}):
            for bearer_id, name in await users.bearers(**asked):
                if name != username_key and bearer_id != user_id:
                    return CallFailed(replace(outcome, failure=replace(outcome.failure, holder=name)))
    # Given up in the meantime.
    return failed
