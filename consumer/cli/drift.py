"""The commands `kcsync drift …`: what others have changed in Keycloak, and undoing or accepting it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import orjson
import typer

from consumer.cli.asking import actor
from consumer.cli.exit_codes import ExitCode
from consumer.cli.held import Json, Realm, User, Why, Yes, confirm, refuse_unknown, which_of
from consumer.cli.render import table, when
from consumer.cli.session import database_of, fail, load_settings, run, run_quietly
from consumer.delivery.heal_plan import Drift
from consumer.outbox.audit import AuditStore
from consumer.outbox.database import Database
from consumer.outbox.doubt import Doubt
from consumer.outbox.drain_store import DrainStore
from consumer.outbox.drift import Drifted, read_drift, still_asked
from consumer.outbox.held import Which
from consumer.outbox.migrate import check_schema
from consumer.settings import Settings

__all__ = ["drift"]

_SHOWN: Final = 50
_MOST: Final = 10_000
_PATIENCE: Final = 60.0
_LOOK_EVERY: Final = 0.5

MEANING: Final[Mapping[str, str]] = {
    Drift.CHANGED: "somebody has changed it in Keycloak since it was delivered",
    Drift.BARRED: "the account is disabled in Keycloak, and was delivered as enabled: a bar is never lifted by itself",
    Drift.UNKNOWN: "a call of ours may have changed it late, and what stood there before is not known",
    Drift.THERE: "the user is in Keycloak, and was deleted by an event: perhaps somebody new of the same name",
    Drift.GONE: "the user is not in Keycloak any more, and no event has deleted them",
}
"""What was found, in words."""

drift = typer.Typer(
    name="drift",
    help="What others have changed in Keycloak, as far as it was met where a call of ours was in doubt.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Fields = Annotated[
    list[str] | None, typer.Option("--field", help="Only this field; may be given several times.")
]
All = Annotated[bool, typer.Option("--all", help="Of every user.")]


@drift.callback()
def drift_list(context: typer.Context, user: User = None, realm: Realm = None, json: Json = False) -> None:
    """List users whom others have changed: who, what, and since when."""
    if context.invoked_subcommand is None:
        settings = load_settings()
        run(_list(settings, which_of(settings, user=user, realm=realm), as_json=json))


def _command(name: str, what_it_does: str, *, undoes: bool) -> None:
    """One command for each thing that can be done about a drift; they are told in the same words."""

    @drift.command(name, help=what_it_does)
    def change(
        user: User = None,
        realm: Realm = None,
        field: Fields = None,
        everything: All = False,
        yes: Yes = False,
        why: Why = None,
    ) -> None:
        settings = load_settings()
        which = which_of(settings, user=user, realm=realm)
        if everything == (which != Which()):
            fail("name --user or --realm, or take --all", ExitCode.USAGE)
        run_quietly(settings, _ask(settings, which, field, undoes=undoes, yes=yes, why=why))


_command(
    "undo",
    "Make what others have changed equal to what was delivered: also lift a bar, or delete who should be gone.",
    undoes=True,
)
_command(
    "accept",
    "Leave it as others have changed it, and show it no more. The next event that names the field writes it all the same.",
    undoes=False,
)


async def _list(settings: Settings, which: Which, *, as_json: bool) -> ExitCode:
    async with database_of(settings) as database:
        await check_schema(database)
        await refuse_unknown(settings, database, which.realm)
        found = await read_drift(database, lane=which.lane, realm=which.realm, limit=_SHOWN)
    if as_json:
        typer.echo(
            orjson.dumps({"drift": [_json(each) for each in found]}, option=orjson.OPT_INDENT_2).decode()
        )
    else:
        typer.echo("\n".join(_text(found, datetime.now(UTC).astimezone())))
    return ExitCode.HEALTHY


def _text(found: Sequence[Drifted], now: datetime) -> list[str]:
    if not found:
        return ["Nothing is known that others have changed."]
    rows = [
        (each.realm, each.username, name, what, when(each.since.replace(tzinfo=UTC), now))
        for each in found
        for name, what in sorted(each.fields.items())
    ]
    told = sorted({what for each in found for what in each.fields.values()})
    return [
        *table(("Realm", "User", "Field", "Found", "Since"), rows),
        *(f"  {what}: {MEANING.get(what, 'this version does not know it')}" for what in told),
        "`kcsync drift undo --user NAME` makes a user as was delivered, `kcsync drift accept --user NAME` leaves it so.",
    ]


def _json(drifted: Drifted) -> Mapping[str, Any]:
    return {
        "realm": drifted.realm,
        "username": drifted.username,
        "fields": drifted.fields,
        "since": drifted.since.replace(tzinfo=UTC),
    }


async def _ask(
    settings: Settings,
    which: Which,
    fields: Sequence[str] | None,
    *,
    undoes: bool,
    yes: bool,
    why: str | None,
) -> ExitCode:
    async with database_of(settings) as database:
        await check_schema(database)
        await refuse_unknown(settings, database, which.realm)
        found = await read_drift(database, lane=which.lane, realm=which.realm, limit=_MOST)
        asked = {each.lane_id: names for each in found if (names := _names(each, fields))}
        if not asked:
            fail(
                "nothing of that was changed by others, as far as is known: see `kcsync drift`",
                ExitCode.USAGE,
            )
        verb = "Undo" if undoes else "Accept"
        if len(asked) > 1:
            confirm(f"{verb} what others have changed of {len(asked)} users?", yes=yes)
        doubts = {
            lane: Doubt(asked=names) if undoes else Doubt(accepted=names) for lane, names in asked.items()
        }
        # Nothing is written here: the owner of the user does it between two calls.
        await DrainStore(database, owner=settings.instance).note_doubts(doubts, kind="asked", after=0.0)
        await AuditStore(database).record(
            actor=actor(),
            action=f"drift {verb.lower()}",
            arguments={"users": len(asked), "fields": sorted(set().union(*asked.values())), "why": why},
            outcome="asked",
        )
        waiting = await _followed(database, list(asked))
        left = await read_drift(database, lane=which.lane, realm=which.realm, limit=_MOST)
    return _report(verb, asked, waiting, left)


def _names(drifted: Drifted, fields: Sequence[str] | None) -> frozenset[str]:
    names = frozenset(drifted.fields)
    return names if fields is None else names & frozenset(fields)


async def _followed(database: Database, lanes: Sequence[bytes]) -> int:
    """Wait until the owners have done it; how many users wait still."""
    until = time.monotonic() + _PATIENCE
    while (waiting := await still_asked(database, lanes)) and time.monotonic() < until:
        await asyncio.sleep(_LOOK_EVERY)
    return waiting


def _users(number: int) -> str:
    return "1 user" if number == 1 else f"{number} users"


def _report(
    verb: str, asked: Mapping[bytes, frozenset[str]], waiting: int, left: Sequence[Drifted]
) -> ExitCode:
    again = sum(bool(asked.get(each.lane_id, frozenset()) & each.fields.keys()) for each in left)
    done = {"Undo": "Undone", "Accept": "Accepted"}[verb]
    typer.echo(f"{done}: {_users(max(0, len(asked) - waiting - again))}")
    if waiting:
        typer.echo(
            f"  waiting {waiting}: done as soon as an instance that delivers runs, and Keycloak is there (`kcsync status`)"
        )
    if again > waiting:
        typer.echo(
            f"  still changed {again - waiting}: Keycloak did not take it; see the log, and `kcsync drift`"
        )
    return ExitCode.PARTIAL if waiting or again else ExitCode.HEALTHY
