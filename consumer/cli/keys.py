"""The commands `kcsync keys …`: sealing keys, what uses them, new ones, and those whose time is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import orjson
import typer

from consumer.cli.asking import actor
from consumer.cli.exit_codes import ExitCode
from consumer.cli.render import table
from consumer.cli.session import database_of, fail, load_settings, run
from consumer.delivery.errors import KeyFolderError
from consumer.delivery.passwords import KeyRing, generate_key, retire_key
from consumer.outbox.audit import AuditStore
from consumer.outbox.key_usage import KeyUsage, read_key_usage
from consumer.outbox.migrate import check_schema
from consumer.settings import Settings

__all__ = ["keys"]

keys = typer.Typer(
    name="keys",
    help="The private sealing keys in KCSYNC_KEYS_DIR.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Kid = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, such as 2026-11.")]


@keys.command()
def generate(kid: Kid) -> None:
    """Make a new key, and print the public key that producers are given."""
    settings = load_settings()
    try:
        public = generate_key(settings.keys_dir, kid)
        current = KeyRing.load(settings.keys_dir).current
    except KeyFolderError as error:
        fail(str(error), ExitCode.USAGE)
    typer.echo(public)
    if current != kid:
        typer.echo(f"kcsync itself goes on sealing to {current}: the last in the order of names", err=True)


@keys.command("list")
def list_keys(json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show the keys and how much is sealed to each; exit code 3 if something waits for one that is missing."""
    run(_list(load_settings(), as_json=json))


@keys.command()
def retire(kid: Kid) -> None:
    """Take a key out of use. Refused while something in the outbox is sealed to it."""
    run(_retire(load_settings(), kid))


async def _list(settings: Settings, *, as_json: bool) -> ExitCode:
    ring = KeyRing.load(settings.keys_dir)
    async with database_of(settings) as database:
        await check_schema(database)
        usage = await read_key_usage(database)
    missing = any(used.waiting for kid, used in usage.items() if kid not in ring.kids)
    if as_json:
        typer.echo(orjson.dumps({"keys": _json(ring, usage)}, option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo("\n".join(_text(ring, usage)))
    return ExitCode.DEGRADED if missing else ExitCode.HEALTHY


async def _retire(settings: Settings, kid: str) -> ExitCode:
    ring = KeyRing.load(settings.keys_dir)
    if kid not in ring.kids:
        fail(
            f"{settings.keys_dir} holds no key {kid!r}; there are {', '.join(sorted(ring.kids))}",
            ExitCode.USAGE,
        )
    if kid == ring.current:
        fail(f"{kid} is the key that kcsync itself seals to; make a newer one first", ExitCode.USAGE)
    async with database_of(settings) as database:
        await check_schema(database)
        usage = (await read_key_usage(database)).get(kid, KeyUsage())
        if usage.in_use:
            uses = ", ".join(f"{count} {what}" for what, count in usage.in_use.items())
            typer.echo(f"kcsync: {kid} is in use by {uses}; it stays", err=True)
            return ExitCode.PARTIAL
        moved = retire_key(settings.keys_dir, kid)
        await AuditStore(database).record(
            actor=actor(), action="retire key", arguments={"kid": kid}, outcome="retired"
        )
    typer.echo(
        f"Retired {kid}: its file is {moved} now. Instances that read this folder follow within seconds."
    )
    if usage.dead_letters:
        typer.echo(
            f"{usage.dead_letters} dead letters are sealed to it; to try one again, put the file back."
        )
    typer.echo("Events sealed to it that come again from Kafka, by a replay, wait for it too.")
    return ExitCode.HEALTHY


def _text(ring: KeyRing, usage: Mapping[str, KeyUsage]) -> list[str]:
    public = ring.public_keys()
    rows = []
    for kid in sorted(ring.kids | usage.keys()):
        used = usage.get(kid, KeyUsage())
        note = "current" if kid == ring.current else "" if kid in ring.kids else "MISSING"
        counts = (used.pending, used.held + used.unread, used.kept, used.poison, used.dead_letters)
        rows.append((kid, note, *counts, public.get(kid, "")))
    return [
        "Sealing keys:",
        *table(("Key", "", "Pending", "Held", "Kept", "Poison", "Dead Letters", "Public Key"), rows),
    ]


def _json(ring: KeyRing, usage: Mapping[str, KeyUsage]) -> list[dict[str, Any]]:
    public = ring.public_keys()
    return [
        {
            "kid": kid,
            "here": kid in ring.kids,
            "current": kid == ring.current,
            "public_key": public.get(kid),
            **asdict(usage.get(kid, KeyUsage())),
        }
        for kid in sorted(ring.kids | usage.keys())
    ]
