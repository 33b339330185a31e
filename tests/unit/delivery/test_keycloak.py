from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from opentelemetry import trace

from compose.native.ports import free_port
from consumer.delivery import keycloak as keycloak_module
from consumer.delivery.errors import CallFailed, LeaseTooShort
from consumer.delivery.outcome import Blame, Defer, Reason
from consumer.delivery.presence import Presence
from tests.unit.delivery.local_server import answering, until, write_answer
from tests.unit.delivery.scripted_keycloak import TOKEN_PATH, USERS, Script, scripted

if TYPE_CHECKING:
    from consumer.delivery.keycloak import Keycloak
    from consumer.delivery.outcome import NotDelivered
    from tests.unit.delivery.local_server import LocalServer, Request, Respond

FIND = f"GET {USERS}"
CREATE = f"POST {USERS}"
TOKEN = f"POST {TOKEN_PATH}"
NAMELESS = (CREATE, 400, {"errorMessage": "User name is missing"})
NOBODY = f"GET {USERS}/kcsync-nobody"
NOBODY_THERE = (NOBODY, 404, {"error": "User not found"})
SCOPE = "kc-admin-api"
DISCOVERY = "GET /realms/shop/.well-known/openid-configuration"
UNAUTHORIZED = {"error": "HTTP 401 Unauthorized"}
ALICE = {"id": "0b5c", "username": "alice"}


def nothing() -> None:
    pass


async def find(keycloak: Keycloak, username: str = "alice") -> str | None:
    with keycloak.calls(nothing):
        return await keycloak.users("shop").find(username)


async def failure_of(keycloak: Keycloak) -> NotDelivered:
    with pytest.raises(CallFailed) as failed:
        await find(keycloak)
    return failed.value.outcome


def scoped(*, default: bool, optional: bool) -> Respond:
    """A token endpoint whose client has the scope as one of its default scopes, its optional ones, or not at all."""

    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        asked = "scope" in parse_qs(request.body.decode())
        if asked and not optional:
            refused = {"error": "invalid_scope", "error_description": f"Invalid scopes: {SCOPE}"}
            await answering(400, refused)(request, writer)
            return
        has = default or asked
        grant = {
            "access_token": "with" if has else "without",
            # Renewed each time that it has the scope.
            "expires_in": 0 if optional and has else 300,
            "scope": f"profile {SCOPE}" if has else "profile",
        }
        await answering(200, grant)(request, writer)

    return respond


async def only_with_the_scope(request: Request, writer: asyncio.StreamWriter) -> None:
    has = request.headers["authorization"] == "Bearer with"
    await answering(200 if has else 401, [ALICE] if has else UNAUTHORIZED)(request, writer)


def asked_for(server: LocalServer) -> list[str | None]:
    """The scope of each token request."""
    forms = [parse_qs(r.body.decode()) for r in server.requests if r.path == TOKEN_PATH]
    return [form.get("scope", [None])[0] for form in forms]


class TestToken:
    async def test_fifty_cold_callers_make_one_request(self) -> None:
        script = Script().on(FIND, 200, [ALICE])
        async with scripted(script) as (keycloak, _):
            found = await asyncio.gather(*(find(keycloak) for _ in range(50)))

        assert found == ["0b5c"] * 50
        assert script.tokens == 1

    async def test_is_asked_for_in_the_realm_itself(self) -> None:
        script = Script().on(FIND, 200, [])
        async with scripted(script) as (keycloak, server):
            await find(keycloak)

        (request,) = (request for request in server.requests if request.path == TOKEN_PATH)
        assert parse_qs(request.body.decode()) == {
            "grant_type": ["client_credentials"],
            "client_id": ["kcsync"],
            "client_secret": ["shh-secret"],
        }
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"

    async def test_is_asked_for_in_the_trace_of_the_call_that_waits_for_it(self) -> None:
        script = Script().on(FIND, 200, [])
        call = trace.NonRecordingSpan(
            trace.SpanContext(0xAB, 0xCD, is_remote=False, trace_flags=trace.TraceFlags(1))
        )
        async with scripted(script) as (keycloak, server):
            with trace.use_span(call):
                await find(keycloak)

        traces = [request.headers["traceparent"].split("-")[1] for request in server.requests]
        assert traces == [trace.format_trace_id(0xAB)] * 2

    async def test_is_renewed_before_it_expires(self) -> None:
        script = Script(token_lifetime=1).on(FIND, 200, [])  # 90 % of a second, cut to whole ones: at once.
        async with scripted(script) as (keycloak, _):
            await find(keycloak)
            await find(keycloak)

        assert script.tokens == 2

    async def test_a_401_renews_it_once_and_repeats_the_call_once(self) -> None:
        script = Script().on(FIND, 401, {"error": "HTTP 401 Unauthorized"}).on(FIND, 200, [ALICE])
        async with scripted(script) as (keycloak, _):
            assert await find(keycloak) == "0b5c"

        assert script.tokens == 2
        # Between the two it was looked whether the realm wants more in a token.
        assert script.calls == [FIND, DISCOVERY, FIND]
        assert [request.headers.get("authorization") for request in script.requests] == [
            "Bearer token-1",
            None,
            "Bearer token-2",
        ]

    async def test_many_401s_at_once_renew_it_once(self) -> None:
        async def only_the_second(request: Request, writer: asyncio.StreamWriter) -> None:
            known = request.headers["authorization"] == "Bearer token-2"
            write_answer(
                writer, 200 if known else 401, [ALICE] if known else {"error": "HTTP 401 Unauthorized"}
            )

        script = Script().does(FIND, only_the_second)
        async with scripted(script, max_calls=4) as (keycloak, _):
            await asyncio.gather(*(find(keycloak) for _ in range(20)))

        assert script.tokens == 2

    async def test_a_fresh_token_that_lacks_the_realms_scope_is_said_to(self) -> None:
        script = Script().on(FIND, 401, UNAUTHORIZED).on(DISCOVERY, 200, {"scopes_supported": ["x", SCOPE]})
        script.does(TOKEN, scoped(default=False, optional=False)).on(NOBODY, 401, UNAUTHORIZED)
        async with scripted(script) as (keycloak, server):
            outcome = await failure_of(keycloak)
            result = await keycloak.control_call("shop")

        assert isinstance(outcome, Defer)
        assert (outcome.reason, outcome.failure.blame) == (Reason.ADMIN_SCOPE_MISSING, Blame.CONFIGURATION)
        assert "kc-admin-api" in outcome.failure.detail
        assert result.trouble is not None
        assert result.trouble.reason is Reason.ADMIN_SCOPE_MISSING
        # At the start, and after each of the two refusals once without it and once with it.
        assert asked_for(server) == [None, None, SCOPE, None, SCOPE]

    async def test_an_optional_scope_of_the_client_is_asked_for_from_then_on(self) -> None:
        script = Script(token_lifetime=0).on(DISCOVERY, 200, {"scopes_supported": [SCOPE]})
        script.does(TOKEN, scoped(default=False, optional=True)).does(FIND, only_with_the_scope)
        async with scripted(script) as (keycloak, server):
            assert await find(keycloak) == "0b5c"
            assert await find(keycloak) == "0b5c"

            script.routes[TOKEN] = [scoped(default=True, optional=False)]
            assert await find(keycloak) == "0b5c"

        # The last time it is refused, and there by itself.
        assert asked_for(server) == [None, None, SCOPE, SCOPE, SCOPE, None]
        assert script.calls.count(DISCOVERY) == 1

    async def test_a_default_scope_of_the_client_is_not_asked_for(self) -> None:
        script = Script().on(DISCOVERY, 200, {"scopes_supported": [SCOPE]}).does(FIND, only_with_the_scope)
        script.does(TOKEN, scoped(default=True, optional=False))
        async with scripted(script) as (keycloak, server):
            assert await find(keycloak) == "0b5c"

        assert (asked_for(server), script.calls) == ([None], [FIND])

    @pytest.mark.parametrize(
        ("status", "document"),
        [(200, {"scopes_supported": ["profile"]}), (200, []), (404, {"error": "no"}), (500, None)],
    )
    async def test_a_realm_without_the_scope_is_not_asked_for_it(self, status: int, document: object) -> None:
        script = Script().on(FIND, 401, UNAUTHORIZED).on(DISCOVERY, status, document)
        async with scripted(script) as (keycloak, server):
            outcome = await failure_of(keycloak)

        assert outcome.reason is Reason.TOKEN_REFUSED
        assert asked_for(server) == [None, None]

    async def test_a_second_401_is_our_configuration(self) -> None:
        script = Script().on(FIND, 401, {"error": "HTTP 401 Unauthorized"})
        async with scripted(script) as (keycloak, _):
            outcome = await failure_of(keycloak)

        assert outcome.reason is Reason.TOKEN_REFUSED
        assert outcome.failure.blame is Blame.CONFIGURATION
        assert script.calls == [FIND, DISCOVERY, FIND]

    @pytest.mark.parametrize(
        ("status", "body", "reason", "blame"),
        [
            (401, {"error": "unauthorized_client"}, Reason.CREDENTIALS_REFUSED, Blame.CONFIGURATION),
            (400, {"error": "invalid_client"}, Reason.CREDENTIALS_REFUSED, Blame.CONFIGURATION),
            (404, {"error": "Realm does not exist"}, Reason.REALM_MISSING, Blame.CONFIGURATION),
            (200, b"<html>welcome</html>", Reason.NOT_KEYCLOAK, Blame.CONFIGURATION),
            (200, {"access_token": 7}, Reason.NOT_KEYCLOAK, Blame.CONFIGURATION),
            (302, None, Reason.REDIRECTED, Blame.CONFIGURATION),
            (503, None, Reason.UNAVAILABLE, Blame.KEYCLOAK),
            (500, {"error": "unknown_error"}, Reason.SERVER_ERROR, Blame.KEYCLOAK),
        ],
    )
    async def test_a_refusal_is_never_the_users(
        self, status: int, body: object, reason: Reason, blame: Blame
    ) -> None:
        script = Script().on(TOKEN, status, body)
        async with scripted(script) as (keycloak, _):
            outcome = await failure_of(keycloak)

        assert outcome.reason is reason
        assert outcome.failure.blame is blame
        assert not outcome.failure.ambiguous
        assert outcome.failure.detail.startswith("token request")
        assert script.requests == []

    async def test_a_failure_is_shared_by_all_who_wait(self) -> None:
        script = Script().on(TOKEN, 500, {"error": "unknown_error"})
        async with scripted(script) as (keycloak, _):
            outcomes = await asyncio.gather(*(failure_of(keycloak) for _ in range(20)))

        assert {outcome.reason for outcome in outcomes} == {Reason.SERVER_ERROR}
        assert script.tokens == 1

    async def test_the_next_call_after_a_failure_asks_again(self) -> None:
        script = (
            Script().on(TOKEN, 500).on(TOKEN, 200, {"access_token": "t", "expires_in": 60}).on(FIND, 200, [])
        )
        async with scripted(script) as (keycloak, _):
            await failure_of(keycloak)

            assert await find(keycloak) is None

    async def test_one_cancelled_caller_does_not_take_it_from_the_others(self) -> None:
        script = Script().on(FIND, 200, [ALICE])
        async with scripted(script) as (keycloak, _):
            first = asyncio.create_task(find(keycloak))
            second = asyncio.create_task(find(keycloak))
            await until(lambda: script.tokens == 1)
            first.cancel()

            assert await second == "0b5c"
            assert script.tokens == 1

    async def test_it_does_not_ask_the_drain(self) -> None:
        def too_short() -> None:
            raise LeaseTooShort

        script = Script()
        async with scripted(script) as (keycloak, _):
            with keycloak.calls(too_short), pytest.raises(LeaseTooShort):
                await keycloak.users("shop").find("alice")

        assert script.tokens == 1
        assert script.requests == []


class TestSearch:
    async def test_is_exact(self) -> None:
        script = Script().on(FIND, 200, [])
        async with scripted(script) as (keycloak, _):
            await find(keycloak, "a&b=c d")

        query = parse_qs(urlsplit(script.requests[0].target).query)
        assert query["username"] == ["a&b=c d"]
        assert query["exact"] == ["true"]

    async def test_someone_else_is_not_taken_for_the_user(self) -> None:
        script = Script().on(FIND, 200, [{"id": "9", "username": "alice2"}, {"username": "alice"}, "alice"])
        async with scripted(script) as (keycloak, _):
            assert await find(keycloak) is None

    async def test_a_base_path_is_kept(self) -> None:
        script = Script().on(f"GET /auth{USERS}", 200, [ALICE])
        script.on(f"POST /auth{TOKEN_PATH}", 200, {"access_token": "t", "expires_in": 60})
        async with (
            scripted(script) as (_, server),
            scripted(script, url=f"{server.url}auth") as (keycloak, _),
        ):
            assert await find(keycloak) == "0b5c"

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"<html>login</html>", Reason.NOT_KEYCLOAK),
            ({"users": []}, Reason.NOT_KEYCLOAK),
        ],
    )
    async def test_another_answer_than_a_list_is_not_an_absent_user(
        self, body: object, reason: Reason
    ) -> None:
        script = Script().on(FIND, 200, body)
        async with scripted(script) as (keycloak, _):
            outcome = await failure_of(keycloak)

        assert isinstance(outcome, Defer)
        assert outcome.reason is reason

    async def test_a_realm_that_is_not_served_is_our_configuration(self) -> None:
        async with scripted(Script()) as (keycloak, _):
            with pytest.raises(CallFailed) as failed:
                keycloak.users("elsewhere")

        assert failed.value.outcome.reason is Reason.REALM_NOT_SERVED
        assert failed.value.outcome.failure.blame is Blame.CONFIGURATION

    async def test_what_is_no_answer_of_keycloak_comes_out_as_it_is(self) -> None:
        class DefectError(Exception):
            pass

        def broken() -> None:
            raise DefectError

        async with scripted(Script()) as (keycloak, _):
            with keycloak.calls(broken), pytest.raises(DefectError):
                await keycloak.users("shop").find("alice")


class TestALook:
    """Whether Keycloak is there: asked each second in an outage."""

    DOCUMENT = "GET /realms/shop/.well-known/openid-configuration"

    async def test_needs_no_token_and_leaves_no_trace(self) -> None:
        script = Script().on(self.DOCUMENT, 200, {"issuer": "http://sso.example.org/realms/shop"})
        call = trace.NonRecordingSpan(
            trace.SpanContext(0xAB, 0xCD, is_remote=False, trace_flags=trace.TraceFlags(1))
        )
        async with scripted(script) as (keycloak, server):
            with trace.use_span(call):
                sighting = await keycloak.look("shop")

        (request,) = server.requests
        assert sighting.presence is Presence.THERE
        assert script.tokens == 0
        assert {"traceparent", "authorization"}.isdisjoint(request.headers)

    async def test_is_not_held_up_by_calls_that_are_not_answered(self) -> None:
        held = asyncio.Event()

        async def hold(_: Request, writer: asyncio.StreamWriter) -> None:
            await held.wait()
            write_answer(writer, 200, [])

        script = Script().does(FIND, hold).on(self.DOCUMENT, 200, {"issuer": "http://x/realms/shop"})
        async with scripted(script, max_calls=2) as (keycloak, _):
            calls = [asyncio.create_task(find(keycloak)) for _ in range(4)]
            await until(lambda: len(script.calls) == 2)
            sighting = await keycloak.look("shop")
            held.set()
            await asyncio.gather(*calls)

        assert sighting.presence is Presence.THERE

    async def test_waits_two_seconds_at_most(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keycloak_module, "LOOK_TIMEOUT_SECONDS", 0.05)

        async def never(_: Request, __: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3600)

        async with scripted(Script().does(self.DOCUMENT, never)) as (keycloak, _):
            sighting = await keycloak.look("shop")

        assert (sighting.presence, sighting.said) == (
            Presence.UNCLEAR,
            "timeout while waiting for the answer",
        )

    async def test_meets_nobody_where_the_port_is_closed(self) -> None:
        async with scripted(Script(), url=f"http://127.0.0.1:{free_port()}") as (keycloak, _):
            sighting = await keycloak.look("shop")

        assert (sighting.presence, sighting.said) == (Presence.AWAY, "connection refused")


class TestWriteCheck:
    """The sessions of our client's own user are ended: it has none, and Keycloak writes that it was asked."""

    LOGOUT = f"POST {USERS}/7c6b/logout"

    @staticmethod
    def account(subject: str | None = "7c6b") -> Script:
        claims = urlsafe_b64encode(json.dumps({} if subject is None else {"sub": subject}).encode()).decode()
        grant = {"access_token": f"eyJ.{claims.rstrip('=')}.signature", "expires_in": 300}
        return Script().on(TOKEN, 200, grant)

    async def test_writes_nothing_of_any_user_and_fetches_a_token_that_is_valid(self) -> None:
        script = self.account().on(self.LOGOUT, 204)
        async with scripted(script) as (keycloak, _):
            result = await keycloak.write_check("shop")

        assert result.ok
        assert script.calls == [self.LOGOUT]
        assert script.tokens == 2

    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (500, {"error": "unknown_error"}, Reason.WRITES_REFUSED),
            (400, {"errorMessage": "Could not update user!"}, Reason.WRITES_REFUSED),
            (503, None, Reason.UNAVAILABLE),
            (403, {"error": "HTTP 403 Forbidden"}, Reason.FORBIDDEN),
            (404, {"error": "User not found"}, Reason.USER_MISSING),
        ],
    )
    async def test_says_why_it_was_refused(self, status: int, body: object, reason: Reason) -> None:
        async with scripted(self.account().on(self.LOGOUT, status, body)) as (keycloak, _):
            result = await keycloak.write_check("shop")

        assert result.trouble is not None
        assert result.trouble.reason is reason

    @pytest.mark.parametrize("token", ["opaque", "a.%%%.c", "a.bm90IGpzb24.c", "a.e30.c"])
    async def test_of_a_token_that_names_nobody_nothing_can_be_told(self, token: str) -> None:
        script = Script().on(TOKEN, 200, {"access_token": token, "expires_in": 300})
        async with scripted(script) as (keycloak, _):
            result = await keycloak.write_check("shop")

        assert result.trouble is not None
        assert result.trouble.failure.blame is Blame.CONFIGURATION
        assert script.calls == []


class TestControlCall:
    async def test_it_reads_nobody_by_id(self) -> None:
        """By name, Keycloak would ask the directories of the realm's user federations."""
        script = Script().on(*NOBODY_THERE).on(*NAMELESS)
        ticks = iter([10.0, 12.5])
        async with scripted(script, monotonic=lambda: next(ticks)) as (keycloak, _):
            result = await keycloak.control_call("shop")

        assert result.ok
        assert (result.realm, result.began, result.ended) == ("shop", 10.0, 12.5)
        assert script.calls == [NOBODY_THERE[0], CREATE]

    async def test_it_asks_for_nobody_to_learn_whether_we_may_write(self) -> None:
        script = Script().on(*NOBODY_THERE).on(*NAMELESS)
        async with scripted(script) as (keycloak, _):
            assert (await keycloak.control_call("shop")).ok

        assert script.bodies(CREATE) == [{}]

    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (403, {"error": "HTTP 403 Forbidden"}, Reason.FORBIDDEN),
            (200, {"done": True}, Reason.UNEXPECTED_SUCCESS),
            (201, None, Reason.UNEXPECTED_SUCCESS),
            (400, b"<html>blocked</html>", Reason.NOT_KEYCLOAK),
            (503, None, Reason.UNAVAILABLE),
        ],
    )
    async def test_who_may_only_read_is_told(self, status: int, body: object, reason: Reason) -> None:
        script = Script().on(*NOBODY_THERE).on(CREATE, status, body)
        async with scripted(script) as (keycloak, _):
            result = await keycloak.control_call("shop")

        assert result.trouble is not None
        assert result.trouble.reason is reason

    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (403, {"error": "HTTP 403 Forbidden"}, Reason.FORBIDDEN),
            (503, None, Reason.UNAVAILABLE),
            (200, b"<html>", Reason.NOT_KEYCLOAK),
            (200, {"id": "kcsync-nobody"}, Reason.UNEXPECTED_SUCCESS),
            (404, b"<html>", Reason.NOT_KEYCLOAK),
            (404, {"error": "Realm not found."}, Reason.REALM_MISSING),
            (404, {"error": "Unable to find matching target resource method"}, Reason.WRONG_PATH),
            (404, {"error": "Something else is missing"}, Reason.UNEXPECTED_ANSWER),
        ],
    )
    async def test_it_says_what_is_wrong(self, status: int, body: object, reason: Reason) -> None:
        async with scripted(Script().on(NOBODY_THERE[0], status, body)) as (keycloak, _):
            result = await keycloak.control_call("shop")

        assert not result.ok
        assert result.trouble is not None
        assert result.trouble.reason is reason

    async def test_its_limit_includes_the_token(self) -> None:
        async def never(_: Request, __: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        script = Script().does(TOKEN, never)
        async with scripted(script, timeout_seconds=30.0, control_timeout_seconds=0.1) as (keycloak, _):
            result = await keycloak.control_call("shop")

        assert result.trouble is not None
        assert result.trouble.reason is Reason.TIMEOUT
        assert result.trouble.failure.blame is Blame.KEYCLOAK

    async def test_it_does_not_wait_for_slow_deliveries(self) -> None:
        released = asyncio.Event()

        async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
            if "alice" in request.target:
                await released.wait()
            await answering(200, [])(request, writer)

        script = Script().does(FIND, slow).on(*NOBODY_THERE).on(*NAMELESS)
        async with scripted(script, max_calls=1) as (keycloak, _):
            delivery = asyncio.create_task(find(keycloak))
            await until(lambda: len(script.requests) == 1)

            assert (await keycloak.control_call("shop")).ok
            released.set()
            await delivery

    async def test_a_realm_that_is_not_served_is_trouble(self) -> None:
        async with scripted(Script()) as (keycloak, _):
            result = await keycloak.control_call("elsewhere")

        assert result.trouble is not None
        assert result.trouble.reason is Reason.REALM_NOT_SERVED
