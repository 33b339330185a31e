"""The proof: reads back from Keycloak what the story left there, and lets the pure checks judge it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import httpx

from compose.demo import proof
from compose.demo.errors import DemoFailed
from compose.demo.keycloak_reader import KeycloakReader
from compose.demo.play import Story
from compose.demo.proof import Check
from compose.demo.traces import Trace, best_of, read_traces
from compose.native.stack import Endpoints

_LOGINS: Final = 30
# Spans are exported every five seconds.
_SPANS_TAKE: Final = 15.0


async def examine(endpoints: Endpoints, story: Story, run: str, since: int) -> list[Check]:
    """Check what Keycloak holds, and in which order it came there.

    Args:
        endpoints: of the stack.
        story: what was published.
        run: begins the username of everybody in it.
        since: when it began, in milliseconds since 1970.

    Raises:
        DemoFailed: Keycloak did not answer.
    """
    expectation = story.expectation
    try:
        async with KeycloakReader(endpoints) as keycloak:
            profiles = await keycloak.profiles(run)
            events = await keycloak.admin_events(since)
            trials = await keycloak.try_logins(expectation.with_new_password(_LOGINS))
    except httpx.TransportError as error:
        raise DemoFailed(
            f"Keycloak did not answer while the result was read back ({type(error).__name__})."
        ) from None
    return [
        proof.check_profiles(expectation, profiles),
        proof.check_deleted(expectation, profiles),
        proof.check_new_passwords(trials),
        proof.check_old_passwords(trials),
        proof.check_life_cycles(expectation, events),
        proof.check_sequences(expectation, events),
    ]


async def find_trace(zipkin_url: str, story: Story) -> Trace | None:
    """Find the trace of a delivery that Keycloak's death cut off, or else of another; None if none comes in time.

    Args:
        zipkin_url: base URL.
        story: what was published, with the trace of each.
    """
    before = story.published[: story.killed_at]
    trace_ids = [item.traceparent.split("-")[1] for item in before if item.traceparent is not None]
    deadline = time.monotonic() + _SPANS_TAKE
    while True:
        found = None
        with contextlib.suppress(httpx.HTTPError):
            found = best_of(await read_traces(zipkin_url, trace_ids))
        if found is not None or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.5)


def now_in_milliseconds() -> int:
    """The time of now as Keycloak's admin events have it."""
    return int(time.time() * 1000)
