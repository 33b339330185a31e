"""A Keycloak that answers by script: the token endpoint works, every other call is answered as the test says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consumer.delivery.keycloak import Keycloak
from tests.unit.delivery.local_server import LocalServer, Request, Respond, answering, local_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKEN_PATH = "/realms/shop/protocol/openid-connect/token"
USERS = "/admin/realms/shop/users"


@dataclass(slots=True)
class Script:
    """What is answered, by method and path; several answers to the same call are given in turn, the last for ever.

    `calls` is what was asked beside tokens, in order, as `METHOD path`.
    """

    routes: dict[str, list[Respond]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    tokens: int = 0
    token_lifetime: int = 300

    def on(
        self, call: str, status: int, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> Script:
        self.routes.setdefault(call, []).append(answering(status, body, headers=headers))
        return self

    def does(self, call: str, behaviour: Respond) -> Script:
        self.routes.setdefault(call, []).append(behaviour)
        return self

    @property
    def calls(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]

    def bodies(self, call: str) -> list[Any]:
        return [request.json() for request in self.requests if f"{request.method} {request.path}" == call]

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        call = f"{request.method} {request.path}"
        if (rules := _rules_of_the_realm(request)) is not None:
            await answering(200, rules)(request, writer)
            return
        if request.path == TOKEN_PATH:
            self.tokens += 1
            # Long enough for every caller of a cold start to ask for a token of its own, if it would.
            await asyncio.sleep(0.02)
            grant = {"access_token": f"token-{self.tokens}", "expires_in": self.token_lifetime}
            respond = self._next(call) or answering(200, grant)
        else:
            self.requests.append(request)
            respond = self._next(call) or answering(418, {"error": f"no script for {call}"})
        await respond(request, writer)

    def _next(self, call: str) -> Respond | None:
        answers = self.routes.get(call)
        if not answers:
            return None
        return answers.pop(0) if len(answers) > 1 else answers[0]


def _rules_of_the_realm(request: Request) -> Any:
    """They are asked every few minutes, whatever is delivered: names are for ever here, and all attributes are kept."""
    if f"{request.method} {request.target}" == f"GET {USERS}/profile":
        return {"attributes": [], "unmanagedAttributePolicy": "ADMIN_EDIT"}
    if f"{request.method} {request.target}" == f"GET {USERS.removesuffix('/users')}":
        return {"realm": "shop", "registrationEmailAsUsername": False}
    if "userProfileMetadata" in request.target:
        name = {"name": "username", "required": True, "readOnly": True}
        return {"id": request.path.rpartition("/")[2], "userProfileMetadata": {"attributes": [name]}}
    return None


@asynccontextmanager
async def scripted(script: Script, **settings: Any) -> AsyncIterator[tuple[Keycloak, LocalServer]]:
    """Run a client of the scripted Keycloak."""
    async with local_server(script.answer) as server:
        keycloak = Keycloak(
            **{
                "url": server.url,
                "realms": ["shop"],
                "client_id": "kcsync",
                "client_secret": "shh-secret",
                "timeout_seconds": 2.0,
                **settings,
            }
        )
        try:
            yield keycloak, server
        finally:
            await keycloak.aclose()
