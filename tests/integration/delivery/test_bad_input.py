"""What stands on the way to Keycloak and is not Keycloak: said clearly, and charged to nobody."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from consumer.cli.exit_codes import ExitCode
from consumer.outbox.database import Database
from tests.integration.support.batches import Writer, update
from tests.integration.support.bench import Bench
from tests.integration.support.certificates import Authority
from tests.integration.support.keycloak_proxy import Call, Said, keycloak_proxy
from tests.integration.support.waiting import until
from tests.unit.delivery.local_server import LocalServer, answering, local_server

PAGE = Said(200, "<html>Log in</html>", "text/html")
TOKEN = Said(200, '{"access_token": "t", "expires_in": 300}')
NOT_ALLOWED = Said(403, '{"error": "HTTP 403 Forbidden"}')
NAMELESS = Said(400, '{"errorMessage": "User name is missing"}')


def always(said: Said) -> Callable[[Call], Said]:
    return lambda _: said


def behind_a_token(find: Said, create: Said, others: Said | None = None) -> Callable[[Call], Said]:
    """A realm that gives a token, and then answers so."""

    def answer(call: Call) -> Said:
        if call.path.endswith("/token"):
            return TOKEN
        if call.path.endswith("/users"):
            return find if call.method == "GET" else create
        return others or find

    return answer


def user(call: Call) -> Said:
    """A search that finds whom it looks for."""
    name = re.search(r"username=([^&]*)", call.text)
    found = [{"id": "0b5c", "username": name[1]}] if name and "control" not in name[1] else []
    return Said(200, json.dumps(found))


def only_writes(said: Said) -> Callable[[Call], Said]:
    """A realm in which reading works and everything that writes is answered so."""

    def answer(call: Call) -> Said:
        if call.path.endswith("/token"):
            return TOKEN
        return user(call) if call.method == "GET" else said

    return answer


def only_updates(said: Said) -> Callable[[Call], Said]:
    """A realm in which the control call sees nothing wrong."""

    def answer(call: Call) -> Said:
        if call.method == "POST" and call.path.endswith("/users"):
            return NAMELESS
        return only_writes(said)(call)

    return answer


@dataclass(frozen=True, slots=True)
class Fault:
    """A realm's trouble. `tells` stands in what `test` and `status` say of it."""

    answer: Callable[[Call], Said]
    reason: str
    tells: tuple[str, ...]


FAULTS = {
    "wrong-secret": Fault(
        always(Said(401, '{"error": "unauthorized_client", "error_description": "Invalid client"}')),
        "credentials_refused",
        ("token request: HTTP 401 unauthorized_client", "KCSYNC_KEYCLOAK_CLIENT_SECRET"),
    ),
    "wrong-realm": Fault(
        always(Said(404, '{"error": "Realm does not exist"}')),
        "realm_missing",
        ("HTTP 404 Realm does not exist", "KCSYNC_KEYCLOAK_REALMS"),
    ),
    "disabled-realm": Fault(
        always(Said(403, '{"error": "access_denied", "error_description": "Realm not enabled"}')),
        "realm_disabled",
        ("Realm not enabled", "enable the realm"),
    ),
    "wrong-path": Fault(
        always(Said(404, '{"error": "Unable to find matching target resource method"}')),
        "wrong_path",
        ("token request: HTTP 404", "take the prefix (/auth) away"),
    ),
    "no-role": Fault(
        behind_a_token(NOT_ALLOWED, NOT_ALLOWED), "forbidden", ("control call: HTTP 403", "manage-users")
    ),
    "read-only-role": Fault(
        only_writes(NOT_ALLOWED), "forbidden", ("control call: HTTP 403", "manage-users")
    ),
    "page": Fault(always(PAGE), "not_keycloak", ("HTTP 200, 19 bytes of text/html", "KCSYNC_KEYCLOAK_URL")),
    "done-for-created": Fault(
        only_writes(Said(200, '{"ok": true}')),
        "unexpected_success",
        ("control call: HTTP 200", "changes its answers"),
    ),
    "https": Fault(
        always(Said(301, "", "text/html", {"Location": "https://sso.example.org/realms/x?secret=y"})),
        "redirected",
        ("HTTP 301 to https://sso.example.org;", "set KCSYNC_KEYCLOAK_URL to the address"),
    ),
    "login-page": Fault(
        behind_a_token(
            Said(302, "", "text/html", {"Location": "https://login.example.org/start?next=alice"}), NAMELESS
        ),
        "redirected",
        ("control call: HTTP 302 to https://login.example.org;", "login page"),
    ),
    "gateway": Fault(
        always(Said(401, "<html>Who are you?</html>", "text/html", {"WWW-Authenticate": "Basic"})),
        "gateway_refused",
        ("HTTP 401, 25 bytes of text/html", "a gateway before Keycloak"),
    ),
    "other-json": Fault(
        always(Said(200, '{"status": "up"}')), "not_keycloak", ("HTTP 200", "something else than Keycloak")
    ),
}

UNSEEN = {
    # Refused in a way that only those see who write: no fault of the realm, and no user's either.
    "updates-answered-by-a-page": Fault(
        only_updates(PAGE), "not_keycloak", ("something else than Keycloak",)
    ),
    "updates-redirected": Fault(
        only_updates(Said(302, "", "text/html", {"Location": "/login"})), "redirected", ("login page",)
    ),
    "updates-done-otherwise": Fault(
        only_updates(Said(200, "{}")), "unexpected_success", ("changes its answers",)
    ),
}


FEWEST_TRIES = (
    "SELECT COALESCE(MIN(tries), 0) FROM (SELECT COUNT(attempts.entry_id) AS tries FROM lanes"
    " JOIN entries USING (lane_id) LEFT JOIN attempts USING (entry_id) WHERE realm LIKE %s GROUP BY lane_id) AS lanes"
)


async def persisted(database: Database, *realms: str) -> None:
    for partition, realm in enumerate(realms):
        writer = await Writer.take(database, partition=partition)
        await writer.persist([update(f"{realm}-{n}", f"wire{n}", realm=realm) for n in range(2)])


def untouched(bench: Bench, *, but: str = "") -> list[dict[str, Any]]:
    """Entries, but those of a realm, that did not stay as they were, or that were charged with anything."""
    return bench.rows(
        "SELECT lanes.realm, entries.state, entries.state_reason, entries.attempts FROM entries"
        " JOIN lanes USING (lane_id)"
        " WHERE lanes.realm <> %s AND (entries.state <> 'PENDING' OR entries.attempts > 0)",
        but,
    )


class TestARealm:
    @pytest.mark.long
    async def test_that_is_not_reached_says_why_and_the_others_go_on(
        self, bench: Bench, database: Database
    ) -> None:
        realms = {**FAULTS, **UNSEEN}
        async with keycloak_proxy(bench.endpoints.keycloak_url) as proxy:

            def answer(call: Call) -> Said | None:
                fault = next((f for name, f in realms.items() if f"/realms/{name}/" in call.path), None)
                return None if fault is None else fault.answer(call)

            proxy.answer = answer
            settings = {
                "KCSYNC_KEYCLOAK_URL": proxy.url,
                "KCSYNC_KEYCLOAK_REALMS": ",".join([bench.realm, *realms]),
            }
            await persisted(database, *realms, bench.realm)
            await bench.started("--role", "drain", **settings)
            await until(
                lambda: (
                    bench.value("SELECT COUNT(*) FROM realms WHERE fault IS NOT NULL") >= len(FAULTS)
                    # A failure is charged, if it is, when the entry's turn comes again.
                    and bench.value(FEWEST_TRIES, "updates-%") >= 3
                    and bench.value(FEWEST_TRIES, bench.realm) >= 1
                ),
                what="each fault known, and who is not at fault tried often",
                within=60,
            )
            tested = await bench.kcsync("test", **settings)
            report = await bench.status(**settings)
            screen = await bench.kcsync("status", **settings)

        faults = {each["realm"]: each for each in report["connection"]["realm_faults"]}
        assert {name: each["reason"] for name, each in faults.items()} == {
            name: fault.reason for name, fault in FAULTS.items()
        }
        for name, fault in FAULTS.items():
            (hint,) = re.findall(rf"✗ Keycloak available \({name}\).*\n +→ (.*)", tested.out)
            for words in fault.tells:
                assert words in faults[name]["detail"], name
                assert words in hint, name
                assert words in screen.out, name
            assert proxy.url in hint
        assert f"✓ Keycloak available ({bench.realm})" in tested.out
        assert tested.code == ExitCode.DEGRADED
        waiting = {each["reason"] for each in report["drain"]["waiting_for"]}
        assert {fault.reason for fault in UNSEEN.values()} <= waiting
        assert "secret=y" not in tested.out + screen.out
        assert report["connection"]["circuit_state"] == "CLOSED"
        assert untouched(bench, but=bench.realm) == []
        # Nobody has these users there: a definite answer of the real Keycloak.
        assert bench.rows(
            "SELECT DISTINCT entries.state, entries.state_reason FROM entries JOIN lanes USING (lane_id)"
            " WHERE lanes.realm = %s",
            bench.realm,
        ) == [{"state": "DEAD_LETTER", "state_reason": "user_missing"}]


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with local_server(answering(502, b"<html>Bad Gateway</html>")) as local:
        yield local


class TestKeycloakItself:
    @pytest.mark.parametrize(
        ("answer", "tells"),
        [
            pytest.param(
                answering(502, b"<html>Bad Gateway</html>"),
                ("bad_gateway: token request: HTTP 502, 24 bytes of text/html", "a proxy answers"),
                id="a proxy's 502",
            ),
            pytest.param(
                answering(200, b'{"access_tok', headers={"Content-Type": "application/json"}),
                ("garbled_answer: token request: HTTP 200, 12 bytes of application/json", "cut off"),
                id="truncated JSON",
            ),
        ],
    )
    async def test_that_does_not_answer_opens_the_circuit_which_says_why(
        self, bench: Bench, database: Database, server: LocalServer, answer: Any, tells: tuple[str, ...]
    ) -> None:
        server.behaviour = answer
        await persisted(database, bench.realm)
        await bench.started("--role", "drain", KCSYNC_KEYCLOAK_URL=server.url)
        await until(
            lambda: bench.value("SELECT COUNT(*) FROM circuits WHERE state = 'OPEN'") == 1,
            what="an open circuit",
            within=40,
        )
        tested = await bench.kcsync("test", KCSYNC_KEYCLOAK_URL=server.url)
        screen = await bench.kcsync("status", KCSYNC_KEYCLOAK_URL=server.url)

        assert tested.code == ExitCode.UNREACHABLE
        for words in tells:
            assert words in screen.out
            assert words.rpartition(": token")[2] in tested.out
        assert untouched(bench) == []

    async def test_that_wants_a_certificate_of_ours_gets_the_one_in_the_settings(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        authority = Authority(tmp_path, "authority")
        server, client = authority.sign("server", "127.0.0.1"), authority.sign("client")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(server.certificate, server.key)
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_verify_locations(authority.certificate)
        async with keycloak_proxy(bench.endpoints.keycloak_url, tls=tls) as proxy:
            settings = {
                "KCSYNC_KEYCLOAK_URL": proxy.url,
                "KCSYNC_KEYCLOAK_CA_FILE": str(authority.certificate),
            }
            ours = {
                "KCSYNC_KEYCLOAK_CERT_FILE": str(client.certificate),
                "KCSYNC_KEYCLOAK_KEY_FILE": str(client.key),
            }
            without = await bench.kcsync("test", **settings)
            with_it = await bench.kcsync("test", **settings, **ours)
            not_there = await bench.kcsync(
                "test", **settings, **{**ours, "KCSYNC_KEYCLOAK_KEY_FILE": "/nowhere.key"}
            )

        assert f"✗ Keycloak available ({bench.realm})" in without.out
        assert "KCSYNC_KEYCLOAK_CERT_FILE" in without.out
        assert f"✓ Keycloak available ({bench.realm})" in with_it.out
        assert not_there.code == ExitCode.USAGE
        assert "KCSYNC_KEYCLOAK_KEY_FILE='/nowhere.key' cannot be used" in not_there.err

    async def test_with_a_certificate_that_has_expired_puts_the_realm_at_fault(
        self, bench: Bench, database: Database, tmp_path: Path
    ) -> None:
        authority = Authority(tmp_path, "authority")
        own = authority.sign("server", "127.0.0.1", expired=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(own.certificate, own.key)
        async with local_server(answering(200, {}), tls=tls) as server:
            settings = {
                "KCSYNC_KEYCLOAK_URL": server.url,
                "KCSYNC_KEYCLOAK_CA_FILE": str(authority.certificate),
            }
            await persisted(database, bench.realm)
            await bench.started("--role", "drain", **settings)
            await until(
                lambda: bench.value("SELECT COUNT(*) FROM realms WHERE fault = 'certificate_expired'") == 1,
                what="the realm at fault",
                within=40,
            )
            tested = await bench.kcsync("test", **settings)
            screen = await bench.kcsync("status", **settings)

        for out in (tested.out, screen.out):
            assert "the server's certificate has expired" in out
            assert "renew the certificate" in out
        assert untouched(bench) == []
