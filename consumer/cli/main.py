"""The command `kcsync`."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import orjson
import structlog
import typer

from consumer.app import Consumer, wait_for_database
from consumer.cli.asking import actor
from consumer.cli.banner import start_banner
from consumer.cli.checks import checks_exit_code, render_checks
from consumer.cli.cleanup_report import cleanup_lines
from consumer.cli.deletes import allow_deletes, show_deletes
from consumer.cli.drift import drift
from consumer.cli.exit_codes import ExitCode, exit_code_table
from consumer.cli.held import held, which_of
from consumer.cli.keys import keys
from consumer.cli.read_status import read_status
from consumer.cli.run_checks import run_checks
from consumer.cli.session import database_of, fail, kinds_of, load_settings, run, run_quietly
from consumer.cli.status_report import exit_code, render_text, to_json
from consumer.cli.sync import sync_once
from consumer.delivery.advice import explained
from consumer.delivery.key_folder import KeyFolder
from consumer.delivery.keycloak import Keycloak
from consumer.from_settings import open_keycloak, purge_store
from consumer.outbox.maintenance_store import EVERY_REALM, MaintenanceStore
from consumer.outbox.migrate import check_schema
from consumer.outbox.migrate import migrate as migrate_schema
from consumer.outbox.sync_store import Confines
from consumer.settings import Settings
from consumer.telemetry.logs import configure_logging
from consumer.telemetry.tracing import configure_tracing
from consumer.version import VERSION

__all__ = ["app", "main"]

_SHUTDOWN = timedelta(seconds=5)

app = typer.Typer(
    name="kcsync",
    help="Carries user changes from Kafka into Keycloak, in order, through any outage.",
    epilog=exit_code_table(),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(held)
app.add_typer(drift)
app.add_typer(keys)


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
def sync_now(
    user: Annotated[str | None, typer.Option("--user", help="Of this user alone.")] = None,
    realm: Annotated[str | None, typer.Option("--realm", help="That user's realm.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many changes.")] = None,
    ignore_backoff: Annotated[
        bool, typer.Option("--ignore-backoff", help="Also what waits for its next attempt.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="An open circuit asks Keycloak at once, unless it wants to rest.")
    ] = False,
) -> None:
    """Deliver once whatever is due now, or follow the instances that do."""
    settings = load_settings(role="drain")
    if realm is not None and user is None:
        fail("--realm needs --user", ExitCode.USAGE)
    if realm is not None and realm not in settings.keycloak_realms:
        fail(f"--realm must be one of {', '.join(settings.keycloak_realms)}", ExitCode.USAGE)
    confines = Confines(which_of(settings, user=user, realm=realm).lane, limit)
    run_quietly(settings, sync_once(settings, confines, ignore_backoff=ignore_backoff, probe=probe))


@app.command("allow-deletes")
def allow_deletes_command(
    realm: Annotated[str | None, typer.Option("--realm", help="Of this realm.")] = None,
    count: Annotated[int | None, typer.Option("--count", help="So many, oldest first.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Give them up instead: dead letters.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask back.")] = False,
    why: Annotated[str | None, typer.Option("--why", help="For the audit; no user's name.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show deletes that the guard holds; with --count or --all, let them through."""
    settings = load_settings()
    if everything and count is not None:
        fail("--count and --all exclude each other", ExitCode.USAGE)
    if not everything and count is None:
        if drop:
            fail("--drop needs --count or --all", ExitCode.USAGE)
        run(show_deletes(settings, realm=realm, as_json=json))
    run_quietly(settings, allow_deletes(settings, realm=realm, count=count, drop=drop, yes=yes, why=why))


class Switch(StrEnum):
    """Whether maintenance begins or ends."""

    ON = "on"
    OFF = "off"


@app.command()
def maintenance(
    switch: Annotated[Switch, typer.Argument(help="Whether it begins or ends.")],
    realm: Annotated[str | None, typer.Option("--realm", help="Of this realm alone.")] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Shown to everybody; no user's name.")
    ] = None,
) -> None:
    """Stop deliveries on purpose, or let them go on. Events wait meanwhile; nothing is charged or given up."""
    settings = load_settings()
    if realm is not None and realm not in settings.keycloak_realms:
        fail(f"--realm must be one of {', '.join(settings.keycloak_realms)}", ExitCode.USAGE)
    run(_maintenance(settings, switch, realm=realm, reason=reason))


@app.command()
def cleanup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only; nothing is removed.")] = False,
) -> None:
    """Remove what is past its retention: completed syncs, dead letters, poison, old event ids."""
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
    folder = KeyFolder(settings.keys_dir)
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
            await Consumer(settings, database, keycloak, folder, kinds=kinds, tracer=tracing.tracer).run(stop)
        finally:
            await keycloak.aclose()
            await asyncio.to_thread(tracing.shutdown, _SHUTDOWN)
    return ExitCode.HEALTHY


async def _require_keycloak(settings: Settings, keycloak: Keycloak) -> None:
    result = await keycloak.control_call(settings.keycloak_realms[0])
    if result.trouble is not None:
        reason = f"{result.trouble.reason.value}: {explained(result.trouble)}"
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


async def _maintenance(
    settings: Settings, switch: Switch, *, realm: str | None, reason: str | None
) -> ExitCode:
    async with database_of(settings) as database:
        await check_schema(database)
        store = MaintenanceStore(database)
        change = store.begin if switch is Switch.ON else store.end
        await change(realm or EVERY_REALM, actor=actor(), reason=reason)
        still = [row.realm or "every realm" for row in await store.read()]
    typer.echo(f"Maintenance is {switch} for {realm or 'every realm'}; instances follow within a second.")
    if switch is Switch.OFF and still:
        typer.echo(f"Still in maintenance: {', '.join(still)}")
    return ExitCode.HEALTHY


async def _cleanup(settings: Settings, *, dry_run: bool) -> ExitCode:
    typer.echo("Running cleanup...")
    async with database_of(settings) as database:
        await check_schema(database)
        store = purge_store(database, settings)
        removed = await store.count() if dry_run else await store.purge()
    if removed is None:
        typer.echo("Another process is cleaning up at this moment; nothing was done here.")
        return ExitCode.PARTIAL
    for line in cleanup_lines(removed, settings, dry_run=dry_run):
        typer.echo(line)
    typer.echo("Kept folds and audit: they make replays safe and say who did what.")
    typer.echo("Cleanup complete.")
    return ExitCode.HEALTHY


async def _migrate(settings: Settings) -> ExitCode:
    async with database_of(settings) as database:
        applied = await migrate_schema(database)
    for migration in applied:
        typer.echo(f"Applied {migration.version:04d}_{migration.name}")
    typer.echo("Schema is up to date.")
    return ExitCode.HEALTHY
