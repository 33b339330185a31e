"""Creates of many users in one call.

Deliveries that run `together` have a seat each in a round. One that wants to create a user hands its row in and waits;
one that ends without that gives its seat up. When every seat is decided, the rows leave in one `partialImport`, and each
delivery learns its own result: Keycloak's id, or that it has to go by itself after all.

A round is one turn of the drain, so that beside that call one request of it is under way at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry.trace import get_current_span

from consumer.delivery.errors import CallFailed, GoesAlone
from consumer.delivery.outcome import Blame
from consumer.delivery.transport import CallScope, current_scope
from consumer.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextvars import Context

__all__ = ["LARGEST", "WORTH_IT", "Importer", "Seat", "current_seat", "together"]

LARGEST = 100
"""Users in one call: more made it no faster, and one bad row spoils it for all (measured, docs/decisions/0035)."""

WORTH_IT = 4
"""Fewer users than this are created one by one."""

_SEAT: ContextVar[Seat | None] = ContextVar("kcsync_seat", default=None)


class Importer(Protocol):
    """Imports the users of one realm."""

    async def import_users(self, users: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Create users in one call.

        Returns:
            The ids of those who were created, by username. One who is missing was there already.

        Raises:
            CallFailed: Keycloak has taken none of them, or it is not known which.
        """


_SPOILT = frozenset({400, 409, 500})
"""What Keycloak answers when one row is bad; it has imported nothing then (seen with 26.7.4)."""


@dataclass(slots=True)
class _Row:
    user: Mapping[str, Any] = field(repr=False)
    importer: Importer
    scope: CallScope
    context: Context
    result: asyncio.Future[str]


@dataclass(slots=True)
class _Round:
    undecided: int
    rows: list[_Row] = field(default_factory=list)
    emails: set[str] = field(default_factory=set)
    leaving: asyncio.Task[None] | None = None
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    def decided(self) -> None:
        self.undecided -= 1
        if self.undecided == 0 and self.rows:
            # In the trace, the call is part of the first delivery; each of the others says how many shared it.
            self.leaving = asyncio.create_task(self._leave(), context=self.rows[0].context)

    async def _leave(self) -> None:
        try:
            await self._import(self.rows)
        except asyncio.CancelledError:
            for row in self.rows:
                row.result.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is.
            _tell(self.rows, error)

    async def _import(self, rows: Sequence[_Row]) -> None:
        if len(rows) < WORTH_IT:
            _give(rows, {})
            return
        first = rows[0].scope

        def check() -> None:
            for row in rows:
                row.scope.before_call()

        try:
            with CallScope(check, first.timeout_seconds, first.slots, first.watch):
                made = await rows[0].importer.import_users([row.user for row in rows])
        except CallFailed as failed:
            if not _is_spoilt(failed):
                _tell(rows, failed)
                return
            # One row is bad, and nothing was imported: the others find each other again in the halves.
            half = len(rows) // 2
            await self._import(rows[:half])
            await self._import(rows[half:])
        else:
            _give(rows, made)


def _give(rows: Sequence[_Row], made: Mapping[str, str]) -> None:
    for row in rows:
        if row.result.done():
            continue
        if (user_id := made.get(row.user["username"])) is None:
            row.result.set_exception(GoesAlone())
        else:
            row.result.set_result(user_id)


def _tell(rows: Sequence[_Row], error: BaseException) -> None:
    for row in rows:
        if not row.result.done():
            row.result.set_exception(CallFailed(error.outcome) if isinstance(error, CallFailed) else error)


def _is_spoilt(failed: CallFailed) -> bool:
    failure = failed.outcome.failure
    return failure.status in _SPOILT and failure.blame is not Blame.CONFIGURATION


class Seat:
    """One delivery's place in a round.

    Attributes:
        slots: where all deliveries of the round wait before each of their requests.
    """

    def __init__(self, of_round: _Round) -> None:
        self._round: _Round | None = of_round
        self.slots = of_round.slots

    async def create(self, user: Mapping[str, Any], importer: Importer) -> str:
        """Have a user created with the others; returns Keycloak's id.

        Raises:
            GoesAlone: There is a user of this name, or another row spoilt the call; this one was not created.
            CallFailed: The call came to nothing, for all.
            Exception: What a `before_call` of the round raised; nothing was sent.
        """
        round_, self._round = self._round, None
        email = str(user.get("email") or "").lower()
        if round_ is None:
            raise GoesAlone
        if email and email in round_.emails:
            # Keycloak refuses a call with the same new address twice.
            round_.decided()
            raise GoesAlone
        round_.emails.add(email)
        result: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        row = _Row(user, importer, current_scope(), copy_context(), result)
        round_.rows.append(row)
        round_.decided()
        try:
            return await result
        finally:
            get_current_span().set_attribute("kcsync.users_in_call", len(round_.rows))

    def give_up(self) -> None:
        """Go without the others, if that is still open."""
        round_, self._round = self._round, None
        if round_ is not None:
            round_.decided()


def current_seat() -> Seat | None:
    """The seat of the delivery that runs, if it has one."""
    return _SEAT.get()


async def together(deliveries: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run deliveries to one realm at once, so that their creates leave in one call.

    Raises:
        Exception: What one of them raised, when all have ended.
    """
    round_ = _Round(undecided=len(deliveries))

    async def seated(delivery: Callable[[], Awaitable[None]]) -> None:
        with _in(Seat(round_)):
            await delivery()

    await side_by_side(map(seated, deliveries))


@contextmanager
def _in(seat: Seat) -> Iterator[None]:
    token = _SEAT.set(seat)
    try:
        yield
    finally:
        _SEAT.reset(token)
        seat.give_up()
