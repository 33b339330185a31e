"""The invariants of design.md, section 7, checked at every step, and the diary that tells how it came to a failure.

Order (I2) and leases are judged at the moment a request leaves for Keycloak; states (I4) and fences at each
write-back; completeness (I1) at each batch that becomes visible, and all of them once more at the end.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from consumer.delivery.outcome import Delivered, Outcome, Reason
from consumer.outbox.command_store import Action, Answer, Command, Found, Verdict
from consumer.outbox.drain_store import Settlement, WriteBack
from consumer.outbox.ingest_store import BatchRows
from consumer.outbox.lane import lane_id, shard_of
from consumer.outbox.maintenance_store import EVERY_REALM
from consumer.outbox.rows import EntryState, PartitionProgress, Position
from consumer.outbox.unknown_store import Reread
from tests.simulation.expected import Accepted, ExpectedUser, said_by
from tests.simulation.explained import Explained
from tests.simulation.fake_keycloak import Reply, Request
from tests.simulation.heal_rule import HealRule
from tests.simulation.history import Change, History
from tests.simulation.keycloak_link import Errand
from tests.simulation.our_calls import OurCall, OurCalls
from tests.simulation.virtual_loop import Host
from tests.unit.drain.outbox_in_memory import Entry

if TYPE_CHECKING:
    from consumer.outbox.fold import Fold
    from tests.simulation.fake_keycloak import FakeKeycloak, User
    from tests.simulation.kafka import Broker
    from tests.simulation.outbox import SimDatabase

__all__ = ["Violation", "Watch"]

_KEYCLOAKS_FAULT = frozenset(
    {
        Reason.CONNECTION_FAILED,
        Reason.CONNECTION_LOST,
        Reason.TIMEOUT,
        Reason.SERVER_ERROR,
        Reason.UNAVAILABLE,
        Reason.THROTTLED,
    }
)
_NEVER_CALLED = frozenset({"dropped", "invalid_data"})
_DIARY = 400
_SAID_OTHERWISE = ("email_verified", "enabled", "required_actions.", "password")
"""Fields that the product's fold calls otherwise than they are called here, or has only sometimes."""


class Violation(AssertionError):
    """Something happened that must never happen."""


@dataclass(slots=True)
class _Call:
    """One request: `until` is when it is certainly over for whoever made it."""

    host: Host
    what: str
    until: float
    of: OurCall | None
    request: Request


@dataclass(slots=True)
class Watch:
    """Sees everything.

    Attributes:
        calls_allowed: the most requests of deliveries one process may have under way.
        deletes_allowed: the most deletes that may go through in an hour and realm.
        audit: what became of each command; a row is written with the answer.
    """

    calls_allowed: int
    deletes_allowed: int
    violations: list[str] = field(default_factory=list)
    published: dict[Position | None, Accepted] = field(default_factory=dict)
    recorded: dict[tuple[int, int], str] = field(default_factory=dict)
    writers: dict[int, str] = field(default_factory=dict)
    ended: dict[int, tuple[EntryState, str | None]] = field(default_factory=dict)
    audit: dict[int, Answer] = field(default_factory=dict)
    spoilt: set[bytes] = field(default_factory=set)
    diary: deque[str] = field(default_factory=lambda: deque(maxlen=_DIARY))
    requests: int = 0
    _arrivals: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    _lines: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=8))
    _last: dict[bytes, _Call] = field(default_factory=dict)
    _under_way: dict[str, int] = field(default_factory=dict)
    _stopped: dict[str, frozenset[str]] = field(default_factory=dict)
    _unrecorded: dict[bytes, tuple[str, int, str | None]] = field(default_factory=dict)
    expected: defaultdict[bytes, ExpectedUser] = field(default_factory=lambda: defaultdict(ExpectedUser))
    calls: OurCalls = field(default_factory=OurCalls)
    database: SimDatabase = field(init=False)
    broker: Broker = field(init=False)
    history: History = field(init=False)
    heal_rule: HealRule = field(init=False)
    explained: Explained = field(init=False)

    @property
    def digest(self) -> str:
        """Names everything that happened: two runs of one seed have the same."""
        return str(self._lines.hexdigest())

    def note(self, line: str) -> None:
        """Write a line into the diary."""
        stamped = f"{self.database.clock():9.4f}  {line}"
        self._lines.update(stamped.encode())
        self.diary.append(stamped)

    def fail(self, invariant: str, what: str) -> None:
        """Something must not be."""
        self.note(f"VIOLATION {invariant}: {what}")
        self.violations.append(f"{invariant} at {self.database.clock():.4f}: {what}")

    # Ingest

    def taken(self, writer: str, partition: int) -> None:
        """A partition has a new writer."""
        self.note(f"{writer} writes partition {partition}")
        self.writers[partition] = writer

    def persisted(self, writer: str, progress: Sequence[PartitionProgress], rows: BatchRows) -> None:
        """I1: the batch holds each position of its ranges once; and only the partition's writer wrote it."""
        for p in progress:
            self.note(f"{writer} persists partition {p.partition}, {p.from_offset} to {p.next_offset - 1}")
            if self.writers.get(p.partition) != writer:
                self.fail("I1", f"{writer} wrote partition {p.partition} of {self.writers.get(p.partition)}")
        for kind, found in (("entry", rows.entries), ("duplicate", rows.duplicates), ("poison", rows.poison)):
            for row in found:
                at = (row.position.partition, row.position.offset)
                if at in self.recorded:
                    self.fail("I1", f"position {at} became {self.recorded[at]} and then {kind}")
                self.recorded[at] = kind
        for p in progress:
            missing = [
                o for o in range(p.from_offset, p.next_offset) if (p.partition, o) not in self.recorded
            ]
            if missing:
                self.fail("I1", f"partition {p.partition}: nothing was recorded of {missing}")

    def committed(self, partition: int, offset: int) -> None:
        """I1: an acknowledged offset is in the outbox."""
        self.note(f"committed partition {partition} at {offset}")
        known = self.database.partitions.get(partition)
        if known is None or known.watermark.next_offset < offset:
            self.fail("I1", f"offset {offset} of partition {partition} was committed before it was persisted")

    # Drain

    def delivery_begins(self, host: Host, errand: Errand) -> OurCall:
        """I2: no lane has two unrecorded calls. And none begins under maintenance."""
        self._check_maintenance(host, errand)
        token = self.database.leases[shard_of(errand.lane)].token
        before = self._unrecorded.get(errand.lane)
        if before is not None and before[:2] == (host.name, token):
            self.fail("I2", f"{host.name} delivers {errand.event_id} before it recorded {before[2]}")
        call = self._call_of(host.name, errand)
        self.calls.begin(errand.lane, call)
        return call

    def _call_of(self, host: str, errand: Errand, *, only_claimed: bool = False) -> OurCall:
        known = self.expected[errand.lane]
        return OurCall(
            what=_what(errand),
            event_id=errand.event_id,
            kind=errand.kind,
            realm=errand.realm,
            username_key=errand.username_key,
            host=host,
            carries=errand.carries,
            expected=replace(known, fields={**known.fields}),
            begun=self.database.clock(),
            only_claimed=only_claimed,
        )

    def claimed(self, owner: str, entries: Collection[Entry]) -> None:
        """Whoever takes these over must reckon with a call."""
        calls: defaultdict[bytes, list[OurCall]] = defaultdict(list)
        for entry in entries:
            row, says = self.database.lanes[entry.lane_id], self.published[entry.position]
            carries = said_by(says.kind, says.data, password=says.password)
            errand = Errand(row.realm, row.username_key, entry.event_id, carries, says.kind)
            calls[entry.lane_id].append(self._call_of(owner, errand, only_claimed=True))
        for lane, claimed in calls.items():
            self.calls.claim(lane, claimed)

    def handed_back(self, owner: str, entries: Collection[Entry]) -> None:
        """They were claimed, and not called."""
        for entry in entries:
            self.calls.unclaim(entry.lane_id, owner)

    def read_back_begins(self, host: Host, errand: Errand) -> float:
        """Nor does a look, unless it belongs to a delivery that is under way."""
        unrecorded = self._unrecorded.get(errand.lane)
        if unrecorded is None or unrecorded[0] != host.name:
            self._check_maintenance(host, errand)
        return self.database.clock()

    def read_back_ended(self, errand: Errand, begun: float, outcome: Outcome) -> None:
        """What is said of a change is so."""
        self.explained.look(errand, begun, outcome)

    def delivery_ended(self, host: Host, errand: Errand, call: OurCall, outcome: Outcome | None) -> None:
        """What came of a delivery is known to its host, and not yet recorded."""
        if outcome is not None:
            self.note(f"{host.name} is told {errand.event_id}: {outcome.reason.value}")
            call.delivered = isinstance(outcome, Delivered)
            self.explained.delivery(errand, call, outcome)
            lease = self.database.leases[shard_of(errand.lane)]
            if lease.owner == host.name and not call.heals:
                self._unrecorded[errand.lane] = (host.name, lease.token, errand.event_id)
        self.calls.ended(errand.lane, call, self.database.clock())

    def changed(self, changes: list[Change]) -> None:
        """I11: users have been changed in Keycloak, by whomever."""
        by = changes[0].by
        what = ", ".join(f"{c.name} {c.before!r} -> {c.after!r}" for c in changes)
        self.note(f"{by.name} changes {changes[0].user_id[-4:]}: {what}")
        if by.call is not None:
            self.heal_rule.judge(lane_id(by.call.realm, by.call.username_key), changes)

    def request_begins(
        self, host: Host, errand: Errand, of: OurCall | None, request: Request, timeout: float
    ) -> object:
        """I2: it is the head's, nobody else's request for this user is under way, and the lease outlives it."""
        db, now, lane = self.database, self.database.clock(), errand.lane
        what = _what(errand)
        if of is not None:
            of.leaves(request)
        self.requests += 1
        self.note(f"{host.name} {request.method} {request.path.rpartition('users')[2]} for {what}")
        if errand.event_id is not None:
            entry = db.by_event[errand.event_id]
            if entry.state is not EntryState.PENDING:
                self.fail("I2", f"{what} is asked for although it is {entry.state}")
            self._check_order(lane, entry)
            if entry.kind == "user_delete" and entry.entry_id not in db.places:
                self.fail("guard", f"{what} is asked for without a place")
        lease = db.leases[shard_of(lane)]
        if lease.owner != host.name:
            self.fail("I2", f"{host.name} asks for {what}, but {lease.owner} owns its shard")
        elif lease.deadline < now + timeout:
            self.fail("I2", f"the call for {what} may outlive the lease of {host.name}")
        last = self._last.get(lane)
        if last is not None and now < last.until:
            self.fail("I2", f"{what} is asked for while {last.what} is under way")
        under_way = self._under_way[host.name] = self._under_way.get(host.name, 0) + 1
        if under_way > self.calls_allowed:
            self.fail("I7", f"{host.name} has {under_way} requests under way")
        call = self._last[lane] = _Call(host, what, now + timeout, of, request)
        return call

    def request_ended(self, request: object, reply: Reply | None) -> None:
        """Its caller knows its end."""
        if isinstance(request, _Call):
            request.until = min(request.until, self.database.clock())
            self._under_way[request.host.name] -= 1
            if request.of is not None:
                request.of.answered(request.request, reply)

    def request_given_up(self, request: object) -> None:
        """Its caller was cancelled; the request may go on."""
        if isinstance(request, _Call):
            self._under_way[request.host.name] -= 1
            if request.of is not None:
                request.of.answered(request.request, None)

    def took_effect_late(self, errand: Errand) -> None:
        """A request took effect after its caller had given it up."""
        self.note(f"late effect of {errand.event_id or 'a heal'} on {errand.username_key}")
        self.spoilt.add(errand.lane)

    def settled(self, owner: str, write_backs: Sequence[WriteBack], fenced: Collection[bytes]) -> None:
        """I4, and the fence: only the shard's owner writes, and what has ended stays so."""
        for each in write_backs:
            lane, name = each.lane.lane_id, each.lane.username_key
            unrecorded = self._unrecorded.get(lane)
            if unrecorded is not None and unrecorded[0] == owner:
                del self._unrecorded[lane]
            self.calls.settled(lane, owner, self.database.clock(), fenced=lane in fenced)
            if lane in fenced:
                self.note(f"{owner} is fenced: {name}")
                continue
            lease = self.database.leases[each.shard]
            if (lease.owner, lease.token) != (owner, each.token):
                self.fail("I4", f"{owner} wrote the lane of {name}, but {lease.owner} owns its shard")
            if each.fold is not None and not each.settlements:
                self.note(f"{owner} heals {name}: suspect since {each.fold.suspect_since}")
            for settlement in each.settlements:
                self._check_settlement(owner, settlement)

    def _check_settlement(self, owner: str, s: Settlement) -> None:
        head = s.head
        self.note(f"{owner} records {head.event_id}: {s.state} {s.reason}")
        if head.entry_id in self.ended:
            self.fail("I4", f"{head.event_id} was {self.ended[head.entry_id]} and is recorded again")
        if s.state is not EntryState.PENDING and not s.reason:
            self.fail("I4", f"{head.event_id} is {s.state} without a reason")
        if s.state not in {EntryState.PENDING, EntryState.HELD}:
            self.ended[head.entry_id] = (s.state, s.reason)
        if s.state is EntryState.DEAD_LETTER and s.reason in _KEYCLOAKS_FAULT:
            self.fail("I4", f"{head.event_id} was given up for Keycloak's fault: {s.reason}")
        elif s.state is EntryState.DEAD_LETTER and not self.explained.may_die(head.event_id, s.reason):
            self.fail("I4", f"{head.event_id} was given up as {s.reason}, and was told nothing like that")
        if s.state is EntryState.DELIVERED:
            accepted, expected = self.published[head.position], self.expected[head.lane.lane_id]
            if (
                accepted.kind == "user_create"
                and self._is_another(s)
                and expected.exists
                and not self.heal_rule.restores
            ):
                # Somebody else has deleted the user, and nothing of what was there comes back.
                expected.forget()
            expected.take(accepted, found=s.reason != Reason.ALREADY_ABSENT)

    def _is_another(self, s: Settlement) -> bool:
        """Whether a create has met another user than the one whom the lane knew: it, or a lost call of it, made them."""
        if s.reason == Reason.CREATED:
            return True
        lane, known = s.head.lane, s.head.fold.user_id
        found = self.heal_rule.history.fake.find(lane.realm, lane.username_key)
        return known is not None and found is not None and found.id != known

    def _check_order(self, lane: bytes, entry: Entry) -> None:
        for other in self.database.by_lane[lane]:
            if other.entry_id < entry.entry_id and other.is_open:
                self.fail(
                    "I2", f"{entry.event_id} is asked for before {other.event_id}, which is {other.state}"
                )
            # What was dropped, or read again and refused, was never called, wherever in the lane it stood.
            ended = self.ended.get(other.entry_id)
            if other.entry_id > entry.entry_id and ended is not None and ended[1] not in _NEVER_CALLED:
                self.fail("I2", f"{entry.event_id} is asked for after {other.event_id}, which came later")
            same = (
                other.position is not None
                and entry.position is not None
                and other.position.partition == entry.position.partition
            )
            if same and (other.entry_id < entry.entry_id) != _earlier(other, entry):
                self.fail("I2", f"{entry.event_id} and {other.event_id} changed places")

    # Operators

    def asked(self, command: Command) -> None:
        """Somebody asked for something."""
        self.note(f"{command.actor} asks to {command.action} {self._named(command)}")

    def looked_again(self, found: Mapping[int, Found]) -> None:
        """Ingest asks no owner: what comes after this look comes after the command.

        Each look counts: a command may be looked at again before the COMMIT of what the first look led to.
        """
        for number, each in found.items():
            self._arrivals[number].add(each.arrivals)

    def answered(self, owner: str, answer: Answer) -> None:
        """A command is done once, by the owner of its shard, and only to what its asker saw."""
        command, db = answer.command, self.database
        what = f"{command.action} {self._named(command)}"
        self.note(f"{owner} answers {what}: {answer.verdict} {answer.detail}")
        if command.command_id in self.audit:
            self.fail("I4", f"{what} was answered {self.audit[command.command_id].verdict} and is again")
        self.audit[command.command_id] = answer
        lease = db.leases[shard_of(command.lane.lane_id)]
        if (lease.owner, lease.token) != (owner, answer.token):
            self.fail("I4", f"{owner} answered {what}, but {lease.owner} owns its shard")
        if answer.change is None:
            return
        if answer.verdict is not Verdict.DONE:
            self.fail("I4", f"{what} was {answer.verdict} and changes something")
        self._check_change(command, what)
        if answer.change.state is EntryState.DEAD_LETTER:
            self.ended[command.entry_id] = (EntryState.DEAD_LETTER, answer.change.reason)

    def _check_change(self, command: Command, what: str) -> None:
        db, lane = self.database, command.lane.lane_id
        entry = db.entries[command.entry_id]
        if command.action is Action.RELEASE_LANE:
            fold = db.folds.get(lane)
            if fold is None or fold.held_by_entry != entry.entry_id:
                self.fail("I4", f"{what} is done, but it does not hold its lane")
            return
        if entry.entry_id in self.ended:
            self.fail("I4", f"{what} is done, but it was {entry.state}")
        elif entry.state is not command.seen_state:
            self.fail("I4", f"{what} is done, seen as {command.seen_state}, but it is {entry.state}")
        elif (
            command.action is Action.DROP and command.seen_arrivals not in self._arrivals[command.command_id]
        ):
            self.fail("I4", f"{what} is done, although more of that user has come")
        elif command.action is Action.HURRY and (entry.claimed_at or entry.maybe_applied_since):
            self.fail("I4", f"{what} is done, although its last call may still take effect")

    def _named(self, command: Command) -> str:
        return self.database.entries[command.entry_id].event_id

    def places_taken(
        self, realm: str, asked: Collection[int], through: Collection[int], *, room: int, limit: int
    ) -> None:
        """The guard: nobody takes a place beyond the limit, whoever else does so; and none is refused that is free."""
        self.note(
            f"places in {realm} for {sorted(through)} of {sorted(asked)}, where {room} of {limit} are left"
        )
        taken = self.database.places_used(realm)
        if taken > self.deletes_allowed or (through and taken > limit):
            self.fail("guard", f"{taken} deletes have places in {realm}, where {limit} may have one")
        if len(through) < min(len(asked), room):
            self.fail(
                "guard", f"{realm} has room for {room} deletes, but of {len(asked)} {len(through)} go through"
            )

    # Maintenance, and newer versions

    def maintenance_seen(self, host: Host, stopped: frozenset[str]) -> None:
        """A process knows what is stopped: realms, or EVERY_REALM."""
        self.note(f"{host.name} sees maintenance of {sorted(stopped)}")
        self._stopped[host.name] = stopped

    def keycloak_is_asked(self, host: Host) -> None:
        """Nobody asks whether Keycloak is well while everything is stopped."""
        if EVERY_REALM in self._stopped.get(host.name, ()):
            self.fail(
                "maintenance", f"{host.name} asks Keycloak something, and knows that everything is stopped"
            )

    def _check_maintenance(self, host: Host, errand: Errand) -> None:
        """What is under way when a process learns of it finishes; nothing more begins."""
        stopped = self._stopped.get(host.name, frozenset())
        if not stopped.isdisjoint({EVERY_REALM, errand.realm}):
            what = _what(errand)
            self.fail(
                "maintenance", f"{host.name} begins {what}, and knows that {sorted(stopped)} is stopped"
            )

    def read_again(self, owner: str, written: Sequence[Reread]) -> None:
        """I4: what is released is held, by the owner of its shard."""
        for each in written:
            what, lease = each.entry.event_id, self.database.leases[each.entry.shard]
            self.note(f"{owner} knows {each.entry.kind} now: {what} is {each.state} {each.reason or ''}")
            if lease.owner != owner:
                self.fail("I4", f"{owner} released {what}, but {lease.owner} owns its shard")
            if each.entry.entry_id in self.ended:
                self.fail("I4", f"{what} was {self.ended[each.entry.entry_id]} and is released")
            if each.state is EntryState.DEAD_LETTER:
                self.ended[each.entry.entry_id] = (each.state, each.reason)

    # The end

    def check_complete(self) -> None:
        """I1: every position that was acknowledged has exactly one record."""
        for partition, log in self.broker.logs.items():
            known = self.database.partitions.get(partition)
            reached = 0 if known is None else known.watermark.next_offset
            if reached != len(log):
                self.fail("I6", f"partition {partition} is read up to {reached} of {len(log)}")
            missing = [o for o in range(len(log)) if (partition, o) not in self.recorded]
            if missing:
                self.fail("I1", f"partition {partition}: nothing was recorded of {missing}")

    def check_states(self, fake: FakeKeycloak) -> None:
        """I3 and I4: every user is the fold of what was accepted, and so is the product's own fold."""
        for entry_id, (state, reason) in self.ended.items():
            entry = self.database.entries[entry_id]
            if (entry.state, entry.reason) != (state, reason):
                self.fail("I4", f"{entry.event_id} ended as {state}, and is {entry.state}")
        for lane, entries in self.database.by_lane.items():
            head = next((entry for entry in entries if entry.is_open), None)
            if head is not None and (head.calls or head.claimed_at or head.maybe_applied_since):
                # It may have taken effect already.
                continue
            row, expected = self.database.lanes[lane], self.expected[lane]
            found = fake.find(row.realm, row.username_key)
            self.heal_rule.judge_end(row.realm, row.username_key, expected, found)
            if any(entry.state is EntryState.DELIVERED for entry in entries):
                fold = self.database.folds[lane]
                self._check_fold(row.username_key, expected, fold)
                if expected.exists == (found is not None):
                    self._check_id(row.realm, row.username_key, fold, found)
        known = {(row.realm, row.username_key) for row in self.database.lanes.values()}
        for realm, users in fake.users.items():
            for user in users.values():
                if (realm, user.username) not in known and not self.history.made(user.id).by_others:
                    self.fail("I3", f"we have made {user.username}, of whom no event has spoken")

    def _check_fold(self, name: str, expected: ExpectedUser, fold: Fold) -> None:
        if fold.exists != expected.exists:
            self.fail("I3", f"the fold of {name} says exists={fold.exists}")
        if (fold.credential and fold.credential.event_id) != expected.password_event:
            self.fail("I3", f"the fold of {name} has another password than {expected.password_event}")
        values = {name: known.value for name, known in fold.fields.items() if known.value is not None}
        for field_name, value in expected.fields.items():
            if value is None or field_name.startswith(_SAID_OTHERWISE):
                continue
            got: Any = values.get(field_name)
            if isinstance(got, list):
                got = tuple(got)
            if (got.lower() if field_name == "email" and got else got or None) != value:
                self.fail("I3", f"the fold of {name} has {field_name}={got!r} instead of {value!r}")

    def _check_id(self, realm: str, name: str, fold: Fold, found: User | None) -> None:
        """The fold has the id of the user whom our own deliveries left."""
        left = self.history.made(found.id) if found is not None else self.history.gone(realm, name)
        if left is not None and not left.by_others and fold.user_id != (found and found.id):
            self.fail("I3", f"the fold of {name} says id {fold.user_id} instead of {found and found.id}")

    def suspects(self) -> list[str]:
        """Users whose lane waits to be healed and has nothing else to do."""
        lanes = self.database.lanes
        return [
            lanes[lane].username_key
            for lane, fold in self.database.folds.items()
            if fold.suspect_since is not None
            and not any(entry.is_open for entry in self.database.by_lane[lane])
        ]

    def looks_due(self) -> list[str]:
        """Users at whom one more look is due, now or later."""
        lanes, folds = self.database.lanes, self.database.folds
        noted = {noted.lane_id for noted in self.database.doubts.values()}
        return [
            row.username_key
            for lane, row in lanes.items()
            if lane in noted or (lane in folds and folds[lane].look_at is not None)
        ]

    def unanswered(self) -> list[str]:
        """What nobody has answered yet."""
        return [
            f"{row.command.action} {self._named(row.command)}"
            for row in self.database.commands
            if row.answer is None
        ]

    def stuck(self, excused: Collection[str]) -> list[Entry]:
        """Heads that are open and not of a user whose calls always fail: operators end every hold."""
        found = []
        for entries in self.database.by_lane.values():
            head = next((entry for entry in entries if entry.is_open), None)
            if head is None:
                continue
            if self.database.lanes[head.lane_id].username_key in excused:
                continue
            found.append(head)
        return found


def _what(errand: Errand) -> str:
    return errand.event_id or f"the heal of {errand.username_key}"


def _earlier(one: Entry, other: Entry) -> bool:
    assert one.position is not None
    assert other.position is not None
    return one.position.offset < other.position.offset
