"""The drain: takes the heads of ready lanes, has them delivered, and writes down what became of them.

A lane is in hand from the moment its head is claimed until the COMMIT of its write-back is known; until then nothing
else of it is looked at. So one entry of a lane is in flight at a time, cluster-wide, because only the owner of a shard
claims in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import structlog

from consumer.circuit.calls import CallLimit
from consumer.circuit.keeper import CircuitKeeper
from consumer.delivery.errors import GoesAlone, NotCalled
from consumer.delivery.outcome import OUTAGE, Reason
from consumer.delivery.together import together
from consumer.drain.admission import Admission, held_back
from consumer.drain.ahead import claim_ahead
from consumer.drain.executor import CommandExecutor, hints_after
from consumer.drain.healer import Healer, Suspect
from consumer.drain.late import doubt_of
from consumer.drain.leases import LeaseKeeper
from consumer.drain.merge import group_of
from consumer.drain.pace import Pace
from consumer.drain.password_looks import DueLook
from consumer.drain.policy import DrainPolicy
from consumer.drain.realms import RealmWatch
from consumer.drain.reasons import FOR_SOMEBODY, advice_of
from consumer.drain.settle import EXISTENCE_KINDS
from consumer.drain.sharing import sharing_a_call
from consumer.drain.turns import Claimed, Turns
from consumer.drain.writer import Writer
from consumer.outbox.doubt import Doubt, joined
from consumer.outbox.drain_store import (
    DrainStore,
    Head,
    LaneHint,
    ReadyLane,
    Settlement,
    SuspectFold,
    WriteBack,
)
from consumer.outbox.errors import OutboxError
from consumer.outbox.lane import shard_of
from consumer.outbox.rows import EntryState
from consumer.telemetry.trouble import Trouble

__all__ = ["DrainCounts", "Drainer"]

_log = structlog.get_logger(__name__)

Turn = Callable[[], Coroutine[None, None, None]]
"""What is done with one piece of claimed work."""
Work = Claimed | Suspect | DueLook
"""A lane in hand, and what is to be done with it."""

_LOOK_EVERY = 0.25
_HEALS_SHARE = 4
"""One in so many turns under way may be a heal."""
_LOOKS_SHARE = 8
"""One in so many turns may be a look at a password, while others wait for theirs."""
_WAKE_EVERY = 0.5
_ASK_EVERY = 0.5
_PAUSE_AFTER_FAULT = 1.0
_PARK = 600.0
"""Seconds after which a parked lane is looked at even if nobody let it go on."""
_PAUSE_AFTER_DEFECT = 60.0
"""Seconds that a lane rests of which a turn broke: a defect that it brings to light every time must not fill the log."""


@dataclass(slots=True)
class DrainCounts:
    """What this instance has done since it started."""

    delivered: int = 0
    retried: int = 0
    deferred: int = 0
    dead: int = 0
    fenced: int = 0
    restored: int = 0

    @property
    def processed(self) -> int:
        """Entries that reached a terminal state here."""
        return self.delivered + self.dead


class Drainer:
    """Drains the shards that this process owns."""

    def __init__(
        self,
        store: DrainStore,
        leases: LeaseKeeper,
        circuit: CircuitKeeper,
        calls: CallLimit,
        turns: Turns,
        healer: Healer,
        realms: RealmWatch,
        commands: CommandExecutor,
        *,
        policy: DrainPolicy,
        instance: str,
        admissions: Sequence[Admission] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._leases = leases
        self._circuit = circuit
        self._calls = calls
        self._turns = turns
        self._healer = healer
        self._realms = realms
        self._commands = commands
        self._admissions = admissions
        self._policy = policy
        self._clock = clock
        self._writer = Writer(
            store,
            instance=instance,
            batch=256,
            on_written=self._written,
            more_comes=lambda: bool(self._running) and not self._stopping,
            gather=policy.gather,
        )
        self._in_hand: dict[bytes, ReadyLane] = {}
        self._caps = {kind: of.batch for kind, of in policy.kinds.items() if of.batch < policy.batch}
        self._capped: dict[bytes, str] = {}
        self._claimed: deque[Work] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._hints: list[LaneHint] = []
        self._commanded: set[bytes] = set()
        self._fenced: dict[bytes, Doubt] = {}
        self._clocks = turns.caller.clocks
        self._asked_at = float("-inf")
        self._wake = asyncio.Event()
        self._next_call: asyncio.TimerHandle | None = None
        self._trouble = Trouble()
        self._stopping = False
        self._outage_over = False
        self._found_nothing = False
        self._found_all = False
        self._enough = 0
        self._claim_took = 0.0
        self._pace = Pace(self._clock())
        self.counts = DrainCounts()

    @property
    def _at_once(self) -> int:
        """How many turns may be under way now."""
        return min(self._circuit.allowed_calls, self._calls.at_once)

    def notify(self) -> None:
        """There may be new work, or room for it."""
        self._wake.set()

    def outage_over(self) -> None:
        """Keycloak is back: who was tried in vain need not wait any longer."""
        self._outage_over = True
        self._wake.set()

    def busy_shards(self) -> Collection[int]:
        """Shards that have an entry in hand."""
        return {lane[0] for lane in self._in_hand}

    @property
    def quiet(self) -> bool:
        """Whether nothing is in hand, and the last look found nothing that could go on."""
        return self._found_nothing and not self._in_hand and not self._hints

    async def run(self) -> None:
        """Drain until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._writer.run())
                tasks.create_task(self._sweep())
                tasks.create_task(self._feed())
        finally:
            # What is still under way has no writer any more; its claim says "maybe started" to whoever comes next.
            self._stopping = True
            if self._next_call is not None:
                self._next_call.cancel()
            for task in self._running:
                task.cancel()

    async def stop(self, grace: float) -> None:
        """Claim nothing more, let calls under way finish for `grace` seconds, and hand back the rest.

        `run` goes on until it is cancelled.
        """
        self._stopping = True
        await self._hand_back()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._running:
                    await asyncio.wait(self._running)
                await self._writer.drained()

    async def _feed(self) -> None:
        woken_at = float("-inf")
        while not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._wake.wait()
            self._wake.clear()
            self._turns.ages.tick(
                self._clock(),
                reachable=self._circuit.allowed_calls > 0,
                at_fault=self._realms.at_fault_now,
            )
            try:
                await self._note_fenced()
                await self._flush_hints()
                # What may not be called, and what is in shards that we give back to others or have lost.
                await self._hand_back(keep=self._leases.shards if self._circuit.allowed_calls > 0 else ())
                if self._clock() - self._asked_at >= _ASK_EVERY:
                    await self._obey()
                if self._circuit.allowed_calls == 0:
                    continue
                if self._outage_over:
                    await self._hurry()
                if self._clock() - woken_at >= _WAKE_EVERY:
                    await self._store.wake(self._leases.shards)
                    await self._find_suspects()
                    woken_at = self._clock()
                await self._unpark()
                self._find_looks()
                await self._claim_more()
                self._trouble.over()
            except OutboxError as error:
                if self._trouble.is_news():
                    _log.warning("drain waits for the database", reason=str(error))
                await asyncio.sleep(_PAUSE_AFTER_FAULT)
            self._dispatch()
        # What was being claimed while `stop` handed back the rest.
        await self._hand_back()

    async def _hurry(self) -> None:
        hurried = await self._store.hurry(
            self._leases.shards,
            reasons=[reason.value for reason in OUTAGE],
            wait_in_doubt=EXISTENCE_KINDS,
        )
        self._outage_over = False
        if hurried:
            _log.info("Users who were tried in vain in the outage go on at once", users=hurried)

    async def _claim_more(self) -> None:
        """Claim more heads if few wait for their calls."""
        began, waiting, shards = self._clock(), len(self._claimed), self._leases.shards
        plan = claim_ahead(
            waiting=waiting,
            at_once=self._at_once,
            pace=self._pace.per_second(began),
            claim_took=self._claim_took,
            per_second=self._calls.per_second,
            batch=self._policy.batch,
        )
        self._enough = plan.enough
        if waiting > plan.enough or not shards:
            return
        # A lane of which something is asked rests until that is done.
        taken = self._in_hand.keys() | self._commanded
        lanes = await self._store.ready_lanes(shards, plan.room, in_hand=taken)
        self._found_all = len(lanes) < plan.room
        self._found_nothing = not lanes and not taken
        if not lanes:
            return
        # In hand before the first await: the next look must not see them again.
        self._in_hand.update((lane.lane_id, lane) for lane in lanes)
        kept: set[bytes] = set()
        try:
            kept = await self._claim(lanes)
        finally:
            for lane in lanes:
                if lane.lane_id not in kept:
                    self._let_go(lane.lane_id)
        self._claim_took = self._clock() - began
        if kept or self._hints:
            # There may be more. Without either the same lanes would be found again at once.
            self._wake.set()
        await self._flush_hints()

    async def _claim(self, lanes: Sequence[ReadyLane]) -> set[bytes]:
        depth = max(1, self._policy.merge_limit)
        heads = {head.lane.lane_id: head for head in await self._store.heads(lanes, depth=depth)}
        due: list[tuple[Head, ...]] = []
        for lane in lanes:
            head = heads.get(lane.lane_id)
            resting = self._realms.resting(lane.realm)
            if head is None:
                self._hints.append(LaneHint(lane=lane, state="IDLE"))
            elif head.state is EntryState.HELD or head.fold.held_by_entry is not None:
                # A held head, or a dead letter that holds its lane: what stands behind it waits.
                self._hints.append(LaneHint(lane=lane, state="HELD"))
            elif head.due_in > 0 or resting > 0:
                self._hints.append(LaneHint(lane=lane, state="WAITING", delay=max(head.due_in, resting)))
            elif head.kind in self._caps and self._room_of(head.kind) <= 0:
                # Out of the way of other kinds, which would never be found behind a thousand of this one.
                self._hints.append(LaneHint(lane=lane, state="WAITING", delay=_PARK, parked=head.kind))
            else:
                if head.kind in self._caps:
                    self._capped[lane.lane_id] = head.kind
                due.append(group_of(head, limit=self._turns.merge_limit_of(head)))
        refused = await self._refused(due)
        kept = self._hold([group[0] for group in due], refused)
        return kept | await self._claim_groups([g for g in due if g[0].entry_id not in refused])

    def _hold(self, heads: Sequence[Head], refused: Mapping[int, str]) -> set[bytes]:
        """Write down why heads are held; the lanes that stay in hand for it."""
        kept = set()
        for head in heads:
            token = self._leases.shards.get(head.shard)
            if head.entry_id in refused and token is not None:
                self._writer.add(held_back(head, token=token, reason=refused[head.entry_id]))
                kept.add(head.lane.lane_id)
        return kept

    async def _claim_groups(self, due: Sequence[tuple[Head, ...]]) -> set[bytes]:
        """Claim what is due; the lanes that stay in hand until their calls are recorded."""
        margin = self._policy.call_timeout + self._policy.call_margin
        claims = await self._store.claim([member for group in due for member in group], margin=margin)
        claimed_clock = self._clock()
        if claims:
            self._clocks.database_said(next(iter(claims.values()))[1])
        kept = set()
        for group in due:
            if all(member.entry_id in claims for member in group):
                token, claimed_at = claims[group[0].entry_id]
                taken = _after_takeover(group, claimed_at)
                self._claimed.append(Claimed(taken, token, claimed_at, claimed_clock))
                kept.add(group[0].lane.lane_id)
        return kept

    async def _refused(self, groups: Sequence[tuple[Head, ...]]) -> dict[int, str]:
        """Heads of these groups that may not be called, by entry, with the reasons to hold them for."""
        refused: dict[int, str] = {}
        for admission in self._admissions:
            heads = [group[0] for group in groups if group[0].entry_id not in refused]
            refused |= await admission.refused(heads)
        return refused

    async def _obey(self) -> None:
        """Do what is asked of our lanes, each between two of its calls."""
        self._asked_at = self._clock()
        shards = self._leases.shards
        waiting = await self._commands.waiting(shards)
        self._commanded = {command.lane.lane_id for command in waiting}
        commands = [command for command in waiting if command.lane.lane_id not in self._in_hand]
        if not commands:
            return
        # In hand before how they stand is read: nobody changes it any more.
        self._in_hand.update((command.lane.lane_id, command.lane) for command in commands)
        for command in commands:
            self._turns.looks.drop(command.lane.lane_id)
        try:
            answers = await self._commands.execute(commands, shards)
        finally:
            for command in commands:
                self._let_go(command.lane.lane_id)
        self._hints += hints_after(answers)
        if answers:
            # There may be more of the same lanes.
            self._asked_at = float("-inf")
            self._wake.set()
            await self._flush_hints()

    def _room_of(self, kind: str) -> int:
        """How many more calls of a capped kind may be in hand."""
        return self._caps[kind] - sum(other == kind for other in self._capped.values())

    async def _unpark(self) -> None:
        for kind in self._caps:
            if (room := self._room_of(kind)) > 0:
                await self._store.unpark(self._leases.shards, kind, limit=room)

    def _let_go(self, lane: bytes) -> None:
        self._found_all = False
        self._in_hand.pop(lane, None)
        self._capped.pop(lane, None)

    async def _find_suspects(self) -> None:
        """Put lanes in hand whose doubt is older than the server limit: they are healed between two calls.

        Beside a backlog they have turns of their own: after an outage there is much of both.
        """
        shards, limit = self._leases.shards, self._policy.server_limit
        room = max(1, self._at_once // _HEALS_SHARE) - sum(
            isinstance(work, Suspect) for work in self._claimed
        )
        if room <= 0 or self._circuit.closed_for < limit:
            # What was sent before an outage may take effect when Keycloak is back: until then the limit does not run.
            return
        found = await self._store.suspects(
            shards, after=limit, limit=room + len(self._in_hand), resting=self._realms.resting_now
        )
        lanes = [lane for lane in found if lane.lane_id not in self._in_hand][:room]
        if not lanes:
            return
        # In hand before the fold is read: nobody changes it any more.
        self._in_hand.update((lane.lane_id, lane) for lane in lanes)
        kept: set[bytes] = set()
        try:
            suspects = await self._store.still_suspect(lanes, after=limit)
            for lane in lanes:
                token = self._leases.shards.get(shard_of(lane.lane_id))
                if token is not None and lane.lane_id in suspects:
                    # Before the others: they wait for it no longer than for one more call.
                    self._claimed.appendleft(_suspect(lane, suspects[lane.lane_id], token))
                    self._clocks.database_said(suspects[lane.lane_id].asked_at)
                    kept.add(lane.lane_id)
        finally:
            for lane in lanes:
                if lane.lane_id not in kept:
                    self._let_go(lane.lane_id)

    def _find_looks(self) -> None:
        """Put lanes in hand whose passwords are to be looked at once more, few at a time beside other work."""
        waiting = sum(isinstance(work, DueLook) for work in self._claimed)
        room = (max(1, self._at_once // _LOOKS_SHARE) if self._claimed else self._at_once) - waiting
        for due in self._turns.looks.due(
            self._clock(),
            tokens=self._leases.shards,
            in_hand=self._in_hand.keys() | self._commanded,
            limit=room,
        ):
            self._in_hand[due.lane.lane_id] = due.lane
            self._claimed.append(due)

    def _dispatch(self) -> None:
        """Begin as many turns as may be under way."""
        while len(self._running) < self._at_once and (turn := self._next_turn()) is not None:
            task = asyncio.create_task(self._take_turns(turn))
            self._running.add(task)
            task.add_done_callback(self._finished)

    async def _take_turns(self, turn: Turn) -> None:
        """Take one turn, and then others for as long as there is room for this one.

        In a row, so that Keycloak is sent the next call before the loop turns to whatever else has been answered: a task
        for each turn let it wait for all of that (docs/decisions/0040).
        """
        following: Turn | None = turn
        while following is not None:
            await following()
            self._calls.turns_left(len(self._running) - 1)
            following = self._next_turn() if len(self._running) <= self._at_once else None
            # More may be allowed than when this one began.
            self._dispatch()
            self._wake_if_few()

    def _next_turn(self) -> Turn | None:
        """The turn that goes next, if one may begin now."""
        if not self._claimed or self._stopping:
            return None
        if (wait := self._calls.wait()) > 0:
            # Before the turn begins: in the middle of it the lease would go by.
            if self._next_call is None:
                self._next_call = asyncio.get_running_loop().call_later(wait, self._call_next)
            return None
        self._calls.pay()
        return self._next()

    def _call_next(self) -> None:
        self._next_call = None
        self._dispatch()

    def _next(self) -> Turn:
        """The work that goes next, taken from what waits: of one lane, or creates of many that share a call."""
        sharing = sharing_a_call(self._claimed) if self._policy.bulk_creates else []
        if sharing:
            chosen = {id(work) for work in sharing}
            self._claimed = deque(work for work in self._claimed if id(work) not in chosen)
            return partial(together, [partial(self._take, work) for work in sharing])
        match self._claimed.popleft():
            case Claimed() as claimed:
                return partial(self._take, claimed)
            case Suspect() as suspect:
                return partial(self._heal, suspect)
            case due:
                return partial(self._look, due)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._calls.turns_left(len(self._running))
        self._dispatch()
        self._wake_if_few()
        if not self._running:
            self._writer.last_came()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("drain broke", error=type(error).__name__, exc_info=error)

    def _wake_if_few(self) -> None:
        """Look for more before what waits has been called, unless the last look has found all there was."""
        if len(self._claimed) <= self._enough and not self._found_all:
            self._wake.set()

    async def _take(self, claimed: Claimed) -> None:
        try:
            write_back = await self._turns.take(claimed)
        except GoesAlone:
            claimed.alone = True
            if self._stopping:
                await self._give_back([claimed])
            else:
                self._claimed.appendleft(claimed)
            return
        except Exception as error:  # noqa: BLE001 - a defect of ours must not strand its lane.
            # The claim stays and says "maybe started": the next look takes it over, as from somebody who died.
            _log.exception("turn broke", event_id=claimed.head.event_id, error=type(error).__name__)
            lane = claimed.head.lane
            self._let_go(lane.lane_id)
            self._hints.append(LaneHint(lane=lane, state="WAITING", delay=_PAUSE_AFTER_DEFECT))
            return
        finally:
            self._pace.count()
        if write_back is None:
            await self._give_back([claimed])
        else:
            self._writer.add(write_back)

    async def _look(self, due: DueLook) -> None:
        write_back = None
        try:
            write_back = await self._healer.look_at_password(due)
        except NotCalled:
            pass
        finally:
            self._pace.count()
            self._written_or_let_go(due.lane, write_back)

    def _written_or_let_go(self, lane: ReadyLane, write_back: WriteBack | None) -> None:
        if write_back is None:
            self._let_go(lane.lane_id)
        else:
            self._writer.add(write_back)

    async def _heal(self, suspect: Suspect) -> None:
        write_back = None
        try:
            write_back = await self._healer.heal(suspect)
        except NotCalled:
            pass
        except OutboxError as error:
            _log.warning("heal put off", reason=str(error))
        finally:
            self._pace.count()
            self._written_or_let_go(suspect.lane, write_back)

    def _written(self, write_backs: Sequence[WriteBack], fenced: set[bytes]) -> None:
        """The COMMIT of these is known: their lanes are free for the next look."""
        for written in write_backs:
            self._let_go(written.lane.lane_id)
            if written.lane.lane_id in fenced:
                self.counts.fenced += 1
                self._turns.looks.drop(written.lane.lane_id)
                if (left := _left_by(written)) is not None:
                    self._fenced[written.lane.lane_id] = left
                continue
            self._turns.looks.written(written, self._clock())
            for settlement in written.settlements:
                self._count(settlement)
            if written.settlements:
                self._hints.append(_hint_after(written))
        self._wake.set()

    def _count(self, settlement: Settlement) -> None:
        head, reason = settlement.head, settlement.reason
        match settlement.state:
            case EntryState.DELIVERED:
                self.counts.delivered += 1
                if reason == Reason.RESTORED:
                    self.counts.restored += 1
                    _log.warning("a user whom Keycloak had lost was made again", event_id=head.event_id)
            case EntryState.DEAD_LETTER:
                self.counts.dead += 1
                _log.error("dead letter", event_id=head.event_id, reason=reason, kind=head.kind)
            case EntryState.HELD if settlement.attempt is None:
                # Not admitted: whoever refused it says so once, not for each.
                pass
            case EntryState.HELD:
                _log.error("entry held", event_id=head.event_id, reason=reason)
            case _ if settlement.attempt is None:
                pass
            case _:
                if reason is not None and reason != head.state_reason:
                    _tell_whom_it_needs(head, reason)
                if settlement.attempt.outcome == "RETRY":
                    self.counts.retried += 1
                else:
                    self.counts.deferred += 1

    async def _note_fenced(self) -> None:
        """Leave a doubt where our calls may take effect although the shard is another's by now.

        The new owner's own doubt began when it took the shard over; a request of ours may have left after that.
        """
        if not self._fenced:
            return
        fenced, self._fenced = self._fenced, {}
        try:
            await self._store.note_doubts(fenced, kind="fenced", after=self._policy.server_limit)
        except OutboxError:
            self._fenced = fenced | self._fenced
            raise

    async def _flush_hints(self) -> None:
        hints, self._hints = self._hints, []
        await self._store.hint(hints)

    async def _hand_back(self, keep: Collection[int] = ()) -> None:
        """Give up the claims for which no call was made, but for those in these shards."""
        going = [work for work in self._claimed if shard_of(work.lane.lane_id) not in keep]
        if going:
            self._claimed = deque(work for work in self._claimed if shard_of(work.lane.lane_id) in keep)
            await self._give_back(going)

    async def _give_back(self, waiting: Sequence[Work]) -> None:
        """Give claims up without a call: to the next look, they were never made."""
        claims = [
            (member.entry_id, work.token)
            for work in waiting
            if isinstance(work, Claimed)
            for member in work.group
            # What was taken over stays claimed: that claim says "maybe started", as it did before.
            if member.claimed_at is None
        ]
        try:
            await self._store.hand_back(claims)
        except OutboxError as error:
            # They stay claimed, and whoever looks next takes them for started.
            _log.warning("claims not handed back", entries=len(claims), reason=str(error))
        for work in waiting:
            self._let_go(work.lane.lane_id)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._policy.sweep_interval)
            try:
                roused = await self._store.sweep(self._leases.shards)
            except OutboxError as error:
                _log.warning("sweep skipped", reason=str(error))
                continue
            if roused:
                _log.info("sweep found sleeping lanes with work", lanes=roused)
                self._wake.set()


def _after_takeover(group: Sequence[Head], claimed_at: datetime) -> tuple[Head, ...]:
    """Claims without a record: whoever made them may have called Keycloak, until this new claim was made."""
    since = group[0].claimed_at
    if since is None:
        return tuple(group)
    doubt = doubt_of(group, began=since, ended=claimed_at)
    return tuple(_taken_over(member, claimed_at, doubt) for member in group)


def _taken_over(head: Head, claimed_at: datetime, doubt: Doubt) -> Head:
    fold = replace(head.fold.doubting(doubt), suspect_since=claimed_at, suspect_kind="takeover", look_at=None)
    return replace(head, maybe_applied_since=head.maybe_applied_since or head.claimed_at, fold=fold)


def _tell_whom_it_needs(head: Head, reason: str) -> None:
    """Say once that a change waits for somebody, not for each try; `kcsync held` says whose it is."""
    # A missing key is named once, by the key folder, however many passwords are sealed to it.
    if reason in FOR_SOMEBODY and reason != Reason.UNKNOWN_SEALING_KEY:
        advice = advice_of(reason)
        _log.error(
            "a change waits for somebody",
            event_id=head.event_id,
            kind=head.kind,
            reason=reason,
            remedy=None if advice is None else advice.remedy,
        )


def _suspect(lane: ReadyLane, found: SuspectFold, token: int) -> Suspect:
    fold = found.fold
    if found.noted:
        noted = joined(found.noted.values())
        fold = fold.accepting(noted.accepted).doubting(replace(noted, accepted=frozenset()))
    return Suspect(lane, fold, token, found.asked_at, is_old_enough=found.in_doubt, noted=tuple(found.noted))


def _left_by(fenced: WriteBack) -> Doubt | None:
    """What calls may have left whose results could not be written any more; None where none was made."""
    called = [settlement for settlement in fenced.settlements if settlement.attempt is not None]
    if not fenced.settlements:
        return None if fenced.fold is None else fenced.fold.doubt or Doubt()
    if not called or called[0].attempt is None:
        return None
    attempt = called[0].attempt
    return doubt_of(
        [settlement.head for settlement in fenced.settlements],
        began=attempt.started_at,
        ended=attempt.ended_at,
    )


def _hint_after(written: WriteBack) -> LaneHint:
    """Where the lane stands: at its first entry that is still open, or behind its last."""
    lane = written.lane
    if written.fold is not None and written.fold.held_by_entry is not None:
        return LaneHint(lane=lane, state="HELD")
    for settlement in written.settlements:
        match settlement.state:
            case EntryState.PENDING if settlement.delay > 0:
                return LaneHint(lane=lane, state="WAITING", delay=settlement.delay)
            case EntryState.PENDING:
                return LaneHint(lane=lane, state="READY")
            case EntryState.HELD:
                return LaneHint(lane=lane, state="HELD")
    last = written.settlements[-1].head
    if last.next_priority is None:
        return LaneHint(lane=lane, state="IDLE")
    # More stands behind. It goes to the end of the queue, so that long lanes do not starve the others.
    less_urgent = last.next_priority > lane.priority
    return LaneHint(lane=lane, state="READY", priority=last.next_priority, recount=less_urgent)
