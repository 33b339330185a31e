"""What others have changed in Keycloak, met, shown, undone and accepted, with everything real."""

from __future__ import annotations

import json
from typing import Any

import httpx

from consumer.outbox.doubt import Doubt
from producer_lib import UserCreate
from tests.integration.delivery.conftest import Observer
from tests.integration.support.bench import Bench
from tests.integration.support.waiting import until

LATE = Doubt(fields={"first_name": ("Late",), "last_name": ("Late",), "enabled": (False,)})


async def test_what_others_have_changed_is_left_shown_undone_and_accepted(bench: Bench) -> None:
    username = f"{bench.name}-ada"
    await bench.started()
    async with bench.producer() as producer:
        await producer.publish(UserCreate(username=username, first_name="Ada", last_name="Lovelace"))
    await until(lambda: bench.settled(1), what="a user delivered", within=60)
    async with httpx.AsyncClient(base_url=bench.endpoints.keycloak_url, timeout=30) as http:
        observer = Observer(bench.endpoints, http)
        user = await observer.user(bench.realm, username)
        assert user is not None
        path = f"/{bench.realm}/users/{user['id']}"
        changes = {"firstName": "Augusta", "lastName": "Late", "enabled": False}
        assert (await observer.call("PUT", path, changes)).status_code == 204

        # As after a call that got no answer five minutes ago.
        bench.change(
            "UPDATE folds SET suspect_since = NOW(6) - INTERVAL 5 MINUTE, suspect_kind = 'timeout', doubt = %s",
            LATE.dump().decode(),
        )
        await until(
            lambda: bench.value("SELECT COUNT(*) FROM folds WHERE drift_at IS NOT NULL"), what="drift"
        )

        async def seen() -> tuple[Any, Any, Any]:
            found = (await observer.call("GET", path)).json()
            return found["firstName"], found["lastName"], found["enabled"]

        assert await seen() == ("Augusta", "Lovelace", False)
        listed = await bench.kcsync("drift")
        as_json = json.loads((await bench.kcsync("drift", "--user", username, "--json")).out)
        undone = await bench.kcsync(
            "drift", "undo", "--user", username, "--field", "enabled", "--why", "asked"
        )
        assert await seen() == ("Augusta", "Lovelace", True)

    accepted = await bench.kcsync("drift", "accept", "--all")
    nothing = await bench.kcsync("drift")
    unknown = await bench.kcsync("drift", "undo", "--user", username)
    no_choice = await bench.kcsync("drift", "undo")

    assert listed.code == 0
    assert "barred: the account is disabled in Keycloak" in listed.out
    assert [each["fields"] for each in as_json["drift"]] == [{"enabled": "barred", "first_name": "changed"}]
    assert (undone.code, undone.out) == (0, "Undone: 1 user\n")
    assert (accepted.code, accepted.out) == (0, "Accepted: 1 user\n")
    assert nothing.out == "Nothing is known that others have changed.\n"
    assert (unknown.code, no_choice.code) == (2, 2)
    assert [row["action"] for row in bench.rows("SELECT action FROM audit ORDER BY audit_id")] == [
        "drift undo",
        "drift accept",
    ]
