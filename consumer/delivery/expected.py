"""A call and the answer that is expected of it; every other answer, and none, is an outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from keycloak import KeycloakConnectionError

from consumer.circuit.limiter import Ending
from consumer.delivery.answer import Operation
from consumer.delivery.classify import classify_answer, classify_silence
from consumer.delivery.connection import answer_of
from consumer.delivery.errors import CallFailed
from consumer.delivery.outcome import Blame, Reason
from consumer.delivery.transport import NoAnswer, current_scope

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from consumer.delivery.outcome import NotDelivered
    from consumer.delivery.transport import Response


async def expected(operation: Operation, status: int, call: Awaitable[Response]) -> Response:
    """Make a call and return its answer if that has the expected status. The scope in force remembers what was written.

    Raises:
        CallFailed: Another answer came, or none.
    """
    try:
        response = await call
    except KeycloakConnectionError as error:
        _raise_origin(operation, error)
    scope = current_scope()
    if response.status_code != status:
        outcome = classify_answer(
            operation,
            answer_of(response),
            datetime.now(UTC),
            lacks_admin_scope=scope.lacks_admin_scope,
        )
        scope.ended(operation, _ending(outcome))
        raise CallFailed(outcome)
    # How long an import takes is a matter of how many users are in it.
    scope.ended(operation, Ending.ANSWERED if operation is Operation.IMPORT else Ending.SERVED)
    if operation.writes:
        scope.wrote = True
    return response


def _raise_origin(operation: Operation, error: KeycloakConnectionError) -> NoReturn:
    # The library turns every exception below it into "Can't connect to server", the drain's and our own too.
    origin = error.__cause__
    if isinstance(origin, NoAnswer):
        outcome = classify_silence(operation, origin.cause)
        current_scope().ended(operation, _ending(outcome))
        raise CallFailed(outcome) from None
    if origin is not None:
        raise origin from None
    raise error


def _ending(outcome: NotDelivered) -> Ending:
    """What an unwanted answer, or none, says about how many calls Keycloak can take."""
    match outcome.reason:
        case Reason.THROTTLED | Reason.UNAVAILABLE:
            return Ending.TURNED_AWAY
        case Reason.TIMEOUT:
            return Ending.TIMED_OUT
    return Ending.FAILED if outcome.failure.blame is Blame.KEYCLOAK else Ending.ANSWERED
