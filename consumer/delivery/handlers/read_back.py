"""Reading back whether a change whose answer was lost has taken effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumer.delivery.credential import set_since
from consumer.delivery.handlers.handler import locate
from consumer.delivery.outcome import Blame, DeadLetter, Delivered, Failure, Reason
from consumer.delivery.profile_rules import is_keycloaks_own, kept_values
from consumer.delivery.representation import named_fields

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

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
    may_drop = await users.may_drop(wanted)
    user = await users.read_as_it_is(user_id)
    if not holds(user, wanted, creates=change.kind == "user_create", leaving_out=may_drop):
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


def holds(
    user: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    creates: bool = False,
    leaving_out: Collection[str] = (),
) -> bool:
    """Whether a user's representation has every field that an event's data names.

    Keycloak lower-cases e-mail addresses, leaves empty names, attributes and blank values out, and keeps lists in no order.

    Args:
        user: The representation.
        data: The data.
        creates: Whether it creates a user, of whom the realm may require more than it says.
        leaving_out: Names of attributes that Keycloak may not have kept.
    """
    fields = named_fields(data)
    if creates and not set(fields.pop("requiredActions", ())) <= set(user.get("requiredActions") or ()):
        return False
    theirs, ours = user.get("attributes") or {}, data.get("attributes") or {}
    others = {name for name in theirs.keys() - ours.keys() if not is_keycloaks_own(name)}
    if data.get("attributes_mode") == "replace" and others:
        return False
    return all(_plain(user.get(name)) == _plain(value) for name, value in fields.items()) and all(
        kept_values(theirs.get(name)) == kept_values(values)
        for name, values in ours.items()
        if name not in leaving_out
    )


def _plain(value: object) -> object:
    if isinstance(value, list):
        return sorted(value)
    return value.lower() if isinstance(value, str) else value or ""


def _not_applied(detail: str) -> DeadLetter:
    return DeadLetter(reason=Reason.NOT_APPLIED, failure=Failure(blame=Blame.USER, detail=detail))
