"""Asks the owners of shards to do something, and follows their answers; where nobody owns a shard, does it itself."""

from __future__ import annotations

import asyncio
import getpass
import socket
import time
from collections.abc import Sequence

import typer

from consumer.cli.exit_codes import ExitCode
from consumer.drain.executor import CommandExecutor, hints_after
from consumer.outbox.command_store import CommandStore, Order, Tally
from consumer.outbox.database import Database
from consumer.outbox.drain_store import DrainStore
from consumer.outbox.lease_store import LeaseStore
from consumer.settings import Settings
from consumer.version import VERSION

__all__ = ["actor", "ask", "report"]

_LOOK_EVERY = 0.25


def actor() -> str:
    """Who asks, as the audit records it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # An account without a name, as containers have.
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


async def ask(
    settings: Settings,
    database: Database,
    orders: Sequence[Order],
    *,
    why: str | None,
    patience: float = 60.0,
) -> Tally:
    """Have all of this done.

    Shards that nobody owns are leased for as long as their commands take.

    Args:
        settings: ours.
        database: the outbox.
        orders: what is asked.
        why: said by the operator, for the audit.
        patience: seconds after which the answers that are missing are left to come by themselves.
    """
    store = CommandStore(database, owner=settings.instance)
    request = await store.queue(orders, actor=actor(), why=why)
    until = time.monotonic() + patience
    while (tally := await store.tally(request)).waiting and time.monotonic() < until:
        await _execute_unowned(settings, database, store, request)
        await asyncio.sleep(_LOOK_EVERY)
    return tally


async def _execute_unowned(
    settings: Settings, database: Database, store: CommandStore, request: bytes
) -> None:
    owner = settings.instance
    leases = LeaseStore(
        database, owner=owner, roles="", version=VERSION, seconds=settings.lease.total_seconds()
    )
    tokens = await leases.acquire(await store.shards_waiting(request))
    if not tokens:
        return
    executor, lanes = CommandExecutor(store), DrainStore(database, owner=owner)
    until = time.monotonic() + settings.lease.total_seconds() / 2
    try:
        while time.monotonic() < until and (commands := await executor.waiting(tokens)):
            await lanes.hint(hints_after(await executor.execute(commands, tokens)))
    finally:
        await leases.release(tokens)


def report(tally: Tally, verb: str) -> ExitCode:
    """Say what became of what was asked."""
    typer.echo(f"{verb} {tally.done}")
    for reason, count in sorted(tally.refused.items()):
        typer.echo(f"  refused {count}: {reason}")
    if tally.expired:
        typer.echo(f"  expired {tally.expired}: not done within an hour")
    if tally.waiting:
        typer.echo(
            f"  waiting {tally.waiting}: the owners of these users have not answered; asked until an hour is over"
        )
    left = tally.waiting + tally.expired + sum(tally.refused.values())
    return ExitCode.PARTIAL if left else ExitCode.HEALTHY
