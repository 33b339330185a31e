"""Creating a user from what an event names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.delivery.errors import CallFailed
from consumer.delivery.outcome import Delivered, Reason, missing_user
from consumer.delivery.representation import new_user

if TYPE_CHECKING:
    from consumer.delivery.change import Change
    from consumer.delivery.grants import Grants
    from consumer.delivery.opened import Password
    from consumer.delivery.users import RealmUsers


async def create_user(
    change: Change, users: RealmUsers, password: Password | None, grants: Grants
) -> Delivered:
    """Create the user from what the change names, its groups and roles looked up already.

    Raises:
        CallFailed: Keycloak did not take it.
    """
    created = await users.create(new_user(change.username_key, change.data, password))
    user_id = created or await users.find(change.username_key)
    if grants:
        if user_id is None:
            # It was there a moment ago: somebody deletes as fast as we create.
            raise CallFailed(missing_user())
        await users.grants.apply(user_id, grants)
    return Delivered(reason=Reason.CREATED, user_id=user_id, existed=False)
