"""The shortest way to the fake Keycloak: the real delivery above it, no network, no time, and failures where a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from keycloak import KeycloakConnectionError

from consumer.delivery.answer import TransportCause
from consumer.delivery.connection import RealmConnection
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.transport import NoAnswer, current_scope
from consumer.delivery.users import RealmUsers
from tests.simulation.fake_keycloak import FakeKeycloak, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Answered", "DirectKeycloak", "lost_after", "lost_before", "turned_away"]

Fate = Callable[[Callable[[], Reply]], Reply]
"""What becomes of a request, given what would let it take effect."""


@dataclass(slots=True)
class Answered:
    """As much of an httpx response as is looked at."""

    status_code: int
    content: bytes
    headers: dict[str, str]


def lost_before(_: Callable[[], Reply]) -> Reply:
    """The request is lost on its way."""
    raise NoAnswer(TransportCause.LOST)


def lost_after(take_effect: Callable[[], Reply]) -> Reply:
    """The answer is lost on its way."""
    take_effect()
    raise NoAnswer(TransportCause.LOST)


def turned_away(_: Callable[[], Reply]) -> Reply:
    """Somebody before Keycloak has no room: a definite no."""
    return Reply(503, b"", {"Retry-After": "1"})


@dataclass(slots=True)
class _Connection:
    """What `RealmUsers` asks of `RealmConnection`."""

    fake: FakeKeycloak
    fates: dict[int, Fate]
    asked: list[Request] = field(default_factory=list)
    now_ms: int = 1_000
    keycloak_url: str = ""

    async def a_raw_get(self, path: str, **query: Any) -> Answered:
        asked = {name: str(value) for name, value in query.items()}
        request = Request(method="GET", path=path, query=asked)
        of_realm = "/" not in path.partition("/realms/")[2] or path.endswith("/users/profile")
        if of_realm or "userProfileMetadata" in query:
            # What a realm's rules are is asked every few minutes, whatever is delivered: it is not counted here.
            reply = self.fake.answer(request, self.now_ms)
            return Answered(reply.status, reply.body, dict(reply.headers))
        return self._send(request)

    async def a_raw_post(self, path: str, data: str) -> Answered:
        return self._send(Request(method="POST", path=path, body=data))

    async def a_raw_put(self, path: str, data: str) -> Answered:
        return self._send(Request(method="PUT", path=path, body=data))

    async def a_raw_delete(self, path: str, data: str = "") -> Answered:
        return self._send(Request(method="DELETE", path=path, body=data))

    def _send(self, request: Request) -> Answered:
        current_scope().before_call()
        self.asked.append(request)
        self.now_ms += 1_000

        def take_effect() -> Reply:
            return self.fake.answer(request, self.now_ms)

        fate = self.fates.pop(len(self.asked), None)
        try:
            reply = take_effect() if fate is None else fate(take_effect)
        except NoAnswer as lost:
            raise KeycloakConnectionError("no answer") from lost
        return Answered(reply.status, reply.body, dict(reply.headers))


class DirectKeycloak(Keycloak):
    """The real client on the fake server.

    Args:
        fake: the server.
        realms: the realms served.
        fates: what becomes of the n-th request, counted from 1; all others are answered.
    """

    def __init__(
        self, fake: FakeKeycloak, realms: Iterable[str], fates: dict[int, Fate] | None = None
    ) -> None:
        self._connection = _Connection(fake, dict(fates or {}))
        self._timeout_seconds = 1.0
        self._slots = asyncio.Semaphore(16)
        connection = cast(RealmConnection, self._connection)
        self._users = {realm: RealmUsers(connection, realm) for realm in realms}

    @property
    def asked(self) -> list[str]:
        """What was asked, in order, as `METHOD path`, without what stands before the users."""
        return [f"{each.method} {each.path.partition('/realms/')[2]}" for each in self._connection.asked]

    @property
    def now_ms(self) -> int:
        """The server's clock: it goes on by a second with each request."""
        return self._connection.now_ms
