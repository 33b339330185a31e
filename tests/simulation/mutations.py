"""Variants of the real parts, each without one of the cares that the design asks for: the simulation must notice.

The one place that knows which methods hold these cares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from consumer.circuit.keeper import CircuitKeeper
from consumer.drain.caller import Caller
from consumer.drain.commands import decide
from consumer.drain.drainer import Drainer
from consumer.drain.executor import CommandExecutor
from consumer.drain.healer import Healer, Suspect
from consumer.drain.judge import Judge
from consumer.drain.maintenance import MaintenanceWatch
from consumer.drain.realms import RealmWatch
from consumer.drain.release import Releaser
from consumer.outbox.command_store import Action, Answer, Command
from consumer.outbox.doubt import Doubt
from consumer.outbox.drain_store import Head, LaneHint, ReadyLane, WriteBack
from consumer.outbox.fold import Fold
from consumer.outbox.ingest_store import StaleOffsets
from consumer.outbox.lane import shard_of
from consumer.outbox.rows import EntryState, PartitionProgress
from tests.simulation.outbox import (
    SimCommandStore,
    SimDeletionStore,
    SimDrainStore,
    SimIngestStore,
)
from tests.simulation.process import Parts

if TYPE_CHECKING:
    from consumer.delivery.outcome import Outcome
    from consumer.drain.turns import Claimed
    from consumer.outbox.ingest_store import BatchRows
    from tests.simulation.others import Others
    from tests.simulation.story import Story
    from tests.simulation.weather import Weather
    from tests.unit.drain.outbox_in_memory import Entry, QueuedCommand

__all__ = ["MUTATIONS", "Mutation"]


class _NoFence(SimDrainStore):
    """Writes results down without comparing owner and token."""

    async def settle(self, write_backs: Sequence[WriteBack], *, instance: str) -> set[bytes]:
        await self.database.reach("settle")
        for each in write_backs:
            for settlement in each.settlements:
                self._write(settlement)
            if each.fold is not None:
                self.database.folds[each.lane.lane_id] = each.fold
        self.tables.watch.settled(self.owner, write_backs, ())
        return set()


class _LeapsOverHeld(SimDrainStore):
    """Takes the first entry that is not held for the head."""

    def _open_entries(self, lane: bytes) -> list[Entry]:
        return [entry for entry in super()._open_entries(lane) if entry.state is EntryState.PENDING]


class _LeapsOverWaiting(SimDrainStore):
    """Takes the first entry that is due for the head, as Keycloak's own outbox does."""

    def _open_entries(self, lane: bytes) -> list[Entry]:
        entries = super()._open_entries(lane)
        due = [entry for entry in entries if entry.due_at <= self.database.clock()]
        return due or entries


class _ComparesNothing(SimIngestStore):
    """Writes a batch whatever the watermark says."""

    def _compare(self, progress: Sequence[PartitionProgress]) -> None:
        pass


class _ComparesNoToken(SimIngestStore):
    """Takes a batch from anybody who is at the right offset."""

    def _compare(self, progress: Sequence[PartitionProgress]) -> None:
        known = self.database.partitions
        if any(known[p.partition].watermark.next_offset != p.from_offset for p in progress):
            raise StaleOffsets({p.partition: known[p.partition].watermark.next_offset for p in progress})


class _LocksNoLanes(SimIngestStore):
    """Gives ids to entries of a lane that another batch is still writing."""

    def _lane_locks(self, rows: BatchRows) -> set[tuple[str, bytes]]:
        return set()


class _BelievesHints(SimDrainStore):
    """Puts a lane to sleep whatever arrived meanwhile, and never looks whether one sleeps with work."""

    async def hint(self, hints: Sequence[LaneHint]) -> None:
        await super().hint(hints)
        for hint in hints:
            if hint.state == "IDLE":
                self.database.lanes[hint.lane.lane_id].state = "IDLE"

    async def sweep(self, shards: Collection[int]) -> int:
        return 0


class _WaitsForNoCommit(Drainer):
    """Lets a lane go on as soon as its result is known, before it is recorded."""

    async def _take(self, claimed: Claimed) -> None:
        await super()._take(claimed)
        self._in_hand.pop(claimed.head.lane.lane_id, None)


class _ChecksNoLease(Caller):
    """Calls Keycloak without a look at the lease."""

    def _check_lease(self, lane: ReadyLane, token: int) -> None:
        pass


class _ChargesEverything(Judge):
    """Holds every failure against its entry."""

    async def judge(self, head: Head) -> bool | None:
        return head.entry_id in self._unjudged


class _HealsNothing(Healer):
    """Takes a lane that was in doubt for certain once the server limit has passed."""

    async def heal(self, suspect: Suspect) -> WriteBack | None:
        certain = replace(suspect.fold, suspect_since=None, suspect_kind=None)
        return WriteBack(lane=suspect.lane, token=suspect.token, fold=certain)


class _WritesEverything(Caller):
    """Heals by writing all that was ever delivered."""

    async def heal(self, lane: ReadyLane, fold: Fold, token: int, *, only_looks: bool) -> Outcome:
        return await super().heal(lane, _asked(fold, {*fold.fields}), token, only_looks=only_looks)


class _AsksNobody(Caller):
    """Writes over whatever stands in a field that a call in doubt has carried."""

    async def heal(self, lane: ReadyLane, fold: Fold, token: int, *, only_looks: bool) -> Outcome:
        doubtful = set() if fold.doubt is None else {*fold.doubt.fields}
        return await super().heal(lane, _asked(fold, doubtful), token, only_looks=only_looks)


class _Enables(Caller):
    """Opens an account that should be open, whoever has barred it."""

    async def heal(self, lane: ReadyLane, fold: Fold, token: int, *, only_looks: bool) -> Outcome:
        return await super().heal(lane, _asked(fold, {"enabled"}), token, only_looks=only_looks)


class _WritesActionsAsAList(Caller):
    """Requires what was delivered last, and nothing else, whatever others require or users have done."""

    async def heal(self, lane: ReadyLane, fold: Fold, token: int, *, only_looks: bool) -> Outcome:
        return await super().heal(lane, _asked(fold, {"required_actions"}), token, only_looks=only_looks)


class _RepeatsByName(Caller):
    """Repeats a delete in doubt as if it had never been called."""

    async def deliver(self, group: Sequence[Head], token: int) -> tuple[Outcome, bytes | None]:
        if group[0].kind == "user_delete":
            group = [replace(group[0], maybe_applied_since=None)]
        return await super().deliver(group, token)


def _asked(fold: Fold, names: set[str]) -> Fold:
    """The same, with fields that are to be made equal whoever has changed them."""
    doubt = fold.doubt or Doubt()
    return replace(fold, doubt=replace(doubt, asked=doubt.asked | names))


class _LooksOnce(SimDrainStore):
    """Looks at no lane again that was healed."""

    async def settle(self, write_backs: Sequence[WriteBack], *, instance: str) -> set[bytes]:
        return await super().settle(
            [
                each if each.fold is None else replace(each, fold=replace(each.fold, look_at=None))
                for each in write_backs
            ],
            instance=instance,
        )


class _ObeysBlindly(CommandExecutor):
    """Does what is asked as if all stood as its asker saw it."""

    async def execute(self, commands: Sequence[Command], tokens: Mapping[int, int]) -> list[Answer]:
        found = await self.store.found(commands)
        answers = []
        for command in commands:
            if (shard := shard_of(command.lane.lane_id)) in tokens and command.command_id in found:
                seen = replace(
                    found[command.command_id],
                    state=command.seen_state,
                    arrivals=command.seen_arrivals,
                    held_by_entry=command.entry_id if command.action is Action.RELEASE_LANE else None,
                )
                answers.append(decide(command, seen, token=tokens[shard]))
        await self.store.settle(answers)
        return answers


class _AnswersAgain(SimCommandStore):
    """Writes answers down without a look whether there is one."""

    def _is_answered(self, row: QueuedCommand) -> bool:
        return False


class _CountsApart(SimDeletionStore):
    """Counts the places that are taken, and takes more of them a while later."""

    async def reserve(self, realm: str, entries: Sequence[int], *, limit: int) -> set[int]:
        room = max(0, limit - await self.used(realm))
        await asyncio.sleep(3.0)
        through = set(entries[:room])
        self.database.places |= dict.fromkeys(through, realm)
        self.tables.reserved_at |= dict.fromkeys(through, self.database.clock())
        self.tables.watch.places_taken(realm, entries, through, room=room, limit=limit)
        return through


class _CountsNothing(SimDeletionStore):
    """Lets every delete through."""

    async def used(self, realm: str) -> int:
        return 0


class _HourNeverEnds(SimDeletionStore):
    """Counts the deletes of all times."""

    async def used(self, realm: str) -> int:
        return sum(place == realm for place in self.database.places.values())


class _CallsStoppedRealms(RealmWatch):
    """Lets a realm's lanes go on whatever operators have stopped."""

    def maintain(self, realms: frozenset[str]) -> None:
        pass


class _CallsUnderMaintenance(CircuitKeeper):
    """Lets deliveries go on whatever operators have stopped."""

    def maintain(self, *, on: bool) -> None:
        pass


class _StopsForEver(MaintenanceWatch):
    """Sees what is stopped, and not that it goes on."""

    async def turn(self) -> None:
        if await self._store.read() or not self._stopped:
            await super().turn()


class _ReleasesNothing(Releaser):
    """Leaves held what is known by now."""

    async def look(self) -> int:
        return 0


def _two_partitioners(weather: Weather, story: Story, others: Others) -> None:
    weather.clear_up()
    others.stop()
    weather.late_insert, story.stray = 0.5, 0.8


def _late_effects(weather: Weather, story: Story, others: Others) -> None:
    weather.clear_up()
    others.stop()
    weather.late_effect, story.deletes, story.badges = 0.2, 0, 0.0


def _strikes(weather: Weather, _: Story, others: Others) -> None:
    weather.clear_up()
    others.stop()
    weather.strikes = 0.05


def _struggles(weather: Weather, _: Story, others: Others) -> None:
    weather.clear_up()
    others.stop()
    weather.error, weather.refused = 0.2, 0.2


def _lost_answers(weather: Weather, _: Story, others: Others) -> None:
    weather.clear_up()
    others.stop()
    weather.database_lost, weather.database_late = 0.1, 0.1


def _many_deletes(weather: Weather, story: Story, others: Others) -> None:
    weather.clear_up()
    others.stop()
    story.deletes = 60


def _many_hands(weather: Weather, story: Story, others: Others) -> None:
    weather.clear_up()
    weather.late_effect = weather.lost_late = 0.1
    others.be_busy()
    story.badges = 0.0


def _newcomers(weather: Weather, story: Story, others: Others) -> None:
    _many_hands(weather, story, others)
    weather.silent_after = 0.3
    story.deletes = 60
    others.be_busy("delete", "register")


def _nodes_freeze(weather: Weather, story: Story, others: Others) -> None:
    _late_effects(weather, story, others)
    weather.late_effect, weather.freezes_every = 0.0, 4.0


@dataclass(frozen=True, slots=True)
class Mutation:
    """A care that is missing.

    Attributes:
        name: what is missing.
        seen_as: the invariants that notice it.
        parts: the variant.
        bias: makes frequent what shows it, where that is rare.
        first: the seed that is tried first: one that showed it, where few do.
    """

    name: str
    seen_as: tuple[str, ...]
    parts: Parts
    bias: Callable[[Weather, Story, Others], None] | None = None
    first: int = 0


MUTATIONS = [
    Mutation("the fence of write-backs", ("I4", "defect"), Parts(drain_store=_NoFence), first=28),
    Mutation("the head rule: held blocks", ("I2",), Parts(drain_store=_LeapsOverHeld)),
    Mutation("the head rule: waiting blocks", ("I2",), Parts(drain_store=_LeapsOverWaiting), first=4),
    Mutation("the watermark's compare-and-set", ("I1",), Parts(ingest_store=_ComparesNothing), first=5),
    Mutation("the writer token", ("I1",), Parts(ingest_store=_ComparesNoToken), first=7),
    Mutation("late commits: lanes are locked", ("I2",), Parts(ingest_store=_LocksNoLanes), _two_partitioners),
    Mutation("late commits: the tail and the sweep", ("I6",), Parts(drain_store=_BelievesHints)),
    Mutation("the wait for the write-back's COMMIT", ("I2", "defect"), Parts(drainer=_WaitsForNoCommit)),
    Mutation("the lease check before a call", ("I2",), Parts(caller=_ChecksNoLease), _strikes, first=7),
    Mutation("the charging rule", ("I4",), Parts(judge=_ChargesEverything), _struggles, first=4),
    Mutation("the heal", ("I3",), Parts(healer=_HealsNothing), _late_effects, first=34),
    Mutation(
        "a heal writes only late effects", ("I11",), Parts(caller=_WritesEverything), _many_hands, first=2
    ),
    Mutation("a heal reads what it writes over", ("I11",), Parts(caller=_AsksNobody), _many_hands, first=2),
    Mutation("a heal enables nobody", ("I11",), Parts(caller=_Enables), _many_hands, first=2),
    Mutation(
        "each required action by itself", ("I11",), Parts(caller=_WritesActionsAsAList), _many_hands, first=8
    ),
    Mutation("a delete in doubt goes by the id", ("I11",), Parts(caller=_RepeatsByName), _newcomers, first=2),
    Mutation("the looks after a heal", ("I3",), Parts(drain_store=_LooksOnce), _nodes_freeze, first=4),
    Mutation("the second look before a command is done", ("I4",), Parts(executor=_ObeysBlindly)),
    Mutation(
        "the second look before a command is answered",
        ("I4",),
        Parts(command_store=_AnswersAgain),
        _lost_answers,
    ),
    Mutation("the maintenance of a realm", ("maintenance",), Parts(realms=_CallsStoppedRealms), first=13),
    Mutation("the maintenance of everything", ("maintenance",), Parts(circuit=_CallsUnderMaintenance)),
    Mutation("the end of maintenance", ("I6",), Parts(maintenance=_StopsForEver)),
    Mutation("the release of what is known now", ("I6",), Parts(releaser=_ReleasesNothing)),
    Mutation("the count of deletes", ("guard",), Parts(deletion_store=_CountsNothing), _many_deletes),
    Mutation("the end of the guard's hour", ("guard",), Parts(deletion_store=_HourNeverEnds), _many_deletes),
    Mutation("one count of deletes", ("guard",), Parts(deletion_store=_CountsApart), _many_deletes),
]
