"""What every command begins with: settings from the environment, one clear line for what cannot be done."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NoReturn

import typer

from consumer.cli.exit_codes import ExitCode
from consumer.collector import collect_less
from consumer.delivery.errors import KeyFolderError
from consumer.environment import SettingsError
from consumer.from_settings import open_database
from consumer.kinds import Kind, KindRefused, check_overrides, load_kinds
from consumer.outbox.database import Database
from consumer.outbox.errors import DatabaseUnavailable, OutboxError, SchemaMismatch, ServerUnsupported
from consumer.setting_texts import variable_of
from consumer.settings import Settings
from consumer.telemetry.logs import configure_logging
from consumer.telemetry.tracing import TracingError
from consumer.tls import TlsFileError

__all__ = ["database_of", "fail", "kinds_of", "load_settings", "run", "run_quietly"]

_SHUTDOWN = timedelta(seconds=5)
_INTERRUPTED = 128 + 2


def fail(message: str, code: ExitCode) -> NoReturn:
    """End the command with one clear line on stderr."""
    typer.echo(f"kcsync: {message}", err=True)
    raise typer.Exit(code)


def load_settings(**options: str | None) -> Settings:
    """Read the settings, or end the command with everything that is wrong with them.

    Args:
        options: by field, what was said on the command line; it goes before the environment. None is nothing.
    """
    said = {variable_of(field): value for field, value in options.items() if value is not None}
    try:
        return Settings.load({**os.environ, **said})
    except SettingsError as error:
        fail(str(error), ExitCode.USAGE)


def kinds_of(settings: Settings) -> Mapping[str, Kind]:
    """The kinds that installed packages bring.

    Raises:
        KindRefused: one cannot be used, or an override is of a kind that nobody brings.
    """
    kinds = load_kinds()
    check_overrides(settings.kind_overrides, kinds)
    return kinds


def run(command: Coroutine[Any, Any, ExitCode]) -> NoReturn:
    """Run a command to its exit code; what a person can mend becomes one line instead of a traceback."""
    collect_less()
    try:
        code = asyncio.run(command)
    except* (
        SchemaMismatch,
        ServerUnsupported,
        KeyFolderError,
        KindRefused,
        TlsFileError,
        TracingError,
    ) as group:
        fail(_first(group), ExitCode.USAGE)
    except* DatabaseUnavailable as group:
        fail(_first(group), ExitCode.UNREACHABLE)
    except* OutboxError as group:
        fail(_first(group), ExitCode.INTERNAL)
    except* KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    raise typer.Exit(code)


def run_quietly(settings: Settings, command: Coroutine[Any, Any, ExitCode]) -> NoReturn:
    """Run a command that does a consumer's work itself, of whose log lines only trouble is news."""
    logs = configure_logging(settings.log_format, "WARNING")
    try:
        run(command)
    finally:
        logs.close(_SHUTDOWN)


@asynccontextmanager
async def database_of(settings: Settings) -> AsyncIterator[Database]:
    """The outbox's database, closed at the end."""
    database = open_database(settings)
    try:
        yield database
    finally:
        await database.aclose()


def _first(group: BaseExceptionGroup[Any]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
