"""The composition root: builds every part from the settings and runs them until told to stop."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import structlog
from opentelemetry.trace import Tracer

from consumer.circuit.breaker import CircuitState, Refusal, asks_in
from consumer.circuit.calls import CallLimit
from consumer.circuit.keeper import while_open
from consumer.circuit.limit_policy import LimitPolicy
from consumer.delivery.delivery import Delivery
from consumer.delivery.key_folder import KeyFolder
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.outcome import Blame
from consumer.delivery.passwords import Keys
from consumer.drain.admission import Admission
from consumer.drain.assembly import Drain, Stores
from consumer.drain.guard import DeletionGuard
from consumer.drain.maintenance import MaintenanceWatch
from consumer.drain.release import Releaser
from consumer.durations import format_duration
from consumer.from_settings import (
    circuit_policy,
    drain_policy,
    guard_policy,
    kafka_address,
    kinds_that_create,
    purge_store,
)
from consumer.ingest.backlog import BacklogWatch, Marks
from consumer.ingest.ingest import Ingest, IngestPolicy
from consumer.ingest.pausing import PausePolicy, PauseReason
from consumer.ingest.reread import known_versions, reread
from consumer.kinds import Kind
from consumer.outbox.audit import AuditStore
from consumer.outbox.backlog_store import BacklogStore
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.command_store import CommandStore
from consumer.outbox.database import Database
from consumer.outbox.deletion_store import DeletionStore
from consumer.outbox.drain_store import DrainStore
from consumer.outbox.errors import CommitUnknown, DatabaseUnavailable, OutboxError
from consumer.outbox.ingest_store import IngestStore
from consumer.outbox.lease_store import LeaseStore
from consumer.outbox.maintenance_store import MaintenanceStore
from consumer.outbox.migrate import migrate
from consumer.outbox.overview import queue_counts
from consumer.outbox.sync_store import ConfinedDrainStore, Confines
from consumer.outbox.unknown_store import UnknownStore
from consumer.retry import Backoff
from consumer.settings import Settings
from consumer.summary import Progress, ingest_line, outage_line, summary_line
from consumer.telemetry.trouble import Trouble
from consumer.version import VERSION

__all__ = ["Consumer", "wait_for_database"]

_log = structlog.get_logger("kcsync")
_GRACE = 20.0
_ASK_AGAIN = 60.0
_READ_CIRCUIT_EVERY = 1.0
_ROLES = {"all": "ingest,drain", "ingest": "ingest", "drain": "drain"}


async def wait_for_database(database: Database, on_state: Callable[[str], None]) -> None:
    """Migrate as soon as MariaDB answers; until then say why we wait, and try again with growing pauses."""
    backoff = Backoff(base=0.5, cap=15.0, uniform=random.uniform)
    while True:
        try:
            applied = await migrate(database)
        except (DatabaseUnavailable, CommitUnknown) as error:
            pause = backoff.next_delay()
            on_state(f"{error}; next try in {format_duration(timedelta(seconds=round(pause, 1)))}")
            await asyncio.sleep(pause)
            continue
        if applied:
            on_state(f"Schema brought to version {applied[-1].version}")
        return


class Consumer:
    """One process: ingest, drain, circuit and housekeeping over one database and one Keycloak.

    Build it inside the running event loop.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        keycloak: Keycloak,
        keys: KeyFolder,
        *,
        kinds: Mapping[str, Kind],
        tracer: Tracer,
        confines: Confines | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._keys = keys
        self._keycloak = keycloak
        self._away_since: float | None = None
        instance = settings.instance
        policy = drain_policy(settings, confined=confines is not None and confines.limit is not None)
        self._presence = LeaseStore(
            database, owner=instance, roles=_ROLES[settings.role], version=VERSION, seconds=policy.lease
        )
        circuits = self._circuits = CircuitStore(database, keycloak=settings.keycloak_url)
        calls = CallLimit(
            LimitPolicy(ceiling=settings.keycloak_calls, floor=settings.keycloak_calls_floor),
            per_second=settings.max_calls_per_second,
        )
        self.drain = Drain(
            Stores(
                drain=_drain_store(database, instance, confines),
                leases=self._presence,
                commands=CommandStore(database, owner=instance),
                circuit=circuits,
                realms=circuits,
            ),
            Delivery(
                keycloak=keycloak,
                keys=keys,
                delete_mode=settings.delete_mode,
                creates_missing=kinds_that_create(settings),
                restores_lost=settings.lost_user == "restore",
                protected_users=settings.protected_users,
                custom={name: kind.handler for name, kind in kinds.items()},
                watch=calls,
            ),
            keycloak.control_call,
            keycloak.look,
            write_check=keycloak.write_check,
            instance=instance,
            control_realm=settings.keycloak_realms[0],
            policy=policy,
            circuit_policy=circuit_policy(settings),
            calls=calls,
            tracer=tracer,
            topic=settings.kafka_topic,
            kafka_group=settings.kafka_group,
            on_circuit=self._circuit_changed,
            on_state=_say,
            admissions=_admissions(settings, database),
        )
        self._maintenance = MaintenanceWatch(
            MaintenanceStore(database),
            on_all=self._maintain,
            on_realms=self.drain.realms.maintain,
            on_state=_say,
        )
        custom = {name: kind.contract for name, kind in kinds.items()}
        self._releaser = Releaser(
            store=UnknownStore(database, owner=instance),
            leases=self.drain.leases,
            versions=known_versions(custom),
            reread=lambda entry: reread(
                entry, lambda sealed, context: keys.open(orjson.loads(sealed), context), custom
            ),
            interval=policy.sweep_interval,
            on_released=self.drain.drainer.notify,
        )
        self._ingest = Ingest(
            kafka_address(settings),
            IngestStore(database, group=settings.kafka_group, writer=instance),
            AuditStore(database),
            policy=IngestPolicy(
                batch=settings.ingest_batch,
                realms=frozenset(settings.keycloak_realms),
                pause=PausePolicy(settings.pause_policy),
                custom=custom,
            ),
            seal=lambda plaintext, context: _seal(keys, plaintext, context),
            tracer=tracer,
            on_persisted=self.drain.drainer.notify,
            on_state=_say,
        )
        self._backlog = BacklogWatch(
            BacklogStore(database),
            marks=Marks(high=settings.backlog_high, low=settings.backlog_low),
            on_change=lambda full: self._hold_ingest(PauseReason.BACKLOG, on=full),
            on_state=_say,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run what the role says until `stop` is set, then stop gracefully within 20 s or so."""
        role = self._settings.role
        # Before the first record: what holds ingest must be known.
        await self._maintenance.turn()
        await self.drain.circuit.refresh()
        if role != "drain":
            await self._backlog.turn()
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._summarise()),
                tasks.create_task(self._keep_house()),
                tasks.create_task(self._keys.run()),
                tasks.create_task(self._maintenance.run()),
            ]
            stops: list[Coroutine[Any, Any, object]] = []
            if role == "ingest":
                background += [
                    tasks.create_task(self._be_present()),
                    tasks.create_task(self._follow_circuit()),
                ]
            else:
                background += [
                    tasks.create_task(self.drain.run()),
                    tasks.create_task(self._releaser.run()),
                    tasks.create_task(self._look_at_realms()),
                ]
            if role != "drain":
                ingest = tasks.create_task(self._ingest.run())
                background += [tasks.create_task(self._backlog.run()), ingest]
            await stop.wait()
            _say("Stopping: no new work is taken, calls under way finish")
            if role != "drain":
                self._ingest.stop()
                stops.append(asyncio.wait([ingest], timeout=_GRACE))
            if role != "ingest":
                stops.append(self.drain.drainer.stop(_GRACE))
            await asyncio.gather(*stops)
            for task in background:
                task.cancel()
        try:
            await self.drain.leases.release_all()
        except OutboxError as error:
            _log.warning("leases not released; others take them when they end", reason=str(error))
        _say("Stopped")

    @asynccontextmanager
    async def draining(self) -> AsyncIterator[None]:
        """Drain only, for as long as the block runs: no ingest, no housekeeping."""
        await self._maintenance.turn()
        async with self.drain.running(_GRACE):
            yield

    async def _look_at_realms(self) -> None:
        """Warn once of each realm, as soon as it can be asked: which attributes it drops, which users it may not show."""
        waiting = set(self._settings.keycloak_realms)
        while waiting:
            for realm in sorted(waiting):
                kept = await self._keycloak.unmanaged_attributes(realm)
                behind = await self._keycloak.user_federations(realm)
                if any(
                    found.trouble is not None and found.trouble.failure.blame is Blame.KEYCLOAK
                    for found in (kept, behind)
                ):
                    continue
                waiting.remove(realm)
                if kept.advice is not None:
                    _log.warning(kept.advice)
                if (naming := (await self._keycloak.naming(realm)).advice(realm)) is not None:
                    _log.warning(naming)
                if behind.advice is not None:
                    # What cannot be told is true of most realms, and no fault of theirs.
                    _log.log(logging.WARNING if behind.is_wrong else logging.INFO, behind.advice)
            if waiting:
                await asyncio.sleep(_ASK_AGAIN)

    def _circuit_changed(self, state: CircuitState, reason: str | None) -> None:
        self._hold_ingest(PauseReason.CIRCUIT, on=state is not CircuitState.CLOSED)
        held = PausePolicy(self._settings.pause_policy) is PausePolicy.IMMEDIATELY
        waiting = "partitions are paused, events wait" if held else "events wait in the outbox"
        meaning = {
            CircuitState.CLOSED: "deliveries go on, partitions flow" if held else "deliveries go on",
            CircuitState.OPEN: f"no deliveries, {waiting}",
            CircuitState.HALF_OPEN: "one control call asks whether Keycloak is back",
        }
        line = f"Circuit {state}: {meaning[state]}" + (f" ({reason})" if reason else "")
        if state is CircuitState.OPEN:
            self._away_since = self._away_since or time.monotonic()
            _log.warning(line)
        elif state is CircuitState.CLOSED and self._away_since is not None:
            # As loud as the opening: whoever has heard of that must hear of its end.
            away = timedelta(seconds=round(time.monotonic() - self._away_since))
            self._away_since = None
            _log.warning(f"{line}; Keycloak was away for {format_duration(away)}")
        else:
            _say(line)

    def _maintain(self, on: bool) -> None:  # noqa: FBT001 - a state, not an option.
        self.drain.circuit.maintain(on=on)
        self._hold_ingest(PauseReason.MAINTENANCE, on=on)
        self.drain.drainer.notify()

    def _hold_ingest(self, reason: PauseReason, *, on: bool) -> None:
        if on:
            self._ingest.pause(reason)
        else:
            self._ingest.resume(reason)

    async def _be_present(self) -> None:
        """Be seen by `status`, as a process that takes no shards."""
        trouble = Trouble()
        while True:
            try:
                await self._presence.announce()
                trouble.over()
            except OutboxError as error:
                if trouble.is_news():
                    _log.warning("not announced; `status` will not show this process", reason=str(error))
            await asyncio.sleep(self._settings.lease.total_seconds() / 3)

    async def _follow_circuit(self) -> None:
        """Pause and resume as those that deliver have found; this process has no business with Keycloak."""
        trouble = Trouble()
        while True:
            try:
                await self.drain.circuit.refresh()
                trouble.over()
            except OutboxError as error:
                if trouble.is_news():
                    _log.warning("circuit not readable", reason=str(error))
            await asyncio.sleep(_READ_CIRCUIT_EVERY)

    async def _summarise(self) -> None:
        counts = self.drain.drainer.counts
        processed, retried, dead = counts.processed, counts.retried, counts.dead
        restored = counts.restored
        persisted = self._ingest.persisted
        while True:
            await asyncio.sleep(self._settings.sync_interval.total_seconds())
            try:
                queue = await queue_counts(self._database)
            except OutboxError as error:
                _say(f"No summary: {error}")
                continue
            away = await self._said_away(queue.pending)
            if self._settings.role == "ingest":
                total = self._ingest.persisted
                _say(ingest_line(persisted=total - persisted, total=total, pending=queue.pending))
                persisted = total
                continue
            progress = Progress(
                processed=counts.processed - processed,
                total=counts.processed,
                retried=counts.retried - retried,
                dead=counts.dead - dead,
                pending=queue.pending,
                restored=counts.restored - restored,
            )
            if away and not progress.processed and not progress.retried:
                continue
            _say(summary_line(progress))
            processed, retried, dead = counts.processed, counts.retried, counts.dead
            restored = counts.restored

    async def _said_away(self, pending: int) -> bool:
        """Say each interval that nothing can be delivered, for as long as that is so; whether it is."""
        if self.drain.circuit.refusal is not Refusal.CIRCUIT:
            return False
        try:
            row = await self._circuits.read()
        except OutboxError:
            return False
        if row.state == CircuitState.CLOSED:
            return False
        line = outage_line(
            state=row.state,
            opened_at=None if row.opened_at is None else row.opened_at.replace(tzinfo=UTC),
            now=datetime.now(UTC).astimezone(),
            asks_in=asks_in(while_open(row, instance=self._settings.instance)),
            pending=pending,
        )
        _log.warning(line)
        return True

    async def _keep_house(self) -> None:
        store = purge_store(self._database, self._settings)
        interval = self._settings.cleanup_interval.total_seconds()
        while True:
            # Asked more often than it is due, and due by when anybody last did it: however many instances there are,
            # and however often they are restarted, it is done about once in the interval.
            await asyncio.sleep(interval / 4)
            try:
                removed = await store.purge(unless_within=0.9 * interval)
            except OutboxError as error:
                _log.warning("cleanup put off", reason=str(error))
                continue
            if removed is not None:
                counted = [f"{count} {what}" for what, count in removed.items() if count]
                _say(f"Cleanup: removed {', '.join(counted) or 'nothing'}")


def _drain_store(database: Database, instance: str, confines: Confines | None) -> DrainStore:
    if confines is None:
        return DrainStore(database, owner=instance)
    return ConfinedDrainStore(database, owner=instance, confines=confines)


def _admissions(settings: Settings, database: Database) -> list[Admission]:
    if settings.deletion_guard == "off":
        return []
    return [DeletionGuard(store=DeletionStore(database), policy=guard_policy(settings))]


def _say(line: str) -> None:
    """One line for people, about a change of state."""
    _log.info(line)


def _seal(keys: Keys, plaintext: bytes, context: bytes) -> tuple[str, bytes]:
    sealed = keys.seal(plaintext, context)
    return sealed["kid"], orjson.dumps(sealed)
