"""One delivery, from the publish call to Keycloak's answer, as Zipkin shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

_KINDS: Final = ("PRODUCER", "CONSUMER", "CLIENT")
# So many ids fit into the request line that Zipkin takes.
_ASKED_AT_ONCE: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One step of a trace.

    Attributes:
        span_id: Its own id.
        parent_id: The step that caused it; None for the first.
        kind: PRODUCER (publish), CONSUMER (an attempt to deliver) or CLIENT (a request to Keycloak).
        name: What was done.
        service: Who did it.
        begin: Microseconds since 1970.
        microseconds: How long it took.
        failed: Whether it is marked as an error.
    """

    span_id: str
    parent_id: str | None
    kind: str
    name: str
    service: str
    begin: int
    microseconds: int
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """All steps of one event.

    Attributes:
        trace_id: 32 hexadecimal characters.
        spans: In the order in which they began.
    """

    trace_id: str
    spans: tuple[Span, ...]

    @property
    def attempts(self) -> int:
        """How often kcsync tried to deliver it."""
        return sum(span.kind == "CONSUMER" for span in self.spans)

    @property
    def reaches_keycloak(self) -> bool:
        """Whether a successful request to Keycloak hangs below an attempt, and that below the publish call."""
        spans = {span.span_id: span for span in self.spans}
        return any(
            not span.failed and _chain(span, spans) == _KINDS for span in self.spans if span.kind == "CLIENT"
        )


def best_of(traces: Iterable[Trace]) -> Trace | None:
    """Choose the trace to show: one that reaches Keycloak, and of these the one with the most attempts."""
    whole = [trace for trace in traces if trace.reaches_keycloak]
    return max(whole, key=lambda trace: trace.attempts, default=None)


def picture(trace: Trace) -> list[str]:
    """Draw a trace, a line a span: when it began, how long it took, who did what."""
    spans = {span.span_id: span for span in trace.spans}
    begin = trace.spans[0].begin
    return [
        f"{_seconds(span.begin - begin):>9} {_seconds(span.microseconds):>9}  "
        f"{'  ' * (len(_chain(span, spans)) - 1)}{span.name} ({span.service})"
        f"{'  failed' if span.failed else ''}"
        for span in trace.spans
    ]


def parse_trace(spans: Sequence[Mapping[str, Any]]) -> Trace:
    """Read one trace as Zipkin's API gives it."""
    return Trace(
        trace_id=spans[0]["traceId"],
        spans=tuple(
            sorted(
                (
                    Span(
                        span_id=span["id"],
                        parent_id=span.get("parentId"),
                        kind=span.get("kind", ""),
                        name=span.get("name", ""),
                        service=span.get("localEndpoint", {}).get("serviceName", ""),
                        begin=span.get("timestamp", 0),
                        microseconds=span.get("duration", 0),
                        failed="error" in span.get("tags", {}),
                    )
                    for span in spans
                ),
                key=lambda span: span.begin,
            )
        ),
    )


async def read_traces(zipkin_url: str, trace_ids: Sequence[str]) -> list[Trace]:
    """Read several traces; those that Zipkin does not have are left out.

    Raises:
        HTTPError: Zipkin did not answer, or refused.
    """
    found: list[Trace] = []
    async with httpx.AsyncClient(base_url=zipkin_url, timeout=15) as http:
        for start in range(0, len(trace_ids), _ASKED_AT_ONCE):
            asked = ",".join(trace_ids[start : start + _ASKED_AT_ONCE])
            answer = await http.get("/api/v2/traceMany", params={"traceIds": asked})
            answer.raise_for_status()
            found += [parse_trace(spans) for spans in answer.json() if spans]
    return found


def link(zipkin_url: str, trace: Trace) -> str:
    """Say where a browser shows a trace."""
    return f"{zipkin_url}/zipkin/traces/{trace.trace_id}"


def _chain(span: Span, spans: Mapping[str, Span]) -> tuple[str, ...]:
    """Give the kinds from the first cause down to this span."""
    kinds: list[str] = []
    step: Span | None = span
    while step is not None and len(kinds) < len(spans):
        kinds.insert(0, step.kind)
        step = spans.get(step.parent_id or "")
    return tuple(kinds)


def _seconds(microseconds: int) -> str:
    return f"{microseconds / 1_000_000:.3f} s"
