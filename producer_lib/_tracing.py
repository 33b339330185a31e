"""The `send` span, and the trace context that goes with the event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from producer_lib._published import Published

_TRACER: Final = trace.get_tracer("producer_lib")
_PROPAGATOR: Final = TraceContextTextMapPropagator()

# The contract's limit; a longer tracestate is dropped, which W3C Trace Context allows.
_MAX_TRACESTATE: Final = 512


def begin(topic: str, event: dict[str, Any]) -> tuple[trace.Span, dict[str, str]]:
    """Start the span of one event; return it with the trace context to send.

    The context is empty when the application neither records traces nor is part of one: no ids are made up.
    The span names the event by its id. The username stays out.
    """
    span = _TRACER.start_span(
        f"send {topic}",
        kind=trace.SpanKind.PRODUCER,
        attributes={
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
            "cloudevents.event_id": event["id"],
            "cloudevents.event_source": event["source"],
            "cloudevents.event_type": event["type"],
        },
    )
    context: dict[str, str] = {}
    _PROPAGATOR.inject(context, trace.set_span_in_context(span))
    if len(context.get("tracestate", "")) > _MAX_TRACESTATE:
        del context["tracestate"]
    return span, context


def succeed(span: trace.Span, published: Published) -> None:
    """End the span of an event that Kafka has."""
    span.set_attribute("messaging.destination.partition.id", str(published.partition))
    span.set_attribute("messaging.kafka.offset", published.offset)
    span.end()


def fail(span: trace.Span, error: BaseException) -> None:
    """End the span of an event that Kafka has not confirmed."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(trace.StatusCode.ERROR, str(error))
    span.end()
