"""How a badge comes into Keycloak. The consumer imports this module."""

from __future__ import annotations

from consumer.delivery.change import Change
from consumer.delivery.handlers.handler import with_user
from consumer.delivery.handlers.update import write_named
from consumer.delivery.outcome import Delivered, Reason
from consumer.delivery.users import RealmUsers
from consumer.kinds import Kind

from .contract import BADGE


async def give_badge(change: Change, users: RealmUsers) -> Delivered:
    """Write the badge as an attribute. Written twice, it is the same badge."""
    wanted = {"attributes": {"badge": [change.data["badge"]]}}

    async def write(user_id: str) -> Delivered:
        await write_named(users, user_id, wanted)
        return Delivered(reason=Reason.UPDATED, user_id=user_id, existed=True, wrote=wanted)

    return await with_user(change, users, write)


KIND = Kind(contract=BADGE, handler=give_badge)
