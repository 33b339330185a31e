from __future__ import annotations

import asyncio
from typing import cast

import pytest

from consumer.delivery.keycloak import ControlResult
from consumer.delivery.outcome import Blame, Defer, Failure, NotDelivered, Reason
from consumer.drain.realms import RealmWatch
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.errors import DatabaseUnavailable
from tests.unit.drain.bench_of_drainers import until
from tests.unit.drain.heads import FORBIDDEN, UNREACHABLE
from tests.unit.drain.outbox_in_memory import Clock, MemoryDatabase, MemoryRealmStore

NOT_SERVED = Defer(
    reason=Reason.REALM_NOT_SERVED, failure=Failure(blame=Blame.CONFIGURATION, detail="not served")
)


class Watched:
    """A watch, and realms whose control calls answer as the test says."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.database = MemoryDatabase(self.clock)
        self.trouble: dict[str, NotDelivered] = {}
        self.asked: list[str] = []
        self.said: list[str] = []
        self.may_ask = True
        self.watch = RealmWatch(
            self._control_call,
            cast(CircuitStore, MemoryRealmStore(self.database)),
            instance="us",
            may_ask=lambda: self.may_ask,
            pause=30.0,
            on_state=self.said.append,
            clock=self.clock,
        )

    async def _control_call(self, realm: str) -> ControlResult:
        self.asked.append(realm)
        await asyncio.sleep(0)
        return ControlResult(
            realm=realm, began=self.clock(), ended=self.clock(), trouble=self.trouble.get(realm)
        )


@pytest.fixture
def realms() -> Watched:
    return Watched()


class TestARealmAtFault:
    async def test_is_one_whose_control_call_fails_too(self, realms: Watched) -> None:
        realms.trouble["shop"] = FORBIDDEN

        assert await realms.watch.at_fault("shop")

        assert realms.watch.resting("shop") == 30.0
        assert realms.database.realm_faults == {"shop": "forbidden"}
        assert len(realms.said) == 1

    async def test_leaves_the_others_alone(self, realms: Watched) -> None:
        realms.trouble["shop"] = FORBIDDEN

        assert await realms.watch.at_fault("shop")
        assert not await realms.watch.at_fault("other")

        assert realms.watch.resting("other") == 0.0

    async def test_is_asked_once_by_all_who_wonder(self, realms: Watched) -> None:
        realms.trouble["shop"] = FORBIDDEN

        answers = await asyncio.gather(*(realms.watch.at_fault("shop") for _ in range(20)))

        assert all(answers)
        assert realms.asked == ["shop"]

    async def test_is_asked_again_when_it_has_rested(self, realms: Watched) -> None:
        realms.trouble["shop"] = FORBIDDEN
        await realms.watch.at_fault("shop")
        realms.clock.advance(30)

        assert await realms.watch.at_fault("shop")

        assert realms.asked == ["shop", "shop"]
        assert realms.watch.resting("shop") == 30.0
        assert len(realms.said) == 1, "people are told of a change, not of each look"

    @pytest.mark.parametrize("by", ["a delivery", "its control call"])
    async def test_is_well_again_when_it_has_shown_so(self, realms: Watched, by: str) -> None:
        realms.trouble["shop"] = FORBIDDEN
        await realms.watch.at_fault("shop")
        realms.clock.advance(30)
        del realms.trouble["shop"]

        if by == "a delivery":
            await realms.watch.well("shop")
        else:
            assert not await realms.watch.at_fault("shop")

        assert realms.database.realm_faults == {}
        assert len(realms.said) == 2
        assert realms.watch.resting("shop") == 0.0

    async def test_may_fall_ill_again(self, realms: Watched) -> None:
        realms.trouble["shop"] = FORBIDDEN
        await realms.watch.at_fault("shop")
        await realms.watch.well("shop")

        assert await realms.watch.at_fault("shop")

        assert realms.database.realm_faults == {"shop": "forbidden"}
        assert len(realms.said) == 3

    async def test_that_a_dead_process_has_recorded_is_ended_by_the_first_delivery(
        self, realms: Watched
    ) -> None:
        realms.database.realm_faults["shop"] = "forbidden"

        await realms.watch.well("shop")
        await realms.watch.well("shop")

        assert realms.database.realm_faults == {}
        assert realms.said == ["Realm shop: configuration is well again"]

    async def test_that_a_living_process_has_recorded_is_for_that_one_to_end(self, realms: Watched) -> None:
        realms.database.realm_faults["shop"], realms.database.realm_fault_by["shop"] = "forbidden", "other"
        realms.database.instances["other"] = realms.clock() + 30

        await realms.watch.well("shop")
        await realms.watch.look()
        assert (realms.asked, realms.database.realm_faults) == ([], {"shop": "forbidden"})

        realms.clock.advance(31)
        await realms.watch.look()
        assert (realms.asked, realms.database.realm_faults) == (["shop"], {})

    async def test_whose_end_could_not_be_recorded_is_ended_by_the_next_delivery(
        self, realms: Watched
    ) -> None:
        realms.database.realm_faults["shop"] = "forbidden"
        realms.database.faults["end_realm_fault"].append(DatabaseUnavailable())

        await realms.watch.well("shop")
        assert realms.database.realm_faults == {"shop": "forbidden"}

        await realms.watch.well("shop")
        assert realms.database.realm_faults == {}


class TestALookAtRealmsAtFault:
    async def test_ends_a_fault_although_no_change_waits_there(self, realms: Watched) -> None:
        realms.trouble["shop"] = FORBIDDEN
        await realms.watch.at_fault("shop")
        del realms.trouble["shop"]

        await realms.watch.look()
        assert realms.asked == ["shop"], "it rests"

        realms.clock.advance(30)
        await realms.watch.look()
        await realms.watch.look()
        assert realms.asked == ["shop"] * 2
        assert realms.database.realm_faults == {}
        assert realms.said[1:] == ["Realm shop: configuration is well again"]

    async def test_leaves_one_that_still_is(self, realms: Watched) -> None:
        realms.trouble["shop"] = FORBIDDEN
        await realms.watch.at_fault("shop")
        realms.clock.advance(30)

        await realms.watch.look()

        assert realms.watch.resting("shop") == 30.0
        assert realms.database.realm_faults == {"shop": "forbidden"}
        assert len(realms.said) == 1

    async def test_asks_nothing_while_the_circuit_forbids_it(self, realms: Watched) -> None:
        realms.database.realm_faults["shop"] = "forbidden"
        realms.may_ask = False

        await realms.watch.look()

        assert (realms.asked, realms.database.realm_faults) == ([], {"shop": "forbidden"})

    async def test_forgets_one_that_is_not_served_any_more(self, realms: Watched) -> None:
        realms.database.realm_faults["old"] = "realm_missing"
        realms.trouble["old"] = NOT_SERVED

        await realms.watch.look()

        assert (realms.database.realm_faults, realms.said) == ({}, [])

    async def test_keeps_one_that_is_not_served_while_somebody_waits_there(self, realms: Watched) -> None:
        realms.trouble["old"] = NOT_SERVED
        await realms.watch.at_fault("old")
        realms.clock.advance(30)

        await realms.watch.look()

        assert realms.database.realm_faults == {"old": "realm_not_served"}

    async def test_is_taken_again_and_again_whatever_the_database_does(self, realms: Watched) -> None:
        realms.database.realm_faults["shop"] = "forbidden"
        realms.database.faults["realm_faults_to_ask"].append(DatabaseUnavailable())
        watch = RealmWatch(
            realms._control_call,
            cast(CircuitStore, MemoryRealmStore(realms.database)),
            instance="us",
            may_ask=lambda: True,
            pause=0.01,
            on_state=realms.said.append,
            clock=realms.clock,
        )

        task = asyncio.create_task(watch.run())
        await until(lambda: realms.database.realm_faults == {})
        task.cancel()


class TestKeycloakIsAway:
    async def test_then_neither_the_user_nor_the_configuration_is_to_blame(self, realms: Watched) -> None:
        realms.trouble["shop"] = UNREACHABLE

        assert await realms.watch.at_fault("shop")

        assert (realms.said, realms.database.realm_faults, realms.watch.resting("shop")) == ([], {}, 0.0)

    async def test_then_a_realm_at_fault_is_not_called_well(self, realms: Watched) -> None:
        realms.trouble["shop"] = FORBIDDEN
        await realms.watch.at_fault("shop")
        realms.clock.advance(30)
        realms.trouble["shop"] = UNREACHABLE

        await realms.watch.at_fault("shop")

        assert realms.database.realm_faults == {"shop": "forbidden"}
        assert len(realms.said) == 1


async def test_a_fault_that_cannot_be_recorded_still_rests_the_realm(realms: Watched) -> None:
    realms.trouble["shop"] = FORBIDDEN
    realms.database.faults["set_realm_fault"].append(DatabaseUnavailable())

    assert await realms.watch.at_fault("shop")

    assert realms.watch.resting("shop") == 30.0
