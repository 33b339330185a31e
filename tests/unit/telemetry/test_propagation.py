from __future__ import annotations

import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span

from consumer.telemetry.propagation import TraceContext

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class TestFromHeaders:
    def test_takes_both_headers(self) -> None:
        headers = [
            ("content-type", b"application/cloudevents+json"),
            ("traceparent", PARENT),
            ("tracestate", b"a=1"),
        ]

        assert TraceContext.from_headers(headers) == TraceContext(PARENT, b"a=1")

    def test_header_names_have_no_case(self) -> None:
        assert TraceContext.from_headers([("TraceParent", PARENT)]).traceparent == PARENT

    def test_of_a_repeated_header_the_last_counts(self) -> None:
        assert (
            TraceContext.from_headers([("traceparent", b"x"), ("traceparent", PARENT)]).traceparent == PARENT
        )

    @pytest.mark.parametrize(
        "traceparent",
        [
            None,
            b"",
            b"nonsense",
            b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
            b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            PARENT.upper(),
            PARENT + b"-more",
            PARENT + b"\n",
            b"\xff" * 55,
        ],
    )
    def test_a_malformed_traceparent_counts_as_absent(self, traceparent: bytes | None) -> None:
        headers = [("traceparent", traceparent), ("tracestate", b"a=1")]

        assert TraceContext.from_headers(headers) == TraceContext()

    @pytest.mark.parametrize("tracestate", [b"", b"a=\xff", b"a=" + b"x" * 511])
    def test_a_tracestate_that_cannot_be_stored_is_left_out(self, tracestate: bytes) -> None:
        assert TraceContext.of(PARENT, tracestate) == TraceContext(PARENT)


class TestToContext:
    def test_its_current_span_is_the_producers(self) -> None:
        span = get_current_span(TraceContext(PARENT, b"a=1").to_context()).get_span_context()

        assert (
            f"{span.trace_id:032x}-{span.span_id:016x}" == "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
        )
        assert span.is_remote
        assert span.trace_flags.sampled
        assert dict(span.trace_state) == {"a": "1"}

    def test_without_one_it_is_empty_even_inside_a_span(self) -> None:
        with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("around"):
            empty = TraceContext().to_context()

        assert not get_current_span(empty).get_span_context().is_valid

    def test_no_baggage_comes_along(self) -> None:
        token = context.attach(baggage.set_baggage("tenant", "blue"))
        try:
            assert not baggage.get_all(TraceContext(PARENT).to_context())
        finally:
            context.detach(token)
