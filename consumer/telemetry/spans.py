"""The spans of the consumer: one per delivery attempt, one per batch that was polled and persisted.

Names and attributes follow OpenTelemetry's messaging conventions:
https://opentelemetry.io/docs/specs/semconv/messaging/kafka/
Usernames stand in none of them (so no `messaging.kafka.message.key`); the event id is the handle.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, SpanKind, StatusCode, get_current_span, set_span_in_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from opentelemetry.trace import Span, SpanContext, Tracer
    from opentelemetry.util.types import AttributeValue

    from consumer.telemetry.propagation import TraceContext

MOST_LINKS: Final = 128
"""The SDK's own limit; more would be dropped unseen."""


def process_span(
    tracer: Tracer,
    *,
    parent: TraceContext,
    topic: str,
    group: str,
    partition: int,
    offset: int,
    event_id: str,
    kind: str,
    attempt: int,
) -> Span:
    """Start the span of one delivery attempt, as a child of the producer's span: one trace from publish to Keycloak.

    A retry is a new span with a higher `kcsync.attempt`. It ends with `UnderWay`.

    Args:
        tracer: Where spans come from.
        parent: The context stored with the event; without one the span begins a trace of its own.
        topic: The event's topic.
        group: The consumer group.
        partition: The event's partition.
        offset: The event's offset.
        event_id: The event's CloudEvents id.
        kind: The event's kind, `user_create` for example.
        attempt: Which attempt this is, counted from 1.
    """
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
        "messaging.consumer.group.name": group,
        "messaging.kafka.offset": offset,
        "kcsync.event_id": event_id,
        "kcsync.kind": kind,
        "kcsync.attempt": attempt,
    }
    return tracer.start_span(
        f"process {topic}", context=parent.to_context(), kind=SpanKind.CONSUMER, attributes=attributes
    )


class UnderWay:
    """End spans with the block, of which the first is the current one inside: an HTTP call made there is its child.

    An exception that leaves the block marks them with its type alone: its text may name a user.

    Args:
        spans: One or more spans that have started.
    """

    # By hand, once for each delivery: `start_as_current_span` is three context managers more for each span, and
    # `@contextmanager` costs half as much again as this class.
    __slots__ = ("_spans", "_token")

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans

    def __enter__(self) -> None:
        self._token = attach(set_span_in_context(self._spans[0]))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        detach(self._token)
        for span in self._spans:
            if kind is not None:
                span.set_attribute("error.type", kind.__qualname__)
                span.set_status(StatusCode.ERROR)
            span.end()


def heal_span(tracer: Tracer, *, kind: str) -> AbstractContextManager[Span]:
    """Open the span of a heal: a lane's doubt is removed. It belongs to no event, and is the root of a trace.

    Args:
        tracer: Where spans come from.
        kind: The kind of doubt, `timeout` or `takeover` for example.
    """
    return _open(tracer, "heal", {"kcsync.doubt": kind})


def poll_span(
    tracer: Tracer, *, topic: str, group: str, count: int, creators: Iterable[TraceContext]
) -> AbstractContextManager[Span]:
    """Open the span of one batch, from the poll to the commit of its transaction.

    It is the root of a trace of its own and links to the spans that created the records, each once and at most 128 of
    them. A root has no parent, so no link can point at one: Jaeger would turn such a child into a follower.

    Args:
        tracer: Where spans come from.
        topic: The topic polled.
        group: The consumer group.
        count: How many records the batch has; an idle poll is not worth a span.
        creators: The contexts of its records, in any order.
    """
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "poll",
        "messaging.operation.type": "receive",
        "messaging.destination.name": topic,
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": count,
    }
    links = [Link(creator) for creator in islice(_distinct(creators), MOST_LINKS)]
    return _open(tracer, f"poll {topic}", attributes, links)


def set_outcome(span: Span, outcome: str, reason: str | None = None) -> None:
    """Record what an attempt came to; all but `delivered` show as an error in the trace.

    Args:
        span: The attempt's span.
        outcome: `delivered`, `retry`, `defer` or `dead_letter`.
        reason: The reason code, if there is one.
    """
    # One by one: the SDK takes a fifth longer for a mapping of two.
    span.set_attribute("kcsync.outcome", outcome)
    if reason is not None:
        span.set_attribute("kcsync.reason", reason)
    if outcome != "delivered":
        span.set_attribute("error.type", reason or outcome)
        span.set_status(StatusCode.ERROR)


def trace_id_of(span: Span) -> str | None:
    """Give the trace's id as 32 hexadecimal characters, as backends search for it; None outside any trace."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


@contextmanager
def _open(
    tracer: Tracer,
    name: str,
    attributes: dict[str, AttributeValue],
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    """Open the root of a trace."""
    span = tracer.start_span(
        name, context=Context(), kind=SpanKind.CONSUMER, attributes=attributes, links=links
    )
    with UnderWay((span,)):
        yield span


def _distinct(creators: Iterable[TraceContext]) -> Iterator[SpanContext]:
    seen = set()
    for creator in creators:
        if creator.traceparent is None or creator.traceparent in seen:
            continue
        seen.add(creator.traceparent)
        yield get_current_span(creator.to_context()).get_span_context()
