"""The way to the fake Keycloak: what `RealmUsers` gets as its connection, with everything that happens on a network.

The real `Keycloak`, `RealmUsers`, handlers and classification run above it; python-keycloak, httpx and tokens do not.
As the real transport does it (consumer/delivery/transport.py), a request waits for its slot, is checked as the last
thing before it leaves, and has one limit as a whole.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import unquote

from keycloak import KeycloakConnectionError

from consumer.delivery.answer import TransportCause
from consumer.delivery.change import Change
from consumer.delivery.connection import RealmConnection
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.keycloak_clock import KeycloakClock
from consumer.delivery.known_user import KnownUser
from consumer.delivery.late_effects import LateEffects
from consumer.delivery.outcome import Outcome
from consumer.delivery.password_look import PasswordLook
from consumer.delivery.transport import KeycloakSender, NoAnswer, current_scope
from consumer.delivery.users import RealmUsers
from consumer.outbox.lane import lane_id
from tests.simulation.expected import said_by
from tests.simulation.fake_keycloak import SERVICE_ACCOUNT, FakeKeycloak, Reply, Request
from tests.simulation.history import Hand, History, subject_of
from tests.simulation.our_calls import OurCall
from tests.simulation.virtual_loop import Host, VirtualLoop
from tests.simulation.weather import CallFate, Weather

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Errand", "KeycloakServer", "SimDelivery", "SimKeycloak", "WatchedCalls"]

EPOCH_MS = 1_795_219_200_000
"""2026-11-21 in Keycloak's clock: the database's zero (tests/unit/drain/outbox_in_memory.py)."""

_NOWHERE = Context()
_ERRAND: ContextVar[tuple[Errand, OurCall | None] | None] = ContextVar("simulated_errand", default=None)
"""What the requests are made for, and the call that they belong to: a look belongs to none."""

_ERROR = Reply(500, b'{"error":"unknown_error"}', {"Content-Type": "application/json"})
_UNAVAILABLE = Reply(503, b"<html>", {"Content-Type": "text/html"})
_TURNED_AWAY = Reply(503, b"", {"Retry-After": "2"})
_THROTTLED = Reply(429, b"", {"Retry-After": "1"})
_NEVER_LEFT = Reply(0)
_FORBIDDEN = Reply(403, b'{"error":"HTTP 403 Forbidden"}', {"Content-Type": "application/json"})


@dataclass(frozen=True, slots=True)
class Errand:
    """What a request is made for.

    Attributes:
        event_id: the first event of a merge group; None for a heal.
        carries: the fields that its event sends.
        kind: of its event.
    """

    realm: str
    username_key: str
    event_id: str | None
    carries: Mapping[str, Any]
    kind: str | None

    @property
    def lane(self) -> bytes:
        """Whose errand it is."""
        return lane_id(self.realm, self.username_key)


class WatchedCalls(Protocol):
    """Who is told of every delivery and every request in it."""

    def delivery_begins(self, host: Host, errand: Errand) -> OurCall:
        """The drain asks for a change; what is returned names the call."""

    def read_back_begins(self, host: Host, errand: Errand) -> float:
        """The drain asks whether a change has taken effect; what is returned is when."""

    def read_back_ended(self, errand: Errand, begun: float, outcome: Outcome) -> None:
        """The drain was told whether it has."""

    def delivery_ended(self, host: Host, errand: Errand, call: OurCall, outcome: Outcome | None) -> None:
        """The drain was told what came of it; None: nothing, because a request did not leave."""

    def request_begins(
        self, host: Host, errand: Errand, call: OurCall | None, request: Request, timeout: float
    ) -> object:
        """A request leaves; what is returned names it."""

    def request_ended(self, request: object, reply: Reply | None) -> None:
        """Its caller knows its end: an answer, 0 for a refused connection, or that there is none."""

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
    """The Keycloaks, with one database and one cache between them, and the network before them.

    Attributes:
        held: requests that a node has received which stands still: they take effect when it goes on.
        late: how many requests are still to take effect whose callers have given up.
    """

    loop: VirtualLoop
    weather: Weather
    fake: FakeKeycloak
    history: History
    watch: WatchedCalls
    closed: bool = False
    held: list[Callable[[], None]] = field(default_factory=list)
    late: int = 0

    @property
    def now_ms(self) -> int:
        """Keycloak's clock."""
        return EPOCH_MS + int((self.loop.time() + self.weather.clock_ahead) * 1000)

    def apply(self, request: Request, realm: str, call: OurCall | None) -> Reply:
        """Let a request take effect now."""
        if call is None or request.method == "GET":
            return self.fake.answer(request, self.now_ms)
        return self.by(Hand(call.what, call), request, realm)

    def by(self, hand: Hand, request: Request, realm: str) -> Reply:
        """Let somebody's request take effect now."""
        return self.history.record(
            hand, realm, subject_of(request), lambda: self.fake.answer(request, self.now_ms)
        )

    def go_on(self, rng: random.Random, within: float) -> None:
        """The node that stood still goes on: one after the other, what it holds takes effect."""
        held, self.held = self.held, []
        after = sorted(rng.uniform(0.0, within) for _ in held)
        for seconds, take_effect in zip(after, held, strict=True):
            self.loop.call_later(seconds, take_effect, context=_NOWHERE)

    async def exchange(self, request: Request, realm: str, rng: random.Random, limit: float) -> Reply:
        """Carry one request there and its answer back, or not.

        Raises:
            NoAnswer: the connection was refused or lost.
        """
        weather, loop = self.weather, self.loop
        errand = _ERRAND.get()
        fate = CallFate.DROPPED if self.closed else weather.fate_of_call(rng)
        there, back = weather.call_latency(rng, limit), weather.call_latency(rng, limit)
        if fate is CallFate.REFUSED:
            await asyncio.sleep(0.001)
            raise NoAnswer(TransportCause.REFUSED)
        if fate is CallFate.LOST_BEFORE:
            await asyncio.sleep(there)
            raise NoAnswer(TransportCause.LOST)
        answer: asyncio.Future[Reply | None] = loop.create_future()
        cursed = errand is not None and errand[0].username_key in weather.cursed
        if fate is CallFate.LATE:
            late = limit + rng.uniform(0.0, weather.server_limit)
            self._put_off(late, request, realm, errand)
        elif fate is CallFate.LOST_LATE:
            loop.call_later(there, _deliver, None, answer, context=_NOWHERE)
            self._put_off(there + rng.uniform(0.0, weather.server_limit), request, realm, errand)
        elif fate is CallFate.FROZEN:
            self.late += 1
            self.held.append(partial(self._late, request, realm, errand))
        elif fate is not CallFate.DROPPED:
            if cursed:
                fate = CallFate.ERROR
            elif realm in weather.forbidden:
                fate = CallFate.ANSWERED
            call = None if errand is None else errand[1]
            loop.call_later(there, self._serve, request, realm, call, fate, back, answer, context=_NOWHERE)
        reply = await answer
        if reply is None:
            raise NoAnswer(TransportCause.LOST)
        return reply

    def _serve(
        self,
        request: Request,
        realm: str,
        call: OurCall | None,
        fate: CallFate,
        back: float,
        answer: asyncio.Future[Reply | None],
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
                reply = self.apply(request, realm, call)
        if fate is CallFate.ERROR_AFTER:
            reply = _ERROR
        elif fate is CallFate.UNAVAILABLE_AFTER:
            reply = _UNAVAILABLE
        elif fate is CallFate.LOST_AFTER:
            reply = None
        if fate is not CallFate.SILENT_AFTER:
            self.loop.call_later(back, _deliver, reply, answer, context=_NOWHERE)

    def _put_off(
        self, seconds: float, request: Request, realm: str, errand: tuple[Errand, OurCall | None] | None
    ) -> None:
        self.late += 1
        self.loop.call_later(seconds, self._late, request, realm, errand, context=_NOWHERE)

    def _late(self, request: Request, realm: str, errand: tuple[Errand, OurCall | None] | None) -> None:
        self.late -= 1
        if errand is not None and request.method != "GET":
            self.watch.took_effect_late(errand[0])
        self.apply(request, realm, None if errand is None else errand[1])


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

    async def account_id(self) -> str:
        return SERVICE_ACCOUNT

    async def renew_token(self) -> None:
        pass

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
        watch, errand = self._server.watch, _ERRAND.get()
        made = None if errand is None else watch.request_begins(self._host, *errand, request, limit)
        try:
            async with asyncio.timeout(limit):
                reply = await self._server.exchange(request, self._realm, self._rng, limit)
        except TimeoutError:
            watch.request_ended(made, None)
            raise KeycloakConnectionError("no answer") from NoAnswer(TransportCause.TIMEOUT)
        except NoAnswer as lost:
            watch.request_ended(made, _NEVER_LEFT if lost.cause is TransportCause.REFUSED else None)
            raise KeycloakConnectionError("no answer") from lost
        except asyncio.CancelledError:
            watch.request_given_up(made)
            raise
        watch.request_ended(made, reply)
        return _Response(reply.status, reply.body, dict(reply.headers))


@dataclass(slots=True)
class _Glances:
    """What `Keycloak.look` asks of `KeycloakSender`."""

    server: KeycloakServer
    rng: random.Random

    async def glance(self, url: str, *, seconds: float) -> _Response:
        try:
            async with asyncio.timeout(seconds):
                realm = unquote(url.split("/")[2])
                reply = await self.server.exchange(Request(method="GET", path=url), realm, self.rng, seconds)
        except TimeoutError:
            raise NoAnswer(TransportCause.TIMEOUT) from None
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
        self._monotonic = server.loop.time
        self.clock = KeycloakClock()
        # As a token says it, in whole seconds.
        ours = datetime.fromtimestamp(EPOCH_MS / 1000 + server.loop.time(), UTC)
        issued = datetime.fromtimestamp(server.now_ms // 1000, UTC)
        self.clock.saw(issued, began=ours, ended=ours, granularity=timedelta(seconds=1))
        self._slots = asyncio.Semaphore(calls)
        self._users = {
            realm: RealmUsers(
                cast(RealmConnection, _Connection(server, host, realm, rng, strike)), realm, clock=self.clock
            )
            for realm in sorted(realms)
        }
        self._control_slots = {realm: asyncio.Semaphore(1) for realm in sorted(realms)}
        self._url = "/"
        self._sender = cast(KeycloakSender, _Glances(server, rng))


@dataclass(slots=True)
class SimDelivery:
    """The real delivery, under watch: requests know which change they belong to."""

    delivery: Delivery
    host: Host
    watch: WatchedCalls
    strike: Callable[[str], bool]

    async def deliver(self, change: Change, before_call: Callable[[], None]) -> Outcome:
        """Apply one change."""
        errand = _errand(change)
        return await self._called(errand, partial(self.delivery.deliver, change, before_call))

    async def read_back(self, change: Change, before_call: Callable[[], None]) -> Outcome:
        """Say whether a change has taken effect."""
        errand = _errand(change)
        begun = self.watch.read_back_begins(self.host, errand)
        with _on(errand, None):
            outcome = await self.delivery.read_back(change, before_call)
        self.watch.read_back_ended(errand, begun, outcome)
        return outcome

    async def heal(self, known: KnownUser, late: LateEffects, before_call: Callable[[], None]) -> Outcome:
        """Undo what calls in doubt have left late."""
        errand = Errand(known.realm, known.username_key, None, {}, None)
        return await self._called(errand, partial(self.delivery.heal, known, late, before_call))

    async def look_at_password(self, look: PasswordLook, before_call: Callable[[], None]) -> Outcome:
        """Look whether a password is still the user's."""
        errand = Errand(look.realm, look.username_key, None, {}, None)
        return await self._called(errand, partial(self.delivery.look_at_password, look, before_call))

    async def _called(self, errand: Errand, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        call, outcome = self.watch.delivery_begins(self.host, errand), None
        try:
            with _on(errand, call):
                outcome = await work()
        finally:
            self.watch.delivery_ended(self.host, errand, call, outcome)
        if self.strike("delivered"):
            await asyncio.sleep(0)
        return outcome


def _errand(change: Change) -> Errand:
    # Any text will do for a password whose own text is never sent as a field.
    password = None if change.credential is None else change.credential_event_id
    carries = said_by(change.kind, change.data, password=password)
    return Errand(change.realm, change.username_key, change.event_id, carries, change.kind)


@contextmanager
def _on(errand: Errand, call: OurCall | None) -> Iterator[None]:
    token = _ERRAND.set((errand, call))
    try:
        yield
    finally:
        _ERRAND.reset(token)


def _deliver(reply: Reply | None, answer: asyncio.Future[Reply | None]) -> None:
    if not answer.done():
        answer.set_result(reply)
