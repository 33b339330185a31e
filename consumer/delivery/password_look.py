"""A second look at a password that Keycloak has taken.

Keycloak may write a user's credential for reasons of its own, when somebody logs in and the stored hash is of another kind
than the realm asks for. A change that comes at that moment is answered with 204 and overwritten (seen with 26.7.4). Some
seconds later the credential's date shows it: it is older than the call. The same look tells the date of the password that
we delivered, by which a later one of the user's own is known.
"""

from __future__ import annotations

from dataclasses import field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from consumer.delivery.credential import set_password
from consumer.delivery.opened import open_sealed
from consumer.delivery.outcome import Delivered, Reason
from consumer.frozen import quick_dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from consumer.delivery.passwords import Keys
    from consumer.delivery.users import RealmUsers

__all__ = ["PasswordLook", "look_at_password"]

_MILLISECOND = timedelta(milliseconds=1)


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class PasswordLook:
    """A password that was set, and is looked at once more. Its repr shows neither the user nor the password.

    Attributes:
        realm: The realm the user lives in.
        username_key: The username as Keycloak stores it.
        user_id: Keycloak's id of the user.
        credential: The password, sealed.
        event_id: The event that it is bound to.
        temporary: Whether the user must choose another one at the next login.
        began: When the call that set it began, by our clock (UTC).
        ended: When that call had ended.
    """

    realm: str
    username_key: str = field(repr=False)
    user_id: str
    credential: Mapping[str, Any] = field(repr=False)
    event_id: str
    temporary: bool
    began: datetime
    ended: datetime


async def look_at_password(look: PasswordLook, users: RealmUsers, keys: Keys) -> Delivered:
    """Say whether the password is still the one that was set; set it again where it was overwritten.

    Returns:
        With `password_set`: it had been overwritten. Else its `credential_date` is Keycloak's date of our password, or None
        if the user has another one by now.

    Raises:
        CallFailed: Keycloak could not be read, or did not take it.
        SealingError: The password could not be opened.
    """
    date = await users.password_date(look.user_id)
    reason = Reason.AS_DELIVERED
    if date is not None and users.clock.latest(date) < look.began:
        password = open_sealed(
            look.credential,
            realm=look.realm,
            username_key=look.username_key,
            event_id=look.event_id,
            keys=keys,
        )
        await set_password(users, look.user_id, password, temporary=look.temporary, demanded=False)
        date, reason = await users.password_date(look.user_id), Reason.PASSWORD_SET
    elif date is None or users.clock.earliest(date) > look.ended:
        date, reason = None, Reason.LEFT_AS_FOUND
    else:
        users.clock.saw(date, began=look.began, ended=look.ended, granularity=_MILLISECOND)
    return Delivered(reason=reason, user_id=look.user_id, existed=True, credential_date=date)
