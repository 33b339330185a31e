"""The W3C trace context that came with an event, from its Kafka headers to the outbox and back into a trace.

No baggage: what a producer puts there would travel to Keycloak unseen. Format: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consumer.frozen import quick_dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_LONGEST_TRACESTATE: Final = 512


@quick_dataclass(frozen=True, slots=True)
class TraceContext:
    """The context a producer sent with an event, as the outbox stores it.

    Attributes:
        traceparent: 55 ASCII bytes; None if the producer sent none or a malformed one.
        tracestate: At most 512 ASCII bytes; None without a traceparent, or if it was longer.
    """

    traceparent: bytes | None = None
    tracestate: bytes | None = None

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[str, bytes | None]]) -> TraceContext:
        """Take the context from a Kafka record's headers; of a repeated header the last one counts."""
        sent = {name.lower(): value for name, value in headers}
        return cls.of(sent.get("traceparent"), sent.get("tracestate"))

    @classmethod
    def of(cls, traceparent: bytes | None, tracestate: bytes | None = None) -> TraceContext:
        """Take the context as stored or received; what is malformed counts as absent."""
        if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
            return cls()
        fits = tracestate and tracestate.isascii() and len(tracestate) <= _LONGEST_TRACESTATE
        return cls(traceparent, tracestate if fits else None)

    def to_context(self) -> Context:
        """Give the OpenTelemetry context whose current span is the producer's; an empty one if none was sent.

        It never takes in the span that happens to be current where it is called.
        """
        if self.traceparent is None:
            return Context()
        carrier = {"traceparent": self.traceparent.decode("ascii")}
        if self.tracestate is not None:
            carrier["tracestate"] = self.tracestate.decode("ascii")
        return _PROPAGATOR.extract(carrier, context=Context())
