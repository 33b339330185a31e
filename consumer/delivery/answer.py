"""What came back from a call: reading it, without judging it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

from consumer.frozen import quick_dataclass

LONGEST_PAUSE_SECONDS = 3600.0
"""A `Retry-After` beyond this is taken as this: a proxy's typing error must not stop a lane for a year."""


class Operation(StrEnum):
    """A call to Keycloak. The value is how messages name it."""

    TOKEN = "token request"  # noqa: S105 - a name, not a token.
    CONTROL = "control call"
    WRITE_CHECK = "write check"
    FIND = "user search"
    READ = "user read"
    REALM = "realm read"
    CREDENTIALS = "credentials read"
    ROLES = "roles read"
    CREATE = "user create"
    IMPORT = "users import"
    NEW_USER_RULES = "rules for new users"
    UPDATE = "user update"
    SET_PASSWORD = "password reset"  # noqa: S105 - a name, not a password.
    REMOVE_CREDENTIAL = "credential removal"
    DELETE = "user delete"
    END_SESSIONS = "logout"
    SESSIONS = "sessions read"
    GROUP = "group lookup"
    ROLE = "role lookup"
    ACTIONS = "required actions read"
    MEMBERSHIPS = "memberships read"
    JOIN_GROUP = "group join"
    LEAVE_GROUP = "group leave"
    GRANT_ROLE = "role grant"
    REVOKE_ROLE = "role revoke"
    PROFILE = "user profile read"
    FEDERATIONS = "user federations read"

    @property
    def writes(self) -> bool:
        """Whether the call changes a user, so that a lost answer leaves doubt."""
        return self in _WRITES


_WRITES = frozenset(
    {
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
)


class TransportCause(StrEnum):
    """Why no answer came."""

    REFUSED = "connection refused"
    UNRESOLVED = "host name not found"
    CONNECT_TIMEOUT = "timeout while connecting"
    TLS = "TLS handshake failed"
    CERTIFICATE_EXPIRED = "the server's certificate has expired, or is not valid yet"
    CERTIFICATE_UNTRUSTED = "the server's certificate is signed by nobody we trust"
    CERTIFICATE_OF_ANOTHER = "the server's certificate is for another host"
    OURS_REFUSED = "the server does not take our certificate, or wants one and got none"
    NOT_TLS = "the server does not speak TLS there"
    LOST = "connection lost"
    TIMEOUT = "timeout while waiting for the answer"
    BROKEN = "answer broken off"


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer, as far as we look at it."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    location: str | None = field(default=None, repr=False)
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class FieldError:
    """One of the errors in an answer.

    Attributes:
        code: A message key such as `error-invalid-email`, a realm's own words, or an English sentence.
        field: The user field it speaks about, as Keycloak calls it, or "".
    """

    code: str
    field: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Keycloak's explanation of a refusal.

    Attributes:
        errors: What is wrong, at least one.
        text: The longer description, or "".
    """

    errors: tuple[FieldError, ...]
    text: str = ""

    @property
    def code(self) -> str:
        """The first text that names the problem."""
        return self.errors[0].code


def is_starting(answer: Answer) -> bool:
    """Whether Keycloak itself says that it is starting: on every path, in these words (26.7.4).

    The `Retry-After` of that answer is a guess, not a wish to be left alone.
    """
    return answer.status == 503 and answer.body.startswith(b"Bootstrap in progress")


def parse_json(body: bytes) -> Any:
    """Return the JSON value in `body`, or None if it holds none (HTML, broken off, empty)."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def parse_problem(body: bytes) -> Problem | None:
    """Read Keycloak's explanation in any of its three shapes; None if this is none of them.

    Shapes: `{"errorMessage", "field", "params"}`, `{"error", "error_description"}`, and a list of the first kind under
    `errors` when several fields are wrong (seen with 26.7.4, the list in no order). `params` may hold the user's values
    and is not read.
    """
    match parse_json(body):
        case {"errors": list(several)}:
            errors = tuple(error for each in several if (error := _field_error(each)) is not None)
            return Problem(errors=errors) if errors else None
        case {"error": str(code), **rest}:
            text = rest.get("error_description")
            return Problem(errors=(FieldError(code),), text=text if isinstance(text, str) else "")
        case one:
            error = _field_error(one)
            return None if error is None else Problem(errors=(error,))


def _field_error(value: Any) -> FieldError | None:
    match value:
        case {"errorMessage": str(code), **rest}:
            field = rest.get("field")
            return FieldError(code, field if isinstance(field, str) else "")
    return None


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """Read a `Retry-After` header (RFC 9110, 10.2.3): seconds, or a date.

    Args:
        value: The header, or None if there was none.
        now: The present time (UTC), for a date.

    Returns:
        Seconds from now, at least 0 and at most `LONGEST_PAUSE_SECONDS`; None if there is no readable value.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_PAUSE_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), LONGEST_PAUSE_SECONDS)
