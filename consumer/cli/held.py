"""The commands `kcsync held …`: what waits for somebody, and letting it go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from typing import Annotated, Any

import orjson
import typer

from consumer.cli.asking import ask, report
from consumer.cli.exit_codes import ExitCode
from consumer.cli.render import table
from consumer.cli.session import database_of, fail, load_settings, run, run_quietly
from consumer.durations import format_age
from consumer.outbox.command_store import Action, Order
from consumer.outbox.held import Held, HeldCounts, Which, count_held, read_held
from consumer.outbox.lane import lane_id
from consumer.outbox.migrate import check_schema
from consumer.settings import Settings
from producer_lib import username_key

__all__ = ["held"]

_SHOWN = 50
_MOST = 100_000

held = typer.Typer(
    name="held",
    help="What waits for somebody: held entries, and users who wait behind a dead letter.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Event = Annotated[str | None, typer.Argument(metavar="[EVENT]", help="The id of an event.")]
User = Annotated[str | None, typer.Option("--user", help="Of this user.")]
Realm = Annotated[str | None, typer.Option("--realm", help="Of this realm.")]
Reason = Annotated[str | None, typer.Option("--reason", help="For this reason.")]
All = Annotated[bool, typer.Option("--all", help="Everything that is held.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask back.")]
Why = Annotated[str | None, typer.Option("--why", help="For the audit; no user's name, nothing secret.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@held.callback()
def held_list(
    context: typer.Context, user: User = None, realm: Realm = None, reason: Reason = None, json: Json = False
) -> None:
    """List what is held: why, since when, and how much stands behind it."""
    if context.invoked_subcommand is None:
        settings = load_settings()
        run(_list(settings, which_of(settings, user=user, realm=realm, reason=reason), as_json=json))


def _command(action: Action, what_it_does: str) -> None:
    """One command for each thing that can be done with what is held; they are told in the same words."""

    @held.command(action.value, help=what_it_does)
    def change(
        event: Event = None,
        user: User = None,
        realm: Realm = None,
        reason: Reason = None,
        everything: All = False,
        yes: Yes = False,
        why: Why = None,
    ) -> None:
        settings = load_settings()
        which = which_of(settings, event=event, user=user, realm=realm, reason=reason)
        if everything == (which != Which()):
            fail("name an event, --user, --realm or --reason, or take --all", ExitCode.USAGE)
        run_quietly(settings, _change(settings, which, action, yes=yes, why=why))


_command(Action.RELEASE, "Let held entries be delivered, and users go on behind their dead letters.")
_command(
    Action.DROP,
    "Give held entries up: they become dead letters (`dropped`), and what stands behind them goes on.",
)


def which_of(
    settings: Settings,
    *,
    event: str | None = None,
    user: str | None = None,
    realm: str | None = None,
    reason: str | None = None,
) -> Which:
    """Say which is meant, by what was written on the command line; a user's realm may be left out if there is one."""
    lane = None
    if user is not None:
        if realm is None and len(settings.keycloak_realms) > 1:
            fail(f"--user needs --realm: {', '.join(settings.keycloak_realms)} are served", ExitCode.USAGE)
        lane = lane_id(realm or settings.keycloak_realms[0], username_key(user))
    return Which(lane=lane, realm=realm, event_id=event, reason=reason)


def confirm(question: str, *, yes: bool) -> None:
    """Ask back, unless the answer was given; a no ends the command."""
    if not yes and not typer.confirm(question):
        fail("nothing was changed", ExitCode.USAGE)


async def _list(settings: Settings, which: Which, *, as_json: bool) -> ExitCode:
    async with database_of(settings) as database:
        await check_schema(database)
        found, counts = await read_held(database, which, limit=_SHOWN), await count_held(database)
    if as_json:
        typer.echo(orjson.dumps(_json(found, counts), option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo(_text(found, counts))
    return ExitCode.HEALTHY


async def _change(
    settings: Settings, which: Which, action: Action, *, yes: bool, why: str | None
) -> ExitCode:
    async with database_of(settings) as database:
        await check_schema(database)
        found = await read_held(database, which, limit=_MOST)
        orders = [order for each in found if (order := order_of(each, action)) is not None]
        if not orders:
            typer.echo("Nothing of that is held.")
            return ExitCode.HEALTHY
        if len(orders) > 1 or which == Which():
            confirm(f"{action.value.capitalize()} {len(orders)}?", yes=yes)
        tally = await ask(settings, database, orders, why=why)
    return report(tally, {Action.RELEASE: "Released", Action.DROP: "Dropped"}[action])


def order_of(held: Held, action: Action) -> Order | None:
    """What is asked for something held; None where that cannot be asked: a dead letter is not dropped again."""
    if held.holds_lane:
        if action is Action.DROP:
            return None
        action = Action.RELEASE_LANE
    return Order(
        lane_id=held.lane_id,
        action=action,
        entry_id=held.entry_id,
        state=held.state,
        arrivals=held.arrivals,
    )


def _text(found: Sequence[Held], counts: HeldCounts) -> str:
    if not found:
        return "Nothing is held."
    lines = [f"Held: {sum(counts.entries.values())} entries; users behind a dead letter: {counts.lanes}"]
    lines += [f"  {reason}: {count}" for reason, count in sorted(counts.entries.items())]
    rows = [
        (
            "dead letter" if each.holds_lane else "held",
            each.reason if each.email_holder is None else f"{each.reason} by {each.email_holder}",
            "unknown" if each.seconds is None else format_age(timedelta(seconds=each.seconds)),
            each.realm,
            each.username,
            each.kind,
            each.behind,
            each.event_id,
        )
        for each in found
    ]
    lines += table(("What", "Reason", "Age", "Realm", "User", "Kind", "Behind", "Event"), rows)
    return "\n".join(lines)


def _json(found: Sequence[Held], counts: HeldCounts) -> Mapping[str, Any]:
    return {
        "entries_by_reason": counts.entries,
        "lanes_behind_dead_letters": counts.lanes,
        "held": [
            {
                "event_id": each.event_id,
                "realm": each.realm,
                "username": each.username,
                "kind": each.kind,
                "state": each.state,
                "reason": each.reason,
                "email_holder": each.email_holder,
                "since": None if each.since is None else each.since.replace(tzinfo=UTC),
                "age_seconds": each.seconds,
                "behind": each.behind,
            }
            for each in found
        ],
    }
