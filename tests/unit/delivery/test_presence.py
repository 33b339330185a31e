from __future__ import annotations

from datetime import UTC, datetime

import pytest

from consumer.delivery.answer import Answer, TransportCause
from consumer.delivery.presence import (
    Presence,
    Sighting,
    discovery_url,
    sighting_of_answer,
    sighting_of_silence,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DOCUMENT = b'{"issuer":"https://sso.example.org/auth/realms/shop","token_endpoint":"..."}'
BOOTING = b"Bootstrap in progress. Retry in 2 seconds."


def met(status: int, body: bytes = b"", *, realm: str = "shop", retry_after: str | None = None) -> Sighting:
    answer = Answer(status=status, body=body, content_type="text/plain", retry_after=retry_after)
    return sighting_of_answer(realm, answer, NOW)


class TestWhatIsThere:
    def test_is_known_by_the_document_of_the_realm(self) -> None:
        assert met(200, DOCUMENT) == Sighting(presence=Presence.THERE, said="Keycloak is there")

    @pytest.mark.parametrize("realm", ["my realm", "größe", "a.b"])
    def test_may_have_any_name(self, realm: str) -> None:
        escaped = discovery_url("https://sso.example.org/", realm).removesuffix(
            "/.well-known/openid-configuration"
        )

        assert met(200, f'{{"issuer":"{escaped}"}}'.encode(), realm=realm).presence is Presence.THERE

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>All is well</html>",
            b"[]",
            b"{}",
            b'{"issuer":null}',
            DOCUMENT.replace(b"/shop", b"/club"),
            DOCUMENT[:40],
        ],
    )
    def test_is_not_known_by_any_other_200(self, body: bytes) -> None:
        assert met(200, body).presence is Presence.UNCLEAR


class TestWhatIsAway:
    @pytest.mark.parametrize("cause", [TransportCause.REFUSED, TransportCause.UNRESOLVED])
    def test_is_known_by_a_closed_port(self, cause: TransportCause) -> None:
        assert sighting_of_silence(cause) == Sighting(presence=Presence.AWAY, said=cause.value)

    def test_is_known_by_keycloaks_own_word_whose_guess_is_no_wish(self) -> None:
        starting = met(503, BOOTING, retry_after="5")

        assert starting == Sighting(presence=Presence.AWAY, said="Keycloak is starting")

    @pytest.mark.parametrize(
        "cause",
        [each for each in TransportCause if each not in {"connection refused", "host name not found"}],
    )
    def test_is_not_known_by_any_other_silence(self, cause: TransportCause) -> None:
        assert sighting_of_silence(cause).presence is Presence.UNCLEAR

    @pytest.mark.parametrize("status", [301, 302, 401, 403, 404, 429, 500, 502, 503, 504])
    def test_is_not_known_by_any_other_answer(self, status: int) -> None:
        assert met(status, b'{"error":"x"}') == Sighting(presence=Presence.UNCLEAR, said=f"HTTP {status}")


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (503, "120", 120),
        (429, "Mon, 30 Nov 2026 12:01:00 GMT", 60),
        (503, "86400", 3600),
        (503, "soon", None),
        # Nobody who moved us on, or found nothing, wants to be left alone.
        (404, "120", None),
        (301, "120", None),
    ],
)
def test_a_wish_to_be_left_alone_is_told(status: int, header: str, seconds: float | None) -> None:
    assert met(status, b"later", retry_after=header).retry_after == seconds
