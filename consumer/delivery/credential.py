"""Giving a user the password that an event carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consumer.delivery.errors import CallFailed
from consumer.delivery.handlers.stored_profile import sparing_the_event
from consumer.delivery.opened import Clear, Password, credential_of, open_sealed
from consumer.delivery.outcome import Blame, DeadLetter, Failure, Reason
from consumer.delivery.representation import UPDATE_PASSWORD

if TYPE_CHECKING:
    from datetime import datetime

    from consumer.delivery.change import Change
    from consumer.delivery.keycloak_clock import KeycloakClock
    from consumer.delivery.passwords import Keys
    from consumer.delivery.users import RealmUsers


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordApplied:
    """The user has the event's password.

    Attributes:
        already: It had been applied by an earlier call of the same entry.
        set_at: Keycloak's own date of it, if it was read (UTC).
    """

    already: bool
    set_at: datetime | None


def open_password(change: Change, keys: Keys) -> Password | None:
    """Open the change's password for the call that follows; None if it has none.

    Raises:
        UnknownSealingKey: It is sealed to a key that is not there.
        PasswordUnreadable: It does not open with its key.
    """
    if change.credential is None:
        return None
    return open_sealed(
        change.credential,
        realm=change.realm,
        username_key=change.username_key,
        event_id=change.credential_event_id,
        keys=keys,
    )


async def apply_password(
    change: Change, users: RealmUsers, user_id: str, password: Password, *, temporary: bool
) -> PasswordApplied:
    """Set a password; recognise it if an earlier call of this entry has set it.

    Under a history policy Keycloak refuses the password a user has, so that a repeated call looks like a refusal
    (research on the Admin API, 3.3). It was ours if Keycloak's date of the password is not older than the first call
    that may have set it.

    Raises:
        CallFailed: Keycloak did not set it.
    """
    demanded = change.known is not None and change.known().data.get("temporary") is True
    try:
        await set_password(users, user_id, password, temporary=temporary, demanded=demanded)
    except CallFailed as failed:
        if failed.outcome.reason is not Reason.PASSWORD_HISTORY or change.maybe_applied_since is None:
            raise
        set_at = await users.password_date(user_id)
        if not set_since(users.clock, set_at, change.maybe_applied_since):
            raise
        return PasswordApplied(already=True, set_at=set_at)
    return PasswordApplied(already=False, set_at=None)


async def set_password(
    users: RealmUsers, user_id: str, password: Password, *, temporary: bool, demanded: bool
) -> None:
    """Give a user a password, in clear or hashed.

    A password in clear that is not temporary also ends the demand for another one at the next login, whoever made it. A
    hash is a field of the user to Keycloak, and ends no such demand by itself: that takes reading the user first.

    Args:
        users: The realm's users.
        user_id: Whose password.
        password: The password.
        temporary: Whether the user must choose another one at the next login.
        demanded: Whether such a demand of ours may stand. One that an administrator made may be left with a hash.

    Raises:
        CallFailed: Keycloak did not set it.
    """
    if isinstance(password, Clear):
        await users.set_password(user_id, password.text, temporary=temporary)
        return
    if await users.directories.of(user_id) is not None:
        # Keycloak would keep the hash, and from then on refuse the password that the directory has.
        detail = "the user's password is in a directory, which takes no hash: publish it in clear (sealed)"
        failure = Failure(blame=Blame.USER, detail=detail)
        raise CallFailed(DeadLetter(reason=Reason.HASH_NOT_FOR_DIRECTORY, failure=failure))
    fields: dict[str, Any] = {"credentials": [credential_of(password, temporary=temporary)]}
    if demanded and not temporary:
        actions = (await users.read(user_id)).get("requiredActions") or []
        fields["requiredActions"] = [action for action in actions if action != UPDATE_PASSWORD]
    with sparing_the_event({}):
        await users.update(user_id, fields)


def set_since(clock: KeycloakClock, set_at: datetime | None, since: datetime) -> bool:
    """Whether a password, or a session, of this date may be from a moment of our clock or later.

    What is not known of Keycloak's clock speaks for it: a password that a call of ours has set is not set once more.
    """
    return set_at is not None and clock.latest(set_at) >= since
