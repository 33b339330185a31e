"""Users who are never touched: service accounts, a list, and, where that is wanted, who may manage the realm.

Names are looked at before anything is asked of Keycloak. Roles are Keycloak's to know: they are read when a user's id
is first used to delete, to bar, or to change what a login needs, and remembered for a while. Between that look and the
call, and while it is remembered, somebody may be given a role: that race remains (docs/decisions/0019).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from consumer.delivery.errors import CallFailed
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Failure, Reason

__all__ = ["RoleWatch", "is_protected_name", "needs_look", "refused_by_name"]

_SERVICE_ACCOUNT: Final = "service-account-"
_LOGIN_FIELDS: Final = frozenset({"email", "credentials", "requiredActions"})
_REMEMBERED_SECONDS: Final = 300.0
_MOST: Final = 100_000


def is_protected_name(username_key: str, listed: AbstractSet[str]) -> bool:
    """Tell whether a user of this name is never touched.

    Args:
        username_key: The username as Keycloak stores it.
        listed: Username keys that somebody protects.
    """
    return username_key.startswith(_SERVICE_ACCOUNT) or username_key in listed


def refused_by_name() -> DeadLetter:
    """Refuse a change of a user whose name is protected. Nothing was asked of Keycloak."""
    detail = "a service account, or listed in KCSYNC_PROTECTED_USERS"
    return DeadLetter(reason=Reason.USER_PROTECTED, failure=Failure(blame=Blame.LOCAL, detail=detail))


def needs_look(representation: Mapping[str, Any]) -> bool:
    """Tell whether writing this bars a user or changes what a login needs."""
    return representation.get("enabled") is False or not _LOGIN_FIELDS.isdisjoint(representation)


class RoleWatch:
    """Remembers who may manage the realm; asks about whom it does not know."""

    def __init__(
        self,
        look: Callable[[str], Awaitable[bool]],
        *,
        clock: Callable[[], float] = time.monotonic,
        most: int = _MOST,
    ) -> None:
        """Watch one realm.

        Args:
            look: asks Keycloak whether the user of this id holds a role of realm-management, in whatever way.
            clock: seconds that never go back.
            most: users remembered; the one looked at first is forgotten first.
        """
        self._look = look
        self._clock = clock
        self._most = most
        self._known: OrderedDict[str, tuple[float, bool]] = OrderedDict()

    async def check(self, user_id: str) -> None:
        """Let pass who holds no role.

        Raises:
            CallFailed: The user is protected (`user_protected`), or it cannot be said (deferred: it fails closed).
        """
        looked_at, holds = self._known.get(user_id, (float("-inf"), False))
        if self._clock() - looked_at >= _REMEMBERED_SECONDS:
            holds = await self._ask(user_id)
            self._known.pop(user_id, None)
            self._known[user_id] = (self._clock(), holds)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        if holds:
            detail = "holds a role of realm-management"
            raise CallFailed(
                DeadLetter(reason=Reason.USER_PROTECTED, failure=Failure(blame=Blame.USER, detail=detail))
            )

    async def _ask(self, user_id: str) -> bool:
        try:
            return await self._look(user_id)
        except CallFailed as failed:
            failure = failed.outcome.failure
            if failed.outcome.reason is Reason.USER_MISSING:
                # The call itself finds that out, and knows what it means.
                return False
            if failure.blame is not Blame.CONFIGURATION:
                raise
            # Our own rights, not this user's fault: the entry waits until they are mended.
            detail = f"{failure.detail}; give the client the role view-clients of realm-management"
            raise CallFailed(
                Defer(
                    reason=Reason.ROLES_UNREADABLE,
                    failure=Failure(blame=Blame.LOCAL, status=failure.status, detail=detail),
                )
            ) from None
