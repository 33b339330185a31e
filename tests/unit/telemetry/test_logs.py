from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider

from consumer.telemetry.logs import LogFormat, LogLevel, Logs, SeldomRepeated, configure_logging

SOON = timedelta(seconds=5)
LIBRARIES = ("aiohttp", "aiokafka", "httpcore", "httpx", "keycloak", "urllib3")

Start = Callable[[LogFormat, LogLevel], Callable[[], list[str]]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Configure logging into a buffer; what comes back ends it and gives the lines."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, LIBRARIES)]
    levels = [logger.level for logger in loggers]
    running: list[Logs] = []

    def configure(log_format: LogFormat, level: LogLevel) -> Callable[[], list[str]]:
        stream = io.StringIO()
        logs = configure_logging(log_format, level, stream)
        running.append(logs)

        def lines() -> list[str]:
            assert logs.close(SOON)
            return stream.getvalue().splitlines()

        return lines

    yield configure
    for logs in running:
        logs.close(SOON)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


class TestText:
    def test_is_a_time_a_message_and_values(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        lines = start("text", "INFO")
        structlog.get_logger("consumer.drain").info(
            "Entry delivered", event_id="e-1", attempt=2, note="two words", none=""
        )

        [line] = lines()
        monkeypatch.undo()
        time.tzset()
        assert re.fullmatch(
            r'\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] Entry delivered event_id=e-1 attempt=2 note="two words" none=""',
            line,
        )

    def test_urgency_stands_before_the_message(self, start: Start) -> None:
        lines = start("text", "INFO")
        structlog.get_logger("consumer.circuit").warning("Keycloak unavailable")

        assert lines()[0].endswith("] WARNING Keycloak unavailable")

    def test_a_value_cannot_write_a_line_of_its_own(self, start: Start) -> None:
        lines = start("text", "INFO")
        structlog.get_logger("consumer.x").info("a\n[2026] b", value="c\n[2026] d", escape="\x1b[31m")

        [line] = lines()
        assert r"a\n[2026] b" in line
        assert r"c\n[2026] d" in line
        assert "\x1b" not in line

    def test_a_library_is_named(self, start: Start) -> None:
        lines = start("text", "INFO")
        logging.getLogger("asyncio").warning("slow %s", "callback")

        assert lines()[0].endswith("] WARNING slow callback logger=asyncio")

    def test_a_traceback_follows_its_line(self, start: Start) -> None:
        lines = start("text", "INFO")
        try:
            int("http://u:geheim@h/")
        except ValueError:
            logging.getLogger("consumer.app").exception("It broke")

        written = lines()
        assert written[0].endswith("] ERROR It broke")
        assert written[1] == "Traceback (most recent call last):"
        assert written[-1] == "ValueError: invalid literal for int() with base 10: 'http://****@h/'"


class TestJson:
    def log(self, lines: Callable[[], list[str]]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in lines()]

    def test_is_one_object_a_line(self, start: Start) -> None:
        lines = start("json", "INFO")
        structlog.get_logger("consumer.drain").info(
            "Entry delivered", event_id="e-1", took=timedelta(seconds=1)
        )

        [event] = self.log(lines)
        assert event.pop("timestamp").endswith("Z")
        assert event == {
            "message": "Entry delivered",
            "level": "info",
            "logger": "consumer.drain",
            "event_id": "e-1",
            "took": "0:00:01",
        }

    def test_has_the_trace_of_the_span_around_it(self, start: Start) -> None:
        lines = start("json", "INFO")
        tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
        with tracer.start_as_current_span("work") as span:
            structlog.get_logger("consumer.x").info("ours")
            logging.getLogger("asyncio").warning("theirs")
        structlog.get_logger("consumer.x").info("outside")

        ours, theirs, outside = self.log(lines)
        context = span.get_span_context()
        for event in (ours, theirs):
            assert event["trace_id"] == f"{context.trace_id:032x}"
            assert event["span_id"] == f"{context.span_id:016x}"
        assert "trace_id" not in outside

    def test_bound_context_is_in_every_line(self, start: Start) -> None:
        lines = start("json", "INFO")
        with structlog.contextvars.bound_contextvars(event_id="e-7"):
            structlog.get_logger("consumer.x").info("ours")
            logging.getLogger("asyncio").warning("theirs")

        assert [event["event_id"] for event in self.log(lines)] == ["e-7", "e-7"]

    def test_a_traceback_is_one_value(self, start: Start) -> None:
        lines = start("json", "INFO")
        try:
            int("no")
        except ValueError:
            structlog.get_logger("consumer.x").exception("It broke")

        [event] = self.log(lines)
        assert event["exception"].endswith("base 10: 'no'")


class TestWhatIsNeverWritten:
    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_secrets_and_usernames(self, start: Start, log_format: LogFormat) -> None:
        lines = start(log_format, "DEBUG")
        log = structlog.get_logger("consumer.x")
        log.info("call", password="geheim", username="alice", headers={"Authorization": "Bearer geheim"})
        log.info("dsn=mysql://u:geheim@h/d", url="http://k/users?username=alice")
        logging.getLogger("somelibrary").warning("POST %s", "http://k/?client_secret=geheim&username=alice")

        text = "\n".join(lines())
        assert "geheim" not in text
        assert "alice" not in text
        assert text.count("****") >= 6

    @pytest.mark.parametrize("level", ["DEBUG", "INFO"])
    @pytest.mark.parametrize("library", ["httpx", "httpcore", "aiohttp.client", "keycloak", "urllib3"])
    def test_the_urls_that_libraries_log(self, start: Start, library: str, level: LogLevel) -> None:
        lines = start("text", level)
        logging.getLogger(library).info("HTTP Request: GET http://k/users/alice")
        logging.getLogger(library).warning("heard")

        [line] = lines()
        assert "heard" in line


class TestLevels:
    def test_less_urgent_lines_are_left_out(self, start: Start) -> None:
        lines = start("text", "WARNING")
        structlog.get_logger("consumer.x").info("quiet")
        logging.getLogger("consumer.x").info("quiet")
        structlog.get_logger("consumer.x").warning("heard")

        assert len(lines()) == 1

    @pytest.mark.parametrize(("level", "count"), [("DEBUG", 1), ("INFO", 0)])
    def test_what_kafka_tells_is_for_debugging(self, start: Start, level: LogLevel, count: int) -> None:
        lines = start("text", level)
        logging.getLogger("aiokafka.consumer.group_coordinator").info("Joined group")

        assert len(lines()) == count

    def test_after_the_end_nothing_is_written(self, start: Start) -> None:
        lines = start("text", "INFO")
        before = lines()
        logging.getLogger("consumer.x").warning("too late")

        assert before == []


class TestSeldomRepeated:
    def record(self, name: str, message: str, *arguments: object) -> logging.LogRecord:
        return logging.LogRecord(name, logging.ERROR, "file", 1, message, arguments, None)

    def test_holds_back_what_a_library_repeats_and_says_how_much(self) -> None:
        now = [100.0]
        seldom = SeldomRepeated(["aiokafka"], 30, lambda: now[0])

        passed = [seldom.filter(self.record("aiokafka.conn", "no node %s", node)) for node in range(5)]
        now[0] += 30
        again = self.record("aiokafka.conn", "no node %s", 9)

        assert passed == [True, False, False, False, False]
        assert seldom.filter(again)
        assert again.__dict__["alike"] == 4

    def test_other_lines_and_other_loggers_pass(self) -> None:
        seldom = SeldomRepeated(["aiokafka"], 30, lambda: 100.0)

        assert seldom.filter(self.record("aiokafka.conn", "one"))
        assert seldom.filter(self.record("aiokafka.conn", "two"))
        assert all(seldom.filter(self.record("consumer.drain", "same")) for _ in range(3))

    def test_stays_small_whatever_a_library_logs(self) -> None:
        seldom = SeldomRepeated(["aiokafka"], 30, lambda: 100.0)
        for number in range(5_000):
            seldom.filter(self.record("aiokafka.conn", f"value {number} in the template"))

        assert len(seldom._seen) <= 1_000

    def test_a_young_clusters_missing_coordinator_is_no_news(self, start: Start) -> None:
        lines = start("text", "INFO")

        logging.getLogger("aiokafka.consumer.group_coordinator").error(
            "Group Coordinator Request failed: %s", "[Error 15] GroupCoordinatorNotAvailableError"
        )
        logging.getLogger("aiokafka.consumer.group_coordinator").error("Heartbeat failed")

        assert [line.partition("] ")[2] for line in lines()] == [
            "ERROR Heartbeat failed logger=aiokafka.consumer.group_coordinator"
        ]

    def test_the_count_is_in_the_line(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr("consumer.telemetry.logs.time.monotonic", lambda: now[0])
        lines = start("text", "INFO")
        for _ in range(3):
            logging.getLogger("aiokafka.conn").error("Unable to connect")
        now[0] += 31
        logging.getLogger("aiokafka.conn").error("Unable to connect")

        first, second = lines()
        assert "alike" not in first
        assert second.endswith("ERROR Unable to connect logger=aiokafka.conn alike=2")
