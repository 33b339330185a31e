"""One event all the way, as telemetry shows it, and what nobody may ever see of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

import producer_lib._tracing
from compose.demo.traces import Trace, parse_trace
from consumer.telemetry.tracing import configure_tracing
from producer_lib import PasswordChange, Published, UserCreate, UserUpdate
from tests.integration.support.bench import Bench
from tests.integration.support.events import event, record
from tests.integration.support.waiting import until


def trace_id(published: Published) -> str:
    assert published.traceparent is not None
    return published.traceparent.split("-")[1]


def zipkin(bench: Bench) -> dict[str, str]:
    return {
        "OTEL_TRACES_EXPORTER": "zipkin",
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT": f"{bench.endpoints.zipkin_url}/api/v2/spans",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }


async def read_trace(bench: Bench, trace: str) -> list[Trace]:
    async with httpx.AsyncClient(base_url=bench.endpoints.zipkin_url, timeout=15) as http:
        answer = await http.get(f"/api/v2/trace/{trace}")
    return [parse_trace(answer.json())] if answer.is_success else []


async def test_one_delivery_is_one_trace_from_publish_to_keycloak(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = zipkin(bench)
    tracing = configure_tracing(settings, service_version="0", instance="tests")
    monkeypatch.setattr(producer_lib._tracing, "_TRACER", tracing.tracer)
    await bench.started(**settings)
    async with bench.producer() as producer:
        published = await producer.publish(UserCreate(username=f"{bench.name}-ada"))
    await asyncio.to_thread(tracing.shutdown, timedelta(seconds=10))
    await until(lambda: bench.settled(1), what="one delivered", within=60)

    found: list[Trace] = []

    async def arrived() -> bool:
        found[:] = await read_trace(bench, trace_id(published))
        return bool(found) and found[0].reaches_keycloak

    await until(arrived, what="a trace that reaches Keycloak")
    (trace,) = found
    send, process, *calls = trace.spans
    assert (send.kind, send.name, send.parent_id) == ("PRODUCER", f"send {bench.topic}", None)
    assert (process.kind, process.name, process.parent_id) == (
        "CONSUMER",
        f"process {bench.topic}",
        send.span_id,
    )
    assert {(call.kind, call.parent_id) for call in calls if call.service == process.service} == {
        ("CLIENT", process.span_id)
    }
    assert not [span for span in trace.spans if span.failed]
    assert bench.value("SELECT HEX(trace_id) FROM attempts").lower() == trace_id(published)


async def test_each_attempt_is_a_span_of_the_same_trace(bench: Bench) -> None:
    """Two refused attempts of one event: their spans stand under the context that came with the event."""
    name, email = f"{bench.name}-ada", f"{bench.name}@example.org"
    await bench.started(**zipkin(bench), KCSYNC_MAX_ATTEMPTS="2")
    context = f"00-{uuid4().hex}-00f067aa0ba902b7-01"
    async with bench.producer() as producer:
        await producer.publish(UserCreate(username=name, email=email))
    await until(lambda: bench.settled(1), what="one delivered", within=60)
    await bench.send(
        record(
            event(
                bench,
                f"{name}-2",
                type="kcsync.user_create.v1",
                data={"email": email},
                traceparent=context,
            )
        )
    )
    await until(lambda: bench.counts().get("DEAD_LETTER") == 1, what="a dead letter", within=60)

    found: list[Trace] = []

    async def arrived() -> bool:
        found[:] = await read_trace(bench, context.split("-")[1])
        return bool(found) and found[0].attempts == 2

    await until(arrived, what="two attempts in one trace")
    attempts = [span for span in found[0].spans if span.kind == "CONSUMER"]
    assert {span.parent_id for span in attempts} == {"00f067aa0ba902b7"}
    assert all(span.failed for span in attempts)


async def test_passwords_and_usernames_are_nowhere_in_clear(bench: Bench) -> None:
    canary = "Kanarienvogel-4711"
    name = f"{bench.name}-ada"
    consumer = await bench.started(**zipkin(bench), KCSYNC_LOG_LEVEL="DEBUG")
    async with bench.producer() as producer:
        published = [
            await producer.publish(UserCreate(username=name, password=f"{canary}-1")),
            await producer.publish(PasswordChange(username=name, password=f"{canary}-2")),
            await producer.publish(PasswordChange(username=f"{name}-missing", password=f"{canary}-3")),
            await producer.publish(UserUpdate(username=name, enabled=True)),
        ]
    records = await bench.records()
    # Somebody who writes to the topic past our library: this one stands on the topic in clear, and nowhere else.
    await bench.send(record(event(bench, name, data={"password": canary}), key=name.encode()))
    # It goes to partition 0, wherever its user's events are: sent earlier, it could be ingested before the create.
    await until(
        lambda: bench.counts() == {"DELIVERED": 3, "DEAD_LETTER": 1},
        what="three delivered and a dead letter",
        within=60,
    )
    # A password that was sealed for another event does not open.
    moved = next(r for r in records if published[1].event_id.encode() in (r.value or b""))
    await bench.send(
        record((moved.value or b"").replace(published[1].event_id.encode(), b"another-id"), key=moved.key)
    )
    await until(
        lambda: (
            bench.counts() == {"DELIVERED": 3, "DEAD_LETTER": 2}
            and bench.value("SELECT COUNT(*) FROM poison")
        ),
        what="three delivered, two dead letters and a poison row",
        within=60,
    )
    outputs = [
        finished.out + finished.err
        for finished in [
            await bench.kcsync(*command) for command in (("status",), ("status", "--json"), ("test",))
        ]
    ]
    await consumer.stop()
    ids = [each.event_id for each in published]
    async with httpx.AsyncClient(base_url=bench.endpoints.zipkin_url, timeout=15) as http:
        spans = ""

        async def arrived() -> bool:
            nonlocal spans
            answer = await http.get(
                "/api/v2/traces", params={"serviceName": "kcsync", "limit": 1000, "lookback": 600_000}
            )
            spans = answer.text
            return all(event_id in spans for event_id in ids)

        await until(arrived, what="the spans of all events")

    reasons = {row["state_reason"] for row in bench.rows("SELECT state_reason FROM entries")}
    assert {"user_missing", "password_unreadable"} <= reasons
    assert [
        r for r in records if canary.encode() in (r.value or b"") + (r.key or b"") + repr(r.headers).encode()
    ] == []
    assert [column for column, value in bench.every_text() if canary.encode() in value] == []
    for text in (consumer.said, spans, *outputs):
        assert canary not in text
        for secret in (bench.address.password, bench.endpoints.client_secret):
            assert secret not in text
    # The handle is the event id; a username stays in Kafka's key, in MariaDB and on the command line.
    assert name not in consumer.said
    assert name not in spans
