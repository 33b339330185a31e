"""`kcsync sync-now`: deliver once what is due, or follow the instances that do."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta

import typer

from consumer.app import Consumer
from consumer.circuit.breaker import CircuitState
from consumer.cli.asking import ask
from consumer.cli.exit_codes import ExitCode
from consumer.cli.render import when
from consumer.cli.session import database_of, fail, kinds_of
from consumer.delivery.key_folder import KeyFolder
from consumer.from_settings import open_keycloak
from consumer.outbox.circuit_store import CircuitRow, CircuitStore
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
_PATIENCE_TO_KNOW = 15.0
"""Seconds for an instance to look at the circuit, and for its control call."""
_COUNTED = 1000


async def sync_once(settings: Settings, confines: Confines, *, ignore_backoff: bool, probe: bool) -> ExitCode:
    """Have delivered once what is due now, and say what became of it.

    Args:
        settings: ours.
        confines: one user, or all; at most so many entries.
        ignore_backoff: what waits for its next attempt is due as well.
        probe: have an open circuit ask Keycloak at once, whatever its cooldown says.
    """
    typer.echo("Processing sync queue...")
    async with database_of(settings) as database:
        await check_schema(database)
        await _refuse_in_maintenance(database)
        wanted = await _want_to_know(settings, database) if probe else None
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
            if wanted is not None:
                await _answered(settings, database, wanted)
            state = await _follow(settings, database, sync, confines.limit)
        else:
            state = await _drain(settings, database, confines, wanted)
        found = await progress(database, sync)
        circuit = await CircuitStore(database, keycloak=settings.keycloak_url).read()
    _say(found)
    if state is not CircuitState.CLOSED:
        fail(_unavailable(circuit, state, found.pending, asked=wanted is not None), ExitCode.DEGRADED)
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


async def _want_to_know(settings: Settings, database: Database) -> int | None:
    """Have whoever looks at the open circuit next make a control call; the generation in which. None: it is closed."""
    circuits = CircuitStore(database, keycloak=settings.keycloak_url)
    circuit = await circuits.read()
    if circuit.rest_in is not None and circuit.rest_in > 0 and circuit.state == CircuitState.OPEN:
        now = datetime.now(UTC).astimezone()
        until = when(now + timedelta(seconds=circuit.rest_in), now)
        fail(
            f"Keycloak asked to be left alone (Retry-After): nothing is asked before {until}",
            ExitCode.DEGRADED,
        )
    if await circuits.want(circuit.generation) or circuit.state == CircuitState.HALF_OPEN:
        return circuit.generation
    return None


async def _answered(settings: Settings, database: Database, wanted: int) -> None:
    """Wait until the control call has been answered, by whichever instance, or nobody has made it."""
    circuits, began = CircuitStore(database, keycloak=settings.keycloak_url), time.monotonic()
    while time.monotonic() - began < _PATIENCE_TO_KNOW:
        circuit = await circuits.read()
        if circuit.generation != wanted and circuit.state != CircuitState.HALF_OPEN:
            return
        await asyncio.sleep(0.1)
    typer.echo(f"  nobody has asked Keycloak within {_PATIENCE_TO_KNOW:.0f} s")


def _unavailable(circuit: CircuitRow, state: CircuitState, pending: int, *, asked: bool) -> str:
    """Say that nothing can be delivered, and what can be done about it."""
    if asked and circuit.state == CircuitState.OPEN:
        return f"Keycloak was asked, and is unavailable: {circuit.reason}; {pending} pending"
    hint = "" if asked else "; `kcsync sync-now --probe` asks at once"
    return f"Keycloak is unavailable (circuit {state}: {circuit.reason}); {pending} pending{hint}"


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


async def _drain(
    settings: Settings, database: Database, confines: Confines, wanted: int | None
) -> CircuitState:
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
            if wanted is not None:
                await _answered(settings, database, wanted)
                await consumer.drain.circuit.refresh()
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
