"""`python -m compose.demo`: the whole way on real servers, told as a story and proved from Keycloak.

Exit codes: 0 all that was checked holds, 1 something does not or the demo could not go on, 2 wrong arguments, 130
interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import secrets
import select
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaError

from compose.demo.consumer_process import ConsumerProcess, consumer_environment, stop_leftover
from compose.demo.errors import DemoFailed
from compose.demo.examine import examine, find_trace, now_in_milliseconds
from compose.demo.play import Stage, Story
from compose.demo.proof import Check
from compose.demo.screen import Screen
from compose.demo.story import write_script
from compose.demo.topic import new_topic, remove_old_topics
from compose.demo.traces import Trace, link, picture
from compose.demo.watch import Watch
from compose.native.errors import StackError
from compose.native.stack import Endpoints, Stack
from compose.native.state import ROOT, exclusive
from consumer.telemetry.tracing import configure_tracing
from consumer.version import VERSION
from producer_lib import Producer, ProducerError, SealingKey

NAME: Final = "demo"
ALL_HOLDS: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130

_DIRECTORY: Final = ROOT / NAME
# How long the stack waits for somebody who wants to look at the trace, in seconds.
_LINGER: Final = 60
_EXPORT: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the demo came to.

    Attributes:
        story: What happened.
        checks: What was checked.
        trace: One delivery from the publish call to Keycloak.
        played: Seconds that the story took.
        proved: Seconds that reading back took.
    """

    story: Story
    checks: Sequence[Check]
    trace: Trace | None
    played: float
    proved: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the demo; give the exit code."""
    options = _parser().parse_args(arguments)
    screen = Screen.on(sys.stdout, os.environ)
    # A shell that starts us in the background has SIGINT ignored; and a termination is an interruption.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        _DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(_DIRECTORY / "demo.lock", lambda: screen.line("Waiting for another demo to end ...")):
            return _run(screen, keep=options.keep)
    except (DemoFailed, StackError, ProducerError, KafkaError, OSError) as error:
        screen.verdict(f"The demo could not go on. {error}", good=False)
        return FAILED
    except KeyboardInterrupt:
        screen.verdict("Interrupted; what the demo started was stopped.", good=False)
        return INTERRUPTED


def _run(screen: Screen, *, keep: bool) -> int:
    stack = Stack(NAME)
    begun = time.monotonic()
    screen.line(
        "kcsync carries user changes from applications into Keycloak: in order, and through any outage."
    )
    screen.step(
        "0/4",
        "Real servers start on this machine: Kafka, MariaDB, Keycloak, Zipkin",
        "Nothing is simulated. The first time they are downloaded; all of it stays in this folder and a cache folder.",
    )
    consumer: ConsumerProcess | None = None
    kept = False
    try:
        stack.up(lambda text: screen.line(f"     {text}"))
        run = secrets.token_hex(3)
        environment = _prepare(stack, run)
        consumer = ConsumerProcess(_DIRECTORY, environment)
        consumer.start()
        screen.say(f"A consumer runs (kcsync start, process {consumer.pid}); its log is {consumer.log}")
        up = time.monotonic() - begun
        findings = asyncio.run(_play_and_prove(stack, consumer, environment, run, screen))
        holds = all(check.holds for check in findings.checks)
        if not keep:
            screen.say("The consumer is stopped (SIGTERM).")
            code = consumer.stop()
            if code != 0:
                holds = False
                screen.say(f"It ended with {code} instead of 0. Its log ends with:")
                screen.line(consumer.last_words)
        _conclude(screen, findings, stack.endpoints, up, holds=holds)
        kept = keep
        if kept:
            _say_how_to_go_on(screen, stack.endpoints, consumer)
        else:
            _linger(screen)
        return ALL_HOLDS if holds else FAILED
    finally:
        if not kept:
            # A second Ctrl-C would leave servers behind; what follows is bounded.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            screen.line()
            screen.line("Stopping the consumer and the servers ...")
            if consumer is not None:
                consumer.stop()
            stack.down()
            screen.line(f"All is stopped; data and logs are kept in {_DIRECTORY}")


def _prepare(stack: Stack, run: str) -> dict[str, str]:
    """Make an empty database and topic, so that runs do not meet; give the consumer's environment.

    Raises:
        StackError: MariaDB or Kafka refused.
        KafkaError: Kafka did not answer.
    """
    endpoints = stack.endpoints
    stop_leftover(_DIRECTORY)
    asyncio.run(remove_old_topics(endpoints.kafka_bootstrap))
    return consumer_environment(
        endpoints,
        topic=new_topic(stack.kafka, run),
        group=f"kcsync-demo-{run}",
        database_dsn=stack.mariadb.new_database("demo"),
    )


async def _play_and_prove(
    stack: Stack, consumer: ConsumerProcess, environment: dict[str, str], run: str, screen: Screen
) -> Findings:
    endpoints = stack.endpoints
    tracing = configure_tracing(
        {
            "OTEL_TRACES_EXPORTER": environment["OTEL_TRACES_EXPORTER"],
            "OTEL_EXPORTER_ZIPKIN_ENDPOINT": environment["OTEL_EXPORTER_ZIPKIN_ENDPOINT"],
            "OTEL_SERVICE_NAME": "application",
        },
        service_version=VERSION,
        instance=f"demo-{run}",
    )
    tracing.install()
    since = now_in_milliseconds()
    begun = time.monotonic()
    producer = Producer(
        bootstrap_servers=endpoints.kafka_bootstrap,
        source="/demo",
        realm=endpoints.realm,
        topic=environment["KCSYNC_KAFKA_TOPIC"],
        sealing_key=SealingKey.from_text(endpoints.sealing_key),
    )
    try:
        async with (
            Watch(environment) as watch,
            producer,
            Stage(stack.keycloak, consumer, watch, producer, screen) as stage,
        ):
            story = await stage.play(write_script(run, random.Random(run)))  # noqa: S311 (a story, no secret)
    finally:
        await asyncio.to_thread(tracing.shutdown, _EXPORT)
    played = time.monotonic() - begun
    screen.step(
        "4/4",
        "The proof, from Keycloak itself",
        "Profiles, real logins and Keycloak's own diary of admin events are compared with what was published; what "
        "kcsync says of itself proves nothing here.",
    )
    checks = [*_of_kcsync(story), *await examine(endpoints, story, run, since)]
    trace = await find_trace(endpoints.zipkin_url, story)
    checks.append(
        Check(
            what="one trace leads from the publish call to Keycloak",
            source="Zipkin",
            looked_at=0 if trace is None else len(trace.spans),
            problems=("Zipkin has no such trace",) if trace is None else (),
        )
    )
    return Findings(
        story=story, checks=checks, trace=trace, played=played, proved=time.monotonic() - begun - played
    )


def _of_kcsync(story: Story) -> list[Check]:
    """What only kcsync itself can tell; the other checks do without its word."""
    return [
        Check(
            what="partitions paused in the outage, events waited in Kafka",
            source="kcsync status",
            looked_at=story.kept_in_kafka,
            problems=()
            if story.paused == story.partitions
            else (f"only {story.paused} of {story.partitions} partitions were paused",),
        ),
        Check(
            what="every event was delivered, none given up or held",
            source="kcsync status",
            looked_at=story.delivered,
            problems=(f"{story.troubled:,} events were given up, held or not understood",)
            if story.troubled
            else (),
        ),
    ]


def _conclude(screen: Screen, findings: Findings, endpoints: Endpoints, up: float, *, holds: bool) -> None:
    screen.line()
    screen.checks(findings.checks)
    if findings.trace is not None:
        screen.line()
        tries = "one attempt" if findings.trace.attempts == 1 else f"{findings.trace.attempts} attempts"
        screen.say(f"One event's way from the application to Keycloak, in {tries} (begin, duration, step):")
        for line in picture(findings.trace):
            screen.line(f"     {line}")
        screen.line(f"     {link(endpoints.zipkin_url, findings.trace)}")
    story = findings.story
    screen.line()
    for line in (
        f"{len(story.published):,} events of {len(story.expectation.users):,} users.",
        f"Keycloak was away for {story.keycloak_away:.0f} s; {story.caught_up:.0f} s after its return all was delivered.",
        f"It took {up:.0f} s to start, {findings.played:.0f} s to play and {findings.proved:.0f} s to prove.",
    ):
        screen.say(line)
    if holds:
        screen.verdict("All holds: nothing was lost, nothing came out of order.", good=True)
    else:
        screen.verdict("Not all holds; see above.", good=False)


def _say_how_to_go_on(screen: Screen, endpoints: Endpoints, consumer: ConsumerProcess) -> None:
    python = _relative(Path(sys.executable))
    state = _relative(_DIRECTORY / "state.json")
    for line in (
        "Stack and consumer go on running. Try next:",
        f"  . {_relative(consumer.variables)}; {python.parent}/kcsync status",
        f"  {endpoints.keycloak_url}/admin/  (user {endpoints.keycloak_admin_username}, password in {state})",
        f"  tail -f {_relative(consumer.log)}",
        "Stop all of it:",
        f"  kill {consumer.pid}; {python} -m compose.native down --name {NAME}",
    ):
        screen.line(f"     {line}")


def _linger(screen: Screen) -> None:
    """Leave the trace's link working for a while, where somebody sits at the terminal."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        screen.line(
            f"     The link works for {_LINGER} s more; Enter ends it. To keep all running: {_again()}"
        )
        # Who has seen enough may also say so by Ctrl-C; what was proved stays proved.
        with contextlib.suppress(KeyboardInterrupt):
            select.select([sys.stdin], [], [], _LINGER)
    else:
        screen.line(f"     To look around in it, keep all running: {_again()}")


def _again() -> str:
    return f"{_relative(Path(sys.executable))} -m compose.demo --keep"


def _relative(path: Path) -> Path:
    """Shorten a path for somebody who stands in the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compose.demo",
        description="Play the whole way on real servers, with an outage in the middle, and prove the result from Keycloak.",
    )
    parser.add_argument("--keep", action="store_true", help="leave the servers and the consumer running")
    return parser


if __name__ == "__main__":
    # Clients whose server is being killed or started log each refusal; the demo's own sentences are enough.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    logging.getLogger("aiokafka").propagate = False
    sys.exit(main())
