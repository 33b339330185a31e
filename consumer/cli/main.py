"""The command `kcsync`."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from typing import Annotated

import orjson
import structlog
import typer

from consumer.app import Consumer, open_keycloak, purge_store, wait_for_database
from consumer.circuit.breaker import CircuitState
from consumer.cli.banner import start_banner
from consumer.cli.checks import checks_exit_code, render_checks
from consumer.cli.exit_codes import ExitCode, exit_code_table
from consumer.cli.read_status import read_status
from consumer.cli.run_checks import run_checks
from consumer.cli.session import database_of, fail, kinds_of, load_settings, run
from consumer.cli.status_report import exit_code, render_text, to_json
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.passwords import KeyRing
from consumer.outbox.migrate import check_schema
from consumer.outbox.migrate import migrate as migrate_schema
from consumer.outbox.overview import queue_counts, read_overview
from consumer.outbox.purge import Purged
from consumer.outbox.rows import EntryState
from consumer.setting_values import NEVER
from consumer.settings import Settings
from consumer.telemetry.logs import configure_logging
from consumer.telemetry.tracing import configure_tracing
from consumer.version import VERSION

__all__ = ["app", "main"]

_SHUTDOWN = timedelta(seconds=5)
_FOLLOW_EVERY = 1.0

app = typer.Typer(
    name="kcsync",
    help="Carries user changes from Kafka into Keycloak, in order, through any outage.",
    epilog=exit_code_table(),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def start(
    role: Annotated[
        str | None, typer.Option("--role", help="all, ingest or drain (env: KCSYNC_ROLE)", show_default=False)
    ] = None,
) -> None:
    """Run the consumer: ingest, drain and housekeeping, until SIGTERM or Ctrl-C."""
    settings = load_settings(role=role)
    logs = configure_logging(settings.log_format, settings.log_level)
    try:
        run(_start(settings))
    finally:
        logs.close(_SHUTDOWN)


@app.command()
def status(json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show how things stand. The exit code says it too."""
    run(_status(load_settings(), as_json=json))


@app.command()
def test() -> None:
    """Check the configuration, Keycloak, Kafka and the database. Changes nothing."""
    run(_test(load_settings()))


@app.command("sync-now")
def sync_now() -> None:
    """Deliver once whatever is due now, or follow the instances that do."""
    settings = load_settings(role="drain")
    logs = configure_logging(settings.log_format, "WARNING")
    try:
        run(_sync_now(settings))
    finally:
        logs.close(_SHUTDOWN)


@app.command()
def cleanup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only; nothing is removed.")] = False,
) -> None:
    """Remove completed syncs, dead letters and poison whose retention has passed."""
    run(_cleanup(load_settings(), dry_run=dry_run))


@app.command()
def migrate() -> None:
    """Bring the database's schema up to this version. `start` does it too."""
    run(_migrate(load_settings()))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(VERSION)


async def _start(settings: Settings) -> ExitCode:
    keys = KeyRing.load(settings.keys_dir)
    kinds = kinds_of(settings)
    stop = asyncio.Event()
    _stop_on_signals(stop)
    tracing = configure_tracing(os.environ, service_version=VERSION, instance=settings.instance)
    tracing.install()
    log = structlog.get_logger("kcsync")
    async with database_of(settings) as database:
        ready = asyncio.create_task(wait_for_database(database, log.info))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            return ExitCode.HEALTHY
        await ready
        typer.echo(start_banner(settings.masked(), await read_status(settings, database)), err=True)
        keycloak = open_keycloak(settings)
        try:
            if not settings.offline_mode_allowed and settings.role != "ingest":
                await _require_keycloak(settings, keycloak)
            await Consumer(settings, database, keycloak, keys, kinds=kinds, tracer=tracing.tracer).run(stop)
        finally:
            await keycloak.aclose()
            await asyncio.to_thread(tracing.shutdown, _SHUTDOWN)
    return ExitCode.HEALTHY


async def _require_keycloak(settings: Settings, keycloak: Keycloak) -> None:
    result = await keycloak.control_call(settings.keycloak_realms[0])
    if result.trouble is not None:
        reason = f"{result.trouble.reason.value}: {result.trouble.failure.detail}"
        fail(
            f"Keycloak is not available ({reason}), and KCSYNC_OFFLINE_MODE_ALLOWED is false",
            ExitCode.UNREACHABLE,
        )


def _stop_on_signals(stop: asyncio.Event) -> None:
    """The first signal asks for a graceful stop; the second ends at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


async def _status(settings: Settings, *, as_json: bool) -> ExitCode:
    async with database_of(settings) as database:
        report = await read_status(settings, database)
    if as_json:
        typer.echo(orjson.dumps(to_json(report), option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo(render_text(report))
    return exit_code(report)


async def _test(settings: Settings) -> ExitCode:
    async with database_of(settings) as database:
        groups = await run_checks(settings, database)
    typer.echo(render_checks(groups))
    return checks_exit_code(groups)


async def _sync_now(settings: Settings) -> ExitCode:
    typer.echo("Processing sync queue...")
    async with database_of(settings) as database:
        await check_schema(database)
        overview = await read_overview(database)
        if overview.draining:
            processed = overview.entries[EntryState.PENDING]
            typer.echo(f"{len(overview.draining)} running instances take new work at once; following them")
            # What waits for its next attempt, or behind it, is not due.
            while (await read_overview(database)).lanes["READY"]:
                await asyncio.sleep(_FOLLOW_EVERY)
            left = (await queue_counts(database)).pending
            typer.echo(f"Processed {max(0, processed - left)} sync items, {left} pending")
            return ExitCode.PARTIAL if left else ExitCode.HEALTHY
        keys = KeyRing.load(settings.keys_dir)
        kinds = kinds_of(settings)
        keycloak = open_keycloak(settings)
        tracing = configure_tracing(os.environ, service_version=VERSION, instance=settings.instance)
        consumer = Consumer(settings, database, keycloak, keys, kinds=kinds, tracer=tracing.tracer)
        try:
            async with consumer.draining():
                while consumer.circuit.state is CircuitState.CLOSED and not consumer.drainer.quiet:
                    await asyncio.sleep(0.1)
        finally:
            await keycloak.aclose()
            await asyncio.to_thread(tracing.shutdown, _SHUTDOWN)
        counts, left = consumer.drainer.counts, (await queue_counts(database)).pending
        typer.echo(f"Processed {counts.processed} sync items")
        typer.echo(
            f"  delivered {counts.delivered}, retried {counts.retried}, deferred {counts.deferred}, "
            f"dead {counts.dead}, pending {left}"
        )
        if consumer.circuit.state is not CircuitState.CLOSED:
            fail(
                f"Keycloak is unavailable (circuit {consumer.circuit.state}); {left} pending",
                ExitCode.DEGRADED,
            )
        if counts.dead:
            return ExitCode.DEAD_LETTERS
        return ExitCode.PARTIAL if left else ExitCode.HEALTHY


async def _cleanup(settings: Settings, *, dry_run: bool) -> ExitCode:
    typer.echo("Running cleanup...")
    async with database_of(settings) as database:
        await check_schema(database)
        store = purge_store(database, settings)
        removed = await store.count() if dry_run else await store.purge()
    if removed is None:
        typer.echo("Another process is cleaning up at this moment; nothing was done here.")
        return ExitCode.PARTIAL
    shown = settings.masked()
    ages = {
        Purged.DELIVERED: shown["delivered_retention"],
        Purged.SUPERSEDED: shown["delivered_retention"],
        Purged.DEAD_LETTER: shown["dead_letter_retention"],
        Purged.POISON: shown["dead_letter_retention"],
        Purged.INSTANCE: "24h",
    }
    for what, age in ages.items():
        if age == NEVER:
            typer.echo(f"Kept all {what} (retention: never)")
        else:
            typer.echo(f"{'Would remove' if dry_run else 'Removed'} {removed[what]} {what} (>{age})")
    typer.echo("Kept ledger, marks, folds and audit: they make replays safe and say who did what.")
    typer.echo("Cleanup complete.")
    return ExitCode.HEALTHY


async def _migrate(settings: Settings) -> ExitCode:
    async with database_of(settings) as database:
        applied = await migrate_schema(database)
    for migration in applied:
        typer.echo(f"Applied {migration.version:04d}_{migration.name}")
    typer.echo("Schema is up to date.")
    return ExitCode.HEALTHY
