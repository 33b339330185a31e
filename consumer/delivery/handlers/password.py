"""Changing a password."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.delivery.credential import apply_password, open_password
from consumer.delivery.errors import PasswordUnreadable
from consumer.delivery.grants import Grants
from consumer.delivery.handlers.create_user import create_user
from consumer.delivery.handlers.handler import LostUser, with_user
from consumer.delivery.handlers.stored_profile import sessions_ended
from consumer.delivery.outcome import Delivered, Reason

if TYPE_CHECKING:
    from consumer.delivery.change import Change
    from consumer.delivery.opened import Password
    from consumer.delivery.passwords import Keys
    from consumer.delivery.users import RealmUsers


@dataclass(frozen=True, slots=True)
class PasswordHandler:
    """Applies `password_change`. A user who is missing is a dead letter, unless our own deliveries left one.

    Attributes:
        keys: Open the password.
        creates: Whether a user who is missing is created instead.
        restores: Whether one whom our own deliveries left, and somebody else has deleted, is created again.
    """

    keys: Keys
    creates: bool = False
    restores: bool = True

    async def __call__(self, change: Change, users: RealmUsers) -> Delivered:
        """Set the password, permanent unless the event says `temporary`; then end sessions if it says so."""

        def password_of() -> Password:
            password = open_password(change, self.keys)
            if password is None:
                raise PasswordUnreadable
            return password

        async def apply(user_id: str) -> Delivered:
            password = password_of()
            temporary = bool(change.data.get("temporary", False))
            async with sessions_ended(change, users, user_id):
                applied = await apply_password(change, users, user_id, password, temporary=temporary)
            return Delivered(
                reason=Reason.ALREADY_APPLIED if applied.already else Reason.PASSWORD_SET,
                user_id=user_id,
                existed=True,
                credential_date=applied.set_at,
            )

        async def create() -> Delivered:
            return await create_user(change, users, password_of(), Grants())

        return await with_user(
            change,
            users,
            apply,
            lost=LostUser(self.keys, self.restores),
            create=create if self.creates else None,
        )
