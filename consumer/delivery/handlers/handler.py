"""What a handler is, and how handlers find their user."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from consumer.delivery.errors import CallFailed
from consumer.delivery.federation import federation_in
from consumer.delivery.handlers.restore import restore
from consumer.delivery.handlers.stored_profile import sparing_the_event
from consumer.delivery.naming import Renamed
from consumer.delivery.outcome import Delivered, Reason, lost_user, missing_user

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from consumer.delivery.change import Change
    from consumer.delivery.passwords import Keys
    from consumer.delivery.users import RealmUsers

T = TypeVar("T")


class Handler(Protocol):
    """Applies the changes of one kind. Applied twice, it leaves what it left the first time."""

    async def __call__(self, change: Change, users: RealmUsers) -> Delivered:
        """Apply the change.

        Raises:
            CallFailed: It could not be applied.
            SealingError: Its password could not be opened.
        """


@dataclass(frozen=True, slots=True)
class LostUser:
    """What becomes of a user whom our own deliveries left, and whom Keycloak does not have.

    Attributes:
        keys: Open the last password.
        restores: Whether they are created again from what is known.
    """

    keys: Keys
    restores: bool = True


async def locate(users: RealmUsers, username_key: str, user_id: str | None) -> str | None:
    """Return the user's id, or None if there is no such user.

    Neither the name alone decides nor the id that the lane knows: the user our deliveries left is written as long as they
    bear the lane's name, so that no two lanes write one user, and nobody who has taken the name is taken for them
    (docs/decisions/0053).

    Raises:
        CallFailed: Keycloak could not be read.
        Renamed: The user our deliveries left bears another name; or the realm takes addresses for usernames, and shows who
            has this name by another.
    """
    if user_id is not None and await _bears(users, user_id, username_key):
        return user_id
    return await _by_name(users, username_key, user_id)


async def _bears(users: RealmUsers, user_id: str, username_key: str) -> bool:
    """Whether a user bears a name; not if there is no such user any more."""
    try:
        shown = (await users.read(user_id))["username"]
    except CallFailed as failed:
        if failed.outcome.reason is not Reason.USER_MISSING:
            raise
        return False
    if shown.lower() == username_key or federation_in(user_id) is not None:
        return True
    found = await users.called(username_key)
    if user_id not in found:
        raise Renamed(name_is_free=not found)
    return True


async def _by_name(users: RealmUsers, username_key: str, known_id: str | None) -> str | None:
    user_id = await users.find(username_key, known_id=known_id)
    if user_id is None and (await users.naming.of_realm()).by_address and await users.called(username_key):
        raise Renamed(name_is_free=False)
    return user_id


async def with_user(
    change: Change,
    users: RealmUsers,
    act: Callable[[str], Awaitable[T]],
    *,
    lost: LostUser | None = None,
    create: Callable[[], Awaitable[T]] | None = None,
) -> T:
    """Run `act` with the user's id.

    Where names are for ever, the id the lane knows saves the search; a user who was deleted and created again has another
    one, so that a miss is looked up once. A user whom our own deliveries left and Keycloak does not have is what `lost`
    says: created from what is known before `act` runs, or not; never one who came from a directory, which has them no more.
    `create` is done instead of `act` about a user who is missing and is not created so.

    Raises:
        CallFailed: `act` failed, or there is no such user (`user_missing`, `user_lost`).
        Renamed: As `locate`.
    """
    key, known_id = change.username_key, change.user_id
    try:
        if known_id is None or not (await users.naming.of_users(known_id)).is_for_ever:
            user_id = await locate(users, key, known_id)
        else:
            return await act(known_id)
    except CallFailed as failed:
        if failed.outcome.reason is not Reason.USER_MISSING:
            raise
        user_id = await _by_name(users, key, known_id)
    known = change.known() if user_id is None and lost is not None and change.known is not None else None
    if lost is not None and known is not None and known.federation is None:
        if not (lost.restores or known.delete_in_doubt):
            raise CallFailed(lost_user())
        with sparing_the_event(change.data):
            restored = await restore(known, users, lost.keys)
        done = await act(restored)
        return replace(done, reason=Reason.RESTORED) if isinstance(done, Delivered) else done
    if user_id is None and create is not None:
        return await create()
    if user_id is None:
        raise CallFailed(missing_user())
    return await act(user_id)
