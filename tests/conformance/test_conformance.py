from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from compose.native.artifacts import OLDER_KEYCLOAK_VERSIONS
from compose.native.keycloak import ADMIN, lone_keycloak
from compose.native.stack import Stack
from tests.conformance import grant_cases, naming_cases, self_service_cases, server_cases, user_cases
from tests.conformance.case import Case
from tests.conformance.keycloak import FakeRealm, RealRealm, real_realm
from tests.conformance.page import BELIEFS, DIFFERS
from tests.conformance.server_cases import RealCase

each_case = pytest.mark.parametrize(
    "case",
    [*user_cases.CASES, *grant_cases.CASES, *self_service_cases.CASES, *naming_cases.CASES],
    ids=lambda case: case.__name__,
)

each_case_of_servers = pytest.mark.parametrize("case", server_cases.CASES, ids=lambda case: case.__name__)


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

    @each_case_of_servers
    async def test_does_as_a_server(self, real: RealRealm, case: RealCase) -> None:
        await case(real)


@pytest.fixture(scope="module", params=OLDER_KEYCLOAK_VERSIONS)
async def older(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, RealRealm]]:
    with lone_keycloak(request.param) as keycloak:
        password = keycloak.instance.state.secrets["keycloak_admin_password"]
        async with real_realm(keycloak.url, ADMIN, password) as realm:
            yield request.param, realm


@pytest.mark.long
class TestAnOlder:
    @pytest.mark.parametrize(
        "case", [case for cases in BELIEFS.values() for case in cases], ids=lambda case: case.__name__
    )
    async def test_does_but_for_what_is_known_to_differ(
        self, older: tuple[str, RealRealm], case: RealCase
    ) -> None:
        version, realm = older
        differs = version in DIFFERS.get(case.__name__, {})
        with pytest.raises((AssertionError, TimeoutError)) if differs else contextlib.nullcontext():
            await case(realm)
