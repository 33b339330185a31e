"""Who watches the calls is told of each: what it was for, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import pytest

from consumer.circuit.limiter import Call, Ending
from consumer.delivery.answer import Operation
from consumer.delivery.errors import CallFailed, LeaseTooShort
from tests.unit.delivery.local_server import Request
from tests.unit.delivery.scripted_keycloak import USERS, Script, scripted

FIND = f"GET {USERS}"
READ = f"GET {USERS}/0b5c"
UPDATE = f"PUT {USERS}/0b5c"
ALICE = {"id": "0b5c", "username": "alice"}


@dataclass
class Watch:
    begun: int = 0
    under_way: int = 0
    learned: list[tuple[Operation, Ending]] = field(default_factory=list)

    def begin(self) -> Call:
        self.begun += 1
        self.under_way += 1
        return Call(0.0, self.under_way, self.begun, 0)

    def gone(self) -> None:
        self.under_way -= 1

    def learn(self, call: Call, kind: Operation, ending: Ending) -> None:
        assert call.turn == self.begun, "the call that is under way"
        self.learned.append((kind, ending))


def nothing() -> None:
    pass


def refuse() -> None:
    raise LeaseTooShort


async def update(script: Script, *, timeout_seconds: float = 5.0) -> Watch:
    watch = Watch()
    async with scripted(script, timeout_seconds=timeout_seconds) as (keycloak, _):
        users = keycloak.users("shop")
        with keycloak.calls(nothing):
            # Asked once a minute: it would be a call of its own.
            await users.naming.of_users("0b5c")
        with keycloak.calls(nothing, watch), contextlib.suppress(CallFailed):
            await users.update("0b5c", {"firstName": "Ada"})
    assert watch.under_way == 0
    return watch


@pytest.mark.parametrize(
    ("status", "body", "headers", "ending"),
    [
        (204, None, None, Ending.SERVED),
        (404, {"error": "User not found"}, None, Ending.ANSWERED),
        (409, {"errorMessage": "User exists with same email"}, None, Ending.ANSWERED),
        (403, {"error": "HTTP 403 Forbidden"}, None, Ending.ANSWERED),
        (429, None, {"Retry-After": "1"}, Ending.TURNED_AWAY),
        (503, None, None, Ending.TURNED_AWAY),
        (500, {"error": "unknown_error"}, None, Ending.FAILED),
    ],
)
async def test_each_answer_has_an_ending(
    status: int, body: object, headers: dict[str, str] | None, ending: Ending
) -> None:
    watch = await update(Script().on(UPDATE, status, body, headers=headers))

    assert watch.learned == [(Operation.UPDATE, ending)]
    assert watch.begun == 1


async def test_no_answer_in_time_is_a_call_that_timed_out() -> None:
    async def hang(_request: Request, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2)

    watch = await update(Script().does(UPDATE, hang), timeout_seconds=0.2)

    assert watch.learned == [(Operation.UPDATE, Ending.TIMED_OUT)]


async def test_a_lost_connection_says_nothing_of_how_many_there_are() -> None:
    async def hang_up(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.close()

    watch = await update(Script().does(UPDATE, hang_up))

    assert watch.learned == [(Operation.UPDATE, Ending.FAILED)]


async def test_each_call_of_a_turn_is_told_of_and_tokens_and_control_calls_are_not() -> None:
    script = Script().on(FIND, 200, [ALICE]).on(READ, 200, ALICE)
    watch = Watch()
    async with scripted(script) as (keycloak, _):
        with keycloak.calls(nothing, watch):
            await keycloak.users("shop").find("alice")
            await keycloak.users("shop").read("0b5c")
        await keycloak.control_call("shop")

    assert watch.learned == [(Operation.FIND, Ending.SERVED), (Operation.READ, Ending.SERVED)]
    assert watch.begun == 2
    assert script.tokens == 1


async def test_a_call_that_may_not_leave_is_not_told_of() -> None:
    watch = Watch()
    async with scripted(Script().on(UPDATE, 204)) as (keycloak, _):
        with keycloak.calls(refuse, watch), pytest.raises(LeaseTooShort):
            await keycloak.users("shop").update("0b5c", {})

    assert (watch.begun, watch.learned) == (0, [])


async def test_a_cancelled_call_is_not_under_way_any_more() -> None:
    asked = asyncio.Event()

    async def hang(_request: Request, _writer: asyncio.StreamWriter) -> None:
        asked.set()
        await asyncio.sleep(2)

    watch = Watch()
    async with scripted(Script().does(UPDATE, hang)) as (keycloak, _):
        users = keycloak.users("shop")
        with keycloak.calls(nothing):
            await users.naming.of_users("0b5c")
        with keycloak.calls(nothing, watch):
            call = asyncio.create_task(users.update("0b5c", {}))
            await asked.wait()
            assert watch.under_way == 1
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    assert (watch.under_way, watch.learned) == (0, [])
