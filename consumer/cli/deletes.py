"""`kcsync allow-deletes`: what the deletion guard holds, and letting it through."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
import typer

from consumer.cli.asking import ask, report
from consumer.cli.exit_codes import ExitCode
from consumer.cli.held import confirm, order_of, refuse_unknown
from consumer.cli.render import row, table
from consumer.cli.session import database_of, fail
from consumer.drain.guard import HELD_BY_GUARD, limit_of
from consumer.durations import format_age
from consumer.from_settings import guard_policy
from consumer.outbox.command_store import Action
from consumer.outbox.database import Database
from consumer.outbox.deletion_store import DeletionStore
from consumer.outbox.held import Held, Which, count_held, read_held
from consumer.outbox.migrate import check_schema
from consumer.settings import Settings

__all__ = ["allow_deletes", "show_deletes"]

_SAMPLE = 20
_MOST = 100_000


async def show_deletes(settings: Settings, *, realm: str | None, as_json: bool) -> ExitCode:
    """Show how many deletes are held, a sample of their users, and what stands behind each."""
    async with database_of(settings) as database:
        await check_schema(database)
        await refuse_unknown(settings, database, realm)
        held = (await count_held(database)).entries.get(HELD_BY_GUARD, 0)
        sample = await read_held(database, Which(realm=realm, reason=HELD_BY_GUARD), limit=_SAMPLE)
        places = await _places(settings, database, realm)
    if as_json:
        typer.echo(orjson.dumps(_json(held, places, sample), option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo("\n".join(_text(held, places, sample)))
    return ExitCode.HEALTHY


async def allow_deletes(
    settings: Settings, *, realm: str | None, count: int | None, drop: bool, yes: bool, why: str | None
) -> ExitCode:
    """Let held deletes through, oldest first, or give them up.

    Args:
        settings: ours.
        realm: only of this realm; None for all.
        count: how many; None for all of them.
        drop: give them up.
        yes: do not ask back.
        why: for the audit.
    """
    if count is not None and count < 1:
        fail("--count must be at least 1", ExitCode.USAGE)
    action = Action.DROP if drop else Action.RELEASE
    async with database_of(settings) as database:
        await check_schema(database)
        await refuse_unknown(settings, database, realm)
        found = await read_held(
            database, Which(realm=realm, reason=HELD_BY_GUARD), limit=_MOST if count is None else count
        )
        orders = [order for each in found if (order := order_of(each, action)) is not None]
        if not orders:
            typer.echo("No delete is held.")
            return ExitCode.HEALTHY
        question = f"{'Drop' if drop else 'Let through'} {len(orders)} deletes?"
        confirm(question, yes=yes or count is not None)
        tally = await ask(settings, database, orders, why=why)
    return report(tally, "Dropped" if drop else "Let through")


async def _places(settings: Settings, database: Database, realm: str | None) -> Mapping[str, tuple[int, int]]:
    """Places taken within the hour and places there are, by realm."""
    policy, store = guard_policy(settings), DeletionStore(database)
    places = {}
    for each in settings.keycloak_realms if realm is None else (realm,):
        used = await store.used(each)
        users = await store.users(each, upto=policy.enough_users) + used
        places[each] = (used, limit_of(policy, users))
    return places


def _text(held: int, places: Mapping[str, tuple[int, int]], sample: Sequence[Held]) -> list[str]:
    lines = [f"Deletes held by the guard: {held}"]
    lines += [
        row(realm, f"{used} of {limit} in the last hour") for realm, (used, limit) in sorted(places.items())
    ]
    if sample:
        lines += table(
            ("Realm", "User", "Age", "Behind", "Event"),
            [
                (
                    each.realm,
                    each.username,
                    "unknown" if each.seconds is None else format_age(timedelta(seconds=each.seconds)),
                    each.behind,
                    each.event_id,
                )
                for each in sample
            ],
        )
        lines.append("Let them through with --count N or --all, oldest first; give them up with --drop.")
    return lines


def _json(held: int, places: Mapping[str, tuple[int, int]], sample: Sequence[Held]) -> dict[str, Any]:
    by_realm: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in sample:
        by_realm[each.realm].append(
            {"username": each.username, "event_id": each.event_id, "behind": each.behind}
        )
    return {
        "held": held,
        "realms": {
            realm: {"in_the_last_hour": used, "limit": limit, "sample": by_realm[realm]}
            for realm, (used, limit) in places.items()
        },
    }
