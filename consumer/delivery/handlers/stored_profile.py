"""Users whose stored profile breaks their realm's: what can still be done for them.

Keycloak 26.7.4 refuses every PUT of such a user, whatever it holds, the one that only disables them too; it ends sessions,
sets a password in clear and deletes all the same.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from consumer.delivery.classify import spare_the_event
from consumer.delivery.errors import CallFailed
from consumer.delivery.outcome import OF_A_FEDERATION, Reason
from consumer.delivery.representation import is_written

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from consumer.delivery.change import Change
    from consumer.delivery.users import RealmUsers

__all__ = ["sessions_ended", "sparing_the_event"]


_NOT_TO_BE_WRITTEN = frozenset({Reason.PROFILE_BROKEN, Reason.WOULD_RENAME})
_NOT_WRITABLE: Final = OF_A_FEDERATION | {Reason.USER_READ_ONLY}


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
    the first. Where a user federation does not let a leaver be disabled now, they are logged out at the first try.

    Raises:
        CallFailed: What runs inside came to nothing, or the sessions could not be ended.
    """
    wanted = bool(change.data.get("end_sessions"))
    try:
        yield
    except CallFailed as failed:
        reason = failed.outcome.reason
        again = change.last_reason == Reason.PROFILE_BROKEN and not _bars(change)
        waits = reason in _NOT_WRITABLE and _bars(change) and change.last_reason not in _NOT_WRITABLE
        if wanted and (waits or (reason in _NOT_TO_BE_WRITTEN and not again)):
            await users.end_sessions(user_id)
        raise
    if wanted:
        await users.end_sessions(user_id)


def _bars(change: Change) -> bool:
    return change.kind == "user_delete" or change.data.get("enabled") is False
