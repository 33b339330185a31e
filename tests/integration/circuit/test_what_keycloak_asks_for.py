from __future__ import annotations

from tests.integration.support.bench import Bench
from tests.integration.support.keycloak_proxy import keycloak_proxy
from tests.integration.support.waiting import until


async def test_a_retry_after_makes_the_circuit_rest_as_long(bench: Bench) -> None:
    async with keycloak_proxy(bench.endpoints.keycloak_url) as proxy:
        proxy.answer = lambda _: (429, "")
        proxy.headers = {"Retry-After": "200"}
        await bench.started(KCSYNC_KEYCLOAK_URL=proxy.url)
        await until(
            lambda: bench.value("SELECT COUNT(*) FROM circuits WHERE state = 'OPEN'") == 1,
            what="an open circuit",
            within=40,
        )

    rest = bench.value("SELECT TIMESTAMPDIFF(SECOND, changed_at, retry_at) FROM circuits")
    # The last of three failed control calls is a moment old, and jitter adds up to a tenth.
    assert 190 <= rest <= 220
