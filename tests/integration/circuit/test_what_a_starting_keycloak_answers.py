"""The question of an open circuit on a real Keycloak that is killed and started again."""

from __future__ import annotations

import asyncio

from consumer.delivery.keycloak import Keycloak
from consumer.delivery.presence import Presence, Sighting
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until


async def test_it_is_away_until_it_is_there_and_then_takes_control_calls(bench: Bench) -> None:
    """All that Keycloak itself says meanwhile is understood: no 503 of its own is left unclear."""
    endpoints = bench.endpoints
    keycloak = Keycloak(
        url=endpoints.keycloak_url,
        realms=[endpoints.realm],
        client_id=endpoints.client_id,
        client_secret=endpoints.client_secret,
    )
    seen: list[Sighting] = []

    async def there() -> bool:
        seen.append(await keycloak.look(endpoints.realm))
        return seen[-1].presence is Presence.THERE

    async def well() -> bool:
        return (await keycloak.control_call(endpoints.realm)).ok

    try:
        assert await there()
        await asyncio.to_thread(bench.stack.keycloak.kill)
        assert not await there()
        assert seen[-1] == Sighting(presence=Presence.AWAY, said="connection refused")

        starting = asyncio.create_task(asyncio.to_thread(bench.stack.keycloak.start))
        try:
            await until(there, what="its document", within=180)
            # On a machine that is busy its first answers may take longer than a control call may.
            await until(well, what="a control call that succeeds", within=30)
        finally:
            await starting
    finally:
        await keycloak.aclose()
    assert {each.said for each in seen} <= {
        "Keycloak is there",
        "connection refused",
        "connection lost",
        "Keycloak is starting",
        "timeout while waiting for the answer",
    }
    assert any(each.said == "Keycloak is starting" for each in seen)
