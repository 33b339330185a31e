"""A way to Keycloak on which the test decides, request by request, what goes wrong."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from aiohttp import web

_HOP_BY_HOP = frozenset({"connection", "content-length", "host", "transfer-encoding", "content-encoding"})


@dataclass(frozen=True, slots=True)
class Call:
    """A request on its way to Keycloak. `text` is target and body, to look for a username in."""

    method: str
    path: str
    text: str
    authorization: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer that is not Keycloak's."""

    status: int
    text: str = ""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class KeycloakProxy:
    """Passes requests on, except those that the test answers itself.

    Attributes:
        url: where clients connect.
        answer: what a call is told that must not reach Keycloak, or its status and JSON text; None for the others.
        loses: whether the answer to a call is lost once Keycloak has done what it asks.
        headers: of the answers that the test gives as status and text.
        calls: what came, in order.
    """

    url: str = ""
    answer: Callable[[Call], tuple[int, str] | Said | None] = lambda _: None
    loses: Callable[[Call], bool] = lambda _: False
    headers: dict[str, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)


@asynccontextmanager
async def keycloak_proxy(target: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[KeycloakProxy]:
    """Stand between a consumer and Keycloak."""
    proxy = KeycloakProxy()

    async def pass_on(request: web.Request) -> web.Response:
        body = await request.read()
        call = Call(
            request.method,
            request.path,
            f"{request.path_qs} {body.decode(errors='replace')}",
            request.headers.get("Authorization", ""),
        )
        proxy.calls.append(call)
        if (answer := proxy.answer(call)) is not None:
            said = answer if isinstance(answer, Said) else Said(*answer, headers=proxy.headers)
            return web.Response(
                status=said.status, text=said.text, content_type=said.content_type, headers=said.headers
            )
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            came = await http.request(request.method, request.path_qs, content=body, headers=headers)
        except httpx.TransportError:
            return web.Response(status=502)
        if proxy.loses(call) and request.transport is not None:
            request.transport.abort()
        return web.Response(
            status=came.status_code,
            body=came.content,
            headers={n: v for n, v in came.headers.items() if n.lower() not in _HOP_BY_HOP},
        )

    async with httpx.AsyncClient(base_url=target, timeout=30, trust_env=False) as http:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", pass_on)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        host, port = runner.addresses[0][:2]
        proxy.url = f"{'https' if tls else 'http'}://{host}:{port}"
        try:
            yield proxy
        finally:
            await runner.cleanup()
