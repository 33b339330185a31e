"""One run: draw a world from a seed, let things happen, heal, and see that all is well.

Safety: faults strike at random; afterwards everything is healed. Liveness: afterwards the servers and the processes that
still run are well, but one process stands still for ever and one user's calls never succeed; all others' backlog must
reach zero all the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from consumer.outbox.maintenance_store import EVERY_REALM, Maintenance
from tests.simulation.operators import Operators
from tests.simulation.others import Others
from tests.simulation.process import REALMS, Parts, SimProcess
from tests.simulation.story import ACTIONS, GROUPS, REALM_ROLES, Story
from tests.simulation.virtual_loop import HostState, VirtualLoop
from tests.simulation.weather import Outage, Weather
from tests.simulation.world import World, heard

__all__ = ["Mode", "Result", "simulate"]

_HEALED_WITHIN = 300.0
"""Seconds within which the backlog must be gone after all is well: several times the longest wait of any part."""


class Mode(StrEnum):
    """What is left broken at the end."""

    SAFETY = "safety"
    LIVENESS = "liveness"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a run.

    Attributes:
        digest: names everything that happened; the same in every run of the same seed.
        seconds: simulated.
    """

    seed: int
    mode: Mode
    violations: list[str]
    digest: str
    seconds: float
    requests: int
    events: int
    diary: list[str] = field(repr=False)

    def report(self) -> str:
        """The violations, how to see them again, and what led to them."""
        again = f"python -m tests.simulation --seed {self.seed} --mode {self.mode}"
        return "\n".join([*self.diary, "", *self.violations, "", f"again: {again}"])


def simulate(
    seed: int,
    mode: Mode,
    *,
    parts: Parts | None = None,
    bias: Callable[[Weather, Story, Others], None] | None = None,
) -> Result:
    """Run one seed.

    Args:
        seed: draws everything.
        mode: what is left broken at the end.
        parts: variants of the real parts, for the check that the simulation notices them.
        bias: changes what was drawn, to look for something rare.
    """
    rng = random.Random(f"{seed}/{mode}")
    before = random.getstate()
    # Backoffs and jitter of the product draw from here.
    random.seed(f"{seed}/{mode}/product")
    loop = VirtualLoop()
    try:
        world = World(
            seed,
            loop,
            Weather.drawn(rng),
            parts or Parts(),
            partitions=rng.randint(1, 4),
            restores=random.Random(f"{seed}/lost users").random() < 0.7,
        )
        loop.set_exception_handler(lambda _, context: _unhandled(world, context))
        with heard(world.watch):
            run = _Run(world, rng, mode)
            if bias is not None:
                bias(world.weather, run.story, run.others)
            loop.run_until_complete(run.play())
            seconds = loop.time()
            loop.run_until_complete(world.close())
    finally:
        loop.close()
        random.setstate(before)
    watch = world.watch
    return Result(
        seed=seed,
        mode=mode,
        violations=watch.violations,
        digest=watch.digest,
        seconds=seconds,
        requests=watch.requests,
        events=len(world.database.entries),
        diary=list(watch.diary),
    )


def _unhandled(world: World, context: dict[str, Any]) -> None:
    if not world.closed:
        world.watch.fail("defect", f"{context['message']}: {context.get('exception')!r}")


class _Run:
    """The course of one run."""

    def __init__(self, world: World, rng: random.Random, mode: Mode) -> None:
        self._world = world
        self._rng = rng
        self._mode = mode
        self._healed = False
        self._troubles: list[Callable[[], float]] = [
            trouble
            for trouble in (
                self._kill,
                self._pause,
                self._pause,
                self._stop,
                self._keycloak_out,
                self._keycloak_struggles,
                self._database_out,
                self._kafka_out,
                self._rebalance,
                self._forbid,
            )
            if rng.random() < 0.6
        ]
        self.story = Story(
            rng=world.rng("story"),
            keys=world.keys,
            broker=world.broker,
            watch=world.watch,
            users=rng.randint(2, 10),
            held=rng.choice([0.0, 0.0, 0.02]),
            stray=rng.choice([0.0, 0.0, 0.3]),
            badges=rng.choice([0.0, 0.1, 0.2]),
            deletes=rng.choice([8, 8, 25]),
        )
        self._upgrades = self.story.badges > 0 and rng.random() < 0.8
        self._maintains_every = rng.choice([None, None, 5.0, 12.0])
        self._operators = Operators(
            world.database, world.rng("operators"), patience=rng.choice([1.0, 4.0, 15.0])
        )
        self.others = Others(
            world.server,
            world.rng("others"),
            [self.story.user(number) for number in range(self.story.users)],
            GROUPS,
            REALM_ROLES,
            ACTIONS,
        )
        self.others.draw()
        world.weather.draw_apart(self.others.rng)
        self._ambush = world.rng("ambush")
        world.strike = self._strike
        if rng.random() < 0.3:
            world.weather.cursed.add("user-0")

    async def play(self) -> None:
        """Publish under faults, heal, wait, and judge."""
        world, rng = self._world, self._rng
        loop = asyncio.get_running_loop()
        heartbeats = loop.create_task(world.broker.expel())
        operators = loop.create_task(self._operators.run())
        housekeeping = loop.create_task(self._keep_house())
        for _ in range(rng.randint(1, 3)):
            world.new_process()
        length = rng.uniform(15.0, 45.0)
        trouble = [
            loop.create_task(self._make_trouble()),
            loop.create_task(self._maintain()),
            loop.create_task(self._upgrade(rng.uniform(0.0, length))),
            loop.create_task(self._freeze()),
        ]
        others = loop.create_task(self.others.run())
        for _ in range(rng.randint(20, 90)):
            await asyncio.sleep(rng.expovariate(90 / length))
            self.story.publish()
            if world.watch.violations:
                return
        await asyncio.sleep(rng.uniform(0.0, 10.0))
        for each in trouble:
            each.cancel()
        late = world.weather.lateness
        self._heal()
        # Most of the backlog is delivered only now: here is where their changes and our doubts meet.
        world.weather.lateness = late
        await asyncio.sleep(self.others.rng.uniform(0.0, 20.0))
        world.weather.lateness = (0.0, 0.0, 0.0)
        self._later(self.others.rng.uniform(0.0, 20.0), others.cancel)
        await self._settle()
        if not world.watch.violations:
            world.watch.check_complete()
            world.watch.check_states(world.server.fake)
        operators.cancel()
        housekeeping.cancel()
        heartbeats.cancel()

    async def _settle(self) -> None:
        world = self._world
        ends = world.loop.time() + _HEALED_WITHIN
        while not world.watch.violations and not self._all_done():
            if world.loop.time() > ends:
                stuck = [
                    f"{e.event_id} ({e.kind}, {e.state}, {e.reason}, {e.calls} calls, "
                    f"lane {world.database.lanes[e.lane_id].state})"
                    for e in world.watch.stuck(world.weather.cursed)
                ]
                world.watch.fail(
                    "I6",
                    f"after {_HEALED_WITHIN:.0f} s without faults: {stuck}, suspect {world.watch.suspects()}, "
                    f"unanswered {world.watch.unanswered()}",
                )
                return
            await asyncio.sleep(0.5)

    async def _keep_house(self) -> None:
        """Forget passwords as soon as that is allowed: sooner than any real grace."""
        while True:
            await asyncio.sleep(1.0)
            self._world.database.forget_passwords()

    def _all_done(self) -> bool:
        world = self._world
        cursed = world.weather.cursed
        read = all(
            (known := world.database.partitions.get(partition)) is not None
            and known.watermark.next_offset == len(log)
            for partition, log in world.broker.logs.items()
        )
        watch = world.watch
        uncertain = {*watch.suspects(), *(watch.looks_due() if watch.heal_rule.overdue else ())}
        idle = not world.server.late and not watch.unanswered()
        return read and idle and not watch.stuck(cursed) and not uncertain - cursed

    def _heal(self) -> None:
        world = self._world
        self._healed = True
        world.weather.clear_up()
        self._operators.tidy_up(knows_badges=self._upgrades)
        paused = [p for p in world.processes if p.host.state is HostState.PAUSED]
        running = [process for process in world.running() if not process.stopping]
        if self._mode is Mode.SAFETY:
            for process in paused:
                process.host.resume()
        elif not paused and len(running) > 1:
            running.pop().host.pause()
        world.database.maintenance.clear()
        world.watch.note("healed")
        if self._upgrades:
            # It comes to its end now; without it, what only the newer version can read is for operators to drop.
            world.newer = True
            for process in world.running():
                if not process.newer:
                    process.stop()
        if all(process.stopping for process in world.running()):
            world.new_process()

    async def _make_trouble(self) -> None:
        while self._troubles:
            await asyncio.sleep(self._rng.uniform(0.5, 7.0))
            await asyncio.sleep(self._rng.choice(self._troubles)())

    def _victim(self) -> SimProcess | None:
        running = self._world.running()
        return self._rng.choice(running) if running else None

    def _later(self, seconds: float, what: Callable[[], object]) -> None:
        self._world.loop.call_later(seconds, what, context=Context())

    def _strike(self, victim: SimProcess, moment: str) -> bool:
        """Perhaps stop a process at a moment that matters."""
        if self._ambush.random() >= self._world.weather.strikes:
            return False
        self._world.watch.note(f"{victim.name} is struck at {moment}")
        self._strike_down(victim, self._ambush)
        return True

    def _strike_down(self, victim: SimProcess, rng: random.Random) -> None:
        if rng.random() < 0.3:
            victim.host.kill()
            self._later(rng.uniform(0.2, 5.0), self._world.new_process)
        else:
            victim.host.pause()
            seconds = rng.choice([rng.uniform(0.5, 8.0), rng.uniform(9.0, 25.0)])
            self._later(seconds, lambda: self._resume(victim))

    def _kill(self) -> float:
        if (victim := self._victim()) is not None:
            self._world.watch.note(f"{victim.name} is killed")
            victim.host.kill()
            self._later(self._rng.uniform(0.2, 5.0), self._world.new_process)
        return 0.0

    def _pause(self) -> float:
        if (victim := self._victim()) is not None:
            seconds = self._rng.choice([self._rng.uniform(0.5, 8.0), self._rng.uniform(9.0, 25.0)])
            self._world.watch.note(f"{victim.name} stands still for {seconds:.1f} s")
            victim.host.pause()
            self._later(seconds, lambda: self._resume(victim))
        return 0.0

    def _resume(self, victim: SimProcess) -> None:
        if victim.host.state is HostState.PAUSED and not (self._healed and self._mode is Mode.LIVENESS):
            self._world.watch.note(f"{victim.name} goes on")
            victim.host.resume()

    def _stop(self) -> float:
        if (victim := self._victim()) is not None:
            self._world.watch.note(f"{victim.name} is told to stop")
            victim.stop()
            self._later(self._rng.uniform(0.0, 8.0), self._world.new_process)
        return 0.0

    def _keycloak_out(self) -> float:
        weather, seconds = self._world.weather, self._rng.uniform(1.0, 12.0)
        weather.outage = self._rng.choice(list(Outage))
        self._world.watch.note(f"Keycloak {weather.outage.name} for {seconds:.1f} s")
        self._later(seconds, lambda: setattr(weather, "outage", None))
        return seconds

    def _keycloak_struggles(self) -> float:
        """It answers some calls and not others."""
        weather, seconds = self._world.weather, self._rng.uniform(3.0, 15.0)
        rate = self._rng.choice(["refused", "error", "dropped", "unavailable"])
        before = getattr(weather, rate)
        self._world.watch.note(f"Keycloak struggles ({rate}) for {seconds:.1f} s")
        setattr(weather, rate, self._rng.uniform(0.3, 0.7))
        self._later(seconds, lambda: setattr(weather, rate, 0.0 if self._healed else before))
        return seconds

    def _database_out(self) -> float:
        return self._out("database_away", self._rng.uniform(0.5, 6.0))

    def _kafka_out(self) -> float:
        return self._out("kafka_away", self._rng.uniform(0.5, 6.0))

    def _out(self, what: str, seconds: float) -> float:
        self._world.watch.note(f"{what} for {seconds:.1f} s")
        setattr(self._world.weather, what, True)
        self._later(seconds, lambda: setattr(self._world.weather, what, False))
        return seconds

    async def _freeze(self) -> None:
        """A node of Keycloak stands still for a while, or all of it, with what it has received."""
        world, rng = self._world, self.others.rng
        while (every := world.weather.freezes_every) is not None:
            await asyncio.sleep(rng.expovariate(1 / every))
            share, seconds = rng.choice([1.0, rng.uniform(0.1, 0.6)]), rng.uniform(1.0, 35.0)
            world.watch.note(f"{share:.0%} of Keycloak stands still for {seconds:.1f} s")
            world.weather.frozen = share
            self._later(seconds, self._thaw)
            await asyncio.sleep(seconds)

    def _thaw(self) -> None:
        world = self._world
        world.watch.note("Keycloak goes on")
        world.weather.frozen = 0.0
        world.server.go_on(self.others.rng, 0.8 * world.policy.server_limit)

    def _rebalance(self) -> float:
        self._world.watch.note("rebalance")
        self._world.broker.rebalance()
        return 0.0

    async def _maintain(self) -> None:
        """Operators stop a realm, or everything, and let it go on a while later; two may be at it at the same time."""
        world, rng = self._world, self._world.rng("maintenance")
        stopped = world.database.maintenance
        while self._maintains_every is not None:
            await asyncio.sleep(rng.expovariate(1 / self._maintains_every))
            realm, seconds = rng.choice([EVERY_REALM, *sorted(REALMS)]), rng.uniform(1.0, 10.0)
            world.watch.note(f"maintenance of {realm or 'everything'} for {seconds:.1f} s")
            stopped[realm] = Maintenance(realm, "alice@desk", None, world.database.now())
            self._later(seconds, partial(stopped.pop, realm, None))

    async def _upgrade(self, begins_at: float) -> None:
        """One process after the other is replaced by the newer version; that may take long."""
        world, rng = self._world, self._world.rng("upgrade")
        await asyncio.sleep(begins_at)
        world.newer = self._upgrades
        while world.newer:
            if (
                old := next((p for p in world.running() if not p.newer and not p.stopping), None)
            ) is not None:
                world.watch.note(f"{old.name} is told to stop, for the newer version")
                old.stop()
                self._later(rng.uniform(0.0, 4.0), world.new_process)
            await asyncio.sleep(rng.uniform(1.0, 15.0))

    def _forbid(self) -> float:
        seconds = self._rng.uniform(1.0, 8.0)
        self._world.watch.note(f"realm shop is forbidden for {seconds:.1f} s")
        self._world.weather.forbidden.add("shop")
        self._later(seconds, lambda: self._world.weather.forbidden.discard("shop"))
        return seconds
