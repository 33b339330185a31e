from __future__ import annotations

import asyncio
from datetime import datetime
from typing import cast

from consumer.drain.maintenance import MaintenanceWatch
from consumer.outbox.fold import Fold
from consumer.outbox.maintenance_store import EVERY_REALM, Maintenance, MaintenanceStore
from consumer.outbox.rows import EntryState
from tests.unit.drain.bench_of_drainers import Bench, settle_down, until

NOW = datetime(2026, 11, 21)  # noqa: DTZ001 - naive UTC, as stored


class Stops:
    """What `MaintenanceStore` says."""

    def __init__(self) -> None:
        self.realms: list[str] = []
        self.roused: list[str] = []

    async def read(self) -> list[Maintenance]:
        return [Maintenance(realm, "alice@desk", "upgrade", NOW) for realm in self.realms]

    async def rouse(self, realm: str) -> None:
        self.roused.append(realm)


async def test_what_changes_is_told_once_to_whom_it_concerns() -> None:
    stops, everything, realms, said = Stops(), [], [], []  # type: ignore[var-annotated]
    watch = MaintenanceWatch(
        cast(MaintenanceStore, stops),
        on_all=everything.append,
        on_realms=realms.append,
        on_state=said.append,
    )
    for now in ([], ["shop"], ["shop"], [EVERY_REALM, "shop"], ["shop"], []):
        stops.realms = now
        await watch.turn()

    assert everything == [True, False]
    assert realms == [{"shop"}, set()]
    assert stops.roused == ["shop"]
    assert said == [
        "Maintenance of realm shop: no deliveries, events wait (by alice@desk: upgrade)",
        "Maintenance of everything: no deliveries, events wait (by alice@desk: upgrade)",
        "Maintenance of everything is over: deliveries go on",
        "Maintenance of realm shop is over: deliveries go on",
    ]


async def test_lanes_of_a_stopped_realm_rest_and_the_others_go_on() -> None:
    bench = Bench()
    instance = bench.instance()
    instance.realms.maintain(frozenset({"shop"}))
    resting, other = bench.database.add("alice"), bench.database.add("bob", realm="staff")

    async with bench.running():
        await bench.done(other)
        await settle_down()
        assert (resting.state, resting.calls, resting.attempts) == (EntryState.PENDING, 0, 0)
        assert bench.database.lanes[resting.lane_id].state == "WAITING"

        instance.realms.maintain(frozenset())
        bench.database.lanes[resting.lane_id].due_at = bench.clock()
        await bench.advance(1)
        await until(lambda: resting.state is EntryState.DELIVERED)


async def test_what_was_claimed_before_a_realm_was_stopped_is_handed_back() -> None:
    bench = Bench()
    instance = bench.instance()
    instance.circuit.allowed_calls = 1
    first, waiting = bench.database.add("alice"), bench.database.add("bob")
    gate = bench.keycloak.hold("alice")

    async with bench.running():
        await until(lambda: waiting.claimed_at is not None and bench.keycloak.under_way["alice"])
        instance.realms.maintain(frozenset({"shop"}))
        gate.set()
        await until(lambda: first.state is EntryState.DELIVERED)
        await until(lambda: waiting.claimed_at is None)
        # Handed back, it is ready; the next look puts it off.
        await until(lambda: bench.database.lanes[waiting.lane_id].state == "WAITING")

    assert bench.keycloak.order("bob") == []


async def test_a_heal_that_waits_for_its_mark_is_not_made_in_a_stopped_realm() -> None:
    bench = Bench()
    instance = bench.instance()
    entry = bench.database.add("alice", state=EntryState.DELIVERED)
    bench.database.folds[entry.lane_id] = Fold(
        exists=True, suspect_since=bench.database.now(), suspect_kind="timeout"
    )
    marking = bench.database.gates["settle"] = asyncio.Event()

    async with bench.running():
        for _ in range(4):
            await bench.advance(20)
        await until(instance.drainer.busy_shards)
        instance.realms.maintain(frozenset({"shop"}))
        marking.set()
        await until(lambda: bench.database.folds[entry.lane_id].suspect_kind == "heal")
        await until(lambda: not instance.drainer.busy_shards())

    assert bench.keycloak.healed == []
