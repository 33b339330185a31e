"""Several keepers share a circuit through whatever happens to them: random schedules, checked at every step."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from itertools import pairwise
from typing import ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from consumer.circuit.breaker import CircuitState, Refusal
from consumer.circuit.keeper import ControlAnswer
from consumer.delivery.presence import Presence, Sighting
from tests.unit.circuit.circuit_in_memory import POLICY, Clock, Instance, Keycloak, MemoryCircuit

NAMES = "abc"
names = st.sampled_from(NAMES)


class Together(RuleBasedStateMachine):
    """Instances look at the circuit, die, come back, and see deliveries fail and succeed."""

    loop: ClassVar[asyncio.AbstractEventLoop]

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.circuit = MemoryCircuit(self.clock)
        self.keycloak = Keycloak(self.clock)
        self.instances = {name: self.born(name) for name in NAMES}
        self.turns: dict[str, asyncio.Task[None]] = {}
        self.healthy = True
        self.probes: Counter[int] = Counter()
        self.looks: defaultdict[int, list[float]] = defaultdict(list)

    def born(self, name: str) -> Instance:
        instance = Instance(self.circuit, self.keycloak, name=name)
        instance.keeper._control_call = self.control_call
        instance.keeper._look = self.look_at_it
        return instance

    async def control_call(self) -> ControlAnswer:
        if self.circuit.state == "HALF_OPEN":
            self.probes[self.circuit.generation] += 1
        return await self.keycloak.control_call()

    async def look_at_it(self) -> Sighting:
        self.looks[self.circuit.generation].append(self.clock())
        return await self.keycloak.look()

    def let_run(self) -> None:
        async def rounds() -> None:
            for _ in range(60):
                await asyncio.sleep(0)

        self.loop.run_until_complete(rounds())
        for name in [name for name, turn in self.turns.items() if turn.done()]:
            self.turns.pop(name).result()

    @rule(looking=st.sets(names, min_size=1), slow=st.booleans())
    def look(self, looking: set[str], slow: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        """Some look at the same moment; their steps interleave."""
        self.keycloak.slow, self.keycloak.available = slow, self.healthy
        for name in sorted(looking - self.turns.keys()):
            self.turns[name] = self.loop.create_task(self.instances[name].turn())
        self.let_run()

    @rule(failing=st.sets(names, min_size=1))
    def outage_begins(self, failing: set[str]) -> None:
        self.healthy = False
        for name in failing:
            self.instances[name].fail("x", "y", "z")
        self.look(failing, slow=False)

    @rule(seconds=st.sampled_from([1, 5, 30, 61, 400]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(healthy=st.booleans(), presence=st.sampled_from(Presence))
    def fall_or_rise(self, healthy: bool, presence: Presence) -> None:  # noqa: FBT001 - drawn by hypothesis
        self.healthy, self.keycloak.presence = healthy, presence

    @rule(seconds=st.sampled_from([None, 3, 200]))
    def asks_to_be_left_alone(self, seconds: float | None) -> None:
        self.keycloak.retry_after = self.keycloak.look_retry_after = seconds

    @rule()
    def somebody_wants_to_know(self) -> None:
        self.loop.run_until_complete(self.circuit.want(self.circuit.generation))

    @precondition(lambda self: self.keycloak.pending)
    @rule()
    def control_call_ends(self) -> None:
        self.keycloak.answer(available=self.healthy)
        self.let_run()

    @rule(name=names, lane=st.integers(0, 3), late=st.booleans())
    def delivery_fails(self, name: str, lane: int, late: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        generation = self.instances[name].keeper.generation - late
        self.instances[name].fail(lane, generation=generation)

    @rule(name=names)
    def delivery_succeeds(self, name: str) -> None:
        keeper = self.instances[name].keeper
        keeper.success(keeper.generation)
        assert keeper._tally.failures(self.clock()) == 0

    @rule(name=names, on=st.booleans())
    def maintained(self, name: str, on: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        self.instances[name].keeper.maintain(on=on)

    @rule(name=names)
    def killed_and_started_again(self, name: str) -> None:
        if (turn := self.turns.pop(name, None)) is not None:
            turn.cancel()
            self.loop.run_until_complete(asyncio.gather(turn, return_exceptions=True))
        self.instances[name] = self.born(name)

    @invariant()
    def each_half_open_lets_one_control_call_through(self) -> None:
        assert max(self.probes.values(), default=0) <= 1

    @invariant()
    def a_probe_is_given_up_only_after_its_deadline(self) -> None:
        states, times = self.circuit.history, self.circuit.changed
        for before, after, began, ended in zip(states, states[1:], times, times[1:], strict=False):
            if before == after:
                assert ended - began >= POLICY.probe_timeout

    @invariant()
    def one_asks_at_a_time(self) -> None:
        for times in self.looks.values():
            assert all(later - before >= POLICY.ask_every for before, later in pairwise(times))

    @invariant()
    def it_is_open_between_closed_and_half_open(self) -> None:
        steps = set(zip(self.circuit.history, self.circuit.history[1:], strict=False))
        assert steps <= {
            ("CLOSED", "OPEN"),
            ("OPEN", "HALF_OPEN"),
            ("HALF_OPEN", "OPEN"),
            ("HALF_OPEN", "CLOSED"),
            ("HALF_OPEN", "HALF_OPEN"),  # the owner of a probe died
        }

    @invariant()
    def nobody_is_told_the_same_twice(self) -> None:
        for instance in self.instances.values():
            assert all(a is not b for a, b in zip(instance.states, instance.states[1:], strict=False))

    @invariant()
    def nothing_is_called_unless_closed(self) -> None:
        for instance in self.instances.values():
            keeper = instance.keeper
            allowed = keeper.state is CircuitState.CLOSED and keeper.refusal is not Refusal.MAINTENANCE
            assert (keeper.allowed_calls > 0) == allowed

    def teardown(self) -> None:
        """Whatever has happened, and though all died: when Keycloak is well, the circuit closes by itself."""
        try:
            self.healthy, self.keycloak.presence = True, Presence.UNCLEAR
            self.keycloak.retry_after = self.keycloak.look_retry_after = None
            for name in NAMES:
                self.killed_and_started_again(name)
            for _ in range(4):
                self.clock.advance(POLICY.cooldown_cap * 1.1)
                self.look(set(NAMES), slow=False)
            states = {instance.keeper.state for instance in self.instances.values()}
            assert (self.circuit.state, states) == ("CLOSED", {CircuitState.CLOSED})
        finally:
            for turn in self.turns.values():
                turn.cancel()
            self.loop.run_until_complete(asyncio.gather(*self.turns.values(), return_exceptions=True))


def test_keepers_keep_together_whatever_happens() -> None:
    with asyncio.Runner() as runner:
        Together.loop = runner.get_loop()
        run_state_machine_as_test(
            Together, settings=settings(max_examples=50, stateful_step_count=40, deadline=None)
        )
