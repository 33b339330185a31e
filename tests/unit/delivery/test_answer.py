from __future__ import annotations

from datetime import UTC, datetime

import pytest

from consumer.delivery.answer import (
    FieldError,
    Operation,
    Problem,
    parse_json,
    parse_problem,
    retry_after_seconds,
)

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            b'{"errorMessage":"User exists with same email"}',
            Problem(errors=(FieldError("User exists with same email"),)),
        ),
        (
            b'{"field":"email","errorMessage":"error-invalid-email","params":["email","x@"]}',
            Problem(errors=(FieldError("error-invalid-email", "email"),)),
        ),
        (
            b'{"error":"invalidPasswordMinLengthMessage","error_description":"Invalid password: minimum length 8."}',
            Problem(
                errors=(FieldError("invalidPasswordMinLengthMessage"),),
                text="Invalid password: minimum length 8.",
            ),
        ),
        (
            b'{"errors":[{"field":"email","errorMessage":"error-invalid-email"},7,{"errorMessage":"second"}]}',
            Problem(errors=(FieldError("error-invalid-email", "email"), FieldError("second"))),
        ),
        (b'{"errors":[7,{"field":"email"}]}', None),
        (b'{"errors":[]}', None),
        (b'{"errorMessage":7}', None),
        (b'["errorMessage"]', None),
        (b"<html>502 Bad Gateway</html>", None),
        (b'{"errorMessage":"User exi', None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_each_shape_of_an_explanation_is_read(body: bytes, problem: Problem | None) -> None:
    assert parse_problem(body) == problem


def test_a_bottomless_json_is_no_json() -> None:
    assert parse_json(b"[" * 100_000) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 30 ", 30.0),
        ("86400", 3600.0),  # Capped.
        ("-5", None),
        ("soon", None),
        ("", None),
        ("\u0663", None),  # An Arabic digit three is no digit of HTTP.
        ("Sat, 21 Nov 2026 12:00:20 GMT", 20.0),
        ("Sat, 21 Nov 2026 11:59:00 GMT", 0.0),  # Past.
        ("Sun, 21 Nov 2027 12:00:00 GMT", 3600.0),  # Capped.
        ("Sat, 21 Nov 2026 12:00:20 -0000", 20.0),  # Without a zone.
        ("Sat, 99 Nov 2026 12:00:20 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds


def test_the_calls_that_change_a_user_are_known() -> None:
    writes = {operation for operation in Operation if operation.writes}

    assert writes == {
        Operation.CREATE,
        Operation.IMPORT,
        Operation.UPDATE,
        Operation.SET_PASSWORD,
        Operation.REMOVE_CREDENTIAL,
        Operation.DELETE,
        Operation.END_SESSIONS,
        Operation.JOIN_GROUP,
        Operation.LEAVE_GROUP,
        Operation.GRANT_ROLE,
        Operation.REVOKE_ROLE,
    }
