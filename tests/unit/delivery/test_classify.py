from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from consumer.delivery.answer import Answer, Operation, TransportCause
from consumer.delivery.classify import (
    NO_ANSWER,
    classify_answer,
    classify_silence,
    may_be_its_content,
    refused_for_its_content,
    refuses_writes,
    spare_the_event,
    unreadable_answer,
)
from consumer.delivery.outcome import (
    DETAIL_LIMIT,
    Blame,
    DeadLetter,
    Defer,
    Failure,
    NotDelivered,
    Reason,
    Retry,
)

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

USER, KEYCLOAK, SETUP, UNCLEAR = Blame.USER, Blame.KEYCLOAK, Blame.CONFIGURATION, Blame.UNCLEAR
FEDERATION = Blame.FEDERATION
CREATE, UPDATE, DELETE, FIND = Operation.CREATE, Operation.UPDATE, Operation.DELETE, Operation.FIND
GROUP = Operation.GROUP
RESET, TOKEN, JOIN = Operation.SET_PASSWORD, Operation.TOKEN, Operation.JOIN_GROUP


def said(message: str) -> bytes:
    return json.dumps({"errorMessage": message}).encode()


def error(code: str) -> bytes:
    return json.dumps({"error": code}).encode()


def field(name: str, code: str) -> dict[str, object]:
    return {"field": name, "errorMessage": code, "params": [name, "a value of the user's"]}


def several(*errors: dict[str, object]) -> bytes:
    return json.dumps({"errors": errors}).encode()


def one(name: str, code: str) -> bytes:
    return json.dumps(field(name, code)).encode()


def judge(operation: Operation, status: int, body: bytes, retry_after: str | None = None) -> NotDelivered:
    kind = "application/json" if body[:1] == b"{" else "text/html"
    return classify_answer(
        operation, Answer(status=status, body=body, content_type=kind, retry_after=retry_after), NOW
    )


HTML = b"<html>nginx</html>"
NO_SUCH_PATH = "Unable to find matching target resource method"
REALM_OFF = json.dumps({"error": "access_denied", "error_description": "Realm not enabled"}).encode()

READ_ONLY = (
    "Can't reset password as account is read only",
    "User is read only!",
    "readOnlyUserMessage",
    "Federated storage is not writable",
    "user is read only for this update",
    "The user is read-only. Not possible to write 'email' when updating user 'alice'.",
)
"""What a federated user's refusals say, seen with or read in Keycloak 26.7.4."""

AWAY = (
    "The user is read-only. The user storage provider 'office' is currently unavailable. Check the server logs for more "
    "details."
)

BOOTING = b"Bootstrap in progress. Retry in 2 seconds."
TABLE: list[tuple[Operation, int, bytes, type[NotDelivered], Reason, Blame, bool]] = [
    # Conflicts
    (CREATE, 409, said("User exists with same username"), Retry, Reason.USERNAME_IN_USE, USER, False),
    (CREATE, 409, said("User exists with same email"), Retry, Reason.EMAIL_IN_USE, USER, False),
    (UPDATE, 409, said("User exists with same email"), Retry, Reason.EMAIL_IN_USE, USER, False),
    (CREATE, 409, said("User exists with same username or email"), Retry, Reason.CONFLICT, USER, False),
    (CREATE, 409, HTML, Defer, Reason.NOT_KEYCLOAK, SETUP, False),
    # Refusals
    (UPDATE, 400, said("error-invalid-email"), DeadLetter, Reason.INVALID_DATA, USER, False),
    (
        UPDATE,
        400,
        said("error-user-attribute-read-only"),
        DeadLetter,
        Reason.ATTRIBUTE_READ_ONLY,
        USER,
        False,
    ),
    (UPDATE, 400, one("city", "Only small letters, please"), DeadLetter, Reason.INVALID_DATA, USER, False),
    (CREATE, 400, one("city", "${my.key}"), DeadLetter, Reason.INVALID_DATA, USER, False),
    (
        UPDATE,
        400,
        several(field("city", "Only small letters"), field("phone", "error-user-attribute-required")),
        DeadLetter,
        Reason.INVALID_DATA,
        USER,
        False,
    ),
    (
        UPDATE,
        400,
        one("LDAP_ID", "updateReadOnlyAttributesRejectedMessage"),
        DeadLetter,
        Reason.ATTRIBUTE_READ_ONLY,
        USER,
        False,
    ),
    (UPDATE, 400, said("User name is missing"), DeadLetter, Reason.INVALID_DATA, USER, False),
    (
        JOIN,
        400,
        said("Cannot access organization related group via non Organization API."),
        DeadLetter,
        Reason.GROUP_MISSING,
        USER,
        False,
    ),
    (CREATE, 400, error("invalidPasswordMinLengthMessage"), DeadLetter, Reason.PASSWORD_POLICY, USER, False),
    (RESET, 400, error("invalidPasswordHistoryMessage"), DeadLetter, Reason.PASSWORD_HISTORY, USER, False),
    (RESET, 400, said("Empty password not allowed"), DeadLetter, Reason.PASSWORD_POLICY, USER, False),
    *((UPDATE, 400, said(text), DeadLetter, Reason.USER_READ_ONLY, USER, False) for text in READ_ONLY),
    (
        RESET,
        400,
        error("Could not modify attribute for DN [uid=ann,dc=org]"),
        Retry,
        Reason.DIRECTORY_REFUSED,
        USER,
        False,
    ),
    (UPDATE, 400, said(AWAY), Defer, Reason.DIRECTORY_UNAVAILABLE, FEDERATION, False),
    (
        RESET,
        400,
        error("Failed to fetch results from the LDAP [office] provider"),
        Defer,
        Reason.DIRECTORY_UNAVAILABLE,
        FEDERATION,
        False,
    ),
    (
        UPDATE,
        400,
        said("The user is read-only. The user storage provider 'office' is disabled."),
        Defer,
        Reason.FEDERATION_DISABLED,
        FEDERATION,
        False,
    ),
    (RESET, 400, error(READ_ONLY[0]), DeadLetter, Reason.USER_READ_ONLY, USER, False),
    (UPDATE, 400, said("Could not update user!"), Retry, Reason.UNEXPLAINED_REFUSAL, UNCLEAR, False),
    (
        RESET,
        400,
        error("Batch update returned unexpected"),
        Retry,
        Reason.UNEXPLAINED_REFUSAL,
        UNCLEAR,
        False,
    ),
    (DELETE, 400, said("User couldn't be deleted"), Retry, Reason.UNEXPLAINED_REFUSAL, UNCLEAR, False),
    (UPDATE, 400, HTML, Defer, Reason.NOT_KEYCLOAK, SETUP, False),
    (UPDATE, 400, b"", Defer, Reason.NOT_KEYCLOAK, SETUP, False),
    # Missing
    (UPDATE, 404, error("User not found"), DeadLetter, Reason.USER_MISSING, USER, False),
    (DELETE, 404, error("Realm not found."), Defer, Reason.REALM_MISSING, SETUP, False),
    (FIND, 404, error("HTTP 404 Not Found"), Defer, Reason.UNEXPECTED_ANSWER, SETUP, False),
    (FIND, 404, error(NO_SUCH_PATH), Defer, Reason.WRONG_PATH, SETUP, False),
    (FIND, 404, HTML, Defer, Reason.NOT_KEYCLOAK, SETUP, False),
    # How we are set up
    (UPDATE, 401, error("HTTP 401 Unauthorized"), Defer, Reason.TOKEN_REFUSED, SETUP, False),
    (UPDATE, 401, HTML, Defer, Reason.GATEWAY_REFUSED, SETUP, False),
    (UPDATE, 401, b"", Defer, Reason.GATEWAY_REFUSED, SETUP, False),
    (UPDATE, 403, HTML, Defer, Reason.GATEWAY_REFUSED, SETUP, False),
    (UPDATE, 407, HTML, Defer, Reason.GATEWAY_REFUSED, SETUP, False),
    (UPDATE, 401, b'{"message":"Unauthorized"}', Defer, Reason.GATEWAY_REFUSED, SETUP, False),
    (UPDATE, 403, error("HTTP 403 Forbidden"), Defer, Reason.FORBIDDEN, SETUP, False),
    (UPDATE, 302, b"", Defer, Reason.REDIRECTED, SETUP, False),
    (FIND, 301, HTML, Defer, Reason.REDIRECTED, SETUP, False),
    (CREATE, 200, HTML, Defer, Reason.NOT_KEYCLOAK, SETUP, True),
    (CREATE, 200, b"{}", Defer, Reason.UNEXPECTED_SUCCESS, SETUP, True),
    (CREATE, 204, b"", Defer, Reason.UNEXPECTED_SUCCESS, SETUP, True),
    (UPDATE, 200, b"", Defer, Reason.UNEXPECTED_SUCCESS, SETUP, True),
    (FIND, 204, b"", Defer, Reason.UNEXPECTED_SUCCESS, SETUP, False),
    (UPDATE, 400, b'{"message":"no"}', Defer, Reason.NOT_KEYCLOAK, SETUP, False),
    (UPDATE, 404, b'{"message":"no"}', Defer, Reason.NOT_KEYCLOAK, SETUP, False),
    (UPDATE, 400, b'{"errorMess', Defer, Reason.GARBLED_ANSWER, KEYCLOAK, False),
    (UPDATE, 405, error("HTTP 405"), Defer, Reason.UNEXPECTED_ANSWER, SETUP, False),
    # Keycloak itself
    (UPDATE, 429, b"", Defer, Reason.THROTTLED, KEYCLOAK, False),
    (UPDATE, 503, b"", Defer, Reason.UNAVAILABLE, KEYCLOAK, True),
    (FIND, 503, b"", Defer, Reason.UNAVAILABLE, KEYCLOAK, False),
    (UPDATE, 503, BOOTING, Defer, Reason.STARTING, KEYCLOAK, False),
    (UPDATE, 500, error("unknown_error"), Retry, Reason.SERVER_ERROR, KEYCLOAK, True),
    (DELETE, 500, error("unknown_error"), Retry, Reason.SERVER_ERROR, KEYCLOAK, True),
    (FIND, 500, error("unknown_error"), Retry, Reason.SERVER_ERROR, KEYCLOAK, False),
    (UPDATE, 502, HTML, Retry, Reason.BAD_GATEWAY, KEYCLOAK, True),
    (UPDATE, 504, HTML, Retry, Reason.BAD_GATEWAY, KEYCLOAK, True),
    (UPDATE, 501, HTML, Retry, Reason.SERVER_ERROR, KEYCLOAK, True),
    (CREATE, 400, error("unknown_error"), Retry, Reason.UNEXPLAINED_REFUSAL, UNCLEAR, False),
    (RESET, 400, error("No password provided"), DeadLetter, Reason.PASSWORD_POLICY, USER, False),
    (UPDATE, 400, error("readOnlyUserMessage"), DeadLetter, Reason.USER_READ_ONLY, USER, False),
    (UPDATE, 404, error("Realm does not exist"), Defer, Reason.REALM_MISSING, SETUP, False),
    (UPDATE, 408, HTML, Retry, Reason.TIMEOUT, KEYCLOAK, True),
    # The token endpoint never speaks about a user
    (TOKEN, 400, error("invalid_client"), Defer, Reason.CREDENTIALS_REFUSED, SETUP, False),
    (TOKEN, 401, error("unauthorized_client"), Defer, Reason.CREDENTIALS_REFUSED, SETUP, False),
    (TOKEN, 404, error("Realm does not exist"), Defer, Reason.REALM_MISSING, SETUP, False),
    (TOKEN, 404, error(NO_SUCH_PATH), Defer, Reason.WRONG_PATH, SETUP, False),
    (TOKEN, 404, error("User not found"), Defer, Reason.WRONG_PATH, SETUP, False),
    (TOKEN, 403, REALM_OFF, Defer, Reason.REALM_DISABLED, SETUP, False),
    (TOKEN, 409, error("User exists with same email"), Defer, Reason.NOT_KEYCLOAK, SETUP, False),
    (TOKEN, 401, HTML, Defer, Reason.GATEWAY_REFUSED, SETUP, False),
    (TOKEN, 429, error("slow down"), Defer, Reason.THROTTLED, KEYCLOAK, False),
    (TOKEN, 408, HTML, Retry, Reason.TIMEOUT, KEYCLOAK, False),
    (TOKEN, 201, b"{}", Defer, Reason.UNEXPECTED_SUCCESS, SETUP, False),
    (TOKEN, 400, HTML, Defer, Reason.NOT_KEYCLOAK, SETUP, False),
    (TOKEN, 500, error("unknown_error"), Retry, Reason.SERVER_ERROR, KEYCLOAK, False),
    (TOKEN, 503, b"", Defer, Reason.UNAVAILABLE, KEYCLOAK, False),
    (TOKEN, 503, BOOTING, Defer, Reason.STARTING, KEYCLOAK, False),
]


@pytest.mark.parametrize(("operation", "status", "body", "kind", "reason", "blame", "ambiguous"), TABLE)
def test_an_answer_means(
    operation: Operation,
    status: int,
    body: bytes,
    kind: type[NotDelivered],
    reason: Reason,
    blame: Blame,
    ambiguous: bool,  # noqa: FBT001 - a table.
) -> None:
    outcome = judge(operation, status, body)

    assert isinstance(outcome, kind)
    assert outcome.reason is reason
    assert outcome.failure.blame is blame
    assert outcome.failure.status == status
    assert outcome.failure.ambiguous is ambiguous


SILENCE: list[tuple[TransportCause, type[NotDelivered], Reason, Blame, bool]] = [
    (TransportCause.REFUSED, Retry, Reason.CONNECTION_FAILED, KEYCLOAK, False),
    (TransportCause.UNRESOLVED, Retry, Reason.CONNECTION_FAILED, KEYCLOAK, False),
    (TransportCause.CONNECT_TIMEOUT, Retry, Reason.CONNECTION_FAILED, KEYCLOAK, False),
    (TransportCause.TLS, Defer, Reason.TLS_FAILED, SETUP, False),
    (TransportCause.NOT_TLS, Defer, Reason.TLS_FAILED, SETUP, False),
    (TransportCause.CERTIFICATE_EXPIRED, Defer, Reason.CERTIFICATE_EXPIRED, SETUP, False),
    (TransportCause.CERTIFICATE_UNTRUSTED, Defer, Reason.CERTIFICATE_UNTRUSTED, SETUP, False),
    (TransportCause.CERTIFICATE_OF_ANOTHER, Defer, Reason.CERTIFICATE_OF_ANOTHER, SETUP, False),
    (TransportCause.OURS_REFUSED, Defer, Reason.CLIENT_CERTIFICATE_REFUSED, SETUP, False),
    (TransportCause.LOST, Retry, Reason.CONNECTION_LOST, KEYCLOAK, True),
    (TransportCause.BROKEN, Retry, Reason.CONNECTION_LOST, KEYCLOAK, True),
    (TransportCause.TIMEOUT, Retry, Reason.TIMEOUT, KEYCLOAK, True),
]


class TestSilence:
    @pytest.mark.parametrize(("cause", "kind", "reason", "blame", "doubt"), SILENCE)
    def test_means_for_a_write(
        self,
        cause: TransportCause,
        kind: type[NotDelivered],
        reason: Reason,
        blame: Blame,
        doubt: bool,  # noqa: FBT001 - a table.
    ) -> None:
        outcome = classify_silence(UPDATE, cause)

        assert isinstance(outcome, kind)
        assert outcome.reason is reason
        assert outcome.failure == Failure(blame=blame, ambiguous=doubt, detail=f"user update: {cause}")

    @pytest.mark.parametrize("operation", [DELETE, Operation.END_SESSIONS])
    def test_of_what_may_take_long_speaks_for_nobody_yet(self, operation: Operation) -> None:
        outcome = classify_silence(operation, TransportCause.TIMEOUT)

        assert (outcome.reason, outcome.failure.blame) == (Reason.TIMEOUT, UNCLEAR)
        assert outcome.failure.ambiguous
        assert classify_silence(operation, TransportCause.LOST).failure.blame is KEYCLOAK

    @pytest.mark.parametrize("cause", TransportCause)
    def test_leaves_no_doubt_after_a_read(self, cause: TransportCause) -> None:
        assert not classify_silence(FIND, cause).failure.ambiguous

    def test_has_a_row_for_every_cause(self) -> None:
        assert set(NO_ANSWER) == set(TransportCause)


class TestPause:
    def test_what_keycloak_asks_for_is_kept(self) -> None:
        outcome = judge(UPDATE, 429, b"", "17")

        assert isinstance(outcome, Defer)
        assert outcome.not_before_seconds == 17.0

    def test_a_503_that_asks_for_a_pause_was_turned_away_at_the_door(self) -> None:
        assert not judge(UPDATE, 503, b"", "5").failure.ambiguous

    def test_without_a_header_there_is_none(self) -> None:
        outcome = judge(UPDATE, 429, b"")

        assert isinstance(outcome, Defer)
        assert outcome.not_before_seconds is None


class TestUnreadableAnswer:
    @pytest.mark.parametrize(
        ("body", "content_type", "reason", "blame"),
        [
            pytest.param(b"<html>login</html>", "text/html", Reason.NOT_KEYCLOAK, SETUP, id="html"),
            pytest.param(b'[{"id":"0', "application/json", Reason.GARBLED_ANSWER, KEYCLOAK, id="broken off"),
            pytest.param(b'{"status":"ok"}', "application/json", Reason.NOT_KEYCLOAK, SETUP, id="other json"),
            pytest.param(b"", None, Reason.NOT_KEYCLOAK, SETUP, id="nothing"),
        ],
    )
    def test_is_never_the_users_fault(
        self, body: bytes, content_type: str | None, reason: Reason, blame: Blame
    ) -> None:
        outcome = unreadable_answer(FIND, Answer(status=200, body=body, content_type=content_type))

        assert isinstance(outcome, Defer)
        assert outcome.reason is reason
        assert outcome.failure.blame is blame


class TestWhoseFieldItIs:
    """Keycloak holds the whole stored profile against the realm's at every update."""

    TWO = several(field("phone", "error-user-attribute-required"), field("city", "Only small letters"))

    def test_what_the_event_does_not_write_is_the_stored_profiles(self) -> None:
        spared = spare_the_event(judge(UPDATE, 400, self.TWO), lambda _: False)

        assert isinstance(spared, Defer)
        assert spared.reason is Reason.PROFILE_BROKEN
        assert spared.failure.fields == ("phone", "city")
        assert "in what the event does not write (phone, city)" in spared.failure.detail

    def test_one_field_that_it_writes_is_the_events(self) -> None:
        refused = judge(UPDATE, 400, self.TWO)

        assert spare_the_event(refused, lambda name: name == "city") is refused

    @pytest.mark.parametrize(
        "body", [said("Could not update user!"), said("error-invalid-email"), error("unknown_error")]
    )
    def test_a_refusal_that_names_no_field_stays_what_it_is(self, body: bytes) -> None:
        refused = judge(UPDATE, 400, body)

        assert spare_the_event(refused, lambda _: False) is refused


class TestTextBeyondTheBasicPlane:
    def test_is_refused_by_the_name_of_its_place_and_leaves_no_doubt(self) -> None:
        broke = judge(CREATE, 500, error("unknown_error"))
        places = replace(broke, failure=replace(broke.failure, beyond_plane=("data.last_name", "username")))

        refused = refused_for_its_content(places)

        assert (refused.reason, refused.failure.blame) == (Reason.INVALID_DATA, USER)
        assert not refused.failure.ambiguous
        assert "data.last_name, username" in refused.failure.detail

    @pytest.mark.parametrize(
        ("operation", "status", "body", "may_be"),
        [
            pytest.param(CREATE, 500, error("unknown_error"), True, id="create"),
            pytest.param(UPDATE, 400, said("Could not update user!"), True, id="update"),
            pytest.param(GROUP, 500, error("unknown_error"), True, id="lookup"),
            pytest.param(CREATE, 500, HTML, False, id="a proxy's page"),
            pytest.param(CREATE, 502, error("unknown_error"), False, id="a proxy's status"),
            pytest.param(CREATE, 503, error("unknown_error"), False, id="turned away"),
            pytest.param(CREATE, 409, said("User exists with same email"), False, id="conflict"),
            pytest.param(UPDATE, 400, one("city", "Only small letters"), False, id="a rule of the realm"),
        ],
    )
    def test_is_thought_of_where_keycloak_itself_gives_no_reason(
        self,
        operation: Operation,
        status: int,
        body: bytes,
        may_be: bool,  # noqa: FBT001 - a table.
    ) -> None:
        assert may_be_its_content(judge(operation, status, body)) is may_be


class TestAWriteThatStandsForNoUser:
    @pytest.mark.parametrize(
        ("status", "body", "reason", "blame"),
        [
            (500, error("unknown_error"), Reason.WRITES_REFUSED, KEYCLOAK),
            (400, said("Could not update user!"), Reason.WRITES_REFUSED, KEYCLOAK),
            # Of these nothing follows for other writes.
            (403, error("HTTP 403 Forbidden"), Reason.FORBIDDEN, SETUP),
            (404, error("User not found"), Reason.USER_MISSING, USER),
            (500, HTML, Reason.SERVER_ERROR, KEYCLOAK),
            (503, b"", Reason.UNAVAILABLE, KEYCLOAK),
        ],
    )
    def test_tells_whether_keycloak_takes_any(
        self, status: int, body: bytes, reason: Reason, blame: Blame
    ) -> None:
        outcome = refuses_writes(judge(Operation.WRITE_CHECK, status, body))

        assert (outcome.reason, outcome.failure.blame) == (reason, blame)
        assert ("read-only or full" in outcome.failure.detail) is (reason is Reason.WRITES_REFUSED)


class TestDetail:
    def test_names_every_field_and_no_value(self) -> None:
        body = several(field("city", "Only small letters"), field("phone", "error-user-attribute-required"))

        assert judge(UPDATE, 400, body).failure.detail == (
            "user update: HTTP 400 Only small letters (field city), error-user-attribute-required (field phone)"
        )

    def test_names_call_status_and_code(self) -> None:
        body = json.dumps(
            {"errorMessage": "error-invalid-email", "field": "email", "params": ["a@b"]}
        ).encode()

        assert (
            judge(UPDATE, 400, body).failure.detail
            == "user update: HTTP 400 error-invalid-email (field email)"
        )

    def test_keeps_quoted_values_out(self) -> None:
        body = json.dumps(
            {"error": "bad", "error_description": "Value 'hunter2' for alice@example.org"}
        ).encode()

        assert judge(UPDATE, 400, body).failure.detail == "user update: HTTP 400 bad: Value '…' for <email>"

    def test_shows_nothing_of_a_page(self) -> None:
        detail = judge(UPDATE, 502, b"<html>alice was here</html>").failure.detail

        assert detail == "user update: HTTP 502, 27 bytes of text/html"

    @pytest.mark.parametrize(
        ("location", "said"),
        [
            ("https://sso.example.org/admin/realms/shop?username=alice", "https://sso.example.org"),
            ("https://login.example.org:8443/start?state=secret#x", "https://login.example.org:8443"),
            ("//elsewhere.example.org/x", "http(s)://elsewhere.example.org"),
            ("/login?next=%2Falice", "another path of the same server"),
            ("https://[broken/alice", "an unreadable address"),
            (None, "nowhere"),
        ],
    )
    def test_says_where_a_redirect_leads_without_path_and_query(
        self, location: str | None, said: str
    ) -> None:
        answer = Answer(status=302, body=b"", location=location)

        assert classify_answer(FIND, answer, NOW).failure.detail == f"user search: HTTP 302 to {said}"

    def test_is_never_longer_than_its_column(self) -> None:
        detail = judge(UPDATE, 400, said("x" * 10_000)).failure.detail

        assert len(detail) == DETAIL_LIMIT
        assert detail.endswith("…")


@pytest.mark.parametrize("text", READ_ONLY)
def test_a_federated_users_refusal_says_what_to_do_and_not_who_it_is(text: str) -> None:
    detail = judge(UPDATE, 400, said(text)).failure.detail

    assert "WRITABLE or UNSYNCED" in detail
    assert "alice" not in detail


def test_a_directory_that_is_away_is_named() -> None:
    assert "user federation office" in judge(UPDATE, 400, said(AWAY)).failure.detail


def test_a_read_only_attribute_is_named_with_what_to_do() -> None:
    body = json.dumps({"errorMessage": "error-user-attribute-read-only", "field": "department"}).encode()

    detail = judge(UPDATE, 400, body).failure.detail

    assert "department" in detail
    assert "let admin edit it" in detail
