"""The composition root: builds every part from the settings and runs them until told to stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import structlog
from opentelemetry.trace import Tracer

from consumer.circuit.breaker import CircuitPolicy, CircuitState
from consumer.circuit.keeper import CircuitKeeper, ControlAnswer
from consumer.delivery.delivery import Delivery
from consumer.delivery.keycloak import ControlResult, Keycloak
from consumer.delivery.outcome import Blame, Defer
from consumer.delivery.passwords import KeyRing
from consumer.drain.admission import Admission
from consumer.drain.caller import Caller
from consumer.drain.charging import Evidence
from consumer.drain.drainer import Drainer
from consumer.drain.executor import CommandExecutor
from consumer.drain.guard import DeletionGuard, GuardPolicy
from consumer.drain.healer import Healer
from consumer.drain.judge import Judge
from consumer.drain.leases import LeaseKeeper
from consumer.drain.maintenance import MaintenanceWatch
from consumer.drain.policy import MERGE_LIMIT, DrainPolicy
from consumer.drain.realms import RealmWatch
from consumer.drain.release import Releaser
from consumer.drain.turns import Turns
from consumer.durations import format_duration
from consumer.ingest.backlog import BacklogWatch, Marks
from consumer.ingest.ingest import Ingest, IngestPolicy
from consumer.ingest.kafka import KafkaAddress
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
from consumer.outbox.purge import PurgeStore, Retention
from consumer.outbox.sync_store import ConfinedDrainStore, Confines
from consumer.outbox.unknown_store import UnknownStore
from consumer.retry import Backoff
from consumer.setting_values import holding_kinds
from consumer.settings import Settings
from consumer.summary import Progress, ingest_line, summary_line
from consumer.telemetry.trouble import Trouble
from consumer.tls import client_tls
from consumer.version import VERSION

__all__ = [
    "Consumer",
    "drain_policy",
    "guard_policy",
    "kafka_address",
    "open_database",
    "open_keycloak",
    "purge_store",
    "wait_for_database",
]

_log = structlog.get_logger("kcsync")
_GRACE = 20.0
_READ_CIRCUIT_EVERY = 1.0
_ROLES = {"all": "ingest,drain", "ingest": "ingest", "drain": "drain"}


def open_database(settings: Settings) -> Database:
    """The outbox's database; connects on first use.

    Raises:
        TlsFileError: a file of certificates cannot be used.
    """
    tls = None
    if settings.database_tls:
        tls = client_tls(
            "KCSYNC_DATABASE",
            ca_file=settings.database_ca_file,
            cert_file=settings.database_cert_file,
            key_file=settings.database_key_file,
        )
    return Database(settings.database_dsn, tls=tls, connections=settings.database_connections)


def open_keycloak(settings: Settings) -> Keycloak:
    """The Keycloak client. Close it with `aclose()`.

    Raises:
        TlsFileError: the file of certificates cannot be used.
    """
    ca_file = settings.keycloak_ca_file
    return Keycloak(
        url=settings.keycloak_url,
        realms=settings.keycloak_realms,
        client_id=settings.keycloak_client_id,
        client_secret=settings.keycloak_client_secret.get_secret_value(),
        timeout_seconds=settings.keycloak_timeout.total_seconds(),
        max_calls=settings.keycloak_calls,
        ssl_context=None if ca_file is None else client_tls("KCSYNC_KEYCLOAK", ca_file=ca_file),
        protect_role_holders=settings.protect_role_holders == "on",
    )


def purge_store(database: Database, settings: Settings) -> PurgeStore:
    """Housekeeping by the settings' retention, with that of single kinds."""
    kinds = {each.kind: _retention(settings.of_kind(each.kind)) for each in settings.kind_overrides}
    return PurgeStore(database, owner=settings.instance, retention=replace(_retention(settings), kinds=kinds))


def _retention(settings: Settings) -> Retention:
    """How long entries stay, whatever their kind."""

    def seconds(value: timedelta | str) -> float | None:
        return value.total_seconds() if isinstance(value, timedelta) else None

    return Retention(
        delivered=seconds(settings.delivered_retention),
        dead_letter=seconds(settings.dead_letter_retention),
    )


def kafka_address(settings: Settings) -> KafkaAddress:
    """Where Kafka is, and how to speak to it.

    Raises:
        TlsFileError: the file of certificates cannot be used.
    """
    security: dict[str, Any] = {"security_protocol": settings.kafka_security_protocol}
    if settings.kafka_security_protocol.endswith("SSL"):
        security["ssl_context"] = client_tls("KCSYNC_KAFKA", ca_file=settings.kafka_ca_file)
    if settings.kafka_sasl_mechanism is not None and settings.kafka_sasl_password is not None:
        security["sasl_mechanism"] = settings.kafka_sasl_mechanism
        security["sasl_plain_username"] = settings.kafka_sasl_username
        security["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return KafkaAddress(
        bootstrap=settings.kafka_bootstrap,
        topic=settings.kafka_topic,
        group=settings.kafka_group,
        client_id=settings.instance,
        security=security,
    )


def drain_policy(settings: Settings, *, confined: bool = False) -> DrainPolicy:
    """The drain's numbers, with those of single kinds.

    Confined to a number of entries, a drain must not take in more of them by merging.
    """
    max_age = settings.pending_max_age
    return DrainPolicy(
        batch=settings.batch_size,
        max_attempts=settings.max_attempts,
        backoff_base=settings.backoff_base.total_seconds(),
        backoff_factor=settings.backoff_factor,
        backoff_cap=settings.backoff_cap.total_seconds(),
        call_timeout=settings.keycloak_timeout.total_seconds(),
        lease=settings.lease.total_seconds(),
        sweep_interval=settings.sync_interval.total_seconds(),
        server_limit=settings.server_limit.total_seconds(),
        merge_limit=MERGE_LIMIT if settings.merge == "on" and not confined else 1,
        holding=holding_kinds(settings.lane_policy),
        pending_max_age=max_age.total_seconds() if isinstance(max_age, timedelta) else None,
        kinds={each.kind: drain_policy(settings.of_kind(each.kind)) for each in settings.kind_overrides},
    )


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
        keys: KeyRing,
        *,
        kinds: Mapping[str, Kind],
        tracer: Tracer,
        confines: Confines | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._keycloak = keycloak
        self._evidence = Evidence()
        self._control_realm = settings.keycloak_realms[0]
        instance = settings.instance
        circuits = CircuitStore(database, keycloak=settings.keycloak_url)
        self.circuit = CircuitKeeper(
            circuits,
            self._control,
            instance=instance,
            policy=CircuitPolicy(
                threshold=settings.failure_threshold,
                # After an outage one call runs at a time: so many that time out in a row must still count together.
                window=max(60.0, 2 * settings.failure_threshold * settings.keycloak_timeout.total_seconds()),
                cooldown=settings.cooldown.total_seconds(),
                cooldown_cap=settings.cooldown_cap.total_seconds(),
                health_cache=settings.health_cache.total_seconds(),
            ),
            calls=settings.keycloak_calls,
            on_change=self._circuit_changed,
        )
        policy = drain_policy(settings, confined=confines is not None and confines.limit is not None)
        self._judge = Judge(circuit=self.circuit, evidence=self._evidence, policy=policy)
        self._presence = LeaseStore(
            database, owner=instance, roles=_ROLES[settings.role], version=VERSION, seconds=policy.lease
        )
        self.leases = LeaseKeeper(
            self._presence,
            instance=instance,
            seconds=policy.lease,
            busy=lambda: self.drainer.busy_shards(),  # noqa: PLW0108 - the drainer is built below.
        )
        if confines is None:
            store = DrainStore(database, owner=instance)
        else:
            store = ConfinedDrainStore(database, owner=instance, confines=confines)
        caller = Caller(
            delivery=Delivery(
                keycloak=keycloak,
                keys=keys,
                delete_mode=settings.delete_mode,
                protected_users=settings.protected_users,
                custom={name: kind.handler for name, kind in kinds.items()},
            ),
            leases=self.leases,
            policy=policy,
            tracer=tracer,
            topic=settings.kafka_topic,
            kafka_group=settings.kafka_group,
        )
        realms = RealmWatch(self._realm_control, circuits, pause=policy.realm_pause, on_state=_say)
        self.maintenance = MaintenanceWatch(
            MaintenanceStore(database), on_all=self._maintain, on_realms=realms.maintain, on_state=_say
        )
        self.drainer = Drainer(
            store,
            self.leases,
            self.circuit,
            Turns(caller=caller, judge=self._judge, circuit=self.circuit, realms=realms, policy=policy),
            Healer(store=store, caller=caller, judge=self._judge, circuit=self.circuit, instance=instance),
            realms,
            CommandExecutor(CommandStore(database, owner=instance)),
            policy=policy,
            instance=instance,
            admissions=_admissions(settings, database),
        )
        custom = {name: kind.contract for name, kind in kinds.items()}
        self._releaser = Releaser(
            store=UnknownStore(database, owner=instance),
            leases=self.leases,
            versions=known_versions(custom),
            reread=lambda entry: reread(
                entry, lambda sealed, context: keys.open(orjson.loads(sealed), context), custom
            ),
            interval=policy.sweep_interval,
            on_released=self.drainer.notify,
        )
        self.ingest = Ingest(
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
            on_persisted=self.drainer.notify,
            on_state=_say,
        )
        self.backlog = BacklogWatch(
            BacklogStore(database),
            marks=Marks(high=settings.backlog_high, low=settings.backlog_low),
            on_change=lambda full: self._hold_ingest(PauseReason.BACKLOG, on=full),
            on_state=_say,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run what the role says until `stop` is set, then stop gracefully within 20 s or so."""
        role = self._settings.role
        # Before the first record: what holds ingest must be known.
        await self.maintenance.turn()
        await self.circuit.refresh()
        if role != "drain":
            await self.backlog.turn()
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._summarise()),
                tasks.create_task(self._keep_house()),
                tasks.create_task(self.maintenance.run()),
            ]
            stops: list[Coroutine[Any, Any, object]] = []
            if role == "ingest":
                background += [
                    tasks.create_task(self._be_present()),
                    tasks.create_task(self._follow_circuit()),
                ]
            else:
                background += [
                    tasks.create_task(self.circuit.run()),
                    tasks.create_task(self.leases.run()),
                    tasks.create_task(self.drainer.run()),
                    tasks.create_task(self._releaser.run()),
                ]
            if role != "drain":
                ingest = tasks.create_task(self.ingest.run())
                background += [tasks.create_task(self.backlog.run()), ingest]
            await stop.wait()
            _say("Stopping: no new work is taken, calls under way finish")
            if role != "drain":
                self.ingest.stop()
                stops.append(asyncio.wait([ingest], timeout=_GRACE))
            if role != "ingest":
                stops.append(self.drainer.stop(_GRACE))
            await asyncio.gather(*stops)
            for task in background:
                task.cancel()
        try:
            await self.leases.release_all()
        except OutboxError as error:
            _log.warning("leases not released; others take them when they end", reason=str(error))
        _say("Stopped")

    @asynccontextmanager
    async def draining(self) -> AsyncIterator[None]:
        """Drain only, for as long as the block runs: no ingest, no housekeeping."""
        await self.maintenance.turn()
        await self.circuit.refresh()
        await self.leases.turn()
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.circuit.run()),
                tasks.create_task(self.leases.run()),
                tasks.create_task(self.drainer.run()),
            ]
            try:
                yield
            finally:
                await self.drainer.stop(_GRACE)
                for task in background:
                    task.cancel()
        await self.leases.release_all()

    async def _control(self) -> ControlAnswer:
        result = await self._realm_control(self._control_realm)
        trouble = result.trouble
        if trouble is None:
            return ControlAnswer(available=True, detail="")
        # Credentials that are refused are a realm's trouble; Keycloak itself has answered.
        available = trouble.failure.blame is not Blame.KEYCLOAK
        return ControlAnswer(
            available=available,
            detail=f"{trouble.reason.value}: {trouble.failure.detail}"[:255],
            retry_after=trouble.not_before_seconds if isinstance(trouble, Defer) else None,
        )

    async def _realm_control(self, realm: str) -> ControlResult:
        result = await self._keycloak.control_call(realm)
        if result.ok:
            self._evidence.control_succeeded(result.began)
        return result

    def _circuit_changed(self, state: CircuitState, reason: str | None) -> None:
        self._hold_ingest(PauseReason.CIRCUIT, on=state is not CircuitState.CLOSED)
        if state is not CircuitState.CLOSED:
            self._judge.circuit_opened(self.circuit.generation - 1)
        held = PausePolicy(self._settings.pause_policy) is PausePolicy.IMMEDIATELY
        waiting = "partitions are paused, events wait" if held else "events wait in the outbox"
        meaning = {
            CircuitState.CLOSED: "deliveries go on, partitions flow" if held else "deliveries go on",
            CircuitState.OPEN: f"no deliveries, {waiting}",
            CircuitState.HALF_OPEN: "one control call asks whether Keycloak is back",
        }
        _say(f"Circuit {state}: {meaning[state]}" + (f" ({reason})" if reason else ""))
        self.drainer.notify()

    def _maintain(self, on: bool) -> None:  # noqa: FBT001 - a state, not an option.
        self.circuit.maintain(on=on)
        self._hold_ingest(PauseReason.MAINTENANCE, on=on)
        self.drainer.notify()

    def _hold_ingest(self, reason: PauseReason, *, on: bool) -> None:
        if on:
            self.ingest.pause(reason)
        else:
            self.ingest.resume(reason)

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
                await self.circuit.refresh()
                trouble.over()
            except OutboxError as error:
                if trouble.is_news():
                    _log.warning("circuit not readable", reason=str(error))
            await asyncio.sleep(_READ_CIRCUIT_EVERY)

    async def _summarise(self) -> None:
        counts = self.drainer.counts
        processed, retried, dead = counts.processed, counts.retried, counts.dead
        persisted = self.ingest.persisted
        while True:
            await asyncio.sleep(self._settings.sync_interval.total_seconds())
            try:
                queue = await queue_counts(self._database)
            except OutboxError as error:
                _say(f"No summary: {error}")
                continue
            if self._settings.role == "ingest":
                total = self.ingest.persisted
                _say(ingest_line(persisted=total - persisted, total=total, pending=queue.pending))
                persisted = total
                continue
            progress = Progress(
                processed=counts.processed - processed,
                total=counts.processed,
                retried=counts.retried - retried,
                dead=counts.dead - dead,
                pending=queue.pending,
            )
            _say(summary_line(progress))
            processed, retried, dead = counts.processed, counts.retried, counts.dead

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


def guard_policy(settings: Settings) -> GuardPolicy:
    """How many deletes go through in an hour and realm, by the settings."""
    return GuardPolicy(deletes=settings.deletion_limit, share=settings.deletion_percent / 100)


def _admissions(settings: Settings, database: Database) -> list[Admission]:
    if settings.deletion_guard == "off":
        return []
    return [DeletionGuard(store=DeletionStore(database), policy=guard_policy(settings))]


def _say(line: str) -> None:
    """One line for people, about a change of state."""
    _log.info(line)


def _seal(keys: KeyRing, plaintext: bytes, context: bytes) -> tuple[str, bytes]:
    sealed = keys.seal(plaintext, context)
    return sealed["kid"], orjson.dumps(sealed)
