"""An outage of an hour in simulated time: seconds from Keycloak's return to the first delivery, one JSON list on stdout.

A script, not a module: it is run by the environment of the build it measures, in the folder of that build, with the
number of worlds as its argument. It uses that build's own simulation: its real drain, ingest and circuit, with the
consumer's default times for the circuit.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable

from consumer.circuit.breaker import CircuitPolicy
from consumer.outbox.rows import EntryState
from tests.simulation import process
from tests.simulation.process import Parts
from tests.simulation.story import Story
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.weather import Outage, Weather
from tests.simulation.world import World, heard

OUTAGE = 3600.0
PUBLISHED_EVERY = 60.0
PROCESSES = 2


def main() -> None:
    """Run the worlds."""
    process.CIRCUIT = CircuitPolicy()
    print(json.dumps([_outage(seed) for seed in range(int(sys.argv[1]))]))


def _outage(seed: int) -> float:
    random.seed(seed)
    loop = VirtualLoop()
    try:
        world = World(seed, loop, Weather(), Parts(), partitions=2)
        with heard(world.watch):
            seconds = loop.run_until_complete(_first_delivery_after(world, random.Random(seed)))
            loop.run_until_complete(world.close())
    finally:
        loop.close()
    return seconds


async def _first_delivery_after(world: World, chance: random.Random) -> float:
    for _ in range(PROCESSES):
        world.new_process()
    story = Story(
        rng=chance, keys=world.keys, broker=world.broker, watch=world.watch, users=200, odd=0.0, twice=0.0
    )
    for _ in range(20):
        story.publish()
    await _until(lambda: _delivered(world) >= 5)
    world.weather.outage = Outage.REFUSES
    # Each world ends it at another moment of the rests between questions.
    ends_at = world.loop.time() + OUTAGE + chance.uniform(0.0, 300.0)
    while (left := ends_at - world.loop.time()) > 0:
        story.publish()
        await asyncio.sleep(min(PUBLISHED_EVERY, left))
    before, back_at = _delivered(world), world.loop.time()
    world.weather.outage = None
    await _until(lambda: _delivered(world) > before)
    return world.loop.time() - back_at


def _delivered(world: World) -> int:
    return sum(entry.state is EntryState.DELIVERED for entry in world.database.entries.values())


async def _until(happens: Callable[[], bool]) -> None:
    while not happens():
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    main()
