"""What the conformance suite talks to: one realm of a Keycloak, real or not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

import httpx

from tests.simulation.fake_keycloak import FakeKeycloak, Request

POLICY = "length(8) and passwordHistory(3)"
"""Of the realm's passwords."""

GROUP, CHILD, MANAGERS = "/oncology", "/oncology/night shift", "/managers"
"""Of the realm's groups; the last has a role of realm-management."""

WARDS = "/wards"
SLASHED = frozenset(
    {
        WARDS,
        "/wards/east",
        "/wards/east/1",
        "/wards/east~/1",
        "/wards/e_st",
        "/wards~/north",
        "/wards~/north/day",
    }
)
"""More of them; `~/` stands for a slash in a name."""

ROLE, COMPOSITE = "gold", "everything"
"""Of its roles."""

CLIENT, SECRET = "conformance", "conformance-secret"
LOGIN = "login"
POWERLESS = "powerless"


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, as far as consumer/delivery looks at it."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    location: str | None = None

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def short(self) -> tuple[int, bytes]:
        """Status and body."""
        return self.status, self.body


class Realm(Protocol):
    """A realm with the policy above, unmanaged attributes allowed, and no user that a case has not made."""

    @property
    def name(self) -> str:
        """Its name."""

    async def ask(self, method: str, path: str, body: Any = None, **query: str) -> Told:
        """Call `/admin/realms/<name>` + path as a client with manage-users; a body of bytes is sent as it is."""

    async def ask_elsewhere(self, path: str) -> Told:
        """Read a path below `/admin/realms`."""

    async def logs_in(self, username: str, password: str) -> bool:
        """Whether this password begins a session."""


@dataclass(slots=True)
class FakeRealm:
    """The simulation's Keycloak."""

    name: str = "shop"
    clock: int = 1_000_000
    fake: FakeKeycloak = field(init=False)

    def __post_init__(self) -> None:
        self.fake = FakeKeycloak(
            frozenset({self.name}),
            password_history=3,
            password_length=8,
            groups=frozenset({GROUP, CHILD, MANAGERS, *SLASHED}),
            realm_roles=frozenset({ROLE, COMPOSITE}),
            rights=frozenset({MANAGERS, COMPOSITE}),
        )

    async def ask(self, method: str, path: str, body: Any = None, **query: str) -> Told:
        return self._ask(method, f"{self.name}{path}", body, query)

    async def ask_elsewhere(self, path: str) -> Told:
        return self._ask("GET", path.lstrip("/"), None, {})

    async def logs_in(self, username: str, password: str) -> bool:
        self.clock += 1000
        return self.fake.begin_session(self.name, username, password, self.clock)

    def _ask(self, method: str, path: str, body: Any, query: dict[str, str]) -> Told:
        self.clock += 1000
        text = body.decode() if isinstance(body, bytes) else "" if body is None else json.dumps(body)
        request = Request(method=method, path=f"admin/realms/{path}", query=query, body=text)
        reply = self.fake.answer(request, self.clock)
        headers = reply.headers
        return Told(reply.status, reply.body, headers.get("Content-Type"), headers.get("Location"))


@dataclass(slots=True)
class RealRealm:
    """A realm of its own in a real Keycloak."""

    name: str
    http: httpx.AsyncClient = field(repr=False)
    token: str = field(default="", repr=False)

    async def ask(self, method: str, path: str, body: Any = None, **query: str) -> Told:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return await self._told(method, f"/{self.name}{path}", content, query)

    async def ask_elsewhere(self, path: str) -> Told:
        return await self._told("GET", path, None, {})

    async def logs_in(self, username: str, password: str) -> bool:
        answer = await self.http.post(
            f"/realms/{self.name}/protocol/openid-connect/token",
            data={
                "grant_type": "password",
                "client_id": LOGIN,
                "username": username,
                "password": password,
            },
        )
        assert answer.status_code in {200, 400, 401}, answer.text
        return answer.is_success

    async def ask_as(self, authorization: str | None) -> Told:
        """Search for a user with another `Authorization` header, or none."""
        headers = {} if authorization is None else {"Authorization": authorization}
        return _told(await self.http.get(f"/admin/realms/{self.name}/users", headers=headers))

    async def ask_token(
        self, client: str, secret: str, *, realm: str | None = None, prefix: str = ""
    ) -> Told:
        """Ask for a token by client credentials."""
        return _told(
            await self.http.post(
                f"{prefix}/realms/{realm or self.name}/protocol/openid-connect/token",
                data={
                    "grant_type": "client_credentials",
                    "client_id": client,
                    "client_secret": secret,
                },
            )
        )

    async def _told(self, method: str, path: str, content: bytes | None, query: dict[str, str]) -> Told:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return _told(
            await self.http.request(
                method, f"/admin/realms{path}", content=content, params=query, headers=headers
            )
        )


def _told(answer: httpx.Response) -> Told:
    headers = answer.headers
    return Told(answer.status_code, answer.content, headers.get("content-type"), headers.get("location"))


@asynccontextmanager
async def real_realm(url: str, admin: str, password: str) -> AsyncIterator[RealRealm]:
    """Have such a realm for a while."""
    name = f"conformance-{uuid4().hex[:8]}"
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:

        async def administer(method: str, path: str, body: Any = None) -> Any:
            grant = await http.post(
                "/realms/master/protocol/openid-connect/token",
                data={
                    "grant_type": "password",
                    "client_id": "admin-cli",
                    "username": admin,
                    "password": password,
                },
            )
            headers = {"Authorization": f"Bearer {grant.json()['access_token']}"}
            answer = await http.request(method, f"/admin/realms{path}", json=body, headers=headers)
            assert answer.is_success, answer.text
            return answer.json() if answer.content else None

        await administer("POST", "", _representation(name))
        try:
            profile = await administer("GET", f"/{name}/users/profile")
            await administer(
                "PUT", f"/{name}/users/profile", {**profile, "unmanagedAttributePolicy": "ADMIN_EDIT"}
            )
            realm = RealRealm(name, http)
            realm.token = (await realm.ask_token(CLIENT, SECRET)).json()["access_token"]
            yield realm
        finally:
            await administer("DELETE", f"/{name}")


def _representation(name: str) -> dict[str, Any]:
    return {
        "realm": name,
        "enabled": True,
        "passwordPolicy": POLICY,
        "clients": [
            {
                "clientId": client,
                "secret": SECRET,
                "serviceAccountsEnabled": True,
                "standardFlowEnabled": False,
            }
            for client in (CLIENT, POWERLESS)
        ]
        + [
            {
                "clientId": LOGIN,
                "publicClient": True,
                "standardFlowEnabled": False,
                "directAccessGrantsEnabled": True,
            }
        ],
        "groups": [
            {"name": GROUP.strip("/"), "subGroups": [{"name": CHILD.rpartition("/")[2]}]},
            {"name": MANAGERS.strip("/"), "clientRoles": {"realm-management": ["manage-realm"]}},
            {
                "name": WARDS.strip("/"),
                "subGroups": [
                    {"name": "east", "subGroups": [{"name": "1"}]},
                    {"name": "east/1"},
                    {"name": "e_st"},
                ],
            },
            {"name": "wards/north", "subGroups": [{"name": "day"}]},
        ],
        "roles": {
            "realm": [{"name": ROLE}, {"name": COMPOSITE, "composite": True, "composites": {"realm": [ROLE]}}]
        },
        "users": [
            {
                "username": f"service-account-{CLIENT}",
                "enabled": True,
                "serviceAccountClientId": CLIENT,
                "clientRoles": {"realm-management": ["manage-users", "view-realm"]},
            }
        ],
    }
