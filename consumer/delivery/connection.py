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
from typing import TYPE_CHECKING, Any
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

    from consumer.delivery.keycloak_clock import KeycloakClock
    from consumer.delivery.outcome import NotDelivered


class RealmConnection(KeycloakOpenIDConnection):
    """An authenticated connection to one realm's Admin API.

    The token comes from the realm itself, by client credentials: the client is a guest of the realm it serves, not of
    `master`. It is renewed at 90 % of its life, and once after a 401. The paths given to it are whole addresses, which begin
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
        self._realm = realm
        self._token_timeout_seconds = token_timeout_seconds
        self._clock = clock
        # One token request of a realm is under way at most, so it needs no share of the callers' slots.
        self._token_slot = asyncio.Semaphore(1)
        self._refresh: asyncio.Task[NotDelivered | None] | None = None

    async def a__refresh_if_required(self) -> None:
        """Renew the token if it is missing or near its end.

        Raises:
            CallFailed: The token request failed.
        """
        if self.expires_at is None or datetime.now(UTC) >= self.expires_at:
            await self._join_refresh()

    async def a_refresh_token(self) -> None:
        """Renew the token after a 401, unless somebody has since the refused request left.

        Raises:
            CallFailed: The token request failed.
        """
        if (self.headers or {}).get("Authorization") == current_scope().authorization:
            await self._join_refresh()

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
        await self._join_refresh()

    async def a_get_token(self) -> None:
        """Fetch a token.

        Raises:
            CallFailed: The token endpoint did not give one. That never speaks about a user.
        """
        began = datetime.now(UTC)
        with CallScope(_nothing, self._token_timeout_seconds, self._token_slot):
            try:
                response = await self._sender.post(
                    f"{self.keycloak_url}realms/{quote(self._realm, safe='')}/protocol/openid-connect/token",
                    data={
                        "grant_type": "client_credentials",
                        "client_id": self.client_id,
                        "client_secret": self.client_secret_key,
                    },
                )
            except NoAnswer as lost:
                raise CallFailed(classify_silence(Operation.TOKEN, lost.cause)) from None
        answer = answer_of(response)
        if answer.status != 200:
            raise CallFailed(classify_answer(Operation.TOKEN, answer, datetime.now(UTC)))
        match parse_json(answer.body):
            case {"access_token": str(), "expires_in": int()} as token:
                self.token = token
                self._tell_time(token["access_token"], began)
            case _:
                raise CallFailed(unreadable_answer(Operation.TOKEN, answer))

    def _tell_time(self, access_token: str, began: datetime) -> None:
        issued = _issued_at(access_token)
        if issued is not None:
            self._clock.saw(issued, began=began, ended=datetime.now(UTC), granularity=timedelta(seconds=1))

    async def _join_refresh(self) -> None:
        if self._refresh is None:
            self._refresh = asyncio.create_task(self._refresh_once(), context=copy_context())
        # Shielded: one caller's cancellation is not the others'.
        failure = await asyncio.shield(self._refresh)
        if failure is not None:
            raise CallFailed(failure)

    async def _refresh_once(self) -> NotDelivered | None:
        try:
            await self.a_get_token()
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
