"""`python -m compose.native`: up, down, status, env.

Exit codes: 0 done, 2 it could not be done (one sentence says why), 3 `status` found a server that does not run,
130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from compose.native.errors import StackError
from compose.native.progress import Say, silent
from compose.native.stack import Stack
from compose.native.state import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE = 0
FAILED = 2
DEGRADED = 3
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; give its exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(options.run(options))
    except StackError as error:
        print(error, file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # Whoever read our lines has seen enough; Python must not complain about it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(
            f"The disk or the system refused{where}: {error.strerror or error}. "
            "Free some space or mend its permissions, and run the command again.",
            file=sys.stderr,
        )
        return FAILED
    except KeyboardInterrupt:
        print("Interrupted; what this command started was stopped.", file=sys.stderr)
        return INTERRUPTED


def up(options: argparse.Namespace) -> int:
    """Start a stack, and say how to use it."""
    stack = Stack(options.name)
    stack.up(_tell)
    _tell("")
    _tell(
        f"Keycloak  {stack.keycloak.url}/admin/  (user {stack.endpoints.keycloak_admin_username}, password in state.json)"
    )
    _tell(f"Zipkin    {stack.zipkin.url}/zipkin/")
    _tell(f"Logs      {ROOT / options.name / 'logs'}")
    name = "" if options.name == "dev" else f" --name {options.name}"
    _tell(f'Use it    eval "$({shlex.quote(sys.executable)} -m compose.native env{name})"')
    return DONE


def down(options: argparse.Namespace) -> int:
    """Stop one stack, or all."""
    say: Say = silent if options.quiet else _tell
    names = sorted(path.name for path in ROOT.glob("*") if path.is_dir()) if options.all else [options.name]
    for name in names:
        Stack(name).down(say)
        say(f"The stack '{name}' is down; its data is kept in {ROOT / name}.")
    return DONE


def status(options: argparse.Namespace) -> int:
    """Print which servers of a stack run."""
    stack = Stack(options.name)
    endpoints = stack.endpoints
    addresses = {
        "kafka": endpoints.kafka_bootstrap,
        "mariadb": stack.mariadb.address,
        "keycloak": endpoints.keycloak_url,
        "zipkin": endpoints.zipkin_url,
    }
    for server in stack.servers:
        _tell(f"{server.title:9} {'running' if server.running else 'stopped':8} {addresses[server.name]}")
    return DONE if stack.running else DEGRADED


def env(options: argparse.Namespace) -> int:
    """Print shell lines that make a consumer use this stack, and give a producer its sealing key."""
    endpoints = Stack(options.name).endpoints
    variables = {
        "KCSYNC_KAFKA_BOOTSTRAP": endpoints.kafka_bootstrap,
        "KCSYNC_KAFKA_TOPIC": endpoints.topic,
        "KCSYNC_DATABASE_DSN": endpoints.mariadb_dsn,
        "KCSYNC_KEYCLOAK_URL": endpoints.keycloak_url,
        "KCSYNC_KEYCLOAK_REALMS": endpoints.realm,
        "KCSYNC_KEYCLOAK_CLIENT_ID": endpoints.client_id,
        "KCSYNC_KEYCLOAK_CLIENT_SECRET": endpoints.client_secret,
        "KCSYNC_KEYS_DIR": str(endpoints.keys_dir),
        "KCSYNC_STACK_SEALING_KEY": endpoints.sealing_key,
        "OTEL_TRACES_EXPORTER": "zipkin",
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT": f"{endpoints.zipkin_url}/api/v2/spans",
    }
    for name, value in variables.items():
        _tell(f"export {name}={shlex.quote(value)}")
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compose.native",
        description="Real Kafka, MariaDB, Keycloak and Zipkin on this machine, without root or Docker.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for run, text in (
        (up, "start a stack; does nothing if it is up"),
        (down, "stop a stack; its data is kept"),
        (status, "tell which servers run"),
        (env, "print the shell lines that make a consumer use a stack"),
    ):
        command = commands.add_parser(run.__name__, help=text, description=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("--name", default="dev", help="which stack (default: dev)")
        if run is down:
            command.add_argument("--all", action="store_true", help="every stack of this repository")
            command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _tell(line: str) -> None:
    print(line, flush=True)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Clients that meet a starting server log each refusal; the sentence we print is enough.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    logging.getLogger("aiokafka").propagate = False
    sys.exit(main())
