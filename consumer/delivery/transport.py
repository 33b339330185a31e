"""The one place where a request leaves for Keycloak.

python-keycloak sends its requests through an httpx client; here it is given a sender of ours with the same few methods,
on aiohttp (docs/decisions/0032). Every request passes the wait for a free slot, the CLIENT span, the trace header, the
drain's last check, the time limit of the whole call, and the meaning of every way in which no answer comes.

What aiohttp 3.14 reports, tried against local servers (tests/unit/delivery/test_transport.py):

  what happened                        aiohttp raises                                    here
  port closed, host unreachable        ClientConnectorError                              REFUSED          not applied
  name does not resolve                ClientConnectorDNSError                           UNRESOLVED       not applied
  no answer to the TCP or TLS hello    ConnectionTimeoutError                            CONNECT_TIMEOUT  not applied
  certificate expired, unknown, of
  another host                         ClientConnectorCertificateError                   CERTIFICATE_…    not applied
  plain HTTP at the port of https      ClientConnectorSSLError                           NOT_TLS          not applied
  our certificate missing or refused   ClientConnectorSSLError (TLS 1.2), ClientOSError  OURS_REFUSED     not applied
                                       with an SSLError as its origin (TLS 1.3)
  any other failure of the handshake   ClientConnectorSSLError                           TLS              not applied
  server closes before the answer      ServerDisconnectedError                           LOST             unknown
  connection reset                     ClientOSError                                     LOST             unknown
  status line missing or nonsense      ClientResponseError                               BROKEN           unknown
  body shorter than announced          ClientPayloadError                                BROKEN           unknown
  answer too slow, or dripping         TimeoutError                                      TIMEOUT          unknown

python-keycloak wraps whatever is raised here in a `KeycloakConnectionError` without a status, our own exceptions too; the
cause stands in its `__cause__`, and users.py takes it out again. Its other exceptions never come: answers are read below
it. A token request carries the trace of the call that waits for it.

aiohttp sends GET, PUT and DELETE a second time, silently, when the connection is lost before an answer came. A
password reset sent twice answers 400 under a history policy. `_sent_once` turns that off: its exception is not among
those that aiohttp repeats for.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import quote, urlencode

import aiohttp
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from yarl import URL

from consumer.delivery.answer import Operation, TransportCause
from consumer.delivery.errors import DeliveryError
from consumer.frozen import quick_dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

    from consumer.circuit.limiter import Call, Ending

_TRACER = trace.get_tracer("consumer.delivery")
_PROPAGATOR = TraceContextTextMapPropagator()

_NAMES_IN_PATH = re.compile(
    r"(?P<realm>/realms/)[^/]+"
    # The realm's user profile is no user.
    r"|(?P<id>/users/)(?!profile$)[^/]+"
    r"|(?P<group>/groups/)[^/]+"
    r"|(?P<path>/group-by-path/).+"
    r"|(?P<role>/roles/).+"
)
"""What in a path names somebody or something, behind what it stands."""

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


class CallWatch(Protocol):
    """Who watches how many calls are under way, and how long they take."""

    def begin(self) -> Call:
        """A call leaves."""

    def gone(self) -> None:
        """A call is not under way any more."""

    def learn(self, call: Call, kind: Operation, ending: Ending) -> None:
        """A call ended just now."""


@dataclass(slots=True)
class CallScope:
    """What holds for every request its task makes inside the block (`with scope:`), and what the last of them carried.

    Attributes:
        before_call: Called as the last statement before each request leaves; whatever it raises stops the request.
        timeout_seconds: Limit of each request as a whole, from leaving to the last byte of the answer.
        slots: Waited for before each request, held until its answer is read.
        watch: Told of each request, if anybody wants to know.
        authorization: The `Authorization` header of the last request.
        wrote: Whether one of them has changed something.
        restoring: Whether they make a user again whom Keycloak has lost.
        lacks_admin_scope: Whether the token, renewed after a 401, lacks a scope that the realm has for the Admin API.
    """

    before_call: Callable[[], None]
    timeout_seconds: float
    slots: asyncio.Semaphore
    watch: CallWatch | None = None
    authorization: str | None = field(default=None, repr=False)
    wrote: bool = False
    restoring: bool = False
    lacks_admin_scope: bool = False
    _last: Call | None = None
    _outer: Token[CallScope] | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        self._outer = _SCOPE.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer is not None:
            _SCOPE.reset(self._outer)
            self._outer = None

    def leave(self) -> None:
        """A request leaves, if `before_call` lets it; `gone` is to follow."""
        self.before_call()
        if self.watch is not None:
            self._last = self.watch.begin()

    def gone(self) -> None:
        """It is over."""
        if self.watch is not None:
            self.watch.gone()

    def ended(self, operation: Operation, ending: Ending) -> None:
        """What the last request was for, and how it ended."""
        if self.watch is not None and self._last is not None:
            self.watch.learn(self._last, operation, ending)


_SCOPE: ContextVar[CallScope] = ContextVar("kcsync_call_scope")


def current_scope() -> CallScope:
    """Return the scope in force.

    Raises:
        LookupError: A request was made outside of any.
    """
    return _SCOPE.get()


class Response(Protocol):
    """An answer, read to its end, under the names that python-keycloak looks for."""

    @property
    def status_code(self) -> int:
        """HTTP's status."""

    @property
    def content(self) -> bytes:
        """The whole body."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; their names in any case."""


@quick_dataclass(frozen=True, slots=True)
class _Received:
    status_code: int
    content: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class KeycloakSender:
    """Sends requests that obey the `CallScope` in force.

    Args:
        ssl_context: Trust and client certificate for https.
        max_connections: Most connections at a time; the scopes' slots must not admit more requests than that, or
            requests would wait unseen inside aiohttp.
        connect_seconds: Limit of making a connection, TLS included.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext, max_connections: int, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=ssl_context, limit=max_connections, keepalive_timeout=_IDLE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_sent_once,),
            trust_env=False,
        )

    async def get(self, url: str, **given: Any) -> Response:
        """Send a GET, as `request` does."""
        return await self.request("GET", url, **given)

    async def put(self, url: str, **given: Any) -> Response:
        """Send a PUT, as `request` does."""
        return await self.request("PUT", url, **given)

    async def post(self, url: str, **given: Any) -> Response:
        """Send a POST, as `request` does."""
        return await self.request("POST", url, **given)

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: str | None = None,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: object = None,  # noqa: ASYNC109 - the library hands one over; the scope's holds.
    ) -> Response:
        """Send one request and read its whole answer; a redirect is an answer.

        Args:
            method: HTTP's.
            url: Where to, its path percent-encoded.
            params: The query; a bool becomes `true` or `false`.
            content: The body as it is.
            data: The body as a form.
            headers: Its headers; the trace's are added.
            timeout: Not looked at: the scope says how long a request may take.

        Raises:
            NoAnswer: No complete answer came.
            Exception: Whatever the scope's `before_call` raised; nothing was sent.
        """
        del timeout
        target = URL(f"{url}?{_query(params)}" if params else url, encoded=True)
        scope = current_scope()
        async with scope.slots:
            span = _start_span(method, target)
            carried = dict(headers or {})
            _PROPAGATOR.inject(carried, context=trace.set_span_in_context(span))
            scope.authorization = carried.get("Authorization")
            # A span that is never ended is never exported: a refused call leaves no trace of a request.
            scope.leave()
            limits = _limits(scope.timeout_seconds, self._connect_seconds)
            try:
                response = await self._exchange(method, target, carried, content or data or None, limits)
            except (TimeoutError, aiohttp.ClientError) as error:
                lost = NoAnswer(_cause_of(error))
                span.set_attribute("error.type", lost.cause.name.lower())
                span.set_status(StatusCode.ERROR, lost.cause.value)
                raise lost from error
            except asyncio.CancelledError:
                span.set_attribute("error.type", "cancelled")
                raise
            else:
                _record_status(span, response.status_code)
                return response
            finally:
                scope.gone()
                span.end()

    async def glance(self, url: str, *, seconds: float) -> Response:
        """Send a GET that belongs to no call: outside of any scope, and in no trace, because it may be sent for hours.

        Args:
            url: Where to, percent-encoded.
            seconds: Limit of the whole.

        Raises:
            NoAnswer: No complete answer came.
        """
        limits = _limits(seconds, min(seconds, self._connect_seconds))
        try:
            return await self._exchange("GET", URL(url, encoded=True), {}, None, limits)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise NoAnswer(_cause_of(error)) from error

    async def _exchange(
        self,
        method: str,
        url: URL,
        headers: dict[str, str],
        body: str | Mapping[str, str] | None,
        limits: aiohttp.ClientTimeout,
    ) -> Response:
        # As bytes: aiohttp would ask each time which charset a text is to have.
        sent = body.encode() if isinstance(body, str) else body
        async with self._session.request(
            method, url, headers=headers, data=sent, allow_redirects=False, timeout=limits
        ) as answer:
            return _Received(answer.status, await answer.read(), answer.headers)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()


@cache
def _limits(whole_seconds: float, connect_seconds: float) -> aiohttp.ClientTimeout:
    # aiohttp rounds limits of 5 s and more up to whole seconds, to let timers coincide; ours are kept to.
    return aiohttp.ClientTimeout(total=whole_seconds, sock_connect=connect_seconds, ceil_threshold=math.inf)


def _query(params: Mapping[str, Any]) -> str:
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in params.items()}
    return urlencode(texts, quote_via=quote)


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

_CERTIFICATE_PROBLEMS = {
    # OpenSSL's X509_V_ERR_... codes.
    9: TransportCause.CERTIFICATE_EXPIRED,
    10: TransportCause.CERTIFICATE_EXPIRED,
    18: TransportCause.CERTIFICATE_UNTRUSTED,
    19: TransportCause.CERTIFICATE_UNTRUSTED,
    20: TransportCause.CERTIFICATE_UNTRUSTED,
    21: TransportCause.CERTIFICATE_UNTRUSTED,
    62: TransportCause.CERTIFICATE_OF_ANOTHER,
    64: TransportCause.CERTIFICATE_OF_ANOTHER,
}

_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
)

_ALERTS_ABOUT_US = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


def _cause_of(error: BaseException) -> TransportCause:
    cause = next((cause for kind, cause in _CAUSES if isinstance(error, kind)), TransportCause.BROKEN)
    if (problem := _ssl_error_of(error)) is None:
        return cause
    if isinstance(problem, ssl.SSLCertVerificationError):
        return _CERTIFICATE_PROBLEMS.get(problem.verify_code, TransportCause.TLS)
    reason = problem.reason or ""
    if "ALERT" in reason and any(word in reason for word in _ALERTS_ABOUT_US):
        # By TLS 1.3 the server says this after our hello is answered, but before it looks at a request.
        return TransportCause.OURS_REFUSED
    return TransportCause.NOT_TLS if reason in _NOT_TLS else cause


def _ssl_error_of(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None:
        # aiohttp's own errors are SSLErrors too, but without what OpenSSL said.
        if isinstance(error, ssl.SSLError) and not isinstance(error, aiohttp.ClientError):
            return error
        error = error.__cause__
    return None


def _start_span(method: str, url: URL) -> trace.Span:
    template = _NAMES_IN_PATH.sub(_placeholder, url.raw_path)
    return _TRACER.start_span(
        f"{method} {template}",
        kind=SpanKind.CLIENT,
        attributes={
            "http.request.method": method,
            "url.template": template,
            "server.address": url.raw_host or "",
            "server.port": url.port or 0,
        },
    )


def _placeholder(named: re.Match[str]) -> str:
    what = str(named.lastgroup)
    return f"{named[what]}{{{what}}}"


def _record_status(span: trace.Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 400:
        span.set_attribute("error.type", str(status))
        if status not in _ANSWERED_FOR:
            span.set_status(StatusCode.ERROR)
