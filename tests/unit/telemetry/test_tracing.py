from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider

from consumer.telemetry.tracing import Tracing, TracingError, choose_exporter, configure_tracing

SOON = timedelta(seconds=5)


@pytest.fixture(autouse=True)
def no_tracing_of_this_shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    loggers = [logging.getLogger(name) for name in ("opentelemetry.exporter", "urllib3.connectionpool")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


class Collector:
    """A collector on loopback that keeps what it is sent, and answers as told."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.status = 202
        self.answer = threading.Event()
        self.answer.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.answer.wait(30)
                outer.received.append((self.path, body))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    serving = threading.Thread(target=collector.server.serve_forever, args=(0.01,))
    serving.start()
    yield collector
    collector.answer.set()
    collector.server.shutdown()
    collector.server.server_close()
    serving.join()


def configured(environ: dict[str, str]) -> Tracing:
    return configure_tracing(environ, service_version="1.2.3", instance="host-1")


@contextmanager
def running(environ: dict[str, str]) -> Iterator[Tracing]:
    tracing = configured(environ)
    try:
        yield tracing
    finally:
        tracing.shutdown(SOON)


class TestChooseExporter:
    @pytest.mark.parametrize(
        ("environ", "exporter"),
        [
            ({}, "none"),
            ({"OTEL_TRACES_EXPORTER": ""}, "none"),
            ({"OTEL_TRACES_EXPORTER": "Zipkin"}, "zipkin"),
            ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
            ({"OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://z"}, "zipkin"),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://o"}, "otlp"),
            ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://o"}, "otlp"),
            (
                {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://o", "OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://z"},
                "otlp",
            ),
            ({"OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://z", "OTEL_TRACES_EXPORTER": "none"}, "none"),
            ({"OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://z", "OTEL_SDK_DISABLED": "TRUE"}, "none"),
            ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "otlp"),
        ],
    )
    def test_follows_the_standard_variables(self, environ: dict[str, str], exporter: str) -> None:
        assert choose_exporter(environ) == exporter

    @pytest.mark.parametrize(
        ("environ", "words"),
        [
            (
                {"OTEL_TRACES_EXPORTER": "jaeger"},
                ["OTEL_TRACES_EXPORTER='jaeger'", "zipkin, otlp, console, none"],
            ),
            (
                {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
                ["OTEL_EXPORTER_OTLP_PROTOCOL='grpc'", "http/protobuf"],
            ),
        ],
    )
    def test_refuses_what_it_cannot_do(self, environ: dict[str, str], words: list[str]) -> None:
        with pytest.raises(TracingError) as error:
            choose_exporter(environ)

        assert all(word in str(error.value) for word in words)


class TestConfigureTracing:
    def test_without_an_exporter_nothing_is_recorded(self) -> None:
        tracing = configured({})

        assert (tracing.exporter, tracing.endpoint) == ("none", None)
        assert isinstance(tracing.provider, NoOpTracerProvider)
        assert tracing.shutdown(timedelta(0))

    def test_exports_to_zipkin(self, collector: Collector) -> None:
        tracing = configured({"OTEL_EXPORTER_ZIPKIN_ENDPOINT": f"{collector.url}/api/v2/spans"})
        with tracing.tracer.start_as_current_span("work"):
            pass

        assert tracing.shutdown(SOON)
        [(path, body)] = collector.received
        [span] = json.loads(body)
        assert path == "/api/v2/spans"
        assert span["name"] == "work"
        assert span["localEndpoint"]["serviceName"] == "kcsync"

    def test_exports_to_otlp(self, collector: Collector) -> None:
        tracing = configured({"OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.url}/"})
        with tracing.tracer.start_as_current_span("work"):
            pass

        assert tracing.shutdown(SOON)
        [(path, body)] = collector.received
        resource = ExportTraceServiceRequest.FromString(body).resource_spans[0]
        attributes = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
        assert path == "/v1/traces"
        assert resource.scope_spans[0].spans[0].name == "work"
        assert attributes["service.name"] == "kcsync"
        assert attributes["service.version"] == "1.2.3"
        assert attributes["service.instance.id"] == "host-1"

    def test_prints_spans_on_stderr_if_asked(self, capfd: pytest.CaptureFixture[str]) -> None:
        with (
            running({"OTEL_TRACES_EXPORTER": "console"}) as tracing,
            tracing.tracer.start_as_current_span("work"),
        ):
            pass

        captured = capfd.readouterr()
        assert captured.out == ""
        assert '"name": "work"' in captured.err

    def test_the_service_can_be_called_otherwise(self, collector: Collector) -> None:
        environ = {"OTEL_EXPORTER_ZIPKIN_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "kcsync-blue"}
        with running(environ) as tracing:
            assert isinstance(tracing.provider, TracerProvider)
            assert tracing.provider.resource.attributes["service.name"] == "kcsync-blue"

    def test_the_sampler_of_the_environment_is_honoured(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        environ = {"OTEL_EXPORTER_ZIPKIN_ENDPOINT": collector.url}
        with running(environ) as tracing, tracing.tracer.start_as_current_span("work") as span:
            assert not span.is_recording()

        assert collector.received == []

    def test_an_endpoints_credentials_are_not_shown(self) -> None:
        with running({"OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://me:geheim@127.0.0.1:9/"}) as tracing:
            assert tracing.endpoint == "http://****@127.0.0.1:9/"

    def test_takes_effect_only_where_it_is_used(self) -> None:
        before = trace.get_tracer_provider()
        with running({"OTEL_TRACES_EXPORTER": "console"}):
            assert trace.get_tracer_provider() is before


class TestACollectorThatIsAway:
    def test_costs_spans_one_line_and_no_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # Bound and not listening: connections are refused.
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/api/v2/spans"
            with running({"OTEL_EXPORTER_ZIPKIN_ENDPOINT": url}) as tracing:
                assert isinstance(tracing.provider, TracerProvider)
                for _ in range(3):
                    with tracing.tracer.start_as_current_span("work"):
                        pass
                    tracing.provider.force_flush()

        [record] = caplog.records
        assert record.getMessage() == (
            f"Traces cannot be exported to {url} (ConnectionError); they are dropped until it answers"
        )
        assert record.exc_info is None

    @pytest.mark.parametrize("variable", ["OTEL_EXPORTER_ZIPKIN_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
    def test_its_return_is_told_with_the_loss(
        self, collector: Collector, caplog: pytest.LogCaptureFixture, variable: str
    ) -> None:
        with running({variable: collector.url}) as tracing:
            assert isinstance(tracing.provider, TracerProvider)
            for status in (400, 400, 200, 200):
                collector.status = status
                with tracing.tracer.start_as_current_span("work"):
                    pass
                tracing.provider.force_flush()

        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 2
        assert "(they were not accepted)" in lines[0]
        assert lines[1].endswith("again; 2 spans were lost")

    def test_holding_the_connection_does_not_hold_the_process(self, collector: Collector) -> None:
        collector.answer.clear()
        tracing = configured({"OTEL_EXPORTER_ZIPKIN_ENDPOINT": collector.url})
        begun = time.monotonic()
        with tracing.tracer.start_as_current_span("work"):
            pass

        assert not tracing.shutdown(timedelta(milliseconds=200))
        assert time.monotonic() - begun < 2
        [closing] = [thread for thread in threading.enumerate() if thread.name == "kcsync-tracing-shutdown"]
        assert closing.daemon
        # Nor does the SDK wait at the interpreter's exit.
        assert isinstance(tracing.provider, TracerProvider)
        assert tracing.provider._atexit_handler is None
