"""Users whose stored profile breaks their realm's: what can still be done for them.

Keycloak 26.7.4 refuses every PUT of such a user, whatever it holds, the one that only disables them too; it ends sessions,
sets a password in clear and deletes all the same.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from consumer.delivery.classify import spare_the_event
from consumer.delivery.errors import CallFailed
from consumer.delivery.outcome import Reason
from consumer.delivery.representation import is_written

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from consumer.delivery.change import Change
    from consumer.delivery.users import RealmUsers

__all__ = ["sessions_ended", "sparing_the_event"]


_NOT_TO_BE_WRITTEN = frozenset({Reason.PROFILE_BROKEN, Reason.WOULD_RENAME})


@contextmanager
def sparing_the_event(data: Mapping[str, Any]) -> Iterator[None]:
    """Let a refusal of what an event does not write be the stored profile's (`profile_broken`).

    Args:
        data: The event's data, as far as what runs inside writes it.

    Raises:
        CallFailed: What runs inside came to nothing.
    """
    try:
        yield
    except CallFailed as failed:
        raise CallFailed(spare_the_event(failed.outcome, partial(is_written, data))) from None


@asynccontextmanager
async def sessions_ended(change: Change, users: RealmUsers, user_id: str) -> AsyncIterator[None]:
    """Log the user out everywhere after what runs inside, if the event says so.

    Also where the user's stored profile does not let the rest be done: a leaver is logged out at each try, anybody else at
    the first.

    Raises:
        CallFailed: What runs inside came to nothing, or the sessions could not be ended.
    """
    wanted = bool(change.data.get("end_sessions"))
    try:
        yield
    except CallFailed as failed:
        again = change.last_reason == Reason.PROFILE_BROKEN and not _bars(change)
        if wanted and failed.outcome.reason in _NOT_TO_BE_WRITTEN and not again:
            await users.end_sessions(user_id)
        raise
    if wanted:
        await users.end_sessions(user_id)


def _bars(change: Change) -> bool:
    return change.kind == "user_delete" or change.data.get("enabled") is False
