"""Where traces go: to Zipkin, to an OTLP collector, to the terminal, or nowhere, by the standard `OTEL_…` variables.

What is not named here (samplers, queue sizes, headers, certificates, resource attributes, timeouts) the OpenTelemetry
SDK reads itself: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace import NoOpTracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consumer.telemetry.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from opentelemetry.sdk.trace import ReadableSpan

ExporterName = Literal["zipkin", "otlp", "console", "none"]

_log = logging.getLogger(__name__)
_EXPORTERS: Final = ("zipkin", "otlp", "console", "none")
_ZIPKIN_ENDPOINT: Final = "OTEL_EXPORTER_ZIPKIN_ENDPOINT"
_OTLP_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_OTLP_TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


class TracingError(ValueError):
    """An `OTEL_…` variable asks for what this program cannot do; the message names it and what is allowed."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """The running tracer of this process.

    Attributes:
        exporter: Where spans go.
        endpoint: The collector's address without credentials; None for `console` and `none`.
        provider: Gives tracers. With `none` it records nothing, yet a producer's context still passes through it to
            Keycloak.
    """

    exporter: ExporterName
    endpoint: str | None
    provider: trace.TracerProvider

    @property
    def tracer(self) -> trace.Tracer:
        """The consumer's own tracer."""
        return self.provider.get_tracer("kcsync")

    def install(self) -> None:
        """Make it the process's tracer for code that asks OpenTelemetry's API, without baggage. Once a process."""
        trace.set_tracer_provider(self.provider)
        propagate.set_global_textmap(TraceContextTextMapPropagator())

    def shutdown(self, within: timedelta) -> bool:
        """Export what is queued and stop; blocks for at most the time given, whatever the collector does.

        Returns:
            Whether it came to an end in time. If not, the queued spans are lost.
        """
        if not isinstance(self.provider, TracerProvider):
            return True
        # A daemon: a collector that holds the connection must not hold the process.
        closing = threading.Thread(target=self.provider.shutdown, name="kcsync-tracing-shutdown", daemon=True)
        closing.start()
        closing.join(within.total_seconds())
        return not closing.is_alive()


def configure_tracing(environ: Mapping[str, str], *, service_version: str, instance: str) -> Tracing:
    """Build the tracer that the environment asks for; it takes effect where it is used or installed.

    `OTEL_TRACES_EXPORTER` chooses `zipkin`, `otlp`, `console` (stderr) or `none`. Unset, it follows from which
    `OTEL_EXPORTER_…_ENDPOINT` is set (OTLP before Zipkin), and is `none` without one. `OTEL_SDK_DISABLED=true` is
    `none`. Spans are exported by a thread from a bounded queue: a collector that is away costs spans, never time.

    Args:
        environ: The process's environment.
        service_version: Version of kcsync, for `service.version`.
        instance: Name of this process, for `service.instance.id`.

    Raises:
        TracingError: A variable has a value that is not possible.
    """
    exporter = choose_exporter(environ)
    endpoint = _endpoint(exporter, environ)
    if exporter == "none":
        return Tracing(exporter, None, NoOpTracerProvider())
    resource = Resource(
        {
            "service.name": "kcsync",
            "service.version": service_version,
            "service.instance.id": instance,
        }
    ).merge(OTELResourceDetector().detect())
    if name := environ.get("OTEL_SERVICE_NAME"):
        resource = resource.merge(Resource({"service.name": name}))
    # Not at exit: that would wait up to 30 s for a collector that is away. `shutdown` is bounded.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(QuietExporter(_build(exporter, endpoint), endpoint)))
    # These log each failed batch, Zipkin's with a traceback; QuietExporter says it once.
    for noisy in ("opentelemetry.exporter", "urllib3.connectionpool"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    return Tracing(exporter, None if endpoint is None else redact_text(endpoint), provider)


def choose_exporter(environ: Mapping[str, str]) -> ExporterName:
    """Decide where spans go.

    Raises:
        TracingError: `OTEL_TRACES_EXPORTER` or `OTEL_EXPORTER_OTLP_PROTOCOL` has a value that is not possible.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "none"
    chosen = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not chosen:
        if environ.get(_OTLP_TRACES_ENDPOINT) or environ.get(_OTLP_ENDPOINT):
            chosen = "otlp"
        else:
            chosen = "zipkin" if environ.get(_ZIPKIN_ENDPOINT) else "none"
    if chosen not in _EXPORTERS:
        raise TracingError(
            f"OTEL_TRACES_EXPORTER={chosen!r}: there is no such exporter. Allowed: {', '.join(_EXPORTERS)}."
        )
    if chosen == "otlp":
        for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            if environ.get(variable, "http/protobuf") not in {"", "http/protobuf"}:
                raise TracingError(
                    f"{variable}={environ[variable]!r}: this protocol is not built in. Allowed: http/protobuf."
                )
    return cast("ExporterName", chosen)


class QuietExporter(SpanExporter):
    """An exporter that says once that its collector is away, and once that it is back and how many spans that cost."""

    def __init__(self, exporter: SpanExporter, endpoint: str | None) -> None:
        """Wrap an exporter.

        Args:
            exporter: What sends the spans.
            endpoint: Where to, for the log lines.
        """
        self._exporter = exporter
        self._where = "the terminal" if endpoint is None else redact_text(endpoint)
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; those that cannot be sent are dropped, as the SDK keeps none for a second try."""
        try:
            result = self._exporter.export(spans)
            why = "they were not accepted"
        except Exception as error:  # noqa: BLE001 - whatever a transport raises, delivery goes on untraced.
            result = SpanExportResult.FAILURE
            why = type(error).__name__
        if result is SpanExportResult.FAILURE:
            if not self._lost:
                _log.warning(
                    "Traces cannot be exported to %s (%s); they are dropped until it answers",
                    self._where,
                    why,
                )
            self._lost += len(spans)
        elif self._lost:
            _log.warning("Traces are exported to %s again; %d spans were lost", self._where, self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """Close the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Pass on the wish; the exporters in use hold nothing back."""
        return self._exporter.force_flush(timeout_millis)


def _endpoint(exporter: ExporterName, environ: Mapping[str, str]) -> str | None:
    if exporter == "zipkin":
        return environ.get(_ZIPKIN_ENDPOINT) or "http://localhost:9411/api/v2/spans"
    if exporter == "otlp":
        base = environ.get(_OTLP_ENDPOINT) or "http://localhost:4318"
        return environ.get(_OTLP_TRACES_ENDPOINT) or f"{base.removesuffix('/')}/v1/traces"
    return None


def _build(exporter: ExporterName, endpoint: str | None) -> SpanExporter:
    # Imported where they are needed: each brings an HTTP client along.
    if exporter == "zipkin":
        from opentelemetry.exporter.zipkin.json import ZipkinExporter  # noqa: PLC0415 - see above.

        return ZipkinExporter(endpoint=endpoint)
    if exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - see above.

        return OTLPSpanExporter(endpoint=endpoint)
    # stdout is for what a command answers.
    return ConsoleSpanExporter(out=sys.stderr)
