from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from consumer.delivery import transport
from consumer.delivery.answer import TransportCause
from consumer.delivery.errors import LeaseTooShort
from consumer.delivery.transport import CallScope, KeycloakSender, NoAnswer
from tests.unit.delivery.local_server import (
    LocalServer,
    Request,
    answering,
    local_server,
    until,
    write_answer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.unit.delivery.local_server import Respond

USER = "admin/realms/shop/users/0b5c"


def nothing() -> None:
    pass


def scope(
    *, before_call: Callable[[], None] = nothing, timeout_seconds: float = 5.0, slots: int = 4
) -> CallScope:
    return CallScope(before_call, timeout_seconds, asyncio.Semaphore(slots))


@asynccontextmanager
async def client(*, connect_seconds: float = 1.0) -> AsyncIterator[KeycloakSender]:
    sender = KeycloakSender(
        ssl_context=ssl.create_default_context(), max_connections=8, connect_seconds=connect_seconds
    )
    try:
        yield sender
    finally:
        await sender.aclose()


async def cause_of_put(url: str, **limits: float) -> TransportCause:
    async with client() as caller:
        with scope(**limits), pytest.raises(NoAnswer) as lost:  # type: ignore[arg-type]
            await caller.put(url + USER, content="{}")
    return lost.value.cause


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def close_at_once(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(_: Request, writer: asyncio.StreamWriter) -> None:
    # Lingering for zero seconds makes close() send a RST instead of a FIN.
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()


async def half_a_body(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half":')
    await writer.drain()
    writer.close()


async def nonsense(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await writer.drain()


async def silence(_: Request, writer: asyncio.StreamWriter) -> None:
    del writer
    await asyncio.Event().wait()


async def drip(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


class TestNoAnswer:
    async def test_a_closed_port_is_refused(self) -> None:
        assert await cause_of_put(f"http://127.0.0.1:{free_port()}/") is TransportCause.REFUSED

    async def test_a_name_that_does_not_resolve_is_told_apart(self) -> None:
        assert await cause_of_put("http://kcsync.invalid/") is TransportCause.UNRESOLVED

    async def test_a_listener_that_never_accepts_is_a_connect_timeout(self) -> None:
        # A TLS hello that is never answered: the TCP connection alone says nothing about Keycloak.
        async with local_server(silence) as server:
            async with client(connect_seconds=0.2) as caller:
                with scope(), pytest.raises(NoAnswer) as lost:
                    await caller.put(server.url.replace("http:", "https:") + USER, content="{}")

            assert lost.value.cause is TransportCause.CONNECT_TIMEOUT

    @pytest.mark.parametrize(
        ("behaviour", "cause"),
        [
            pytest.param(close_at_once, TransportCause.LOST, id="closed before the answer"),
            pytest.param(reset, TransportCause.LOST, id="reset before the answer"),
            pytest.param(half_a_body, TransportCause.BROKEN, id="body broken off"),
            pytest.param(nonsense, TransportCause.BROKEN, id="not HTTP"),
        ],
    )
    async def test_a_lost_answer_is_told_from_a_refused_connection(
        self, behaviour: Respond, cause: TransportCause
    ) -> None:
        async with local_server(behaviour) as server:
            assert await cause_of_put(server.url) is cause

    @pytest.mark.parametrize(
        "behaviour", [pytest.param(silence, id="silent"), pytest.param(drip, id="dripping")]
    )
    async def test_the_limit_holds_for_the_whole_call(self, behaviour: Respond) -> None:
        async with local_server(behaviour) as server:
            assert await cause_of_put(server.url, timeout_seconds=0.2) is TransportCause.TIMEOUT


class TestOneCallIsOneRequest:
    @pytest.mark.parametrize(
        "behaviour", [pytest.param(close_at_once, id="closed"), pytest.param(reset, id="reset")]
    )
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
    async def test_nothing_is_sent_a_second_time(self, method: str, behaviour: Respond) -> None:
        async with local_server(behaviour) as server, client() as caller:
            with scope(), pytest.raises(NoAnswer):
                await caller.request(method, server.url + USER)

            assert [request.method for request in server.requests] == [method]

    async def test_not_even_on_a_connection_that_was_kept_open(self) -> None:
        async with local_server(answering(204)) as server, client() as caller:
            with scope():
                await caller.put(server.url + USER, content="1")
                server.behaviour = close_at_once
                with pytest.raises(NoAnswer) as lost:
                    await caller.put(server.url + USER, content="2")

            assert lost.value.cause is TransportCause.LOST
            assert [request.body for request in server.requests] == [b"1", b"2"]

    async def test_an_empty_form_is_no_body(self) -> None:
        """python-keycloak hands one over with every DELETE."""
        async with local_server(answering(204)) as server, client() as caller:
            with scope():
                await caller.request("DELETE", server.url + USER, data={})

            [request] = server.requests
            assert request.body == b""
            assert "content-type" not in {name.lower() for name in request.headers}

    async def test_a_redirect_is_not_followed(self) -> None:
        async with (
            local_server(answering(302, headers={"Location": "/elsewhere"})) as server,
            client() as caller,
        ):
            with scope():
                response = await caller.put(server.url + USER)

            assert response.status_code == 302
            assert len(server.requests) == 1


class TestBeforeCall:
    async def test_what_it_raises_stops_the_request(self) -> None:
        def too_short() -> None:
            raise LeaseTooShort

        async with local_server(answering(204)) as server, client() as caller:
            with scope(before_call=too_short), pytest.raises(LeaseTooShort):
                await caller.put(server.url + USER)

            assert server.requests == []

    async def test_it_is_asked_after_the_wait_for_a_slot(self) -> None:
        released = asyncio.Event()
        order: list[str] = []

        async def answer_when_released(_: Request, writer: asyncio.StreamWriter) -> None:
            await released.wait()
            order.append("first answered")
            write_answer(writer, 204)

        async with local_server(answer_when_released) as server, client() as caller:
            shared = asyncio.Semaphore(1)

            async def call(name: str) -> None:
                with CallScope(lambda: order.append(f"{name} leaves"), 5.0, shared):
                    await caller.put(server.url + USER)

            first = asyncio.create_task(call("first"))
            await until(lambda: len(server.requests) == 1)
            second = asyncio.create_task(call("second"))
            await until(lambda: shared.locked() and bool(shared._waiters))
            released.set()
            await asyncio.gather(first, second)

        assert order[:3] == ["first leaves", "first answered", "second leaves"]

    async def test_a_slot_is_held_until_the_answer_is_read(self) -> None:
        async def slow(_: Request, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.01)
            write_answer(writer, 200, {"some": "body"})

        async with local_server(slow) as server, client() as caller:
            with scope(slots=3):
                await asyncio.gather(*(caller.get(server.url + USER) for _ in range(12)))

            assert server.most_open_calls == 3


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(transport, "_TRACER", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


async def put_once(server: LocalServer, target: str = USER) -> None:
    async with client() as caller:
        with scope():
            await caller.put(server.url + target, content="{}")


class TestSpan:
    async def test_a_call_is_one_client_span_named_without_the_user(
        self, spans: InMemorySpanExporter
    ) -> None:
        async with local_server(answering(204)) as server:
            await put_once(server, "auth/admin/realms/shop/users/0b5c/reset-password?username=alice")
            port = int(server.url.rstrip("/").rpartition(":")[2])

        (span,) = spans.get_finished_spans()
        assert span.kind is SpanKind.CLIENT
        assert span.name == "PUT /auth/admin/realms/{realm}/users/{id}/reset-password"
        assert dict(span.attributes or {}) == {
            "http.request.method": "PUT",
            "http.response.status_code": 204,
            "server.address": "127.0.0.1",
            "server.port": port,
            "url.template": "/auth/admin/realms/{realm}/users/{id}/reset-password",
        }

    @pytest.mark.parametrize(
        ("path", "template"),
        [
            ("users/0b5c/groups/77", "users/{id}/groups/{group}"),
            ("users/0b5c/role-mappings/realm", "users/{id}/role-mappings/realm"),
            ("users/profile", "users/profile"),
            ("group-by-path/oncology/night%20shift", "group-by-path/{path}"),
            ("roles/gold", "roles/{role}"),
        ],
    )
    async def test_a_span_names_no_group_and_no_role(
        self, spans: InMemorySpanExporter, path: str, template: str
    ) -> None:
        async with local_server(answering(204)) as server:
            await put_once(server, f"admin/realms/shop/{path}")

        (span,) = spans.get_finished_spans()
        assert span.name == f"PUT /admin/realms/{{realm}}/{template}"
        assert dict(span.attributes or {})["url.template"] == f"/admin/realms/{{realm}}/{template}"

    async def test_the_request_carries_the_span(self, spans: InMemorySpanExporter) -> None:
        async with local_server(answering(204)) as server:
            await put_once(server)

        (span,) = spans.get_finished_spans()
        assert span.context is not None
        expected = (
            f"00-{trace.format_trace_id(span.context.trace_id)}-{trace.format_span_id(span.context.span_id)}-"
        )
        assert server.requests[0].headers["traceparent"].startswith(expected)

    @pytest.mark.parametrize(("status", "is_error"), [(500, True), (400, True), (404, False), (409, False)])
    async def test_a_refusal_says_so(self, spans: InMemorySpanExporter, status: int, is_error: bool) -> None:  # noqa: FBT001 - a table.
        async with local_server(answering(status)) as server:
            await put_once(server)

        (span,) = spans.get_finished_spans()
        assert dict(span.attributes or {})["error.type"] == str(status)
        assert (not span.status.is_ok and not span.status.is_unset) is is_error

    async def test_a_lost_call_names_its_cause(self, spans: InMemorySpanExporter) -> None:
        async with local_server(close_at_once) as server:
            await cause_of_put(server.url)

        (span,) = spans.get_finished_spans()
        assert dict(span.attributes or {})["error.type"] == "lost"

    async def test_a_refused_call_leaves_none(self, spans: InMemorySpanExporter) -> None:
        def too_short() -> None:
            raise LeaseTooShort

        async with local_server(answering(204)) as server, client() as caller:
            with scope(before_call=too_short), pytest.raises(LeaseTooShort):
                await caller.put(server.url + USER)

        assert spans.get_finished_spans() == ()
