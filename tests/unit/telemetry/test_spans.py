from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, Span, SpanKind, StatusCode, Tracer, get_current_span

from consumer.telemetry.propagation import TraceContext
from consumer.telemetry.spans import MOST_LINKS, UnderWay, poll_span, process_span, set_outcome, trace_id_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = TraceContext.of(f"00-{TRACE}-b7ad6b7169203331-01".encode())


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exported: InMemorySpanExporter) -> Iterator[Tracer]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    yield provider.get_tracer("test")
    provider.shutdown()


def start(tracer: Tracer, parent: TraceContext = PARENT, attempt: int = 1) -> Span:
    return process_span(
        tracer,
        parent=parent,
        topic="kcsync.user-events",
        group="kcsync",
        partition=3,
        offset=42,
        event_id="e-1",
        kind="user_create",
        attempt=attempt,
    )


@contextmanager
def process(tracer: Tracer, parent: TraceContext = PARENT, attempt: int = 1) -> Iterator[Span]:
    span = start(tracer, parent, attempt)
    with UnderWay([span]):
        yield span


def creator(number: int) -> TraceContext:
    return TraceContext.of(f"00-{number:032x}-{number:016x}-01".encode())


class TestProcessSpan:
    def test_is_the_child_of_the_producers_span(self, tracer: Tracer, exported: InMemorySpanExporter) -> None:
        with process(tracer):
            pass

        [span] = exported.get_finished_spans()
        assert span.name == "process kcsync.user-events"
        assert span.kind is SpanKind.CONSUMER
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == TRACE
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
        assert not span.links

    def test_tells_where_the_event_is_but_not_whose(
        self, tracer: Tracer, exported: InMemorySpanExporter
    ) -> None:
        with process(tracer, attempt=2) as started:
            set_outcome(started, "delivered")

        [span] = exported.get_finished_spans()
        assert dict(span.attributes or {}) == {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "kcsync.user-events",
            "messaging.destination.partition.id": "3",
            "messaging.consumer.group.name": "kcsync",
            "messaging.kafka.offset": 42,
            "kcsync.event_id": "e-1",
            "kcsync.kind": "user_create",
            "kcsync.attempt": 2,
            "kcsync.outcome": "delivered",
        }
        assert span.status.status_code is StatusCode.UNSET

    def test_without_a_producers_context_it_begins_a_trace(
        self, tracer: Tracer, exported: InMemorySpanExporter
    ) -> None:
        with tracer.start_as_current_span("around"), process(tracer, parent=TraceContext()):
            pass

        inner = exported.get_finished_spans()[0]
        assert inner.name.startswith("process")
        assert inner.parent is None

    def test_shows_an_outcome_that_is_no_delivery_as_an_error(
        self, tracer: Tracer, exported: InMemorySpanExporter
    ) -> None:
        with process(tracer) as started:
            set_outcome(started, "retry", "http_500")

        attributes = exported.get_finished_spans()[0].attributes or {}
        assert (attributes["kcsync.outcome"], attributes["kcsync.reason"]) == ("retry", "http_500")
        assert attributes["error.type"] == "http_500"
        assert exported.get_finished_spans()[0].status.status_code is StatusCode.ERROR

    @pytest.mark.parametrize("error", [ValueError("alice"), asyncio.CancelledError("alice")])
    def test_an_exception_leaves_its_type_and_never_its_text(
        self, tracer: Tracer, exported: InMemorySpanExporter, error: BaseException
    ) -> None:
        with pytest.raises(type(error)), process(tracer):
            raise error

        span = exported.get_finished_spans()[0]
        assert (span.attributes or {})["error.type"] == type(error).__qualname__
        assert span.status.status_code is StatusCode.ERROR
        assert not span.events
        assert "alice" not in span.to_json()

    def test_of_several_the_first_is_current_and_all_end_together(
        self, tracer: Tracer, exported: InMemorySpanExporter
    ) -> None:
        spans = [start(tracer, creator(number)) for number in (1, 2, 3)]

        with UnderWay(spans):
            assert get_current_span() is spans[0]
            assert not exported.get_finished_spans()

        ended = exported.get_finished_spans()
        assert [span.context.trace_id for span in ended if span.context] == [1, 2, 3]
        assert not get_current_span().get_span_context().is_valid

    async def test_is_the_current_span_of_its_own_task_alone(self, tracer: Tracer) -> None:
        async def deliver(number: int) -> bool:
            with process(tracer, parent=creator(number)):
                await asyncio.sleep(0)
                return get_current_span().get_span_context().trace_id == number

        assert all(await asyncio.gather(*(deliver(number) for number in range(1, 20))))


class TestPollSpan:
    def poll(self, tracer: Tracer, creators: list[TraceContext]) -> None:
        with poll_span(tracer, topic="t", group="g", count=len(creators), creators=creators):
            pass

    def test_is_a_root_with_a_link_to_each_creator(
        self, tracer: Tracer, exported: InMemorySpanExporter
    ) -> None:
        with tracer.start_as_current_span("around"):
            self.poll(tracer, [creator(1), TraceContext(), creator(2), creator(1)])

        span = exported.get_finished_spans()[0]
        assert span.name == "poll t"
        assert span.kind is SpanKind.CONSUMER
        assert span.parent is None
        assert [link.context.trace_id for link in span.links] == [1, 2]
        attributes = span.attributes or {}
        assert attributes["messaging.operation.type"] == "receive"
        assert attributes["messaging.batch.message_count"] == 4

    def test_links_to_no_more_than_the_sdk_keeps(
        self, tracer: Tracer, exported: InMemorySpanExporter
    ) -> None:
        self.poll(tracer, [creator(number) for number in range(1, MOST_LINKS + 20)])

        [span] = exported.get_finished_spans()
        assert len(span.links) == MOST_LINKS
        assert span.dropped_links == 0


class TestTraceIdOf:
    def test_is_what_backends_search_for(self, tracer: Tracer) -> None:
        with process(tracer) as span:
            assert trace_id_of(span) == TRACE

    def test_without_an_exporter_the_producers_trace_goes_on(self) -> None:
        def trace_id(parent: TraceContext) -> str | None:
            span: Span
            with process(NoOpTracerProvider().get_tracer("test"), parent=parent) as span:
                set_outcome(span, "delivered")
                return trace_id_of(span)

        assert trace_id(PARENT) == TRACE
        assert trace_id(TraceContext()) is None
