"""The commands `kcsync held …`: what waits for somebody, and letting it go on or giving it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
import typer

from consumer.cli.asking import ask, report
from consumer.cli.exit_codes import ExitCode
from consumer.cli.render import clock_time, table, when
from consumer.cli.session import database_of, fail, load_settings, run, run_quietly
from consumer.drain.reasons import FOR_SOMEBODY, advice_of
from consumer.durations import format_age
from consumer.outbox.circuit_store import CircuitStore, RealmFault
from consumer.outbox.command_store import Action, Order
from consumer.outbox.database import Database
from consumer.outbox.held import Held, HeldCounts, Which, count_held, knows_realm, read_held
from consumer.outbox.lane import lane_id
from consumer.outbox.migrate import check_schema
from consumer.outbox.rows import EntryState
from consumer.settings import Settings
from producer_lib import InvalidEvent, username_key

__all__ = ["held"]

_SHOWN = 50
_MOST = 100_000
_ALREADY_DEAD = "a dead letter was given up already; `kcsync held release` lets what stands behind it go on"
_WHAT = {EntryState.HELD: "held", EntryState.PENDING: "waits"}

held = typer.Typer(
    name="held",
    help="What waits for somebody: held entries, users who wait behind a dead letter, and changes that only somebody "
    "can bring on.",
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
    """List what waits for somebody: who, why, since when, what to do, and how much stands behind it."""
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


_command(
    Action.RELEASE,
    "Let held entries be delivered, users go on behind their dead letters, and what waits be tried now.",
)
_command(
    Action.DROP,
    "Give up what is held or waits: it becomes a dead letter (`dropped`), and what stands behind it goes on.",
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
        try:
            lane = lane_id(realm or settings.keycloak_realms[0], username_key(user))
        except InvalidEvent as error:
            fail(f"--user is no username: it {error.reason}", ExitCode.USAGE)
    return Which(lane=lane, realm=realm, event_id=event, reason=reason)


def confirm(question: str, *, yes: bool) -> None:
    """Ask back, unless the answer was given; a no ends the command."""
    if not yes and not typer.confirm(question):
        fail("nothing was changed", ExitCode.USAGE)


async def _list(settings: Settings, which: Which, *, as_json: bool) -> ExitCode:
    async with database_of(settings) as database:
        await check_schema(database)
        await refuse_unknown(settings, database, which.realm)
        found = await read_held(database, which, limit=_SHOWN, waits_for=FOR_SOMEBODY)
        counts = await count_held(database, waits_for=FOR_SOMEBODY)
        faults = await CircuitStore(database, keycloak=settings.keycloak_url).realm_faults()
    if as_json:
        typer.echo(orjson.dumps(_json(found, counts, faults), option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo("\n".join(_text(found, counts, faults, datetime.now(UTC).astimezone())))
    return ExitCode.HEALTHY


async def refuse_unknown(settings: Settings, database: Database, realm: str | None) -> None:
    """End the command if `realm` is a typing error: neither served, nor anybody's in the outbox."""
    if realm is None or realm in settings.keycloak_realms or await knows_realm(database, realm):
        return
    served = ", ".join(settings.keycloak_realms)
    fail(f"--realm {realm!r} is unknown: {served} are served, and nothing of another waits", ExitCode.USAGE)


async def _change(
    settings: Settings, which: Which, action: Action, *, yes: bool, why: str | None
) -> ExitCode:
    async with database_of(settings) as database:
        await check_schema(database)
        await refuse_unknown(settings, database, which.realm)
        found = await read_held(database, which, limit=_MOST, waits_for=FOR_SOMEBODY)
        orders = [order for each in found if (order := order_of(each, action)) is not None]
        dead = len(found) - len(orders)
        if not orders and dead:
            fail(_ALREADY_DEAD, ExitCode.USAGE)
        if not orders and which.event_id is not None:
            fail("no event of that id is held or waits for somebody: see `kcsync held`", ExitCode.USAGE)
        if not orders:
            typer.echo("Nothing of that is held.")
            return ExitCode.HEALTHY
        if len(orders) > 1 or which == Which():
            confirm(f"{action.value.capitalize()} {len(orders)}?", yes=yes)
        tally = await ask(settings, database, orders, why=why)
    code = report(tally, {Action.RELEASE: "Released", Action.DROP: "Dropped"}[action])
    if dead:
        typer.echo(f"  not dropped {dead}: {_ALREADY_DEAD}")
    return ExitCode.PARTIAL if dead else code


def order_of(held: Held, action: Action) -> Order | None:
    """What is asked for something held; None where that cannot be asked: a dead letter is not dropped again."""
    if held.holds_lane:
        if action is Action.DROP:
            return None
        action = Action.RELEASE_LANE
    elif held.state is EntryState.PENDING and action is Action.RELEASE:
        # It was never held: it is tried now.
        action = Action.HURRY
    return Order(
        lane_id=held.lane_id,
        action=action,
        entry_id=held.entry_id,
        state=held.state,
        arrivals=held.arrivals,
    )


def _text(
    found: Sequence[Held], counts: HeldCounts, faults: Sequence[RealmFault], now: datetime
) -> list[str]:
    lines = [
        f"Realm {fault.realm} is at fault since {when(fault.since.replace(tzinfo=UTC), now)}, and all its users wait: "
        f"{fault.fault}: {fault.detail}"
        for fault in faults
    ]
    if not found:
        return [*lines, "Nothing is held."]
    lines.append(
        f"Held: {sum(counts.entries.values())} entries; users behind a dead letter: {counts.lanes}; "
        f"users whose next change needs somebody: {sum(counts.waiting.values())}"
    )
    lines += [f"  {reason}: {count}" for reason, count in sorted((counts.entries | counts.waiting).items())]
    rows = [
        (
            _WHAT.get(each.state, "dead letter"),
            each.reason if each.holder is None else f"{each.reason} by {each.holder}",
            "unknown" if each.since is None else clock_time(each.since.replace(tzinfo=UTC), now),
            "unknown" if each.seconds is None else format_age(timedelta(seconds=each.seconds)),
            each.realm,
            each.username,
            each.kind,
            each.behind,
            each.event_id,
        )
        for each in found
    ]
    lines += table(("What", "Reason", "Since", "Age", "Realm", "User", "Kind", "Behind", "Event"), rows)
    lines.append("What to do:")
    for reason in sorted({each.reason for each in found}):
        advice = advice_of(reason)
        told = "this version does not know it" if advice is None else f"{advice.meaning}: {advice.remedy}"
        lines.append(f"  {reason}: {told}")
    return lines


def _json(found: Sequence[Held], counts: HeldCounts, faults: Sequence[RealmFault]) -> Mapping[str, Any]:
    return {
        "entries_by_reason": counts.entries,
        "lanes_behind_dead_letters": counts.lanes,
        "users_who_need_somebody_by_reason": counts.waiting,
        "realm_faults": [
            {
                "realm": fault.realm,
                "reason": fault.fault,
                "detail": fault.detail,
                "since": fault.since.replace(tzinfo=UTC),
            }
            for fault in faults
        ],
        "held": [
            {
                "event_id": each.event_id,
                "realm": each.realm,
                "username": each.username,
                "kind": each.kind,
                "state": each.state,
                "reason": each.reason,
                "holder": each.holder,
                "since": None if each.since is None else each.since.replace(tzinfo=UTC),
                "age_seconds": each.seconds,
                "behind": each.behind,
                "meaning": None if (advice := advice_of(each.reason)) is None else advice.meaning,
                "remedy": None if advice is None else advice.remedy,
            }
            for each in found
        ],
    }
