"""What the conformance suite talks to: one realm of a Keycloak, real or not."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

import httpx

from compose.native.realm import ADMIN_SCOPE
from tests.conformance.postbox import Postbox, a_postbox
from tests.simulation.fake_keycloak import FakeKeycloak, Request, User

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

OWN = "nickname"
"""An attribute that users may edit themselves."""

CLIENT, SECRET = "conformance", "conformance-secret"
LOGIN, REDIRECT = "login", "http://application.invalid/"
POWERLESS, USERS_ONLY = "powerless", "users-only"
"""Clients with no rights, and with `manage-users` alone."""


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

    async def choose_password(self, username: str, old: str, new: str) -> None:
        """Log in, as far as one is let, and choose another password."""

    async def do_what_is_required(self, username: str, password: str, action: str) -> None:
        """Log in, and do one thing of those that are required, the first that is asked for."""

    async def confirm_address(self, username: str, password: str) -> None:
        """Log in, and follow the link that is sent to one's address."""

    async def edit_profile(self, username: str, password: str, **fields: str) -> None:
        """Change fields of one's own profile, or attributes that are one's own to change; an empty text clears."""

    async def rename_by(self, *, address: bool = False, hand: bool = False) -> None:
        """Let usernames change in these ways, and no other."""


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

    async def choose_password(self, username: str, old: str, new: str) -> None:
        self.clock += 1000
        self.fake.choose_password(self._user(username), old, new, self.clock)

    async def do_what_is_required(self, username: str, password: str, action: str) -> None:
        self.fake.do_what_is_required(self._user(username), action)

    async def confirm_address(self, username: str, password: str) -> None:
        self.fake.confirm_address(self._user(username))

    async def edit_profile(self, username: str, password: str, **fields: str) -> None:
        for name, value in fields.items():
            self.fake.edit_profile(self._user(username), name, value)

    def _user(self, username: str) -> User:
        user = self.fake.find(self.name, username)
        assert user is not None
        return user

    async def rename_by(self, *, address: bool = False, hand: bool = False) -> None:
        self.fake.email_as_username, self.fake.edit_username_allowed = address, hand

    def _ask(self, method: str, path: str, body: Any, query: dict[str, str]) -> Told:
        self.clock += 1000
        text = body.decode() if isinstance(body, bytes) else "" if body is None else json.dumps(body)
        request = Request(method=method, path=f"admin/realms/{path}", query=query, body=text)
        reply = self.fake.answer(request, self.clock)
        headers = reply.headers
        return Told(reply.status, reply.body, headers.get("Content-Type"), headers.get("Location"))


@dataclass(slots=True)
class RealRealm:
    """A realm of its own in a real Keycloak.

    Attributes:
        name: its name.
        http: reaches Keycloak.
        as_admin: calls the Admin API as Keycloak's own administrator: method, path below `/admin/realms`, body.
        token: of the client.
    """

    name: str
    http: httpx.AsyncClient = field(repr=False)
    postbox: Postbox = field(repr=False)
    as_admin: Callable[..., Awaitable[httpx.Response]] = field(repr=False)
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

    async def choose_password(self, username: str, old: str, new: str) -> None:
        async with self._pages() as pages:
            await pages.log_in(username, old, kc_action="UPDATE_PASSWORD")
            await pages.send("kc-passwd-update-form", {"password-new": new, "password-confirm": new})

    async def do_what_is_required(self, username: str, password: str, action: str) -> None:
        async with self._pages() as pages:
            await pages.log_in(username, password)
            assert action == "UPDATE_PROFILE"
            await pages.send("kc-update-profile-form", {})

    async def confirm_address(self, username: str, password: str) -> None:
        async with self._pages() as pages:
            # Where it is required, the letter is sent at once; asked for by oneself, on a button.
            letters = self.postbox.letters[f"{username}@example.org"]
            await pages.log_in(username, password)
            if letters.empty():
                await pages.log_in(username, password, kc_action="VERIFY_EMAIL")
                await pages.send("kc-verify-email-form", {})
            async with asyncio.timeout(10):
                letter = await letters.get()
            link = re.search(r"https?://\S+/login-actions/action-token\S+", letter)
            assert link is not None, letter
            await pages.open(link[0])

    async def edit_profile(self, username: str, password: str, **fields: str) -> None:
        grant = {"grant_type": "password", "client_id": LOGIN, "username": username, "password": password}
        answer = await self.http.post(f"/realms/{self.name}/protocol/openid-connect/token", data=grant)
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}", "Accept": "application/json"}
        account = f"/realms/{self.name}/account/"
        profile = (await self.http.get(account, headers=headers)).json()
        theirs = {"first_name": "firstName", "last_name": "lastName"}
        for name, value in fields.items():
            if name in theirs:
                profile[theirs[name]] = value
            else:
                profile["attributes"] = {**profile.get("attributes", {}), name: [value] if value else []}
        answer = await self.http.post(account, headers=headers, json=profile)
        assert answer.status_code == 204, answer.text

    @asynccontextmanager
    async def _pages(self) -> AsyncIterator[LoginPages]:
        async with httpx.AsyncClient(base_url=self.http.base_url, timeout=30, trust_env=False) as browser:
            yield LoginPages(self.name, browser)

    async def rename_by(self, *, address: bool = False, hand: bool = False) -> None:
        flags = {"registrationEmailAsUsername": address, "editUsernameAllowed": hand}
        await self.administer("PUT", f"/{self.name}", flags)

    async def ask_as(
        self, authorization: str | None, path: str = "/users", *, method: str = "GET", body: Any = None
    ) -> Told:
        """Call the realm's Admin API with another `Authorization` header, or none."""
        headers = {} if authorization is None else {"Authorization": authorization}
        return _told(
            await self.http.request(method, f"/admin/realms/{self.name}{path}", json=body, headers=headers)
        )

    async def administer(self, method: str, path: str, body: Any = None) -> Any:
        """Call the Admin API as Keycloak's own administrator, who is not refused."""
        answer = await self.as_admin(method, path, body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def ask_token(
        self, client: str, secret: str, *, realm: str | None = None, prefix: str = "", **form: str
    ) -> Told:
        """Ask for a token by client credentials."""
        return _told(
            await self.http.post(
                f"{prefix}/realms/{realm or self.name}/protocol/openid-connect/token",
                data={
                    "grant_type": "client_credentials",
                    "client_id": client,
                    "client_secret": secret,
                    **form,
                },
            )
        )

    async def scopes_supported(self) -> list[str]:
        """The scopes that the realm's public document names."""
        answer = await self.http.get(f"/realms/{self.name}/.well-known/openid-configuration")
        scopes: list[str] = answer.json()["scopes_supported"]
        return scopes

    async def make_scope(self, name: str) -> str:
        """Make a client scope that tokens name; its id."""
        scope = {
            "name": name,
            "protocol": "openid-connect",
            "attributes": {"include.in.token.scope": "true"},
        }
        await self.administer("POST", f"/{self.name}/client-scopes", scope)
        found = await self.administer("GET", f"/{self.name}/client-scopes")
        return next(str(each["id"]) for each in found if each["name"] == name)

    async def assign_scope(self, scope: str, how: str) -> None:
        """Make it a `default` or an `optional` scope of the client, and not the other."""
        (found,) = await self.administer("GET", f"/{self.name}/clients?clientId={CLIENT}")
        path = f"/{self.name}/clients/{found['id']}"
        for other in {"default", "optional"} - {how}:
            await self.administer("DELETE", f"{path}/{other}-client-scopes/{scope}")
        await self.administer("PUT", f"{path}/{how}-client-scopes/{scope}")

    async def _told(self, method: str, path: str, content: bytes | None, query: dict[str, str]) -> Told:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return _told(
            await self.http.request(
                method, f"/admin/realms{path}", content=content, params=query, headers=headers
            )
        )


@dataclass(slots=True)
class LoginPages:
    """The pages of a login, as a browser without JavaScript has them."""

    realm: str
    browser: httpx.AsyncClient
    page: str = ""

    async def log_in(self, username: str, password: str, **further: str) -> None:
        """Send name and password, whatever comes then."""
        query = {
            "client_id": LOGIN,
            "response_type": "code",
            "scope": "openid",
            "redirect_uri": REDIRECT,
            **further,
        }
        await self._follow(
            self.browser.get(f"/realms/{self.realm}/protocol/openid-connect/auth", params=query)
        )
        await self.send("kc-form-login", {"username": username, "password": password})

    async def send(self, form: str, fields: dict[str, str]) -> None:
        """Fill in a form, with what stands in it already, and send it."""
        found = re.search(rf'<form[^>]*id="{form}".*?</form>', self.page, re.DOTALL)
        if found is None:
            return
        action = re.search(r'action="([^"]+)"', found[0])
        assert action is not None
        given = {
            name[1]: html.unescape(value[1]) if (value := re.search(r'value="([^"]*)"', each)) else ""
            for each in re.findall(r"<input[^>]*>", found[0])
            if (name := re.search(r'name="([^"]+)"', each)) and 'type="checkbox"' not in each
        }
        await self._follow(self.browser.post(html.unescape(action[1]), data={**given, **fields}))

    async def open(self, link: str) -> None:
        """Open a page, wherever it leads."""
        await self._follow(self.browser.get(link))

    async def _follow(self, request: Awaitable[httpx.Response]) -> None:
        answer = await self._got(request)
        while answer.is_redirect and not answer.headers["location"].startswith(REDIRECT):
            answer = await self._got(self.browser.get(answer.headers["location"]))
        self.page = answer.text

    async def _got(self, request: Awaitable[httpx.Response]) -> httpx.Response:
        answer = await request
        for cookie in self.browser.cookies.jar:
            # A browser takes this machine for safe, with http too.
            cookie.secure = False
        return answer


def _told(answer: httpx.Response) -> Told:
    headers = answer.headers
    return Told(answer.status_code, answer.content, headers.get("content-type"), headers.get("location"))


@asynccontextmanager
async def real_realm(url: str, admin: str, password: str) -> AsyncIterator[RealRealm]:
    """Have such a realm for a while."""
    name = f"conformance-{uuid4().hex[:8]}"
    async with a_postbox() as postbox, httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:

        async def as_admin(method: str, path: str, body: Any = None) -> httpx.Response:
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
            return await http.request(method, f"/admin/realms{path}", json=body, headers=headers)

        realm = RealRealm(name, http, postbox, as_admin)
        letters = {"host": "127.0.0.1", "port": str(postbox.port), "from": "realm@example.org"}
        await realm.administer("POST", "", {**_representation(name), "smtpServer": letters})
        try:
            profile = await realm.administer("GET", f"/{name}/users/profile")
            own = {"name": OWN, "permissions": {"view": ["admin", "user"], "edit": ["admin", "user"]}}
            profile["attributes"].append(own)
            await realm.administer(
                "PUT", f"/{name}/users/profile", {**profile, "unmanagedAttributePolicy": "ADMIN_EDIT"}
            )
            for scope in await realm.administer("GET", f"/{name}/client-scopes"):
                if scope["name"] == ADMIN_SCOPE:
                    await realm.assign_scope(scope["id"], "default")
            realm.token = (await realm.ask_token(CLIENT, SECRET)).json()["access_token"]
            yield realm
        finally:
            await realm.administer("DELETE", f"/{name}")


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
            for client in (CLIENT, POWERLESS, USERS_ONLY)
        ]
        + [
            {
                "clientId": LOGIN,
                "publicClient": True,
                "redirectUris": [REDIRECT],
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
                "username": f"service-account-{client}",
                "enabled": True,
                "serviceAccountClientId": client,
                "clientRoles": {"realm-management": roles},
            }
            for client, roles in (
                (CLIENT, ["manage-users", "view-realm"]),
                (USERS_ONLY, ["manage-users"]),
            )
        ],
    }
