"""Importing the users of one realm, as if each had been created."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from consumer.delivery.errors import CallFailed
from consumer.delivery.new_user_rules import NewUserRules
from consumer.delivery.outcome import Reason

__all__ = ["RealmImports"]

_log = structlog.get_logger(__name__)
_KEPT_SECONDS = 300.0
"""How long a realm's rules are taken for true, and a realm that may not be imported to is left alone."""


class RealmImports:
    """Imports users where that comes to the same as creating them.

    Args:
        realm: The realm, for the log.
        read: Reads the realm's rules for new users; None if they are not understood. Raises `CallFailed`.
        send: Imports representations; the ids of those who were added, by username. Raises `CallFailed`.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        realm: str,
        read: Callable[[], Awaitable[NewUserRules | None]],
        send: Callable[[Sequence[Mapping[str, Any]]], Awaitable[dict[str, str]]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._realm = realm
        self._read = read
        self._send = send
        self._clock = clock
        self._rules: NewUserRules | None = None
        self._until = float("-inf")
        self._reading = asyncio.Lock()
        self._said: str | None = None

    async def admits(self, user: Mapping[str, Any]) -> bool:
        """Whether importing this user comes to the same as creating them. Reads the realm's rules now and then."""
        rules = await self._current()
        return rules is not None and rules.admits(user)

    async def import_users(self, users: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Create users in one call; the ids of those who were not there before, by username.

        Raises:
            CallFailed: Keycloak has taken none of them, or it is not known which.
        """
        if (rules := self._rules) is None:
            return {}
        try:
            return await self._send([rules.complete(user) for user in users])
        except CallFailed as failed:
            if failed.outcome.reason is not Reason.FORBIDDEN:
                raise
            self._leave_alone(failed.outcome.reason.value)
            return {}

    async def _current(self) -> NewUserRules | None:
        async with self._reading:
            if self._clock() >= self._until:
                try:
                    self._rules = await self._read()
                except CallFailed as failed:
                    self._leave_alone(failed.outcome.reason.value)
                else:
                    self._until = self._clock() + _KEPT_SECONDS
                    if self._rules is None or self._rules.profile is None:
                        self._leave_alone("its rules for new users cannot be foreseen")
                    else:
                        self._said = None
            return self._rules

    def _leave_alone(self, reason: str) -> None:
        self._rules, self._until = None, self._clock() + _KEPT_SECONDS
        if self._said != reason:
            self._said = reason
            _log.warning("users are created one by one", realm=self._realm, reason=reason)
