from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from producer_lib import Published, PublishTimeout, UserUpdate
from producer_lib import _tracing as under_test
from producer_lib._changes import as_event

CHANGE = UserUpdate(username="ada.lovelace", email="lovelace@example.com", event_id="e-1")
EVENT = as_event(CHANGE, source="/test", realm="customers", password=None)
PUBLISHED = Published(event_id="e-1", topic="topic", partition=3, offset=7, traceparent=None)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(under_test, "_TRACER", provider.get_tracer("test"))
    return exporter


def test_a_published_event_has_a_producer_span(spans: InMemorySpanExporter) -> None:
    span, context = under_test.begin("topic", EVENT)
    under_test.succeed(span, PUBLISHED)

    (finished,) = spans.get_finished_spans()
    assert (finished.name, finished.kind) == ("send topic", SpanKind.PRODUCER)
    assert finished.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "topic",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 7,
        "cloudevents.event_id": "e-1",
        "cloudevents.event_source": "/test",
        "cloudevents.event_type": "kcsync.user_update.v1",
    }
    assert finished.context is not None
    trace_and_span = f"{finished.context.trace_id:032x}-{finished.context.span_id:016x}"
    assert set(context) == {"traceparent"}
    assert context["traceparent"].startswith(f"00-{trace_and_span}-0")


def test_a_span_names_no_user(spans: InMemorySpanExporter) -> None:
    span, _ = under_test.begin("topic", EVENT)
    under_test.fail(span, PublishTimeout("e-1", "no answer"))

    text = spans.get_finished_spans()[0].to_json()
    assert "e-1" in text
    assert "lovelace" not in text


def test_a_failed_event_says_so(spans: InMemorySpanExporter) -> None:
    span, _ = under_test.begin("topic", EVENT)
    under_test.fail(span, PublishTimeout("e-1", "no answer"))

    (finished,) = spans.get_finished_spans()
    assert finished.status.status_code is StatusCode.ERROR
    assert finished.attributes is not None
    assert finished.attributes["error.type"] == "PublishTimeout"


def test_without_tracing_no_ids_are_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "_TRACER", trace.NoOpTracer())

    assert under_test.begin("topic", EVENT)[1] == {}


@pytest.mark.parametrize(
    ("state", "expected"), [("a=1", "a=1"), (",".join(f"k{i}=" + "v" * 100 for i in range(6)), None)]
)
def test_a_trace_begun_elsewhere_goes_on(
    monkeypatch: pytest.MonkeyPatch, state: str, expected: str | None
) -> None:
    monkeypatch.setattr(under_test, "_TRACER", trace.NoOpTracer())
    outer = SpanContext(
        1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState.from_header([state])
    )

    with trace.use_span(NonRecordingSpan(outer)):
        _, context = under_test.begin("topic", EVENT)

    assert context["traceparent"] == f"00-{1:032x}-{2:016x}-01"
    assert context.get("tracestate") == expected
