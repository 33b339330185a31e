"""Updating a user: what the event names changes, everything else stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from consumer.delivery.errors import CallFailed
from consumer.delivery.handlers.create_user import create_user
from consumer.delivery.handlers.handler import LostUser, with_user
from consumer.delivery.handlers.stored_profile import sessions_ended, sparing_the_event
from consumer.delivery.outcome import Blame, Delivered, Reason
from consumer.delivery.representation import merged_user, named_fields, needs_merge, written_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.delivery.change import Change
    from consumer.delivery.grants import Grants
    from consumer.delivery.passwords import Keys
    from consumer.delivery.users import RealmUsers


@dataclass(frozen=True, slots=True)
class UpdateHandler:
    """Applies `user_update`. A user who is missing is a dead letter, unless our own deliveries left one.

    Attributes:
        keys: Open the password that a lost user is given again.
        creates: Whether a user who is missing is created instead.
        restores: Whether one whom our own deliveries left, and somebody else has deleted, is created again.
    """

    keys: Keys
    creates: bool = False
    restores: bool = True

    async def __call__(self, change: Change, users: RealmUsers) -> Delivered:
        """Write the fields the event names, give and take groups and roles, and end sessions if the event says so."""

        async def write(user_id: str) -> Delivered:
            async with sessions_ended(change, users, user_id):
                await write_named(users, user_id, change.data)
            return Delivered(reason=Reason.UPDATED, user_id=user_id, existed=True)

        async def create() -> Delivered:
            return await create_user(change, users, None, await users.grants.look_up(change.data))

        return await with_user(
            change,
            users,
            write,
            lost=LostUser(self.keys, self.restores),
            create=create if self.creates else None,
        )


async def write_named(
    users: RealmUsers, user_id: str, data: Mapping[str, Any], grants: Grants | None = None
) -> None:
    """Write the fields the data names, then groups and roles; read the user first only if attributes are among them.

    Between that read and the write another's change can be lost, and without attributes Keycloak itself reads before it
    writes: it has no conditional update.

    Args:
        users: The realm's users.
        user_id: Keycloak's id of the user.
        data: The fields, as the data of a `user_update` names them.
        grants: The groups and roles of it, if they have been looked up already.
    """
    data = written_out(data)
    if grants is None:
        grants = await users.grants.look_up(data)
    with sparing_the_event(data):
        if needs_merge(data):
            await _write_merged(users, user_id, data)
        elif (fields := named_fields(data)) or not grants:
            await users.update(user_id, fields)
    await users.grants.apply(user_id, grants)


async def _write_merged(users: RealmUsers, user_id: str, data: Mapping[str, Any]) -> None:
    existing = await users.read_as_it_is(user_id)
    try:
        await users.update(user_id, merged_user(existing, data))
    except CallFailed as failed:
        failure = failed.outcome.failure
        if not existing.get("federationLink") or failure.blame not in {Blame.USER, Blame.UNCLEAR}:
            raise
        detail = f"{failure.detail}; the user is linked to a user federation"
        raise CallFailed(replace(failed.outcome, failure=replace(failure, detail=detail))) from None
