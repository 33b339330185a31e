"""Creating a user, or making the one who is there what the event says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from consumer.delivery.credential import apply_password, open_password
from consumer.delivery.errors import CallFailed
from consumer.delivery.handlers.create_user import create_user
from consumer.delivery.handlers.handler import LostUser, locate, with_user
from consumer.delivery.handlers.stored_profile import sessions_ended
from consumer.delivery.handlers.update import write_named
from consumer.delivery.naming import Renamed
from consumer.delivery.opened import Password
from consumer.delivery.outcome import Delivered, Reason

if TYPE_CHECKING:
    from consumer.delivery.change import Change
    from consumer.delivery.grants import Grants
    from consumer.delivery.passwords import Keys
    from consumer.delivery.users import RealmUsers

_MAYBE_THERE = frozenset({Reason.USERNAME_IN_USE, Reason.EMAIL_IN_USE, Reason.CONFLICT})
"""Which 409 comes does not tell whether the user is there, so the search does.

Keycloak 26.7.4 answers a create that is repeated word for word with "same email", not "same username"; a race of two
creates with "same username or email".
"""


@dataclass(frozen=True, slots=True)
class CreateHandler:
    """Applies `user_create`.

    A user who is there already is converged: the fields the event names are written, others stay, `enabled` too.

    Attributes:
        keys: Open the password.
        restores: Whether a user whom somebody else has deleted is created from all that is known, or from the event alone.
    """

    keys: Keys
    restores: bool = True

    async def __call__(self, change: Change, users: RealmUsers) -> Delivered:
        """Create the user, or converge the one who is there."""
        password = open_password(change, self.keys)
        grants = await users.grants.look_up(change.data)
        if change.known is not None and (self.restores or change.known().delete_in_doubt):
            # Our own deliveries left this user: created from the event alone, a lost one would miss the rest.
            async def converge(user_id: str) -> Delivered:
                return await self._converge(change, users, user_id, password, grants)

            try:
                return await with_user(
                    change,
                    users,
                    converge,
                    lost=LostUser(self.keys),
                    # Somebody of this name came from a directory, and is gone with it.
                    create=lambda: create_user(change, users, password, grants),
                )
            except Renamed as renamed:
                if not renamed.name_is_free:
                    raise
            # Who had the name has another one, and keeps what they have: it is given to somebody new.
            return replace(await create_user(change, users, password, grants), anew=True)
        try:
            return await create_user(change, users, password, grants)
        except CallFailed as failed:
            if failed.outcome.reason not in _MAYBE_THERE:
                raise
            user_id = await locate(users, change.username_key, change.user_id)
            if user_id is None:
                raise
        converged = await self._converge(change, users, user_id, password, grants)
        # Made by an earlier call of this create, or by others since: not the one whom somebody had deleted.
        return replace(converged, anew=change.known is not None and user_id != change.user_id)

    async def _converge(
        self, change: Change, users: RealmUsers, user_id: str, password: Password | None, grants: Grants
    ) -> Delivered:
        set_at = None
        # Ending them is said by an update or a password change that the create has taken in.
        async with sessions_ended(change, users, user_id):
            await write_named(users, user_id, change.data, grants)
            if password is not None:
                temporary = bool(change.data.get("temporary", False))
                applied = await apply_password(change, users, user_id, password, temporary=temporary)
                set_at = applied.set_at
        return Delivered(reason=Reason.CONVERGED, user_id=user_id, existed=True, credential_date=set_at)
