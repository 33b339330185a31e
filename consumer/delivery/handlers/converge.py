"""Making Keycloak equal to what our own deliveries left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.delivery.credential import set_password
from consumer.delivery.handlers.handler import locate
from consumer.delivery.handlers.restore import last_password, restore
from consumer.delivery.handlers.update import write_named
from consumer.delivery.outcome import Delivered, Reason

if TYPE_CHECKING:
    from consumer.delivery.known_user import KnownUser
    from consumer.delivery.passwords import Keys
    from consumer.delivery.users import RealmUsers


async def converge(known: KnownUser, users: RealmUsers, keys: Keys) -> Delivered:
    """Write all that is known of a user; what is not known stays as Keycloak has it.

    A user who should exist and does not is created; one who should not is deleted; where that is unknown, a user who is
    missing stays so.

    Raises:
        CallFailed: Keycloak did not take it.
        SealingError: The password could not be opened.
    """
    user_id = await locate(users, known.username_key, known.user_id)
    if known.exists is False:
        if user_id is None:
            return Delivered(reason=Reason.ALREADY_ABSENT, user_id=None, existed=False)
        await users.delete(user_id)
        return Delivered(reason=Reason.DELETED, user_id=None, existed=True)
    if user_id is None:
        if known.exists is None:
            return Delivered(reason=Reason.ALREADY_ABSENT, user_id=None, existed=False)
        restored = await restore(known, users, keys)
        return Delivered(reason=Reason.RESTORED, user_id=restored, existed=False)
    if known.data:
        grants = await users.grants.look_up(known.data, lenient=True)
        await write_named(users, user_id, known.data, grants)
    password = last_password(known, keys)
    if password is not None:
        temporary = bool(known.data.get("temporary", False))
        # The late effect of an earlier, temporary password may be what is healed.
        await set_password(users, user_id, password, temporary=temporary, demanded=True)
    return Delivered(reason=Reason.HEALED, user_id=user_id, existed=True)
