"""Undoing what calls in doubt have left late, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.delivery.credential import set_password
from consumer.delivery.errors import CallFailed
from consumer.delivery.federation import federation_of
from consumer.delivery.handlers.handler import locate
from consumer.delivery.handlers.restore import last_password, restore
from consumer.delivery.handlers.update import write_named
from consumer.delivery.heal_plan import Drift, plan_heal
from consumer.delivery.late_effects import EXISTS, PASSWORD
from consumer.delivery.outcome import Delivered, Reason

if TYPE_CHECKING:
    from datetime import datetime

    from consumer.delivery.known_user import KnownUser
    from consumer.delivery.late_effects import LateEffects
    from consumer.delivery.passwords import Keys
    from consumer.delivery.users import RealmUsers


async def heal(
    known: KnownUser, late: LateEffects, users: RealmUsers, keys: Keys, *, restores: bool
) -> Delivered:
    """Read the user, and write over what is a late effect of our own calls.

    A user who should be gone and is there is left: it may be somebody who was given the name since. One who is missing is
    created again if a delete of ours was in doubt, or if lost users are restored.

    Args:
        known: What our own deliveries left.
        late: What calls in doubt may leave.
        users: The realm's users.
        keys: Open the password that is set again.
        restores: Whether a user whom somebody else has deleted is created again.

    Returns:
        What it came to; its `drift` says what was found and left.

    Raises:
        CallFailed: Keycloak did not take it.
        SealingError: The password could not be opened.
    """
    user_id = await locate(users, known.username_key, known.user_id)
    if known.exists is False:
        return await _gone(late, users, user_id)
    if user_id is None:
        if known.exists is None:
            return Delivered(reason=Reason.ALREADY_ABSENT, user_id=None, existed=False)
        # Who came from a directory is the directory's to give back.
        if known.federation is not None or not (restores or late.deletes or EXISTS in late.asked):
            return _left(None, {EXISTS: Drift.GONE})
        restored = await restore(known, users, keys)
        return Delivered(reason=Reason.RESTORED, user_id=restored, existed=False)
    user = await users.read_as_it_is(user_id)
    parts = {each.part for each in late.fields}
    plan = plan_heal(
        user,
        late,
        groups=await users.grants.groups_of(user_id) if "group" in parts else (),
        realm_roles=await users.grants.realm_roles_of(user_id) if "realm_role" in parts else (),
    )
    if plan.data:
        grants = await users.grants.look_up(plan.data, lenient=True)
        await write_named(users, user_id, plan.data, grants)
    drift: dict[str, str] = dict(plan.drift)
    set_at = None
    if federation_of({**user, "id": user_id}) is None:
        # What Keycloak says of the password of a directory's user is no date.
        set_at = await _heal_password(known, late, users, user_id, keys, drift)
    if plan.data or set_at is not None:
        return Delivered(
            reason=Reason.HEALED, user_id=user_id, existed=True, credential_date=set_at, drift=drift
        )
    if drift:
        return _left(user_id, drift)
    return Delivered(reason=Reason.AS_DELIVERED, user_id=user_id, existed=True)


async def _gone(late: LateEffects, users: RealmUsers, user_id: str | None) -> Delivered:
    if user_id is None:
        return Delivered(reason=Reason.ALREADY_ABSENT, user_id=None, existed=False)
    if EXISTS in late.asked:
        await users.delete(user_id)
        return Delivered(reason=Reason.DELETED, user_id=None, existed=True)
    return _left(None, {EXISTS: Drift.THERE})


def _left(user_id: str | None, drift: dict[str, str] | dict[str, Drift]) -> Delivered:
    return Delivered(reason=Reason.LEFT_AS_FOUND, user_id=user_id, existed=user_id is not None, drift=drift)


async def _heal_password(
    known: KnownUser,
    late: LateEffects,
    users: RealmUsers,
    user_id: str,
    keys: Keys,
    drift: dict[str, str],
) -> datetime | None:
    """Set the last password again if Keycloak's date shows that a call in doubt has set an older one.

    Returns:
        Keycloak's date of the password that was set; None if none was.
    """
    asked = PASSWORD in late.asked
    if not (late.passwords or asked):
        return None
    date = await users.password_date(user_id)
    if date is not None and date == late.password_date and not asked:
        return None
    ours = date is not None and any(
        call.earliest <= users.clock.latest(date) and users.clock.earliest(date) <= call.latest
        for call in late.passwords
    )
    if not (ours or asked):
        if late.password_date is not None or known.credential_event_id == "":
            drift[PASSWORD] = Drift.CHANGED
        return None
    password = None if late.only_looks else last_password(known, keys)
    if password is None:
        # Not kept, never delivered, or too long ago for us to say whose it is.
        drift[PASSWORD] = Drift.UNKNOWN
        return None
    temporary = bool(known.data.get("temporary", False))
    # The late effect of an earlier, temporary password may be what is healed.
    await set_password(users, user_id, password, temporary=temporary, demanded=True)
    return await _date_of(users, user_id)


async def _date_of(users: RealmUsers, user_id: str) -> datetime | None:
    try:
        return await users.password_date(user_id)
    except CallFailed:
        # The password is set; only its date is not known.
        return None
