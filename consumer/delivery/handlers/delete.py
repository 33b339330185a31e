"""Deleting or disabling a user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from consumer.delivery.errors import CallFailed
from consumer.delivery.handlers.handler import with_user
from consumer.delivery.handlers.stored_profile import sessions_ended, sparing_the_event
from consumer.delivery.outcome import Blame, DeadLetter, Delivered, Failure, Reason, missing_user

if TYPE_CHECKING:
    from datetime import datetime

    from consumer.delivery.change import Change
    from consumer.delivery.users import RealmUsers

DeleteMode = Literal["delete", "disable"]


@dataclass(frozen=True, slots=True)
class DeleteHandler:
    """Applies `user_delete`. A user who is missing is what the event wants.

    Attributes:
        default_mode: What an event without a mode means.
    """

    default_mode: DeleteMode

    async def __call__(self, change: Change, users: RealmUsers) -> Delivered:
        """Delete the user, or disable them if the mode says so."""

        async def delete(user_id: str) -> Delivered:
            if change.data.get("end_sessions"):
                # Before: of somebody who is gone, no application can be told.
                await users.end_sessions(user_id)
            federated = await users.directories.of(user_id) is not None
            await users.delete(user_id)
            if federated and await users.find(change.username_key) is not None:
                raise CallFailed(_back_again())
            return Delivered(reason=Reason.DELETED, user_id=None, existed=True)

        async def disable(user_id: str) -> Delivered:
            # After: no new one can begin.
            async with sessions_ended(change, users, user_id):
                with sparing_the_event({}):
                    await users.update(user_id, {"enabled": False})
            return Delivered(reason=Reason.DISABLED, user_id=user_id, existed=True)

        mode = change.data.get("mode", self.default_mode)
        act = disable if mode == "disable" else delete
        try:
            if change.maybe_applied_since is not None:
                return await act(await _meant(change, users, change.maybe_applied_since))
            return await with_user(change, users, act)
        except CallFailed as failed:
            if failed.outcome.reason is not Reason.USER_MISSING:
                raise
            if change.user_id is not None:
                await users.ensure_gone(change.user_id)
            return Delivered(reason=Reason.ALREADY_ABSENT, user_id=None, existed=False)


def _back_again() -> DeadLetter:
    detail = (
        "Keycloak has deleted the user, and has them again from a directory that it may not write: delete the person there, or "
        "disable the user instead (mode=disable), which the federation lets Keycloak do"
    )
    return DeadLetter(reason=Reason.BACK_FROM_DIRECTORY, failure=Failure(blame=Blame.USER, detail=detail))


async def _meant(change: Change, users: RealmUsers, since: datetime) -> str:
    """Return the id of the user whom a delete in doubt was meant for.

    It may have been done, and the name may be somebody else's since. So the id the lane knows is the only one; where it
    knows none, the user of that name, unless they were made after the delete began.

    Raises:
        CallFailed: There is no such user any more.
    """
    user_id = change.user_id or await users.find(change.username_key)
    if user_id is None:
        raise CallFailed(missing_user())
    if change.user_id is None:
        made_at = await users.made_at(user_id)
        if made_at is not None and users.clock.earliest(made_at) > since:
            raise CallFailed(missing_user())
    return user_id
