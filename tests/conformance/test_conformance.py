from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from compose.native.artifacts import OLDER_KEYCLOAK_VERSION
from compose.native.keycloak import ADMIN, lone_keycloak
from compose.native.stack import Stack
from consumer.delivery.answer import Answer, Operation
from consumer.delivery.classify import classify_answer
from consumer.delivery.outcome import Reason
from tests.conformance import grant_cases, naming_cases, self_service_cases, user_cases
from tests.conformance.case import Case
from tests.conformance.keycloak import CLIENT, POWERLESS, SECRET, FakeRealm, RealRealm, Told, real_realm

each_case = pytest.mark.parametrize(
    "case",
    [*user_cases.CASES, *grant_cases.CASES, *self_service_cases.CASES, *naming_cases.CASES],
    ids=lambda case: case.__name__,
)


@each_case
async def test_the_fake(case: Case) -> None:
    await case(FakeRealm())


@pytest.fixture(scope="module")
async def real(stack: Stack) -> AsyncIterator[RealRealm]:
    e = stack.endpoints
    async with real_realm(e.keycloak_url, e.keycloak_admin_username, e.keycloak_admin_password) as realm:
        yield realm


class TestTheReal:
    @each_case
    async def test_does(self, real: RealRealm, case: Case) -> None:
        await case(real)

    async def test_at_the_door(self, real: RealRealm) -> None:
        await at_the_door(real)


@pytest.fixture(scope="module")
async def older() -> AsyncIterator[RealRealm]:
    with lone_keycloak(OLDER_KEYCLOAK_VERSION) as keycloak:
        password = keycloak.instance.state.secrets["keycloak_admin_password"]
        async with real_realm(keycloak.url, ADMIN, password) as realm:
            yield realm


@pytest.mark.long
class TestAnOlder:
    @each_case
    async def test_does(self, older: RealRealm, case: Case) -> None:
        await case(older)

    async def test_at_the_door(self, older: RealRealm) -> None:
        await at_the_door(older)


def reason_of(operation: Operation, told: Told) -> Reason:
    answer = Answer(status=told.status, body=told.body, content_type=told.content_type)
    return classify_answer(operation, answer, datetime.now(UTC)).reason


async def at_the_door(realm: RealRealm) -> None:
    """What is answered to those who may not come in, and what we take it for."""
    token, find = Operation.TOKEN, Operation.FIND
    powerless = (await realm.ask_token(POWERLESS, SECRET)).json()["access_token"]
    met = [
        (token, await realm.ask_token(CLIENT, "wrong"), Reason.CREDENTIALS_REFUSED),
        (token, await realm.ask_token("nobody", SECRET), Reason.CREDENTIALS_REFUSED),
        (token, await realm.ask_token(CLIENT, SECRET, realm="no-such-realm"), Reason.REALM_MISSING),
        (token, await realm.ask_token(CLIENT, SECRET, prefix="/auth"), Reason.WRONG_PATH),
        (find, await realm.ask_as(None), Reason.TOKEN_REFUSED),
        (find, await realm.ask_as("Bearer nonsense"), Reason.TOKEN_REFUSED),
        (find, await realm.ask_as(f"Bearer {powerless}"), Reason.FORBIDDEN),
        (find, await realm.ask_elsewhere("/no-such-realm/users"), Reason.REALM_MISSING),
    ]

    assert [reason_of(operation, told) for operation, told, _ in met] == [reason for *_, reason in met]
    # As the simulation says it (tests/simulation/keycloak_link.py).
    assert met[6][1].short == (403, b'{"error":"HTTP 403 Forbidden"}')
    assert {told.content_type for _, told, _ in met} == {"application/json"}
