"""A Keycloak that wants a client scope in the tokens for its Admin API, as 26.8.2 and newer do.

Such a server could not be had: a realm of 26.7.4 is given a scope of that name, and what stands before it answers 401 to
tokens without it, as the javadoc of its migration says.
"""

from __future__ import annotations

import base64
import json

from compose.native.realm import ADMIN_SCOPE, SERVICE_CLIENT, Provisioner
from compose.native.stack import Stack
from consumer.cli.exit_codes import ExitCode
from consumer.outbox.database import Database
from tests.conformance.keycloak import CLIENT, SECRET, real_realm
from tests.integration.support.batches import Writer, update
from tests.integration.support.bench import Bench
from tests.integration.support.keycloak_proxy import Call, Said, keycloak_proxy
from tests.integration.support.waiting import until

REFUSED = Said(401, '{"error":"HTTP 401 Unauthorized"}')


def has_scope(authorization: str) -> bool:
    payload = authorization.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return ADMIN_SCOPE in claims["scope"].split()


def wanting_the_scope(call: Call) -> Said | None:
    return REFUSED if call.path.startswith("/admin/") and not has_scope(call.authorization) else None


async def test_a_token_that_lacks_the_scope_is_said_to_until_it_has_it(
    bench: Bench, database: Database
) -> None:
    e = bench.endpoints
    admin = (e.keycloak_admin_username, e.keycloak_admin_password)
    async with real_realm(e.keycloak_url, *admin) as realm, keycloak_proxy(e.keycloak_url) as proxy:
        proxy.answer = wanting_the_scope
        settings = {
            "KCSYNC_KEYCLOAK_URL": proxy.url,
            "KCSYNC_KEYCLOAK_REALMS": realm.name,
            "KCSYNC_KEYCLOAK_CLIENT_ID": CLIENT,
            "KCSYNC_KEYCLOAK_CLIENT_SECRET": SECRET,
        }
        without = await bench.kcsync("test", **settings)
        scope = await realm.make_scope(ADMIN_SCOPE)
        tested = await bench.kcsync("test", **settings)
        created = {
            **update("e-1", "ada", realm=realm.name),
            "type": "kcsync.user_create.v1",
            "data": {"first_name": "Ada"},
        }
        await (await Writer.take(database)).persist([created])
        consumer = await bench.started("--role", "drain", **settings)
        await until(
            lambda: bench.value("SELECT COUNT(*) FROM realms WHERE fault = 'admin_scope_missing'") == 1,
            what="a realm at fault",
        )
        report = await bench.status(**settings)
        await realm.assign_scope(scope, "optional")
        await until(lambda: bench.settled(1), what="the change, with a token that was asked for", within=90)
        optional = await bench.kcsync("test", **settings)
        await realm.assign_scope(scope, "default")
        default = await bench.kcsync("test", **settings)

    assert "token_refused" in without.out
    assert tested.code == ExitCode.DEGRADED
    assert f"✗ Keycloak available ({realm.name})" in tested.out
    for words in ("admin_scope_missing", "the token of our client did not get it", "as a default scope"):
        assert words in tested.out
    (fault,) = report["connection"]["realm_faults"]
    assert fault["reason"] == "admin_scope_missing"
    assert "assign kc-admin-api to the client" in fault["detail"]
    assert bench.value("SELECT MAX(attempts) FROM entries") == 0
    assert f"✓ Keycloak available ({realm.name})" in optional.out
    assert f"✓ Keycloak available ({realm.name})" in default.out
    assert f"Realm {realm.name}: configuration is well again" in consumer.said


async def test_the_stack_gives_its_clients_the_scope_where_the_realm_has_it(stack: Stack) -> None:
    e = stack.endpoints
    admin = (e.keycloak_admin_username, e.keycloak_admin_password)
    async with real_realm(e.keycloak_url, *admin) as other:
        scopes = f"/{e.realm}/client-scopes"
        made = {
            "name": ADMIN_SCOPE,
            "protocol": "openid-connect",
            "attributes": {"include.in.token.scope": "true"},
        }
        await other.administer("POST", scopes, made)
        (scope,) = [s for s in await other.administer("GET", scopes) if s["name"] == ADMIN_SCOPE]
        try:
            Provisioner(e.keycloak_url, *admin).provide(e.client_secret, e.observer_client_secret)
            token = await other.ask_token(SERVICE_CLIENT, e.client_secret, realm=e.realm)
        finally:
            await other.administer("DELETE", f"{scopes}/{scope['id']}")

    assert ADMIN_SCOPE in token.json()["scope"].split()
