"""Reads the truth from Keycloak itself: profiles and the diary of admin events through the Admin API, passwords by logging in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

import httpx

from compose.demo.errors import DemoFailed
from compose.demo.expectation import Expected
from compose.demo.observed import AdminEvent, Login, LoginTrial, Profile
from compose.native.stack import Endpoints

_PAGE: Final = 200
_MOST_EVENTS: Final = 20_000
# Keycloak's password hash is made to be slow; more logins at once only wait for a processor.
_LOGINS_AT_ONCE: Final = 2
_INVALID: Final = "Invalid user credentials"


class KeycloakReader:
    """A session as the stack's observer, which is not the consumer's client.

    Args:
        endpoints: where Keycloak is, and who may look.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._http = httpx.AsyncClient(base_url=endpoints.keycloak_url, timeout=30)
        self._users = f"/admin/realms/{endpoints.realm}/users"
        self._login = f"/realms/{endpoints.realm}/protocol/openid-connect/token"

    async def __aenter__(self) -> Self:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._endpoints.observer_client_id,
            "client_secret": self._endpoints.observer_client_secret,
        }
        try:
            answer = _checked(await self._http.post(self._login, data=form))
        except BaseException:
            await self._http.aclose()
            raise
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def profiles(self, run: str) -> list[Profile]:
        """Read every user whose name begins with the run's name."""
        prefix = f"{run}-"
        found: list[dict[str, Any]] = []
        while True:
            query = {
                "username": prefix,
                "briefRepresentation": "false",
                "first": str(len(found)),
                "max": str(_PAGE),
            }
            page = _checked(await self._http.get(self._users, params=query)).json()
            found += page
            if len(page) < _PAGE:
                break
        # Keycloak searches anywhere in the name.
        return [_profile(user) for user in found if user["username"].startswith(prefix)]

    async def admin_events(self, since: int) -> list[AdminEvent]:
        """Read what was done to users.

        In one page, because Keycloak orders by time alone: events of the same millisecond could stand on both sides of
        a page's end, or on neither.

        Args:
            since: milliseconds since 1970.
        """
        query = {
            "resourceTypes": "USER",
            "dateFrom": str(since),
            "direction": "asc",
            "max": str(_MOST_EVENTS),
        }
        path = f"/admin/realms/{self._endpoints.realm}/admin-events"
        events = _checked(await self._http.get(path, params=query)).json()
        if len(events) >= _MOST_EVENTS:
            raise DemoFailed(
                f"Keycloak has {_MOST_EVENTS:,} admin events or more since the demo began: "
                "something else writes to its realm. Run the demo again."
            )
        return [_event(event) for event in events]

    async def try_logins(self, users: Iterable[Expected]) -> list[LoginTrial]:
        """Log in with each user's last password, and with the one before it.

        Args:
            users: each with two passwords at least.
        """
        slots = asyncio.Semaphore(_LOGINS_AT_ONCE)

        async def trial(user: Expected) -> LoginTrial:
            async with slots:
                return LoginTrial(
                    username=user.username,
                    current=await self._log_in(user.username, user.passwords[-1]),
                    former=await self._log_in(user.username, user.passwords[-2]),
                )

        return await asyncio.gather(*(trial(user) for user in users))

    async def _log_in(self, username: str, password: str) -> Login:
        form = {
            "grant_type": "password",
            "client_id": self._endpoints.login_client_id,
            "username": username,
            "password": password,
        }
        # Without the observer's token, as the user's own application would.
        answer = await self._http.post(self._login, data=form, headers={"Authorization": ""})
        if answer.is_success:
            return Login.ACCEPTED
        # Keycloak 26.7 answers 400 also where the account is barred or incomplete; the words tell them apart.
        wrong = f'"{_INVALID}"' in answer.text
        return Login.WRONG_PASSWORD if wrong else Login.REFUSED


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    request = answer.request
    raise DemoFailed(
        f"Keycloak answered {answer.status_code} to {request.method} {request.url.path}. "
        "Run the demo again; if it stays, take the stack down and look into Keycloak's log."
    )


def _profile(user: dict[str, Any]) -> Profile:
    return Profile(
        user_id=user["id"],
        username=user["username"],
        email=user.get("email"),
        email_verified=user.get("emailVerified", False),
        first_name=user.get("firstName"),
        last_name=user.get("lastName"),
        enabled=user.get("enabled", False),
        attributes={name: frozenset(values) for name, values in user.get("attributes", {}).items()},
    )


def _event(event: dict[str, Any]) -> AdminEvent:
    written = event.get("representation")
    # users/{id}, or users/{id}/reset-password.
    user_id = event["resourcePath"].split("/")[1]
    return AdminEvent(
        time=event["time"],
        operation=event["operationType"],
        user_id=user_id,
        written=None if written is None else json.loads(written),
    )
