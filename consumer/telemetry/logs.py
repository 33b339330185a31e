"""Log lines: for people `[2026-02-07 10:00:00] message key=value`, for log stores one JSON object each.

Everything goes one way, ours (structlog) and the libraries' (stdlib logging) alike: levels, trace ids, redaction,
one line, a queue. Usernames stand in none of them; the event id is the handle.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import orjson
import structlog
from opentelemetry.trace import get_current_span

from consumer.telemetry.line_writer import LineWriter
from consumer.telemetry.redaction import redact, redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta
    from typing import TextIO

    from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["text", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

# At INFO these write whole URLs, in which Keycloak's searches have usernames.
_WRITE_URLS: Final = ("aiohttp", "httpcore", "httpx", "keycloak", "urllib3")
# At INFO aiokafka tells of every rebalance step; ours are told by ingest.
_TALKATIVE: Final = ("aiokafka",)
# While their server is away these repeat the same line every second or less.
_REPEATING: Final = ("aiokafka", "opentelemetry", "aiohttp", "asyncio")
_REPEAT_AFTER_SECONDS: Final = 30.0
_MOST_REMEMBERED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Logs:
    """The logging of this process, as configured; close it last of all."""

    handler: logging.Handler
    writer: LineWriter

    def close(self, within: timedelta) -> bool:
        """Write what waits and take the configuration back; blocks for at most the time given.

        Returns:
            Whether all lines were written.
        """
        logging.getLogger().removeHandler(self.handler)
        structlog.reset_defaults()
        return self.writer.close(within)


def configure_logging(log_format: LogFormat, level: LogLevel, stream: TextIO | None = None) -> Logs:
    """Send all log lines of this process one way.

    Args:
        log_format: `text` for people, `json` for log stores.
        level: The least urgent lines written. `httpx`, `httpcore`, `aiohttp`, `urllib3`, `keycloak` stay at WARNING
            even with DEBUG: what they write below it has usernames in it.
        stream: Where to; None means stderr, as stdout is for what a command answers.
    """
    number = logging.getLevelNamesMapping()[level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_trace,
    ]
    rendering: list[Processor] = [
        _add_repetitions,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _redact,
        *(_JSON if log_format == "json" else _TEXT),
    ]
    writer = LineWriter(sys.stderr if stream is None else stream, lost_line=_lost_line(log_format))
    handler = _LineHandler(writer)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=rendering))
    handler.addFilter(SeldomRepeated(_REPEATING, _REPEAT_AFTER_SECONDS, time.monotonic))
    handler.addFilter(_not_of_a_young_cluster)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(number)
    for name in _WRITE_URLS:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(number if number == logging.DEBUG else max(number, logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    return Logs(handler, writer)


class SeldomRepeated(logging.Filter):
    """Lets a library's line pass once in a while, and counts the like lines between."""

    def __init__(self, names: Sequence[str], seconds: float, now: Callable[[], float]) -> None:
        """Choose what to thin out.

        Args:
            names: Loggers, with all below them; other loggers' lines always pass.
            seconds: How long after a line its like is held back. Alike are lines of one logger, level and template.
            now: A clock in seconds that never goes back.
        """
        super().__init__()
        self._names = frozenset(names)
        self._seconds = seconds
        self._now = now
        self._seen: dict[tuple[str, int, object], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the line passes; one that does carries the number held back as `alike`."""
        if record.name.partition(".")[0] not in self._names:
            return True
        kind = (record.name, record.levelno, record.msg if isinstance(record.msg, str) else type(record.msg))
        now = self._now()
        passed, held_back = self._seen.get(kind, (None, 0))
        if passed is not None and now - passed < self._seconds:
            self._seen[kind] = (passed, held_back + 1)
            return False
        if len(self._seen) >= _MOST_REMEMBERED:
            # A library that puts values into its templates must not fill the memory.
            self._seen.clear()
        self._seen[kind] = (now, 0)
        record.alike = held_back
        return True


def _not_of_a_young_cluster(record: logging.LogRecord) -> bool:
    """Drop what aiokafka calls an error while a new Kafka makes its groups' topic: it asks again, and gets it."""
    return not (
        record.name.startswith("aiokafka") and "GroupCoordinatorNotAvailableError" in record.getMessage()
    )


class _LineHandler(logging.Handler):
    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        # Rendered here, where the current span and the context are still the caller's.
        try:
            self._writer.write(self.format(record))
        except Exception:  # noqa: BLE001 - the stdlib's own way: a line that cannot be written never stops its caller.
            self.handleError(record)


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    context = get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


def _add_repetitions(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if alike := getattr(event.get("_record"), "alike", 0):
        event["alike"] = alike
    return event


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: redact(key, value) for key, value in event.items()}


def _render_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    timestamp = event.pop("timestamp")
    level = str(event.pop("level", "info")).upper()
    message = _one_line(str(event.pop("event", "")))
    exception = event.pop("exception", None)
    # People follow a trace by the event id; the ids of the trace are for the JSON that machines join.
    for machine_key in ("trace_id", "span_id"):
        event.pop(machine_key, None)
    if str(event.get("logger", "")).partition(".")[0] in {"consumer", "kcsync", "producer_lib"}:
        del event["logger"]
    urgent = f"{level} " if level not in {"INFO", "DEBUG"} else ""
    line = " ".join(
        [f"[{timestamp}] {urgent}{message}", *(f"{key}={_text_value(event[key])}" for key in event)]
    )
    return line if exception is None else f"{line}\n{exception}"


def _text_value(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    return (
        orjson.dumps(text).decode()
        if not text or any(c.isspace() or c in '"=' for c in text)
        else _one_line(text)
    )


def _one_line(text: str) -> str:
    # A value from outside must not be able to write a line of its own.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    event["message"] = event.pop("event", "")
    return orjson.dumps(
        event, default=lambda value: redact_text(str(value)), option=orjson.OPT_NON_STR_KEYS
    ).decode()


_TEXT: Final = (structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False), _render_text)
_JSON: Final = (structlog.processors.TimeStamper(fmt="iso", utc=True), _render_json)


def _lost_line(log_format: LogFormat) -> Callable[[int], str]:
    stamp, render = _JSON if log_format == "json" else _TEXT

    def lost_line(lost: int) -> str:
        message = "Log lines were lost: the stream took them too slowly"
        return render(
            None, "warning", stamp(None, "warning", {"event": message, "level": "warning", "lost": lost})
        )

    return lost_line
