"""Operators: look at what is held, think for a while, and ask for something, about what they saw.

What they ask is drawn; only at the end, when all is well, do they end every hold that they see.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace

from consumer.drain.guard import HELD_BY_GUARD
from consumer.outbox.command_store import Action, Command
from consumer.outbox.rows import EntryState
from tests.simulation.outbox import UNREADABLE, SimDatabase
from tests.unit.drain.outbox_in_memory import Entry, QueuedCommand

__all__ = ["Operators"]

_EXPIRE_AFTER = 40.0


@dataclass(slots=True)
class Operators:
    """People with hands.

    Attributes:
        patience: seconds between two looks, on the average.
    """

    database: SimDatabase
    rng: random.Random
    patience: float
    _thorough: bool = False
    _known: frozenset[str] = frozenset()

    def tidy_up(self, *, knows_badges: bool) -> None:
        """From now on, end whatever is held; but leave most badges to the newer version, if it is there."""
        self._thorough = True
        self._known = frozenset({"shop_badge"}) if knows_badges else frozenset()

    async def run(self) -> None:
        """Look and ask until cancelled."""
        while True:
            await asyncio.sleep(2.0 if self._thorough else self.rng.expovariate(1 / self.patience))
            if self._thorough:
                busy = {row.command.lane.lane_id for row in self.database.commands if row.answer is None}
                for action, entry in self._holds():
                    # The newer version lets it go on; but not everybody knows that, or has the patience.
                    known = entry.reason in UNREADABLE and entry.kind in self._known
                    waits = known and entry.entry_id % 4
                    if entry.lane_id not in busy and not waits:
                        self._ask(self._as_seen(action, entry))
            elif self.rng.random() < 0.15:
                for each in self._many():
                    self._ask(each)
            elif seen := self._something():
                # Much may happen between the look and the word; and two people may have seen the same.
                self.database.loop.call_later(self.rng.uniform(0.0, 6.0), self._ask, seen)
                if self.rng.random() < 0.2:
                    self.database.loop.call_later(self.rng.uniform(0.0, 6.0), self._ask, seen)

    def _holds(self) -> list[tuple[Action, Entry]]:
        """All that is held, with what may end it."""
        db = self.database
        held = [
            (Action.DROP if entry.reason in UNREADABLE else Action.RELEASE, entry)
            for entry in db.entries.values()
            if entry.state is EntryState.HELD
        ]
        dead = [
            db.entries[fold.held_by_entry] for fold in db.folds.values() if fold.held_by_entry is not None
        ]
        return [*held, *((Action.RELEASE_LANE, entry) for entry in dead)]

    def _something(self) -> Command | None:
        waiting = [entry for entry in self.database.entries.values() if entry.state is EntryState.PENDING]
        choices = [*self._holds(), *((Action.HURRY, entry) for entry in waiting[:3])]
        if not choices:
            return None
        action, entry = self.rng.choice(choices)
        if self.rng.random() < 0.3:
            action = self.rng.choice(list(Action))
        return self._as_seen(action, entry)

    def _many(self) -> list[Command]:
        """As `allow-deletes` and `sync-now` do it: all deletes that are held, the oldest of them, or all who wait."""
        db = self.database
        deletes = [entry for entry in db.entries.values() if entry.reason == HELD_BY_GUARD and entry.is_open]
        if deletes and self.rng.random() < 0.7:
            action = self.rng.choice([Action.RELEASE, Action.DROP])
            return [self._as_seen(action, entry) for entry in deletes[: self.rng.randint(1, len(deletes))]]
        heads = [
            head
            for lane, row in db.lanes.items()
            if row.state == "WAITING"
            and (head := next((e for e in db.by_lane[lane] if e.is_open), None)) is not None
            and head.state is EntryState.PENDING
        ]
        return [self._as_seen(Action.HURRY, head) for head in heads]

    def _as_seen(self, action: Action, entry: Entry) -> Command:
        lane = self.database.ready_lane(entry.lane_id)
        return Command(
            command_id=0,
            lane=lane,
            action=action,
            entry_id=entry.entry_id,
            seen_state=entry.state,
            seen_arrivals=lane.arrivals,
            actor="alice@desk",
            why=None,
        )

    def _ask(self, seen: Command) -> None:
        db = self.database
        command = replace(seen, command_id=len(db.commands) + 1)
        db.watch.asked(command)
        db.commands.append(QueuedCommand(command, db.clock() + _EXPIRE_AFTER))
