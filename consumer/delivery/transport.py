"""The one place where a request leaves for Keycloak.

httpx requests travel on aiohttp (three times the rate of httpx's own transport, research on libraries, 2.3), through
here: the wait for a free slot, the CLIENT span, the trace header, the drain's last check, the time limit of the whole
call and the meaning of every way in which no answer comes.

What aiohttp 3.14 and httpx-aiohttp 0.2 report, tried against local servers (tests/unit/delivery/test_transport.py):

  what happened                        aiohttp raises               httpx-aiohttp makes of it   here
  port closed, host unreachable        ClientConnectorError         ConnectError                REFUSED          not applied
  name does not resolve                ClientConnectorDNSError      ConnectError                UNRESOLVED       not applied
  no answer to the TCP or TLS hello    ConnectionTimeoutError       ConnectTimeout              CONNECT_TIMEOUT  not applied
  wrong or expired certificate         ClientConnectorCertificate-  ConnectError                TLS              not applied
                                       Error, ClientConnectorSSLError
  server closes before the answer      ServerDisconnectedError      ConnectTimeout (!)          LOST             unknown
  connection reset                     ClientOSError                ConnectTimeout (!)          LOST             unknown
  status line missing or nonsense      ClientResponseError          passes as it is             BROKEN           unknown
  body shorter than announced          ClientPayloadError           ReadError                   BROKEN           unknown
  answer too slow, or dripping         (our own limit)              -                           TIMEOUT          unknown

aiohttp sends GET, PUT and DELETE a second time, silently, when the connection is lost before an answer came. A
password reset sent twice answers 400 under a history policy. `_sent_once` turns that off: its exception is not among
those that aiohttp repeats for.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consumer.delivery.answer import TransportCause
from consumer.delivery.errors import DeliveryError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

_TRACER = trace.get_tracer("consumer.delivery")
_PROPAGATOR = TraceContextTextMapPropagator()

_REALM_IN_PATH = re.compile(r"/realms/[^/]+")
_ID_IN_PATH = re.compile(r"/users/[^/]+")

_ANSWERED_FOR = frozenset({404, 409})
"""Statuses that handlers have an answer to; their spans are not painted as errors."""


_IDLE_SECONDS = 15.0
"""An idle connection is closed by us before a proxy does it (60 s and more are usual): a write that meets the closing leaves
doubt about its user."""


class NoAnswer(DeliveryError):
    """A request brought no complete answer.

    Attributes:
        cause: Why.
    """

    def __init__(self, cause: TransportCause) -> None:
        super().__init__(cause.value)
        self.cause = cause


class _ConnectionLost(aiohttp.ClientError):
    """The connection went before an answer came. Not of the types for which aiohttp sends again."""


@dataclass(slots=True)
class CallScope:
    """What holds for the requests made inside it, and what the last of them carried.

    Attributes:
        before_call: Called as the last statement before each request leaves; whatever it raises stops the request.
        timeout_seconds: Limit of each request as a whole, from leaving to the last byte of the answer.
        slots: Waited for before each request, held until its answer is read.
        authorization: The `Authorization` header of the last request.
    """

    before_call: Callable[[], None]
    timeout_seconds: float
    slots: asyncio.Semaphore
    authorization: str | None = field(default=None, repr=False)


_SCOPE: ContextVar[CallScope] = ContextVar("kcsync_call_scope")


@contextmanager
def calls_within(scope: CallScope) -> Iterator[CallScope]:
    """Make `scope` hold for every request this task makes inside the block."""
    token = _SCOPE.set(scope)
    try:
        yield scope
    finally:
        _SCOPE.reset(token)


def current_scope() -> CallScope:
    """Return the scope in force.

    Raises:
        LookupError: A request was made outside of `calls_within`.
    """
    return _SCOPE.get()


class KeycloakTransport(httpx.AsyncBaseTransport):
    """An httpx transport whose requests obey the `CallScope` in force.

    Args:
        ssl_context: Trust and client certificate for https.
        max_connections: Most connections at a time; the scopes' slots must not admit more requests than that, or
            requests would wait unseen inside aiohttp.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext, max_connections: int) -> None:
        self._ssl_context = ssl_context
        self._max_connections = max_connections
        self._inner = AiohttpTransport(verify=ssl_context, trust_env=False, client=self._new_session)

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=self._ssl_context, limit=self._max_connections, keepalive_timeout=_IDLE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_sent_once,),
            trust_env=False,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its whole answer.

        Raises:
            NoAnswer: No complete answer came.
            Exception: Whatever the scope's `before_call` raised; nothing was sent.
        """
        scope = current_scope()
        async with scope.slots:
            span = _start_span(request)
            _PROPAGATOR.inject(request.headers, context=trace.set_span_in_context(span))
            scope.authorization = request.headers.get("Authorization")
            # A span that is never ended is never exported: a refused call leaves no trace of a request.
            scope.before_call()
            try:
                response = await self._exchange(request, scope.timeout_seconds)
            except NoAnswer as lost:
                span.set_attribute("error.type", lost.cause.name.lower())
                span.set_status(StatusCode.ERROR, lost.cause.value)
                raise
            except asyncio.CancelledError:
                span.set_attribute("error.type", "cancelled")
                raise
            else:
                _record_status(span, response.status_code)
                return response
            finally:
                span.end()

    async def _exchange(self, request: httpx.Request, timeout_seconds: float) -> httpx.Response:
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self._inner.handle_async_request(request)
                try:
                    await response.aread()
                finally:
                    # A connection whose answer broke off must not go back among the usable ones, nor leak.
                    await response.aclose()
        except (TimeoutError, httpx.HTTPError, httpx.StreamError, aiohttp.ClientError) as error:
            raise NoAnswer(_cause_of(error)) from error
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        await self._inner.aclose()


async def _sent_once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    try:
        return await handler(request)
    except (
        aiohttp.ClientConnectorError,
        aiohttp.ClientConnectorCertificateError,
        aiohttp.ConnectionTimeoutError,
    ):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLost from error


_CAUSES: tuple[tuple[type[BaseException], TransportCause], ...] = (
    # The first match holds: subclasses stand before what they derive from.
    (_ConnectionLost, TransportCause.LOST),
    (aiohttp.ClientConnectorCertificateError, TransportCause.TLS),
    (aiohttp.ClientConnectorSSLError, TransportCause.TLS),
    (aiohttp.ClientSSLError, TransportCause.TLS),
    (aiohttp.ServerFingerprintMismatch, TransportCause.TLS),
    (aiohttp.ClientConnectorDNSError, TransportCause.UNRESOLVED),
    (aiohttp.ClientConnectorError, TransportCause.REFUSED),
    (aiohttp.ConnectionTimeoutError, TransportCause.CONNECT_TIMEOUT),
    (aiohttp.ClientConnectionError, TransportCause.LOST),
    (TimeoutError, TransportCause.TIMEOUT),
)


def _cause_of(error: BaseException) -> TransportCause:
    # httpx-aiohttp chains the aiohttp error that tells the truth under the httpx one that does not.
    origin = error.__cause__ if isinstance(error, httpx.TransportError) and error.__cause__ else error
    return next((cause for kind, cause in _CAUSES if isinstance(origin, kind)), TransportCause.BROKEN)


def _start_span(request: httpx.Request) -> trace.Span:
    template = _ID_IN_PATH.sub("/users/{id}", _REALM_IN_PATH.sub("/realms/{realm}", request.url.path))
    span = _TRACER.start_span(f"{request.method} {template}", kind=SpanKind.CLIENT)
    span.set_attribute("http.request.method", request.method)
    span.set_attribute("url.template", template)
    span.set_attribute("server.address", request.url.host)
    span.set_attribute("server.port", request.url.port or (443 if request.url.scheme == "https" else 80))
    return span


def _record_status(span: trace.Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 400:
        span.set_attribute("error.type", str(status))
        if status not in _ANSWERED_FOR:
            span.set_status(StatusCode.ERROR)
