from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from consumer.delivery.errors import CallFailed, GoesAlone, LeaseTooShort
from consumer.delivery.outcome import Blame, Defer, Failure, Reason, Retry
from consumer.delivery.together import WORTH_IT, current_seat, together
from consumer.delivery.transport import CallScope, current_scope

SPOILT = CallFailed(Retry(reason=Reason.CONFLICT, failure=Failure(blame=Blame.USER, status=409)))
TIMEOUT = CallFailed(Retry(reason=Reason.TIMEOUT, failure=Failure(blame=Blame.KEYCLOAK, ambiguous=True)))
FORBIDDEN = CallFailed(
    Defer(reason=Reason.CREDENTIALS_REFUSED, failure=Failure(blame=Blame.CONFIGURATION, status=401))
)


def nothing() -> None:
    pass


class Importer:
    """Imports everybody but those who are there, and refuses calls with a bad one among them."""

    def __init__(
        self, *, there: Sequence[str] = (), bad: Sequence[str] = (), error: CallFailed | None = None
    ) -> None:
        self.there, self.bad, self.error = there, bad, error
        self.calls: list[list[str]] = []

    async def import_users(self, users: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        current_scope().before_call()
        names = [user["username"] for user in users]
        self.calls.append(names)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if any(name in self.bad for name in names):
            raise SPOILT
        return {name: f"id of {name}" for name in names if name not in self.there}


class Round:
    """Deliveries that run together; what each of them learned: an id, an error, or None if it is to go alone."""

    def __init__(self, importer: Importer) -> None:
        self.importer = importer
        self.learned: dict[str, object] = {}

    async def create(self, name: str, *, email: str | None = None, check: Any = nothing) -> None:
        with CallScope(check, 5.0, asyncio.Semaphore(4)):
            seat = current_seat()
            assert seat is not None
            user = {"username": name} if email is None else {"username": name, "email": email}
            try:
                self.learned[name] = await seat.create(user, self.importer)
            except GoesAlone:
                self.learned[name] = None
            except (CallFailed, LeaseTooShort) as error:
                self.learned[name] = error

    async def of(self, *names: str) -> dict[str, object]:
        async with asyncio.timeout(5):
            await together([partial(self.create, name) for name in names])
        return self.learned


NAMES = [f"user-{number}" for number in range(8)]


async def test_all_leave_in_one_call_and_each_learns_its_own_id() -> None:
    importer = Importer(there=["user-3"])

    learned = await Round(importer).of(*NAMES)

    assert importer.calls == [NAMES]
    assert learned == {name: None if name == "user-3" else f"id of {name}" for name in NAMES}


async def test_one_that_wants_nothing_is_not_waited_for() -> None:
    importer = Importer()
    round_ = Round(importer)

    async def other() -> None:
        await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await together([other, *(partial(round_.create, name) for name in NAMES)])

    assert importer.calls == [NAMES]


async def test_one_that_breaks_keeps_nobody_waiting_and_is_told_of() -> None:
    importer = Importer()
    round_ = Round(importer)

    async def broken() -> None:
        raise ZeroDivisionError

    async with asyncio.timeout(5):
        with pytest.raises(ZeroDivisionError):
            await together([*(partial(round_.create, name) for name in NAMES), broken])

    assert importer.calls == [NAMES]
    assert len(round_.learned) == len(NAMES)


async def test_few_go_by_themselves() -> None:
    importer = Importer()

    learned = await Round(importer).of(*NAMES[: WORTH_IT - 1])

    assert importer.calls == []
    assert set(learned.values()) == {None}


async def test_a_spoilt_call_is_halved_until_the_bad_one_is_among_few() -> None:
    names = [f"user-{number}" for number in range(32)]
    importer = Importer(bad=["user-5"])

    learned = await Round(importer).of(*names)

    alone = [name for name, of in learned.items() if of is None]
    assert "user-5" in alone
    assert len(alone) < WORTH_IT + 1
    assert all(learned[name] == f"id of {name}" for name in names if name not in alone)


async def test_the_same_address_twice_does_not_spoil_the_call() -> None:
    importer = Importer()
    round_ = Round(importer)

    async with asyncio.timeout(5):
        await together(
            [
                partial(round_.create, name, email="A@example.org" if number else "a@example.org")
                for number, name in enumerate(NAMES[:2])
            ]
            + [partial(round_.create, name) for name in NAMES[2:]]
        )

    assert importer.calls == [[NAMES[0], *NAMES[2:]]]
    assert round_.learned[NAMES[1]] is None


@pytest.mark.parametrize(
    "error", [pytest.param(TIMEOUT, id="timeout"), pytest.param(FORBIDDEN, id="token refused")]
)
async def test_a_call_without_an_answer_is_nobodys_success(error: CallFailed) -> None:
    importer = Importer(error=error)

    learned = await Round(importer).of(*NAMES)

    assert len(importer.calls) == 1
    for of in learned.values():
        assert isinstance(of, CallFailed)
        assert of.outcome == error.outcome


async def test_one_lease_that_ends_too_soon_stops_the_call_for_all() -> None:
    importer = Importer()
    round_ = Round(importer)

    def too_short() -> None:
        raise LeaseTooShort

    async with asyncio.timeout(5):
        await together(
            [partial(round_.create, name, check=too_short if name == "user-4" else nothing) for name in NAMES]
        )

    assert importer.calls == []
    assert all(isinstance(of, LeaseTooShort) for of in round_.learned.values())


async def test_nobody_has_a_seat_by_itself() -> None:
    assert current_seat() is None
