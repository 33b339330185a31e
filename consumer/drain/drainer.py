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
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import orjson
import structlog
from opentelemetry.trace import Tracer

from consumer.circuit.keeper import CircuitKeeper
from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.errors import LeaseTooShort
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Delivered, Failure, Outcome, Reason, Retry
from consumer.drain.charging import Evidence, Unjudged, is_charged
from consumer.drain.leases import LeaseKeeper
from consumer.drain.policy import DrainPolicy
from consumer.drain.realms import RealmWatch
from consumer.drain.settle import Call, data_of, dead, settle
from consumer.drain.writer import Writer
from consumer.outbox.drain_store import DrainStore, Head, LaneHint, ReadyLane, Settlement
from consumer.outbox.errors import OutboxError
from consumer.outbox.rows import EntryState
from consumer.retry import retry_delay
from consumer.telemetry.propagation import TraceContext
from consumer.telemetry.spans import process_span, set_outcome
from consumer.telemetry.trouble import Trouble

__all__ = ["DrainCounts", "Drainer"]

_log = structlog.get_logger(__name__)
_LOOK_EVERY = 0.25
_WAKE_EVERY = 0.5
_PAUSE_AFTER_FAULT = 1.0
_MOST_UNJUDGED = 100_000


@dataclass(slots=True)
class DrainCounts:
    """What this instance has done since it started."""

    delivered: int = 0
    retried: int = 0
    deferred: int = 0
    dead: int = 0
    fenced: int = 0

    @property
    def processed(self) -> int:
        """Entries that reached a terminal state here."""
        return self.delivered + self.dead


@dataclass(slots=True)
class _Claimed:
    """A claimed head that waits for its call."""

    head: Head
    token: int
    claimed_at: datetime
    judged: bool | None = None


@dataclass(slots=True)
class _Memory:
    """What this process alone remembers of entries that wait; losing it costs no correctness."""

    unjudged: dict[int, Unjudged] = field(default_factory=dict)
    failed_in: dict[int, set[int]] = field(default_factory=dict)
    opened_on: set[int] = field(default_factory=set)

    def remember(self, entry_id: int, failure: Unjudged) -> None:
        """Keep a failure until the entry's turn comes again; the oldest go first when there are too many."""
        self.unjudged[entry_id] = failure
        if len(self.unjudged) > _MOST_UNJUDGED:
            del self.unjudged[next(iter(self.unjudged))]


class Drainer:
    """Drains the shards that this process owns."""

    def __init__(
        self,
        store: DrainStore,
        leases: LeaseKeeper,
        circuit: CircuitKeeper,
        delivery: Delivery,
        realms: RealmWatch,
        *,
        policy: DrainPolicy,
        instance: str,
        topic: str,
        group: str,
        tracer: Tracer,
        evidence: Evidence,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._leases = leases
        self._circuit = circuit
        self._delivery = delivery
        self._realms = realms
        self._policy = policy
        self._topic = topic
        self._group = group
        self._tracer = tracer
        self._evidence = evidence
        self._clock = clock
        self._writer = Writer(store, instance=instance, batch=256, on_written=self._written)
        self._in_hand: dict[bytes, ReadyLane] = {}
        self._claimed: deque[_Claimed] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._hints: list[LaneHint] = []
        self._memory = _Memory()
        self._wake = asyncio.Event()
        self._trouble = Trouble()
        self._stopping = False
        self._found_nothing = False
        self.counts = DrainCounts()

    def notify(self) -> None:
        """There may be new work, or room for it."""
        self._wake.set()

    def circuit_opened(self, generation: int) -> None:
        """The circuit has opened after `generation`: remember whose calls were failing until then.

        The opening itself may have passed unseen between two readings of the circuit; so all that came before counts.
        """
        for before in [g for g in self._memory.failed_in if g <= generation]:
            self._memory.opened_on |= self._memory.failed_in.pop(before)

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
            try:
                await self._flush_hints()
                if self._circuit.allowed_calls == 0:
                    await self._hand_back()
                    continue
                if self._clock() - woken_at >= _WAKE_EVERY:
                    await self._store.wake(self._leases.shards)
                    woken_at = self._clock()
                await self._claim_more()
                self._trouble.over()
            except OutboxError as error:
                if self._trouble.is_news():
                    _log.warning("drain waits for the database", reason=str(error))
                await asyncio.sleep(_PAUSE_AFTER_FAULT)
            self._dispatch()
        # What was being claimed while `stop` handed back the rest.
        await self._hand_back()

    async def _claim_more(self) -> None:
        """Claim heads until about as many wait as can be called at once."""
        room = min(self._policy.batch, 2 * self._circuit.allowed_calls) - len(self._claimed)
        shards = self._leases.shards
        if room < max(1, self._circuit.allowed_calls // 2) or not shards:
            return
        found = await self._store.ready_lanes(shards, limit=room + len(self._in_hand))
        lanes = [lane for lane in found if lane.lane_id not in self._in_hand][:room]
        self._found_nothing = not found
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
                    self._in_hand.pop(lane.lane_id, None)
        if kept or self._hints:
            # There may be more. Without either the same lanes would be found again at once.
            self._wake.set()
        await self._flush_hints()

    async def _claim(self, lanes: Sequence[ReadyLane]) -> set[bytes]:
        heads = {head.lane.lane_id: head for head in await self._store.heads(lanes)}
        due: list[Head] = []
        for lane in lanes:
            head = heads.get(lane.lane_id)
            resting = self._realms.resting(lane.realm)
            if head is None:
                self._hints.append(LaneHint(lane=lane, state="IDLE"))
            elif head.state is EntryState.HELD:
                # A held head blocks its lane: what stands behind it waits.
                self._hints.append(LaneHint(lane=lane, state="HELD"))
            elif head.due_in > 0 or resting > 0:
                self._hints.append(LaneHint(lane=lane, state="WAITING", delay=max(head.due_in, resting)))
            else:
                due.append(head)
        margin = self._policy.call_timeout + self._policy.call_margin
        claims = await self._store.claim(due, margin=margin)
        for head in due:
            if (claim := claims.get(head.entry_id)) is not None:
                self._claimed.append(_Claimed(_after_takeover(head), *claim))
        return {head.lane.lane_id for head in due if head.entry_id in claims}

    def _dispatch(self) -> None:
        while self._claimed and len(self._running) < self._circuit.allowed_calls and not self._stopping:
            task = asyncio.create_task(self._work(self._claimed.popleft()))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._dispatch()
        if len(self._claimed) < self._circuit.allowed_calls:
            self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lane stays in hand: nothing of it is called again before a restart.
            _log.error("drain broke", error=type(error).__name__, exc_info=error)

    async def _work(self, unjudged: _Claimed) -> None:
        claimed = await self._judge(unjudged)
        head = claimed.head
        # What may have been applied stays the head: it is not given up before Keycloak has been read.
        if claimed.judged and head.attempts >= self._policy.max_attempts and head.maybe_applied_since is None:
            reason = self._memory.unjudged.pop(head.entry_id).reason
            self._settled(dead(head, token=claimed.token, reason=reason))
            return
        if self._circuit.allowed_calls == 0:
            # It opened while we asked whose fault the last failure was: handed back with the others, and judged again.
            self._claimed.append(unjudged)
            self._wake.set()
            return
        self._memory.unjudged.pop(head.entry_id, None)
        generation = self._circuit.generation
        began, started_at = self._clock(), datetime.now(UTC).replace(tzinfo=None)
        outcome, trace_id = await self._call(claimed)
        self._learn(head, outcome, generation, began)
        outcome = await self._configuration(head, outcome)
        call = Call(
            token=claimed.token,
            claimed_at=claimed.claimed_at,
            started_at=started_at,
            seconds=self._clock() - began,
            trace_id=trace_id,
            openings=self._openings(head, outcome),
            judged=claimed.judged,
        )
        self._settled(settle(head, outcome, call, self._policy, self._delay))

    async def _judge(self, claimed: _Claimed) -> _Claimed:
        """Decide whether the entry's earlier failure is charged, now that time has shown what Keycloak was doing."""
        head = claimed.head
        failure = self._memory.unjudged.get(head.entry_id)
        if failure is None:
            # Taken over from another process, which alone knew: the benefit of the doubt.
            return replace(claimed, judged=False if head.calls else None)
        if not self._evidence.available_after(failure.ended, failure.lane):
            await self._circuit.check()
        # In flight when the circuit opened, it was the outage's fault, however well calls went before.
        charged = head.entry_id not in self._memory.opened_on and is_charged(
            failure,
            self._evidence,
            now=self._clock(),
            charged_ago=head.charged_ago,
            charge_pause=self._policy.charge_pause,
            charge_share=self._policy.charge_share,
        )
        return replace(claimed, head=replace(head, attempts=head.attempts + charged), judged=charged)

    async def _call(self, claimed: _Claimed) -> tuple[Outcome, bytes | None]:
        head = claimed.head
        position = head.position
        change = Change(
            event_id=head.event_id,
            kind=head.kind,
            realm=head.lane.realm,
            username=head.username,
            username_key=head.lane.username_key,
            data=data_of(head),
            credential=None if head.credential is None else orjson.loads(head.credential),
            user_id=head.fold.user_id,
            maybe_applied_since=head.maybe_applied_since and head.maybe_applied_since.replace(tzinfo=UTC),
        )
        with process_span(
            self._tracer,
            parent=TraceContext.of(head.traceparent, head.tracestate),
            topic=self._topic,
            group=self._group,
            partition=-1 if position is None else position.partition,
            offset=-1 if position is None else position.offset,
            event_id=head.event_id,
            kind=head.kind,
            attempt=head.calls + 1,
        ) as span:
            try:
                outcome = await self._delivery.deliver(change, lambda: self._check_lease(claimed))
            except Exception as error:  # noqa: BLE001 - whatever it is, one event may not stop the drain.
                # A defect of ours that this event brings to light: it must not stop the drain, nor try for ever.
                _log.exception("delivery broke", event_id=head.event_id, error=type(error).__name__)
                outcome = _defect(error)
            set_outcome(span, _name(outcome), outcome.reason.value)
            context = span.get_span_context()
            return outcome, context.trace_id.to_bytes(16, "big") if context.is_valid else None

    def _check_lease(self, claimed: _Claimed) -> None:
        """The last statement before each request: no call may outlive the lease it was claimed under.

        A process that was stopped for long finds fresh leases, with other tokens or of other shards, before it looks
        at what it had claimed: others may have gone on with those lanes meanwhile.
        """
        if (
            self._leases.shards.get(claimed.head.shard) != claimed.token
            or self._leases.remaining < self._policy.call_timeout + self._policy.call_margin
        ):
            raise LeaseTooShort

    def _learn(self, head: Head, outcome: Outcome, generation: int, began: float) -> None:
        """What this outcome says about Keycloak, for the circuit and for judging failures."""
        lane, now = head.lane.lane_id, self._clock()
        blame = None if isinstance(outcome, Delivered) else outcome.failure.blame
        match blame:
            case None | Blame.USER:
                # A definite answer about one user also shows that Keycloak is there.
                self._evidence.succeeded(lane, began, now)
                self._circuit.success(generation)
                # As the circuit does: what failed before a success did not open it.
                self._memory.failed_in.pop(generation, None)
            case Blame.KEYCLOAK:
                self._evidence.failed(lane, now)
                self._memory.failed_in.setdefault(generation, set()).add(head.entry_id)
                self._forget_old_generations(generation)
                self._circuit.failure(generation, lane)
            case Blame.CONFIGURATION | Blame.LOCAL:
                pass
        if isinstance(outcome, Retry):
            vague = outcome.failure.blame is Blame.KEYCLOAK
            self._memory.remember(head.entry_id, Unjudged(lane, now, vague, outcome.reason.value))

    async def _configuration(self, head: Head, outcome: Outcome) -> Outcome:
        """Told that we may not: is it the realm, or this user? The realm's control call says."""
        if isinstance(outcome, Delivered):
            await self._realms.delivered(head.lane.realm)
        if isinstance(outcome, Delivered | DeadLetter) or outcome.failure.blame is not Blame.CONFIGURATION:
            return outcome
        if await self._realms.at_fault(head.lane.realm):
            return outcome
        failure = replace(outcome.failure, blame=Blame.USER)
        judged_later = Unjudged(head.lane.lane_id, self._clock(), vague=False, reason=outcome.reason.value)
        self._memory.remember(head.entry_id, judged_later)
        return Retry(reason=outcome.reason, failure=failure)

    def _openings(self, head: Head, outcome: Outcome) -> int:
        opened = head.entry_id in self._memory.opened_on
        self._memory.opened_on.discard(head.entry_id)
        if isinstance(outcome, Delivered) or outcome.failure.blame is not Blame.KEYCLOAK:
            return 0
        return head.openings + opened

    def _forget_old_generations(self, generation: int) -> None:
        for old in [g for g in self._memory.failed_in if g < generation]:
            del self._memory.failed_in[old]

    def _delay(self, failures: int) -> float:
        policy = self._policy
        return retry_delay(
            failures,
            base=policy.backoff_base,
            factor=policy.backoff_factor,
            cap=policy.backoff_cap,
            floor=policy.backoff_floor,
        )

    def _settled(self, settlement: Settlement) -> None:
        self._writer.add(settlement)

    def _written(self, settlements: Sequence[Settlement], fenced: set[int]) -> None:
        """The COMMIT of these is known: their lanes are free for the next look."""
        for settlement in settlements:
            head = settlement.head
            self._in_hand.pop(head.lane.lane_id, None)
            if head.entry_id in fenced:
                self.counts.fenced += 1
                continue
            self._count(settlement)
            self._hints.append(_hint_after(settlement))
        self._wake.set()

    def _count(self, settlement: Settlement) -> None:
        match settlement.state:
            case EntryState.DELIVERED:
                self.counts.delivered += 1
            case EntryState.DEAD_LETTER:
                self.counts.dead += 1
                _log.error(
                    "dead letter",
                    event_id=settlement.head.event_id,
                    reason=settlement.reason,
                    kind=settlement.head.kind,
                )
            case EntryState.HELD:
                _log.error("entry held", event_id=settlement.head.event_id, reason=settlement.reason)
            case _ if settlement.attempt is not None and settlement.attempt.outcome == "RETRY":
                self.counts.retried += 1
            case _:
                self.counts.deferred += 1

    async def _flush_hints(self) -> None:
        hints, self._hints = self._hints, []
        await self._store.hint(hints)

    async def _hand_back(self) -> None:
        """Give up claims for which no call was made: to the next look, they were never claimed."""
        if not self._claimed:
            return
        waiting, self._claimed = list(self._claimed), deque()
        try:
            await self._store.hand_back([(c.head.entry_id, c.token) for c in waiting])
        except OutboxError as error:
            # They stay claimed, and whoever looks next takes them for started.
            _log.warning("claims not handed back", entries=len(waiting), reason=str(error))
        for claimed in waiting:
            self._in_hand.pop(claimed.head.lane.lane_id, None)

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


def _after_takeover(head: Head) -> Head:
    """A claim without a record: whoever made it may have called Keycloak."""
    if head.claimed_at is None or head.maybe_applied_since is not None:
        return head
    fold = head.fold
    if fold.suspect_since is None:
        fold = replace(fold, suspect_since=head.claimed_at, suspect_kind="takeover")
    return replace(head, maybe_applied_since=head.claimed_at, fold=fold)


def _hint_after(settlement: Settlement) -> LaneHint:
    lane, head = settlement.head.lane, settlement.head
    match settlement.state:
        case EntryState.PENDING:
            return LaneHint(lane=lane, state="WAITING", delay=settlement.delay)
        case EntryState.HELD:
            return LaneHint(lane=lane, state="HELD")
        case _ if head.is_last:
            return LaneHint(lane=lane, state="IDLE")
        case _:
            # More stands behind. It goes to the end of the queue, so that long lanes do not starve the others.
            return LaneHint(lane=lane, state="READY", priority=head.next_priority)


def _defect(error: Exception) -> Retry:
    detail = f"{type(error).__name__} in delivery: a defect of kcsync, see its log"
    return Retry(
        reason=Reason.INTERNAL_ERROR, failure=Failure(blame=Blame.LOCAL, ambiguous=True, detail=detail)
    )


def _name(outcome: Outcome) -> str:
    return {Delivered: "delivered", Retry: "retry", Defer: "defer", DeadLetter: "dead_letter"}[type(outcome)]
