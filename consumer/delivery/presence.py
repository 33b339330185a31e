"""Is Keycloak there? What the answer to a question means that needs no token and costs Keycloak next to nothing.

The question is a GET of a realm's public discovery document. What Keycloak 26.7.4 answers (killed and started again, seen
three times): connection refused, then for some seconds 503 `text/plain` "Bootstrap in progress. Retry in N seconds." with a
`Retry-After` on every path, then the document, within 0.3 s of `/health/ready`; a token request and a control call that begin
then succeed, in 0.5 to 0.7 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from consumer.delivery.answer import Answer, TransportCause, is_starting, parse_json, retry_after_seconds

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Presence", "Sighting", "discovery_url", "sighting_of_answer", "sighting_of_silence"]


class Presence(StrEnum):
    """Whether Keycloak is there. The values are stored."""

    THERE = "THERE"
    """The realm's document came."""
    UNCLEAR = "UNCLEAR"
    """Something else came, or nothing in time; it may be about this question alone: a proxy may let nobody see the document."""
    AWAY = "AWAY"
    """Nobody listens, or Keycloak itself says that it is starting: no call can get through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the question met.

    Attributes:
        presence: Whether Keycloak is there.
        said: The same for people, in a few words.
        retry_after: Seconds for which somebody asked to be left alone, or None.
    """

    presence: Presence
    said: str
    retry_after: float | None = None


def discovery_url(keycloak_url: str, realm: str) -> str:
    """Where a realm's discovery document is.

    Args:
        keycloak_url: Keycloak's base URL, ending in "/".
        realm: The realm.
    """
    return f"{keycloak_url}realms/{quote(realm, safe='')}/.well-known/openid-configuration"


def sighting_of_answer(realm: str, answer: Answer, now: datetime) -> Sighting:
    """Say what an answer to the question means.

    Args:
        realm: The realm whose document was asked for.
        answer: What came.
        now: The present time (UTC), for a `Retry-After` that is a date.
    """
    if is_starting(answer):
        return Sighting(presence=Presence.AWAY, said="Keycloak is starting")
    if answer.status == 200:
        if _is_of(realm, answer.body):
            return Sighting(presence=Presence.THERE, said="Keycloak is there")
        return Sighting(
            presence=Presence.UNCLEAR, said="HTTP 200, but not the discovery document of the realm"
        )
    pause = retry_after_seconds(answer.retry_after, now) if answer.status in {429, 503} else None
    return Sighting(presence=Presence.UNCLEAR, said=f"HTTP {answer.status}", retry_after=pause)


def sighting_of_silence(cause: TransportCause) -> Sighting:
    """Say what it means that no answer came."""
    nobody = cause in {TransportCause.REFUSED, TransportCause.UNRESOLVED}
    return Sighting(presence=Presence.AWAY if nobody else Presence.UNCLEAR, said=cause.value)


def _is_of(realm: str, body: bytes) -> bool:
    match parse_json(body):
        case {"issuer": str(issuer)}:
            return unquote(issuer).endswith(f"/realms/{realm}")
    return False
