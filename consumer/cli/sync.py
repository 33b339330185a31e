"""`kcsync sync-now`: deliver once what is due, or follow the instances that do."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta

import typer

from consumer.app import Consumer
from consumer.circuit.breaker import CircuitState
from consumer.cli.asking import ask
from consumer.cli.exit_codes import ExitCode
from consumer.cli.session import database_of, fail, kinds_of
from consumer.delivery.key_folder import KeyFolder
from consumer.from_settings import open_keycloak
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.database import Database
from consumer.outbox.drain_store import DrainStore
from consumer.outbox.lane import SHARDS
from consumer.outbox.maintenance_store import EVERY_REALM, MaintenanceStore
from consumer.outbox.migrate import check_schema
from consumer.outbox.overview import read_overview
from consumer.outbox.rows import EntryState
from consumer.outbox.sync_store import (
    Confines,
    Progress,
    Sync,
    begin_sync,
    due_lanes,
    progress,
    waiting_heads,
)
from consumer.settings import Settings
from consumer.telemetry.tracing import configure_tracing
from consumer.version import VERSION

__all__ = ["sync_once"]

_SHUTDOWN = timedelta(seconds=5)
_LOOK_EVERY = 0.5
_SAY_EVERY = 5.0
_PATIENCE = 60.0
_COUNTED = 1000


async def sync_once(settings: Settings, confines: Confines, *, ignore_backoff: bool) -> ExitCode:
    """Have delivered once what is due now, and say what became of it.

    Args:
        settings: ours.
        confines: one user, or all; at most so many entries.
        ignore_backoff: what waits for its next attempt is due as well.
    """
    typer.echo("Processing sync queue...")
    async with database_of(settings) as database:
        await check_schema(database)
        await _refuse_in_maintenance(database)
        sync = await begin_sync(database, confines.lane)
        # Hints that were lost, and waits that are over: found now instead of at the next sweep.
        lanes, every_shard = DrainStore(database, owner=settings.instance), range(SHARDS)
        await lanes.wake(every_shard)
        await lanes.sweep(every_shard)
        if ignore_backoff and (hurried := await waiting_heads(database, confines.lane)):
            tally = await ask(settings, database, hurried, why="sync-now --ignore-backoff")
            typer.echo(f"  {tally.done} that waited for their next attempt are due now")
        alive = (await read_overview(database)).draining
        if alive:
            typer.echo(f"{len(alive)} running instances take new work at once; following them")
            state = await _follow(settings, database, sync, confines.limit)
        else:
            state = await _drain(settings, database, confines)
        found = await progress(database, sync)
    _say(found)
    if state is not CircuitState.CLOSED:
        fail(f"Keycloak is unavailable (circuit {state}); {found.pending} pending", ExitCode.DEGRADED)
    if found.count(EntryState.DEAD_LETTER):
        return ExitCode.DEAD_LETTERS
    return ExitCode.PARTIAL if found.pending else ExitCode.HEALTHY


async def _refuse_in_maintenance(database: Database) -> None:
    for stop in await MaintenanceStore(database).read():
        if stop.realm == EVERY_REALM:
            fail(
                f"nothing is delivered: in maintenance, by {stop.actor}; `kcsync maintenance off` ends it",
                ExitCode.DEGRADED,
            )


async def _follow(settings: Settings, database: Database, sync: Sync, limit: int | None) -> CircuitState:
    """Watch the instances until what was due is done, Keycloak is away, or nothing has moved for a minute."""
    circuits = CircuitStore(database, keycloak=settings.keycloak_url)
    before, moved_at, said_at = -1, time.monotonic(), time.monotonic()
    try:
        while True:
            due = await due_lanes(database, sync, upto=_COUNTED)
            processed = (await progress(database, sync)).processed
            now = time.monotonic()
            if processed != before:
                before, moved_at = processed, now
            state = CircuitState((await circuits.read()).state)
            if (
                not due
                or state is not CircuitState.CLOSED
                or now - moved_at > _PATIENCE
                or (limit is not None and processed >= limit)
            ):
                return state
            if now - said_at > _SAY_EVERY:
                said_at = now
                more = "+" if due == _COUNTED else ""
                typer.echo(f"  {processed} so far; users with changes due: {due}{more}")
            await asyncio.sleep(_LOOK_EVERY)
    except asyncio.CancelledError:
        typer.echo("Not followed any longer; the instances go on.")
        raise


async def _drain(settings: Settings, database: Database, confines: Confines) -> CircuitState:
    """Take the leases and deliver what is due, each user's changes as far as they go now."""
    keys = KeyFolder(settings.keys_dir)
    kinds = kinds_of(settings)
    keycloak = open_keycloak(settings)
    tracing = configure_tracing(os.environ, service_version=VERSION, instance=settings.instance)
    consumer = Consumer(
        settings, database, keycloak, keys, kinds=kinds, tracer=tracing.tracer, confines=confines
    )
    try:
        async with consumer.draining():
            while consumer.drain.circuit.refusal is None and not consumer.drain.drainer.quiet:
                await asyncio.sleep(0.1)
            return consumer.drain.circuit.state
    finally:
        await keycloak.aclose()
        await asyncio.to_thread(tracing.shutdown, _SHUTDOWN)


def _say(found: Progress) -> None:
    typer.echo(f"Processed {found.processed} sync items, {found.pending} pending")
    dead = found.count(EntryState.DEAD_LETTER)
    typer.echo(
        f"  delivered {found.count(EntryState.DELIVERED)}, retried {found.retried}, dead {dead}, "
        f"held {found.held}, waiting {found.pending}"
    )
    for (state, reason), count in sorted(found.ended.items()):
        if state is EntryState.DEAD_LETTER:
            typer.echo(f"  dead letters, {reason}: {count}")
