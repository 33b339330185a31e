"""What a handler is, and how handlers find their user."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from consumer.delivery.errors import CallFailed
from consumer.delivery.handlers.restore import restore
from consumer.delivery.handlers.stored_profile import sparing_the_event
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

    The id the lane knows goes before the name: a user who was renamed is the one our deliveries left, and who bears the
    name now is somebody else (docs/decisions/0030).

    Raises:
        CallFailed: Keycloak could not be read.
    """
    if user_id is not None:
        try:
            await users.read(user_id)
        except CallFailed as failed:
            if failed.outcome.reason is not Reason.USER_MISSING:
                raise
        else:
            return user_id
    return await users.find(username_key, known_id=user_id)


async def with_user(
    change: Change,
    users: RealmUsers,
    act: Callable[[str], Awaitable[T]],
    *,
    lost: LostUser | None = None,
    create: Callable[[], Awaitable[T]] | None = None,
) -> T:
    """Run `act` with the user's id.

    The id the lane knows saves the search; a user who was deleted and created again has another one, so that a miss
    is looked up once. A user whom our own deliveries left and Keycloak does not have is what `lost` says: created from what
    is known before `act` runs, or not. `create` is done instead of `act` about a user who is missing and of whom nothing is
    known.

    Raises:
        CallFailed: `act` failed, or there is no such user (`user_missing`, `user_lost`).
    """
    if change.user_id is not None:
        try:
            return await act(change.user_id)
        except CallFailed as failed:
            if failed.outcome.reason is not Reason.USER_MISSING:
                raise
    user_id = await users.find(change.username_key, known_id=change.user_id)
    if user_id is None and lost is not None and change.known is not None:
        known = change.known()
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
