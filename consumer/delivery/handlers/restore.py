"""Creating a user again whom Keycloak has lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.delivery.errors import CallFailed
from consumer.delivery.opened import Password, open_sealed
from consumer.delivery.outcome import missing_user
from consumer.delivery.representation import new_user
from consumer.delivery.transport import current_scope

if TYPE_CHECKING:
    from consumer.delivery.known_user import KnownUser
    from consumer.delivery.passwords import Keys
    from consumer.delivery.users import RealmUsers


async def restore(known: KnownUser, users: RealmUsers, keys: Keys) -> str:
    """Create a user whom Keycloak has lost from all that is known; returns the new id.

    Raises:
        CallFailed: Keycloak did not take it.
        SealingError: The password could not be opened.
    """
    grants = await users.grants.look_up(known.data, lenient=True)
    current_scope().restoring = True
    created = await users.create(new_user(known.username_key, known.data, last_password(known, keys)))
    user_id = created or await users.find(known.username_key)
    if user_id is None:
        # It was there a moment ago: somebody deletes as fast as we create.
        raise CallFailed(missing_user())
    await users.grants.apply(user_id, grants)
    return user_id


def last_password(known: KnownUser, keys: Keys) -> Password | None:
    """Open the last password that was applied; None if there is none, or it was not kept.

    Raises:
        SealingError: It could not be opened.
    """
    if known.credential is None:
        return None
    return open_sealed(
        known.credential,
        realm=known.realm,
        username_key=known.username_key,
        event_id=known.credential_event_id,
        keys=keys,
    )
