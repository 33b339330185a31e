from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.known_user import KnownUser
from consumer.delivery.outcome import Delivered, Outcome
from consumer.delivery.passwords import KeyRing, generate_key
from producer_lib import SealingKey, seal, username_key
from tests.integration.support.directory import (
    Directory,
    component,
    directory_jar,
    realm_with_directory,
)
from tests.integration.support.keycloak_proxy import KeycloakProxy, keycloak_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from compose.native.stack import Endpoints, Stack

LOGIN_CLIENT = "login"
OWN_REALM_CLIENT = "own-service"
OWN_REALM_SECRET = "own-secret"


@dataclass(slots=True)
class Observer:
    """Looks at Keycloak past the code under test, as administrator of the master realm."""

    endpoints: Endpoints
    http: httpx.AsyncClient = field(repr=False)

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> httpx.Response:
        grant = await self.http.post(
            "/realms/master/protocol/openid-connect/token",
            data={
                "grant_type": "password",
                "client_id": "admin-cli",
                "username": self.endpoints.keycloak_admin_username,
                "password": self.endpoints.keycloak_admin_password,
            },
        )
        headers = {"Authorization": f"Bearer {grant.json()['access_token']}"}
        return await self.http.request(
            method, f"/admin/realms{path}", json=body, params=query, headers=headers
        )

    async def user(self, realm: str, username: str) -> dict[str, Any] | None:
        """Return the user, attributes included, or None."""
        found = (await self.call("GET", f"/{realm}/users", username=username, exact="true")).json()
        assert len(found) <= 1
        return found[0] if found else None

    async def can_log_in(self, realm: str, client_id: str, username: str, password: str) -> bool:
        answer = await self.http.post(
            f"/realms/{realm}/protocol/openid-connect/token",
            data={
                "grant_type": "password",
                "client_id": client_id,
                "username": username,
                "password": password,
            },
        )
        assert answer.status_code in {200, 400, 401}, answer.text
        return answer.is_success


class Person(NamedTuple):
    """A user of one test, whom no other test touches."""

    realm: str
    username: str
    workbench: Workbench

    async def seen(self) -> dict[str, Any] | None:
        return await self.workbench.observer.user(self.realm, self.username.lower())

    async def there(self) -> dict[str, Any]:
        """Return the user; Keycloak gives an attribute's values in no order, here they are sorted."""
        user = await self.seen()
        assert user is not None
        attributes = {name: sorted(values) for name, values in user.pop("attributes", {}).items()}
        return {**user, "attributes": attributes}

    @property
    def email(self) -> str:
        return f"{self.username.lower()}@example.org"

    async def logs_in(self, password: str) -> bool:
        client = self.workbench.login_client
        return await self.workbench.observer.can_log_in(self.realm, client, self.username.lower(), password)

    def change(
        self,
        kind: str,
        data: dict[str, Any] | None = None,
        *,
        password: str | None = None,
        user_id: str | None = None,
        maybe_applied_since: datetime | None = None,
        known: KnownUser | None = None,
    ) -> Change:
        event_id = uuid4().hex
        key = username_key(self.username)
        credential = None
        if password is not None:
            (text,) = self.workbench.keys.public_keys().values()
            sealing_key = SealingKey.from_text(text)
            sealed = seal(password, key=sealing_key, realm=self.realm, username_key=key, event_id=event_id)
            credential = {"kid": sealed.kid, "alg": sealed.alg, "ciphertext": sealed.ciphertext}
        return Change(
            event_id=event_id,
            kind=kind,
            realm=self.realm,
            username=self.username,
            username_key=key,
            data=data or {},
            credential=credential,
            credential_event_id=event_id,
            known=None if known is None else lambda: known,
            user_id=user_id,
            maybe_applied_since=maybe_applied_since,
        )

    async def deliver(self, change: Change) -> Outcome:
        return await self.workbench.delivery.deliver(change, lambda: None)

    async def apply(
        self, kind: str, data: dict[str, Any] | None = None, *, password: str | None = None
    ) -> Delivered:
        outcome = await self.deliver(self.change(kind, data, password=password))
        assert isinstance(outcome, Delivered), outcome
        return outcome


@dataclass(slots=True)
class Workbench:
    """Delivery to one realm, and someone who looks behind it."""

    realm: str
    login_client: str
    keys: KeyRing
    keycloak: Keycloak
    delivery: Delivery
    observer: Observer

    def person(self) -> Person:
        return Person(self.realm, f"Delivery-{uuid4().hex[:12]}", self)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    folder = tmp_path_factory.mktemp("delivery-keys")
    generate_key(folder, "tests")
    return KeyRing.load(folder)


@pytest.fixture(scope="session")
async def observer(stack: Stack) -> AsyncIterator[Observer]:
    endpoints = stack.endpoints
    async with httpx.AsyncClient(base_url=endpoints.keycloak_url, timeout=30, trust_env=False) as http:
        yield Observer(endpoints, http)


@asynccontextmanager
async def _workbench(
    observer: Observer,
    keys: KeyRing,
    realm: str,
    client: tuple[str, str],
    login_client: str,
    *,
    url: str | None = None,
    probes: tuple[str, ...] = (),
    **settings: Any,
) -> AsyncIterator[Workbench]:
    keycloak = Keycloak(
        url=url or observer.endpoints.keycloak_url,
        realms=[realm],
        client_id=client[0],
        client_secret=client[1],
        federation_probes={realm: probes},
    )
    try:
        delivery = Delivery(keycloak=keycloak, keys=keys, **settings)
        yield Workbench(realm, login_client, keys, keycloak, delivery, observer)
    finally:
        await keycloak.aclose()


@pytest.fixture
async def workbench(observer: Observer, keys: KeyRing) -> AsyncIterator[Workbench]:
    """Delivery to the realm of the stack, with the consumer's own least privilege."""
    stack = observer.endpoints
    client = (stack.client_id, stack.client_secret)
    async with _workbench(observer, keys, stack.realm, client, stack.login_client_id) as bench:
        yield bench


@pytest.fixture
async def person(workbench: Workbench) -> AsyncIterator[Person]:
    """A user who does not exist yet, and is gone afterwards."""
    someone = workbench.person()
    yield someone
    if (user := await someone.seen()) is not None:
        await workbench.observer.call("DELETE", f"/{someone.realm}/users/{user['id']}")


@pytest.fixture(scope="session")
async def strict_realm(observer: Observer) -> AsyncIterator[str]:
    """A realm that remembers passwords and wants eight characters."""
    realm = f"strict-{uuid4().hex[:8]}"
    created = await observer.call(
        "POST",
        "",
        {
            "realm": realm,
            "enabled": True,
            "passwordPolicy": "length(8) and passwordHistory(3)",
            "clients": [
                {
                    "clientId": OWN_REALM_CLIENT,
                    "secret": OWN_REALM_SECRET,
                    "serviceAccountsEnabled": True,
                    "standardFlowEnabled": False,
                },
                {
                    "clientId": LOGIN_CLIENT,
                    "publicClient": True,
                    "standardFlowEnabled": False,
                    "directAccessGrantsEnabled": True,
                },
            ],
            "users": [
                {
                    "username": f"service-account-{OWN_REALM_CLIENT}",
                    "enabled": True,
                    "serviceAccountClientId": OWN_REALM_CLIENT,
                    "clientRoles": {"realm-management": ["manage-users"]},
                }
            ],
        },
    )
    assert created.status_code == 201, created.text
    yield realm
    await observer.call("DELETE", f"/{realm}")


@pytest.fixture
async def strict_workbench(observer: Observer, keys: KeyRing, strict_realm: str) -> AsyncIterator[Workbench]:
    client = (OWN_REALM_CLIENT, OWN_REALM_SECRET)
    async with _workbench(observer, keys, strict_realm, client, LOGIN_CLIENT) as bench:
        yield bench


@pytest.fixture
async def proxy(observer: Observer) -> AsyncIterator[KeycloakProxy]:
    """A way to Keycloak that loses what the test wants."""
    async with keycloak_proxy(observer.endpoints.keycloak_url) as way:
        yield way


@pytest.fixture
async def lossy_workbench(
    observer: Observer, keys: KeyRing, strict_realm: str, proxy: KeycloakProxy
) -> AsyncIterator[Workbench]:
    """Delivery to the strict realm by that way; a missing user is created."""
    client = (OWN_REALM_CLIENT, OWN_REALM_SECRET)
    creates = frozenset({"user_update", "password_change"})
    async with _workbench(
        observer, keys, strict_realm, client, LOGIN_CLIENT, url=proxy.url, creates_missing=creates
    ) as bench:
        yield bench


@dataclass(slots=True)
class Federation:
    """A realm whose users come from a directory."""

    directory: Directory
    component: str
    workbench: Workbench

    def person(self, name: str) -> Person:
        return Person(self.workbench.realm, name, self.workbench)

    async def enable(self, *, on: bool) -> None:
        path = f"/{self.workbench.realm}/components/{self.component}"
        known = (await self.workbench.observer.call("GET", path)).json()
        known["config"]["enabled"] = [str(on).lower()]
        answer = await self.workbench.observer.call("PUT", path, known)
        assert answer.status_code == 204, answer.text


Federate = Callable[..., Awaitable[Federation]]


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Directory]:
    """A directory with a few people, up."""
    server = Directory(
        await asyncio.to_thread(directory_jar), tmp_path, ("ann", "bob", "cid", "eve", "JDoe", "probe")
    )
    await server.start()
    yield server
    server.stop()


@pytest.fixture
async def federate(observer: Observer, keys: KeyRing, directory: Directory) -> AsyncIterator[Federate]:
    """Make a realm for the directory: `await federate(mode, imports=True, probe=True)`."""
    async with AsyncExitStack() as made:

        async def federate(
            mode: str = "WRITABLE", *, imports: bool = True, probe: bool = True, **config: str
        ) -> Federation:
            realm = f"directory-{uuid4().hex[:8]}"
            client = (OWN_REALM_CLIENT, OWN_REALM_SECRET)
            created = await observer.call("POST", "", realm_with_directory(realm, client, LOGIN_CLIENT))
            assert created.status_code == 201, created.text
            made.push_async_callback(observer.call, "DELETE", f"/{realm}")
            profile = (await observer.call("GET", f"/{realm}/users/profile")).json()
            profile["unmanagedAttributePolicy"] = "ADMIN_EDIT"
            await observer.call("PUT", f"/{realm}/users/profile", profile)
            answer = await observer.call(
                "POST", f"/{realm}/components", component(directory, mode=mode, imports=imports, **config)
            )
            assert answer.status_code == 201, answer.text
            bench = await made.enter_async_context(
                _workbench(observer, keys, realm, client, LOGIN_CLIENT, probes=("probe",) if probe else ())
            )
            return Federation(directory, answer.headers["Location"].rpartition("/")[2], bench)

        yield federate


@pytest.fixture
def strict_person(strict_workbench: Workbench) -> Person:
    """A user of the strict realm; the realm goes with everybody in it."""
    return strict_workbench.person()
