"""Applying one change to Keycloak."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from consumer.delivery.beyond_plane import beyond_plane
from consumer.delivery.classify import may_be_its_content
from consumer.delivery.errors import CallFailed, NotCalled, PasswordUnreadable, UnknownSealingKey
from consumer.delivery.handlers.create import CreateHandler
from consumer.delivery.handlers.delete import DeleteHandler, DeleteMode
from consumer.delivery.handlers.heal import heal
from consumer.delivery.handlers.password import PasswordHandler
from consumer.delivery.handlers.read_back import read_back
from consumer.delivery.handlers.update import UpdateHandler
from consumer.delivery.holder import naming_holder
from consumer.delivery.outcome import (
    Blame,
    DeadLetter,
    Defer,
    Delivered,
    Failure,
    Outcome,
    Reason,
    Retry,
)
from consumer.delivery.password_look import look_at_password
from consumer.delivery.protection import is_protected_name, refused_by_name
from consumer.delivery.redact import mask, strings_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from consumer.delivery.change import Change
    from consumer.delivery.handlers.handler import Handler
    from consumer.delivery.keycloak import Keycloak
    from consumer.delivery.known_user import KnownUser
    from consumer.delivery.late_effects import LateEffects
    from consumer.delivery.password_look import PasswordLook
    from consumer.delivery.passwords import Keys
    from consumer.delivery.transport import CallScope, CallWatch
    from consumer.delivery.users import RealmUsers

_OURS = frozenset({"attributes_mode", "mode", "reason"})
"""Data of ours, not of the user's: masking "delete" would spoil messages and protect nobody."""


class Delivery:
    """Applies changes to Keycloak, each at once and at most once a call of `deliver`: repeating is the drain's part.

    Args:
        keycloak: Where to.
        keys: Open sealed passwords.
        delete_mode: What a delete without a mode means.
        creates_missing: Of `user_update` and `password_change`, the kinds that create a user who is missing.
        restores_lost: Whether a user whom somebody else has deleted in Keycloak is created again from what is known.
        protected_users: Username keys of users who are never touched, beside service accounts.
        custom: Handlers of the kinds that other packages bring.
        watch: Told of each request.
    """

    def __init__(
        self,
        *,
        keycloak: Keycloak,
        keys: Keys,
        delete_mode: DeleteMode = "delete",
        creates_missing: frozenset[str] = frozenset(),
        restores_lost: bool = True,
        protected_users: frozenset[str] = frozenset(),
        custom: Mapping[str, Handler] | None = None,
        watch: CallWatch | None = None,
    ) -> None:
        self._watch = watch
        self._protected_users = protected_users
        self._keycloak = keycloak
        self._keys = keys
        self._delete_mode = delete_mode
        self._restores_lost = restores_lost
        self._custom = dict(custom or {})
        self._handlers: dict[str, Handler] = {
            **self._custom,
            "password_change": PasswordHandler(
                keys, creates="password_change" in creates_missing, restores=restores_lost
            ),
            "user_create": CreateHandler(keys, restores=restores_lost),
            "user_delete": DeleteHandler(delete_mode),
            "user_update": UpdateHandler(
                keys, creates="user_update" in creates_missing, restores=restores_lost
            ),
        }

    async def deliver(self, change: Change, before_call: Callable[[], None]) -> Outcome:
        """Apply one change.

        Args:
            change: The change.
            before_call: Called as the last statement before each request about the user leaves: after token and
                free slot have been waited for. It raises `NotCalled` to stop the request.

        Returns:
            What it came to. Every answer of Keycloak, and none, is an outcome.

        Raises:
            NotCalled: A request was stopped, and nothing has been changed.
            asyncio.CancelledError: The caller was cancelled; a call under way may have taken effect.
            Exception: This is a defect.
        """
        if is_protected_name(change.username_key, self._protected_users):
            return refused_by_name()
        handler = self._handlers.get(change.kind)
        if handler is None:
            return _unregistered(change.kind)

        async def apply() -> Outcome:
            users = self._keycloak.users(change.realm)
            may_drop = await users.may_drop(change.data)
            try:
                done = _with_federation(await handler(change, users), users)
            except CallFailed as failed:
                # A lost user is created from what is known, before what the change names.
                known = {} if change.known is None else change.known().data
                written = (change.data, known)
                raise await _explained(failed, users, change.username_key, change.user_id, written) from None
            if not may_drop or done.user_id is None:
                return done
            return replace(done, dropped=await users.dropped(done.user_id, change.data, may_drop))

        outcome = await self._outcome(apply, before_call, lambda: _texts_of(change))
        if isinstance(outcome, Delivered) or not may_be_its_content(outcome):
            return outcome
        places = beyond_plane(change.username_key, change.data)
        if not places:
            return outcome
        # Once more: what breaks on the text breaks again, a deadlock does not.
        again = await self._outcome(apply, before_call, lambda: _texts_of(change))
        if isinstance(again, Delivered) or again.reason is not outcome.reason:
            return again
        return replace(again, failure=replace(again.failure, beyond_plane=places))

    async def read_back(self, change: Change, before_call: Callable[[], None]) -> Outcome:
        """Say whether a change whose answer was lost has taken effect; nothing is written.

        What a custom kind left cannot be read back: it is repeated, which leaves the same. A kind that is not known
        here waits for a version that knows it.

        Returns:
            `Delivered` if it has, `DeadLetter` with the reason `not_applied` if not; otherwise why that cannot be said.

        Raises:
            NotCalled: A request was stopped.
            asyncio.CancelledError: The caller was cancelled.
            Exception: This is a defect.
        """
        if change.kind not in self._handlers:
            return _unregistered(change.kind)
        if change.kind in self._custom:
            repeated = await self.deliver(change, before_call)
            if isinstance(repeated, Retry) and repeated.failure.blame is Blame.USER:
                # A definite answer, and no attempt is left.
                return DeadLetter(reason=repeated.reason, failure=repeated.failure)
            return repeated
        deletes = change.kind == "user_delete" and change.data.get("mode", self._delete_mode) == "delete"

        async def look() -> Outcome:
            users = self._keycloak.users(change.realm)
            try:
                return await read_back(change, users, deletes=deletes)
            except CallFailed as failed:
                raise await _explained(failed, users, change.username_key, change.user_id) from None

        return await self._outcome(look, before_call, lambda: _texts_of(change))

    async def heal(self, known: KnownUser, late: LateEffects, before_call: Callable[[], None]) -> Outcome:
        """Undo what calls in doubt have left late; what others have changed stays.

        Returns:
            What it came to. A refusal by the password history has the reason `heal_refused_by_history`: the password
            is, or was, the user's.

        Raises:
            NotCalled: A request was stopped, and nothing has been changed.
            asyncio.CancelledError: The caller was cancelled; a call under way may have taken effect.
            Exception: This is a defect.
        """
        if is_protected_name(known.username_key, self._protected_users):
            return refused_by_name()

        async def undo() -> Outcome:
            users = self._keycloak.users(known.realm)
            try:
                return await heal(known, late, users, self._keys, restores=self._restores_lost)
            except CallFailed as failed:
                raise await _explained(
                    failed, users, known.username_key, known.user_id, (known.data,)
                ) from None

        outcome = await self._outcome(
            undo, before_call, lambda: (known.username_key, *strings_in(known.data))
        )
        if isinstance(outcome, DeadLetter) and outcome.reason is Reason.PASSWORD_HISTORY:
            return replace(outcome, reason=Reason.HEAL_REFUSED_BY_HISTORY)
        return outcome

    async def look_at_password(self, look: PasswordLook, before_call: Callable[[], None]) -> Outcome:
        """Look whether a password that was set some seconds ago is still the user's; set it again if it was overwritten.

        Returns:
            What it came to, as `consumer.delivery.password_look` says.

        Raises:
            NotCalled: A request was stopped, and nothing has been changed.
            asyncio.CancelledError: The caller was cancelled; a call under way may have taken effect.
            Exception: This is a defect.
        """

        async def ask() -> Outcome:
            return await look_at_password(look, self._keycloak.users(look.realm), self._keys)

        return await self._outcome(ask, before_call, lambda: (look.username_key,))

    async def _outcome(
        self,
        work: Callable[[], Awaitable[Outcome]],
        before_call: Callable[[], None],
        theirs: Callable[[], tuple[str, ...]],
    ) -> Outcome:
        try:
            with self._keycloak.calls(before_call, self._watch) as scope:
                return await _answered(work, scope, theirs)
        except UnknownSealingKey as missing:
            return _local(Reason.UNKNOWN_SEALING_KEY, str(missing))
        except PasswordUnreadable:
            failure = Failure(blame=Blame.LOCAL, detail="the sealed password does not open with its key")
            return DeadLetter(reason=Reason.PASSWORD_UNREADABLE, failure=failure)


def _with_federation(delivered: Delivered, users: RealmUsers) -> Delivered:
    """Note where the user comes from, if that was seen on the way."""
    user_id = delivered.user_id
    federation = None if user_id is None else users.directories.known_of(user_id)
    return delivered if federation is None else replace(delivered, federation=federation)


async def _explained(
    failed: CallFailed,
    users: RealmUsers,
    username_key: str,
    user_id: str | None,
    written: Sequence[Mapping[str, Any]] = (),
) -> CallFailed:
    """Say of a failed delivery what Keycloak's answer alone does not: who has the name or the address, or whose outage it was."""
    try:
        known = await naming_holder(failed, users, username_key, user_id, *written)
    except CallFailed as other:
        known = other
    return await users.directories.explained(known, username_key, user_id)


async def _answered(
    work: Callable[[], Awaitable[Outcome]], scope: CallScope, theirs: Callable[[], tuple[str, ...]]
) -> Outcome:
    """Run the requests of a delivery; what stops it after a first change leaves that change behind."""
    try:
        return await work()
    except CallFailed as failed:
        outcome = failed.outcome
        detail = mask(outcome.failure.detail, theirs())
        # Sessions that were ended all the same are nothing that could be healed.
        partial = scope.wrote and outcome.reason is not Reason.PROFILE_BROKEN
        failure = replace(outcome.failure, detail=detail, partial=partial, restoring=scope.restoring)
        return replace(outcome, failure=failure)
    except NotCalled as stopped:
        if not scope.wrote:
            raise
        detail = f"stopped between two requests of one delivery: {stopped.why}"
        failure = Failure(blame=Blame.LOCAL, partial=True, restoring=scope.restoring, detail=detail)
        return Defer(reason=Reason.BROKEN_OFF, failure=failure)


def _texts_of(change: Change) -> tuple[str, ...]:
    """What of a change must not be shown."""
    values = {field: value for field, value in change.data.items() if field not in _OURS}
    return (change.username, change.username_key, *strings_in(values))


def _unregistered(kind: str) -> Defer:
    return _local(Reason.KIND_UNREGISTERED, f"no handler for {kind}: a newer version knows this kind")


def _local(reason: Reason, detail: str) -> Defer:
    return Defer(reason=reason, failure=Failure(blame=Blame.LOCAL, detail=detail))
