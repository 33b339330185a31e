"""Reading back whether a change whose answer was lost has taken effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumer.delivery.credential import set_since
from consumer.delivery.handlers.handler import locate
from consumer.delivery.outcome import Blame, DeadLetter, Delivered, Failure, Reason
from consumer.delivery.representation import named_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.delivery.change import Change
    from consumer.delivery.users import RealmUsers


async def read_back(change: Change, users: RealmUsers, *, deletes: bool) -> Delivered | DeadLetter:
    """Say whether Keycloak holds what the change wants; nothing is written.

    Asked when the server limit has passed since the last call, so that the answer is final.

    Args:
        change: The change, of one of the four kinds.
        users: Its realm's users.
        deletes: Whether it removes the user (and does not only disable them).

    Raises:
        CallFailed: Keycloak could not be read.
    """
    user_id = await locate(users, change.username_key, change.user_id)
    if user_id is None:
        if change.kind == "user_delete":
            return Delivered(reason=Reason.ALREADY_ABSENT, user_id=None, existed=False)
        return _not_applied("the user is not there")
    if deletes:
        return _not_applied("the user is still there")
    wanted = {"enabled": False} if change.kind == "user_delete" else change.data
    if not holds(await users.read_as_it_is(user_id), wanted):
        return _not_applied("the user's profile is another")
    if not await users.grants.held(user_id, wanted):
        return _not_applied("the user's groups or roles are others")
    set_at = None
    if change.credential is not None:
        set_at = await users.password_date(user_id)
        if change.maybe_applied_since is None or not set_since(
            users.clock, set_at, change.maybe_applied_since
        ):
            return _not_applied("the password is older than the call")
    if change.data.get("end_sessions"):
        began = await users.sessions_since(user_id)
        if began is not None and (
            change.maybe_applied_since is None
            or not set_since(users.clock, began, change.maybe_applied_since)
        ):
            return _not_applied("a session is older than the call")
    return Delivered(reason=Reason.ALREADY_APPLIED, user_id=user_id, existed=True, credential_date=set_at)


def holds(user: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether a user's representation has every field that an event's data names.

    Keycloak lower-cases e-mail addresses, leaves empty names and attributes out, and keeps lists in no order.
    """
    fields = all(_plain(user.get(name)) == _plain(value) for name, value in named_fields(data).items())
    theirs, ours = user.get("attributes") or {}, data.get("attributes") or {}
    if data.get("attributes_mode") == "replace" and not theirs.keys() <= ours.keys():
        return False
    return fields and all(sorted(theirs.get(name) or []) == sorted(values) for name, values in ours.items())


def _plain(value: object) -> object:
    if isinstance(value, list):
        return sorted(value)
    return value.lower() if isinstance(value, str) else value or ""


def _not_applied(detail: str) -> DeadLetter:
    return DeadLetter(reason=Reason.NOT_APPLIED, failure=Failure(blame=Blame.USER, detail=detail))
