"""Keycloak by aiohttp and nothing else: what ours is compared with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from compose.native.stack import Endpoints

__all__ = ["BareKeycloak"]


@dataclass(slots=True)
class BareKeycloak:
    """A session with as many connections as there are callers."""

    endpoints: Endpoints
    http: aiohttp.ClientSession

    @classmethod
    @asynccontextmanager
    async def connected(cls, endpoints: Endpoints) -> AsyncIterator[Self]:
        """Signed in as the consumer's own client, for as long as the block runs."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            bare = cls(endpoints, http)
            await bare.sign_in()
            yield bare

    @property
    def users_url(self) -> str:
        """Where users are."""
        return f"{self.endpoints.keycloak_url}/admin/realms/{self.endpoints.realm}/users"

    @property
    def token_url(self) -> str:
        """Where tokens are given, to clients and to users who log in."""
        return f"{self.endpoints.keycloak_url}/realms/{self.endpoints.realm}/protocol/openid-connect/token"

    async def sign_in(self) -> None:
        """Take a fresh token for all that follows."""
        self.http.headers["Authorization"] = await self.token(
            self.endpoints.client_id, self.endpoints.client_secret
        )

    async def token(self, client: str, secret: str) -> str:
        """The `Authorization` of a client."""
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
        async with self.http.post(self.token_url, data=form) as answer:
            return f"Bearer {(await answer.json())['access_token']}"

    async def send(self, method: str, path: str, body: Any, expected: int) -> aiohttp.ClientResponse:
        """Send a request about users and read its answer."""
        async with self.http.request(method, f"{self.users_url}{path}", json=body) as answer:
            await answer.read()
            assert answer.status == expected, await answer.text()
            return answer
