"""A realm at fault on the screen, and gone from it once the realm is well, although no change is delivered there."""

from __future__ import annotations

from producer_lib import UserUpdate
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until


async def test_a_fault_ends_with_the_next_good_control_call(bench: Bench) -> None:
    wrong = await bench.started(KCSYNC_KEYCLOAK_CLIENT_SECRET="not-the-secret")
    await until(lambda: bench.value("SELECT COUNT(*) FROM watermarks") == 3, what="partitions taken")
    async with bench.producer() as producer:
        await producer.publish(UserUpdate(username=f"{bench.name}-nobody", first_name="A"))
    await until(
        lambda: bench.value("SELECT COUNT(*) FROM realms WHERE fault = 'credentials_refused'") == 1,
        what="a realm at fault",
        within=60,
    )
    before = await bench.status()
    await wrong.stop()

    right = await bench.started()
    await until(
        lambda: bench.value("SELECT COUNT(*) FROM realms WHERE fault IS NOT NULL") == 0,
        what="the end of the fault",
        within=60,
    )
    after = await bench.status()

    assert (before["exit_code"], before["connection"]["mode"]) == (3, "DEGRADED")
    # Nor will it ever be: the user is not there.
    assert "DELIVERED" not in bench.counts()
    assert (after["connection"]["realm_faults"], after["connection"]["mode"]) == ([], "NORMAL")
    assert f"Realm {bench.realm}: configuration is well again" in right.said
