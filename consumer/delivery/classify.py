"""What does an answer, or its absence, mean?

One pure table for every call. The rules come from the measured behaviour of Keycloak's Admin API (research on the
Admin API, section 6), corrected by the design, 3.3 and 3.4. A handler may know better about a single answer (a
missing user is no trouble for a delete); everything else follows this table.

What is recognisably not Keycloak's own word (a page, a redirect, a done that is none of its own) never speaks about a
user: a proxy, a gateway or a wrong address has answered.

Ambiguous means: a write may have taken effect. A definite 4xx did not. 5xx and lost answers may have. A 503 with
`Retry-After` and a 429 were turned away at the door; a 503 without it may also be a proxy that lost the connection
to Keycloak after it had passed the request on. A Keycloak that is starting has done nothing, and its `Retry-After` is a
guess that the circuit knows better.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from consumer.delivery.answer import (
    Answer,
    FieldError,
    Operation,
    Problem,
    TransportCause,
    is_starting,
    parse_json,
    parse_problem,
    retry_after_seconds,
)
from consumer.delivery.federation import said_of_a_provider
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Failure, NotDelivered, Reason, Retry
from consumer.delivery.redact import scrub

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_Type = type[Retry] | type[Defer] | type[DeadLetter]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row of the table.

    Attributes:
        outcome: The type of outcome.
        reason: Its reason code.
        blame: Whom it speaks about.
        doubt: Whether a write may have taken effect.
        advice: What to do about it, where Keycloak's words do not say.
    """

    outcome: _Type
    reason: Reason
    blame: Blame
    doubt: bool = False
    advice: str = ""


def _user(outcome: _Type, reason: Reason, advice: str = "") -> Verdict:
    return Verdict(outcome, reason, Blame.USER, advice=advice)


def _setup(reason: Reason, *, doubt: bool = False) -> Verdict:
    return Verdict(Defer, reason, Blame.CONFIGURATION, doubt)


_CONNECTION_FAILED = Verdict(Retry, Reason.CONNECTION_FAILED, Blame.KEYCLOAK)
_CONNECTION_LOST = Verdict(Retry, Reason.CONNECTION_LOST, Blame.KEYCLOAK, doubt=True)
_TIMEOUT = Verdict(Retry, Reason.TIMEOUT, Blame.KEYCLOAK, doubt=True)
_BAD_GATEWAY = Verdict(Retry, Reason.BAD_GATEWAY, Blame.KEYCLOAK, doubt=True)
_SERVER_ERROR = Verdict(Retry, Reason.SERVER_ERROR, Blame.KEYCLOAK, doubt=True)
_STARTING = Verdict(Defer, Reason.STARTING, Blame.KEYCLOAK)
_UNEXPLAINED = Verdict(Retry, Reason.UNEXPLAINED_REFUSAL, Blame.UNCLEAR)
_SLOW = Verdict(Retry, Reason.TIMEOUT, Blame.UNCLEAR, doubt=True)
_MAY_TAKE_LONG = frozenset({Operation.DELETE, Operation.END_SESSIONS})
"""With many sessions or clients these take tens of seconds in a Keycloak that is well otherwise."""
_DOORS = frozenset({401, 403, 407})
_OAUTH_REFUSALS = frozenset({400, 401, 403})
"""RFC 6749, 5.2; 403 is Keycloak's own."""
_LACKS_SCOPE = Verdict(
    Defer,
    Reason.ADMIN_SCOPE_MISSING,
    Blame.CONFIGURATION,
    advice="the realm has the client scope kc-admin-api, and the token of our client did not get it",
)
_GARBLED = Verdict(Defer, Reason.GARBLED_ANSWER, Blame.KEYCLOAK)
_READ_ONLY = _user(
    DeadLetter,
    Reason.USER_READ_ONLY,
    "the user comes from a user federation that Keycloak may not write: change the user there, or set its edit mode to "
    "WRITABLE or UNSYNCED; of one that is READ_ONLY, enabled, email_verified, required_actions, groups and roles can be "
    "changed, but no name, address, attribute or password",
)

NO_ANSWER: dict[TransportCause, Verdict] = {
    TransportCause.REFUSED: _CONNECTION_FAILED,
    TransportCause.UNRESOLVED: _CONNECTION_FAILED,
    TransportCause.CONNECT_TIMEOUT: _CONNECTION_FAILED,
    TransportCause.TLS: _setup(Reason.TLS_FAILED),
    TransportCause.CERTIFICATE_EXPIRED: _setup(Reason.CERTIFICATE_EXPIRED),
    TransportCause.CERTIFICATE_UNTRUSTED: _setup(Reason.CERTIFICATE_UNTRUSTED),
    TransportCause.CERTIFICATE_OF_ANOTHER: _setup(Reason.CERTIFICATE_OF_ANOTHER),
    TransportCause.OURS_REFUSED: _setup(Reason.CLIENT_CERTIFICATE_REFUSED),
    TransportCause.NOT_TLS: _setup(Reason.TLS_FAILED),
    TransportCause.LOST: _CONNECTION_LOST,
    TransportCause.TIMEOUT: _TIMEOUT,
    TransportCause.BROKEN: _CONNECTION_LOST,
}

BY_STATUS: dict[int, Verdict] = {
    408: _TIMEOUT,
    429: Verdict(Defer, Reason.THROTTLED, Blame.KEYCLOAK),
    502: _BAD_GATEWAY,
    504: _BAD_GATEWAY,
    503: Verdict(Defer, Reason.UNAVAILABLE, Blame.KEYCLOAK, doubt=True),
}

BARRED: dict[int, Verdict] = {
    # In Keycloak's own words; a gateway's 401 or 403 has others.
    401: _setup(Reason.TOKEN_REFUSED),
    403: _setup(Reason.FORBIDDEN),
}

NO_SUCH_REALM: dict[str, Verdict] = {
    "Realm not found.": _setup(Reason.REALM_MISSING),
    "Realm does not exist": _setup(Reason.REALM_MISSING),
    # Keycloak has no such address at all: a path prefix too much or too few.
    "Unable to find matching target resource method": _setup(Reason.WRONG_PATH),
}

NO_SUCH_USER = "User not found"

MISSING: dict[str, Verdict] = {
    NO_SUCH_USER: _user(DeadLetter, Reason.USER_MISSING),
    "Group not found": _user(Retry, Reason.GROUP_MISSING),
    "Group path does not exist": _user(Retry, Reason.GROUP_MISSING),
    "Role not found": _user(Retry, Reason.ROLE_MISSING),
    "Could not find role": _user(Retry, Reason.ROLE_MISSING),
    **NO_SUCH_REALM,
}

CONFLICTS: dict[str, Verdict] = {
    "User exists with same username": _user(Retry, Reason.USERNAME_IN_USE),
    "User exists with same email": _user(Retry, Reason.EMAIL_IN_USE),
}

_INVALID = _user(DeadLetter, Reason.INVALID_DATA)
_ATTRIBUTE_READ_ONLY = _user(
    DeadLetter,
    Reason.ATTRIBUTE_READ_ONLY,
    "let admin edit it in the realm's user profile, or in the mapper of the federation the user comes from; or name it "
    "in no event",
)
_ORGANIZATION_GROUP = _user(
    DeadLetter,
    Reason.GROUP_MISSING,
    "it is a group of an organization, which nobody joins by the users' API: name a group of the realm",
)

REFUSALS: dict[str, Verdict] = {
    "invalidPasswordHistoryMessage": _user(DeadLetter, Reason.PASSWORD_HISTORY),
    "Empty password not allowed": _user(DeadLetter, Reason.PASSWORD_POLICY),
    "No password provided": _user(DeadLetter, Reason.PASSWORD_POLICY),
    # A federated user's refusals come in as many words as there are layers below the Admin API (read in 26.7.4).
    "User is read only!": _READ_ONLY,
    "readOnlyUserMessage": _READ_ONLY,
    "Can't reset password as account is read only": _READ_ONLY,
    "Federated storage is not writable": _READ_ONLY,
    "user is read only for this update": _READ_ONLY,
    "error-user-attribute-read-only": _ATTRIBUTE_READ_ONLY,
    # Names that Keycloak keeps for itself, such as LDAP_ID and createTimestamp, in any case of letters.
    "updateReadOnlyAttributesRejectedMessage": _ATTRIBUTE_READ_ONLY,
    "User name is missing": _user(
        DeadLetter,
        Reason.INVALID_DATA,
        "in this realm the e-mail address is the username, and cannot be empty",
    ),
}

REFUSAL_PREFIXES: tuple[tuple[str, Verdict], ...] = (
    # What a directory does not take from Keycloak's account there (seen with 26.7.4); the DN of the user follows.
    ("Could not modify attribute for DN [", _user(Retry, Reason.DIRECTORY_REFUSED)),
    # "... Not possible to write 'x' when updating user 'y'."
    ("The user is read-only.", _READ_ONLY),
    # Keycloak's password policies name their message invalidPassword<Policy>Message.
    ("invalidPassword", _user(DeadLetter, Reason.PASSWORD_POLICY)),
    # Its user profile validators name theirs error-<rule>.
    ("error-", _INVALID),
    # A group of an organization: "Cannot access ..." to join or leave, "Cannot manage ..." to read (seen with 26.7.4).
    ("Cannot access organization related group", _ORGANIZATION_GROUP),
    ("Cannot manage organization related group", _ORGANIZATION_GROUP),
)


TOKEN_REFUSALS: dict[str, Verdict] = {
    "Realm not enabled": _setup(Reason.REALM_DISABLED),
}

MAY_BE_THE_USERS = frozenset({Reason.TOKEN_REFUSED, Reason.FORBIDDEN, Reason.UNEXPECTED_ANSWER})
"""Of the reasons that blame the configuration: those that Keycloak itself may give for one user alone."""

_ABOUT_FIELDS = frozenset({Reason.INVALID_DATA, Reason.ATTRIBUTE_READ_ONLY})


def classify_answer(
    operation: Operation, answer: Answer, now: datetime, *, lacks_admin_scope: bool = False
) -> NotDelivered:
    """Say what an answer other than the expected one means.

    Args:
        operation: The call that was made.
        answer: What came back.
        now: The present time (UTC), for a `Retry-After` that is a date.
        lacks_admin_scope: Whether the realm has a scope for the Admin API that our fresh token has not got.

    Returns:
        The outcome, its failure's detail free of the user's values as far as they can be recognised by their form.
    """
    problem = parse_problem(answer.body)
    verdict = _token_verdict(answer, problem) if operation is Operation.TOKEN else _verdict(answer, problem)
    if verdict.reason is Reason.TOKEN_REFUSED and lacks_admin_scope:
        # The answer names no cause; Keycloak 26.8.2 and newer refuse such a token.
        verdict = _LACKS_SCOPE
    asked = verdict.outcome is Defer and verdict is not _STARTING
    pause = retry_after_seconds(answer.retry_after, now) if asked else None
    turned_away = answer.status == 503 and pause is not None
    failure = Failure(
        blame=verdict.blame,
        status=answer.status,
        ambiguous=operation.writes and verdict.doubt and not turned_away,
        own_words=problem is not None,
        fields=() if problem is None else tuple(error.field for error in problem.errors if error.field),
        detail=_describe(operation, answer, problem) + _beside(verdict, problem),
    )
    return _outcome(verdict, failure, pause)


def classify_silence(operation: Operation, cause: TransportCause) -> NotDelivered:
    """Say what it means that no answer came."""
    slow = cause is TransportCause.TIMEOUT and operation in _MAY_TAKE_LONG
    verdict = _SLOW if slow else NO_ANSWER[cause]
    failure = Failure(
        blame=verdict.blame,
        ambiguous=operation.writes and verdict.doubt,
        detail=f"{operation}: {cause}",
    )
    return _outcome(verdict, failure, None)


def unreadable_answer(operation: Operation, answer: Answer) -> NotDelivered:
    """Say what it means that the expected status came with a body that is not what belongs there."""
    verdict = _foreign(answer)
    failure = Failure(
        blame=verdict.blame, status=answer.status, detail=_describe(operation, answer, problem=None)
    )
    return _outcome(verdict, failure, None)


def spare_the_event(refused: NotDelivered, is_written: Callable[[str], bool]) -> NotDelivered:
    """Tell a field that an event writes from one that it does not.

    Keycloak holds the whole stored profile against the realm's rules at every update, also at one that only disables
    the user (seen with 26.7.4). A field that the event does not write is not the event's fault, and a repair ends it.

    Args:
        refused: What an update came to.
        is_written: Whether the event writes a field, by Keycloak's name of it.
    """
    fields = refused.failure.fields
    if refused.reason not in _ABOUT_FIELDS or not fields or any(map(is_written, fields)):
        return refused
    names = ", ".join(scrub(field) for field in fields)
    detail = f"the user's stored profile breaks the realm's, in what the event does not write ({names})"
    failure = replace(refused.failure, detail=f"{refused.failure.detail}; {detail}")
    return Defer(reason=Reason.PROFILE_BROKEN, failure=failure)


def may_be_its_content(outcome: NotDelivered) -> bool:
    """Whether Keycloak may have broken on what the change holds: a MariaDB behind it stores no text beyond the basic plane.

    A create of it is a 500, an update of it a 400 without an explanation (seen with 26.7.4); Keycloak's PostgreSQL takes it.
    """
    return outcome.failure.own_words and (
        outcome.reason is Reason.UNEXPLAINED_REFUSAL
        or (outcome.reason is Reason.SERVER_ERROR and outcome.failure.status == 500)
    )


def refused_for_its_content(outcome: NotDelivered) -> DeadLetter:
    """Say of a change with `beyond_plane` that Keycloak refused it for that, because it took what others wrote."""
    places = ", ".join(outcome.failure.beyond_plane)
    detail = (
        f"{outcome.failure.detail}; the database behind Keycloak does not store characters beyond Unicode's basic plane "
        f"(U+10000 and above, such as emoji): {places}"
    )
    failure = replace(outcome.failure, blame=Blame.USER, ambiguous=False, detail=detail)
    return DeadLetter(reason=Reason.INVALID_DATA, failure=failure)


def refuses_writes(outcome: NotDelivered) -> NotDelivered:
    """Say what it means that Keycloak refused a write that stands for no user: its database refuses all of them."""
    if not outcome.failure.own_words or outcome.failure.blame not in {Blame.KEYCLOAK, Blame.UNCLEAR}:
        return outcome
    detail = f"Keycloak refuses every write: its database looks read-only or full ({outcome.failure.detail})"
    failure = replace(outcome.failure, blame=Blame.KEYCLOAK, ambiguous=False, detail=detail)
    return Defer(reason=Reason.WRITES_REFUSED, failure=failure)


def _outcome(verdict: Verdict, failure: Failure, pause: float | None) -> NotDelivered:
    if verdict.outcome is Defer:
        return Defer(reason=verdict.reason, failure=failure, not_before_seconds=pause)
    if verdict.outcome is Retry:
        return Retry(reason=verdict.reason, failure=failure)
    return DeadLetter(reason=verdict.reason, failure=failure)


def _verdict(answer: Answer, problem: Problem | None) -> Verdict:
    status = answer.status
    if (known := _STARTING if is_starting(answer) else BY_STATUS.get(status)) is not None:
        return known
    if status >= 500:
        return _SERVER_ERROR
    if status < 300:
        # Somebody said "done" in words that are not Keycloak's: it may be done.
        page = answer.body and parse_json(answer.body) is None
        return _setup(Reason.NOT_KEYCLOAK if page else Reason.UNEXPECTED_SUCCESS, doubt=True)
    if status < 400:
        return _setup(Reason.REDIRECTED)
    if problem is None:
        return _setup(Reason.GATEWAY_REFUSED) if status in _DOORS else _foreign(answer)
    if (barred := BARRED.get(status)) is not None:
        return barred
    if status == 404:
        return MISSING.get(problem.code, _setup(Reason.UNEXPECTED_ANSWER))
    if status == 409:
        return CONFLICTS.get(problem.code, _user(Retry, Reason.CONFLICT))
    if status == 400:
        # Of several errors one that no repetition mends decides; all of them are told.
        verdicts = [_refusal(error) for error in problem.errors]
        return next((each for each in verdicts if each.outcome is DeadLetter), verdicts[0])
    return _setup(Reason.UNEXPECTED_ANSWER)


def _refusal(error: FieldError) -> Verdict:
    if (known := REFUSALS.get(error.code)) is not None:
        return known
    if (said := said_of_a_provider(error.code)) is not None:
        return Verdict(Defer, said[1], Blame.FEDERATION)
    for prefix, verdict in REFUSAL_PREFIXES:
        if error.code.startswith(prefix):
            return verdict
    if error.field:
        # A rule of the realm's user profile, in the realm's own words.
        return _INVALID
    # "Could not update user!", "Could not create user": one user's, or a database that is read-only, full or deadlocked.
    return _UNEXPLAINED


def _token_verdict(answer: Answer, problem: Problem | None) -> Verdict:
    """What the token endpoint says never speaks about a user."""
    if problem is None or answer.status in BY_STATUS or not 400 <= answer.status < 500:
        return _verdict(answer, problem)
    if answer.status == 404:
        return NO_SUCH_REALM.get(problem.code, _setup(Reason.WRONG_PATH))
    if answer.status in _OAUTH_REFUSALS:
        return TOKEN_REFUSALS.get(problem.text, _setup(Reason.CREDENTIALS_REFUSED))
    return _setup(Reason.NOT_KEYCLOAK)


def _foreign(answer: Answer) -> Verdict:
    """What is not Keycloak's: broken off on its way, or somebody else's."""
    announced = "json" in (answer.content_type or "")
    return _GARBLED if announced and parse_json(answer.body) is None else _setup(Reason.NOT_KEYCLOAK)


def _describe(operation: Operation, answer: Answer, problem: Problem | None) -> str:
    said = f"{operation}: HTTP {answer.status}"
    if 300 <= answer.status < 400:
        return f"{said} to {_origin(answer.location)}"
    if problem is None:
        kind = answer.content_type or "no content type"
        return f"{said}, {len(answer.body)} bytes of {kind}"
    errors = ", ".join(
        scrub(error.code) + (f" (field {scrub(error.field)})" if error.field else "")
        for error in problem.errors
    )
    text = f": {scrub(problem.text)}" if problem.text else ""
    return f"{said} {errors}{text}"


def _beside(verdict: Verdict, problem: Problem | None) -> str:
    """What stands behind Keycloak's words: what to do, or which federation they name; in quotes it would be masked."""
    if verdict.blame is Blame.FEDERATION and problem is not None:
        said = said_of_a_provider(problem.code)
        return "" if said is None else f" (user federation {said[0]})"
    return f"; {verdict.advice}" if verdict.advice else ""


def _origin(location: str | None) -> str:
    """Where a redirect leads, without path and query: those may name people and hold what a login needs."""
    try:
        to = urlsplit(location or "")
        host, port = to.hostname, to.port
    except ValueError:
        return "an unreadable address"
    if not host:
        return "another path of the same server" if location else "nowhere"
    return f"{to.scheme or 'http(s)'}://{host}" + ("" if port is None else f":{port}")
