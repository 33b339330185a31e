"""The way to the fake Keycloak: what `RealmUsers` gets as its connection, with everything that happens on a network.

The real `Keycloak`, `RealmUsers`, handlers and classification run above it; python-keycloak, httpx and tokens do not.
As the real transport does it (consumer/delivery/transport.py), a request waits for its slot, is checked as the last
thing before it leaves, and has one limit as a whole.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from keycloak import KeycloakConnectionError

from consumer.delivery.answer import TransportCause
from consumer.delivery.change import Change
from consumer.delivery.connection import RealmConnection
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.known_user import KnownUser
from consumer.delivery.outcome import Outcome
from consumer.delivery.transport import NoAnswer, current_scope
from consumer.delivery.users import RealmUsers
from consumer.outbox.lane import lane_id
from tests.simulation.fake_keycloak import FakeKeycloak, Reply, Request
from tests.simulation.virtual_loop import Host, VirtualLoop
from tests.simulation.weather import CallFate, Weather

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Errand", "KeycloakServer", "SimDelivery", "SimKeycloak", "WatchedCalls"]

EPOCH_MS = 1_795_219_200_000
"""2026-11-21 in Keycloak's clock: the database's zero (tests/unit/drain/outbox_in_memory.py)."""

_NOWHERE = Context()
_ERRAND: ContextVar[Errand | None] = ContextVar("simulated_errand", default=None)

_ERROR = Reply(500, b'{"error":"unknown_error"}', {"Content-Type": "application/json"})
_UNAVAILABLE = Reply(503, b"<html>", {"Content-Type": "text/html"})
_TURNED_AWAY = Reply(503, b"", {"Retry-After": "2"})
_THROTTLED = Reply(429, b"", {"Retry-After": "1"})
_FORBIDDEN = Reply(403, b'{"error":"HTTP 403 Forbidden"}', {"Content-Type": "application/json"})


@dataclass(frozen=True, slots=True)
class Errand:
    """What a request is made for. `event_id` is the first event of a merge group, and None for a heal."""

    realm: str
    username_key: str
    event_id: str | None

    @property
    def lane(self) -> bytes:
        """Whose errand it is."""
        return lane_id(self.realm, self.username_key)


class WatchedCalls(Protocol):
    """Who is told of every delivery and every request in it."""

    def delivery_begins(self, host: Host, errand: Errand) -> None:
        """The drain asks for a change."""

    def read_back_begins(self, host: Host, errand: Errand) -> None:
        """The drain asks whether a change has taken effect."""

    def delivery_ended(self, host: Host, errand: Errand, outcome: Outcome) -> None:
        """The drain was told what came of it."""

    def request_begins(self, host: Host, errand: Errand, request: Request, timeout: float) -> object:
        """A request leaves; what is returned names it."""

    def request_ended(self, request: object) -> None:
        """Its caller knows its end: an answer, or that there is none."""

    def request_given_up(self, request: object) -> None:
        """Its caller was cancelled; the request may go on."""

    def took_effect_late(self, errand: Errand) -> None:
        """A request took effect after its caller had given it up."""


@dataclass(slots=True)
class _Response:
    """As much of an httpx response as is looked at."""

    status_code: int
    content: bytes
    headers: dict[str, str]


@dataclass(slots=True)
class KeycloakServer:
    """The one Keycloak, and the network before it."""

    loop: VirtualLoop
    weather: Weather
    fake: FakeKeycloak
    watch: WatchedCalls
    closed: bool = False

    def apply(self, request: Request) -> Reply:
        """Let a request take effect now."""
        return self.fake.answer(request, EPOCH_MS + int(self.loop.time() * 1000))

    async def exchange(self, request: Request, realm: str, rng: random.Random, limit: float) -> Reply:
        """Carry one request there and its answer back, or not.

        Raises:
            NoAnswer: the connection was refused or lost.
        """
        weather, loop = self.weather, self.loop
        errand = _ERRAND.get()
        fate = weather.fate_of_call(rng)
        if self.closed:
            fate = CallFate.DROPPED
        there, back = weather.call_latency(rng, limit), weather.call_latency(rng, limit)
        if fate is CallFate.REFUSED:
            await asyncio.sleep(0.001)
            raise NoAnswer(TransportCause.REFUSED)
        if fate is CallFate.LOST_BEFORE:
            await asyncio.sleep(there)
            raise NoAnswer(TransportCause.LOST)
        answer: asyncio.Future[Reply | None] = loop.create_future()
        if fate is CallFate.LATE:
            late = limit + rng.uniform(0.0, weather.server_limit - limit)
            loop.call_later(late, self._late, request, errand, context=_NOWHERE)
        elif fate is not CallFate.DROPPED:
            cursed = errand is not None and errand.username_key in weather.cursed
            if cursed:
                fate = CallFate.ERROR
            elif realm in weather.forbidden:
                fate = CallFate.ANSWERED
            loop.call_later(there, self._serve, request, realm, fate, back, answer, context=_NOWHERE)
        reply = await answer
        if reply is None:
            raise NoAnswer(TransportCause.LOST)
        return reply

    def _serve(
        self, request: Request, realm: str, fate: CallFate, back: float, answer: asyncio.Future[Reply | None]
    ) -> None:
        reply: Reply | None
        match fate:
            case CallFate.ERROR:
                reply = _ERROR
            case CallFate.UNAVAILABLE:
                reply = _TURNED_AWAY
            case CallFate.THROTTLED:
                reply = _THROTTLED
            case _ if realm in self.weather.forbidden:
                reply = _FORBIDDEN
            case _:
                reply = self.apply(request)
        if fate is CallFate.ERROR_AFTER:
            reply = _ERROR
        elif fate is CallFate.UNAVAILABLE_AFTER:
            reply = _UNAVAILABLE
        elif fate is CallFate.LOST_AFTER:
            reply = None
        if fate is not CallFate.SILENT_AFTER:
            self.loop.call_later(back, _deliver, reply, answer, context=_NOWHERE)

    def _late(self, request: Request, errand: Errand | None) -> None:
        self.apply(request)
        if errand is not None and request.method != "GET":
            self.watch.took_effect_late(errand)


class _Connection:
    """What `RealmUsers` asks of `RealmConnection`."""

    keycloak_url = ""

    def __init__(
        self,
        server: KeycloakServer,
        host: Host,
        realm: str,
        rng: random.Random,
        strike: Callable[[str], bool],
    ) -> None:
        self._server = server
        self._host = host
        self._realm = realm
        self._rng = rng
        self._strike = strike

    async def a_raw_get(self, path: str, **query: Any) -> _Response:
        asked = {name: str(value) for name, value in query.items()}
        return await self._send(Request(method="GET", path=path, query=asked))

    async def a_raw_post(self, path: str, data: str) -> _Response:
        return await self._send(Request(method="POST", path=path, body=data))

    async def a_raw_put(self, path: str, data: str) -> _Response:
        return await self._send(Request(method="PUT", path=path, body=data))

    async def a_raw_delete(self, path: str, data: str = "") -> _Response:
        return await self._send(Request(method="DELETE", path=path, body=data))

    async def _send(self, request: Request) -> _Response:
        scope = current_scope()
        async with scope.slots:
            if self._strike("request"):
                await asyncio.sleep(0)
            scope.leave()
            try:
                return await self._exchange(request, scope.timeout_seconds)
            finally:
                scope.gone()

    async def _exchange(self, request: Request, limit: float) -> _Response:
        server, errand = self._server, _ERRAND.get()
        made = None
        if errand is not None:
            made = server.watch.request_begins(self._host, errand, request, limit)
        try:
            async with asyncio.timeout(limit):
                reply = await server.exchange(request, self._realm, self._rng, limit)
        except TimeoutError:
            server.watch.request_ended(made)
            raise KeycloakConnectionError("no answer") from NoAnswer(TransportCause.TIMEOUT)
        except NoAnswer as lost:
            server.watch.request_ended(made)
            raise KeycloakConnectionError("no answer") from lost
        except asyncio.CancelledError:
            server.watch.request_given_up(made)
            raise
        server.watch.request_ended(made)
        return _Response(reply.status, reply.body, dict(reply.headers))


class SimKeycloak(Keycloak):
    """The real client of one process, on simulated connections."""

    def __init__(
        self,
        server: KeycloakServer,
        host: Host,
        rng: random.Random,
        *,
        realms: frozenset[str],
        timeout: float,
        calls: int,
        strike: Callable[[str], bool],
    ) -> None:
        self._timeout_seconds = timeout
        self._control_timeout_seconds = timeout / 2
        self._clock = server.loop.time
        self._slots = asyncio.Semaphore(calls)
        self._users = {
            realm: RealmUsers(cast(RealmConnection, _Connection(server, host, realm, rng, strike)), realm)
            for realm in sorted(realms)
        }
        self._control_slots = {realm: asyncio.Semaphore(1) for realm in sorted(realms)}


@dataclass(slots=True)
class SimDelivery:
    """The real delivery, under watch: requests know which change they belong to."""

    delivery: Delivery
    host: Host
    watch: WatchedCalls
    strike: Callable[[str], bool]

    async def deliver(self, change: Change, before_call: Callable[[], None]) -> Outcome:
        """Apply one change."""
        errand = Errand(change.realm, change.username_key, change.event_id)
        self.watch.delivery_begins(self.host, errand)
        with _on(errand):
            outcome = await self.delivery.deliver(change, before_call)
        self.watch.delivery_ended(self.host, errand, outcome)
        if self.strike("delivered"):
            await asyncio.sleep(0)
        return outcome

    async def read_back(self, change: Change, before_call: Callable[[], None]) -> Outcome:
        """Say whether a change has taken effect."""
        errand = Errand(change.realm, change.username_key, change.event_id)
        self.watch.read_back_begins(self.host, errand)
        with _on(errand):
            return await self.delivery.read_back(change, before_call)

    async def heal(self, known: KnownUser, before_call: Callable[[], None]) -> Outcome:
        """Make a user equal to what is known."""
        errand = Errand(known.realm, known.username_key, None)
        self.watch.delivery_begins(self.host, errand)
        with _on(errand):
            return await self.delivery.heal(known, before_call)


@contextmanager
def _on(errand: Errand) -> Iterator[None]:
    token = _ERRAND.set(errand)
    try:
        yield
    finally:
        _ERRAND.reset(token)


def _deliver(reply: Reply | None, answer: asyncio.Future[Reply | None]) -> None:
    if not answer.done():
        answer.set_result(reply)
