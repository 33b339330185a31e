"""One realm's connection: python-keycloak's, with our transport and one token for everybody.

python-keycloak 7.1.1 refreshes its token without a lock: 50 callers that start cold make 50 token requests (research
on libraries, S4). Here one request is made and all wait for it, whether it succeeds or fails; otherwise a Keycloak that
does not answer would be waited for by one caller after the other.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from keycloak import KeycloakOpenIDConnection

from consumer.delivery.answer import Answer, Operation, parse_json
from consumer.delivery.classify import classify_answer, classify_silence, unreadable_answer
from consumer.delivery.errors import CallFailed
from consumer.delivery.transport import (
    CallScope,
    KeycloakSender,
    NoAnswer,
    Response,
    current_scope,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from consumer.delivery.keycloak_clock import KeycloakClock
    from consumer.delivery.outcome import NotDelivered


ADMIN_SCOPE: Final = "kc-admin-api"
"""The client scope that Keycloak 26.8.2 and newer want in a token for the Admin API (docs/decisions/0059)."""


class RealmConnection(KeycloakOpenIDConnection):
    """An authenticated connection to one realm's Admin API.

    The token comes from the realm itself, by client credentials: the client is a guest of the realm it serves, not of
    `master`. It is renewed at 90 % of its life, and once after a 401; then it is also looked whether it lacks the scope that
    newer versions of Keycloak want. The paths given to it are whole addresses, which begin
    with its `keycloak_url`.

    Args:
        url: Keycloak's base URL, ending in "/".
        realm: The realm.
        client_id: The service client.
        client_secret: Its secret.
        sender: What requests are sent with; shared by all realms and closed by whoever made it.
        token_timeout_seconds: Limit of a token request.
        clock: Told what each token says of Keycloak's time.
        ssl_context: The context that `sender` uses, so that the library does not build another.
    """

    def __init__(
        self,
        *,
        url: str,
        realm: str,
        client_id: str,
        client_secret: str,
        sender: KeycloakSender,
        token_timeout_seconds: float,
        clock: KeycloakClock,
        ssl_context: ssl.SSLContext,
    ) -> None:
        settings: dict[str, Any] = {"verify": ssl_context}
        super().__init__(
            server_url=url,
            grant_type="client_credentials",
            realm_name=realm,
            client_id=client_id,
            client_secret_key=client_secret,
            max_retries=0,
            **settings,
        )
        # The library joins base and path by `urljoin`, which costs as much as all the rest of it: an empty base leaves
        # whole addresses as they are.
        self.base_url = ""
        self.keycloak_url = url
        self._unused_client = self.async_s
        self._sender = self.async_s = sender  # type: ignore[assignment]  # as much of a client as it uses
        self._address = f"{url}realms/{quote(realm, safe='')}"
        self._token_timeout_seconds = token_timeout_seconds
        self._clock = clock
        # One token request of a realm is under way at most, so it needs no share of the callers' slots.
        self._token_slot = asyncio.Semaphore(1)
        self._refresh: asyncio.Task[NotDelivered | None] | None = None
        self._asks_for_scope = False
        self._lacks_scope = False

    async def a__refresh_if_required(self) -> None:
        """Renew the token if it is missing or near its end.

        Raises:
            CallFailed: The token request failed.
        """
        if self.expires_at is None or datetime.now(UTC) >= self.expires_at:
            await self._join_refresh(self.a_get_token)

    async def a_refresh_token(self) -> None:
        """Renew the token after a 401, unless somebody has since the refused request left.

        The scope in force learns whether the token lacks what the realm may want in it.

        Raises:
            CallFailed: The token request failed.
        """
        scope = current_scope()
        if (self.headers or {}).get("Authorization") == scope.authorization:
            await self._join_refresh(self._renew_refused)
        scope.lacks_admin_scope = self._lacks_scope

    async def account_id(self) -> str | None:
        """Return the id of our client's own user, its service account; None if the token does not name it.

        Raises:
            CallFailed: The token request failed.
        """
        await self.a__refresh_if_required()
        match (self.token or {}).get("access_token"):
            case str(token):
                return _subject_of(token)
        return None

    async def renew_token(self) -> None:
        """Fetch a new token: the one there is has been made void.

        Raises:
            CallFailed: The token request failed.
        """
        await self._join_refresh(self.a_get_token)

    async def a_get_token(self) -> None:
        """Fetch a token.

        Raises:
            CallFailed: The token endpoint did not give one. That never speaks about a user.
        """
        began = datetime.now(UTC)
        answer = await self._ask_for_token(ADMIN_SCOPE if self._asks_for_scope else None)
        if self._asks_for_scope and answer.status == 400:
            # The scope has been taken away from the realm or the client since.
            self._asks_for_scope = False
            answer = await self._ask_for_token(None)
        self._take(answer, began)

    async def _renew_refused(self) -> None:
        """Fetch a token after one was refused; if it lacks a scope that the realm has, ask for that once.

        Asked for unasked, it would be refused by every realm that has not given it to the client (400 `invalid_scope`, seen
        with 26.7.4); where it is one of the client's default scopes, it is there by itself, and where it is an optional one,
        by asking.
        """
        await self.a_get_token()
        if self._has_scope or self._asks_for_scope or not await self._realm_has_scope():
            return
        began = datetime.now(UTC)
        answer = await self._ask_for_token(ADMIN_SCOPE)
        if answer.status == 200:
            self._take(answer, began)
            self._asks_for_scope = True
        self._lacks_scope = answer.status == 400

    @property
    def _has_scope(self) -> bool:
        return ADMIN_SCOPE in str((self.token or {}).get("scope", "")).split()

    async def _realm_has_scope(self) -> bool:
        """Whether the realm's public document names the scope; False if that cannot be read."""
        try:
            answer = await self._send(self._sender.get(f"{self._address}/.well-known/openid-configuration"))
        except CallFailed:
            return False
        match parse_json(answer.body):
            case {"scopes_supported": list() as scopes}:
                return ADMIN_SCOPE in scopes
        return False

    async def _ask_for_token(self, scope: str | None) -> Answer:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret_key,
        }
        if scope is not None:
            form["scope"] = scope
        return await self._send(
            self._sender.post(f"{self._address}/protocol/openid-connect/token", data=form)
        )

    async def _send(self, request: Awaitable[Response]) -> Answer:
        with CallScope(_nothing, self._token_timeout_seconds, self._token_slot):
            try:
                return answer_of(await request)
            except NoAnswer as lost:
                raise CallFailed(classify_silence(Operation.TOKEN, lost.cause)) from None

    def _take(self, answer: Answer, began: datetime) -> None:
        if answer.status != 200:
            raise CallFailed(classify_answer(Operation.TOKEN, answer, datetime.now(UTC)))
        match parse_json(answer.body):
            case {"access_token": str(), "expires_in": int()} as token:
                self.token = token
                self._lacks_scope = False
                self._tell_time(token["access_token"], began)
            case _:
                raise CallFailed(unreadable_answer(Operation.TOKEN, answer))

    def _tell_time(self, access_token: str, began: datetime) -> None:
        issued = _issued_at(access_token)
        if issued is not None:
            self._clock.saw(issued, began=began, ended=datetime.now(UTC), granularity=timedelta(seconds=1))

    async def _join_refresh(self, renew: Callable[[], Awaitable[None]]) -> None:
        if self._refresh is None:
            self._refresh = asyncio.create_task(self._refresh_once(renew), context=copy_context())
        # Shielded: one caller's cancellation is not the others'.
        failure = await asyncio.shield(self._refresh)
        if failure is not None:
            raise CallFailed(failure)

    async def _refresh_once(self, renew: Callable[[], Awaitable[None]]) -> NotDelivered | None:
        try:
            await renew()
        except CallFailed as failed:
            return failed.outcome
        finally:
            self._refresh = None
        return None

    async def aclose(self) -> None:
        """Drop the token request under way and what the library opened for itself."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.gather(self._refresh, return_exceptions=True)
        await self._unused_client.aclose()
        self._s.close()


def answer_of(response: Response) -> Answer:
    """Take from a response what is looked at."""
    return Answer(
        status=response.status_code,
        body=response.content,
        content_type=response.headers.get("Content-Type"),
        location=response.headers.get("Location"),
        retry_after=response.headers.get("Retry-After"),
    )


def _issued_at(access_token: str) -> datetime | None:
    """When a token was issued, by Keycloak's clock (UTC); None if it is none whose content can be read."""
    match _claims_of(access_token):
        case {"iat": int(seconds)}:
            return datetime.fromtimestamp(seconds, UTC)
    return None


def _subject_of(access_token: str) -> str | None:
    """Whose a token is, by id; None if it does not say, or is none whose content can be read."""
    match _claims_of(access_token):
        case {"sub": str(subject)}:
            return subject
    return None


def _claims_of(access_token: str) -> Any:
    """What a JWT says, its signature Keycloak's to check; None if it is none."""
    _, _, rest = access_token.partition(".")
    content, _, _ = rest.partition(".")
    try:
        return parse_json(urlsafe_b64decode(content + "=" * (-len(content) % 4)))
    except ValueError:
        return None


def _nothing() -> None:
    pass
