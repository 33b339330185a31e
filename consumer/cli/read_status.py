"""Collects what `status` shows. What cannot be found out is shown as unknown, never as zero."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from consumer.circuit.breaker import CircuitState, asks_in
from consumer.circuit.keeper import while_open
from consumer.cli.render import Unknown, clock_time
from consumer.cli.status_report import (
    Calls,
    Configuration,
    Connection,
    Drain,
    HeldLane,
    Ingest,
    Instance,
    LanesFor,
    Partition,
    Question,
    QueueMetrics,
    RealmFault,
    StatusReport,
    Stop,
    Timestamps,
    Unreachable,
)
from consumer.delivery.presence import Presence
from consumer.drain.reasons import FOR_SOMEBODY
from consumer.from_settings import kafka_address
from consumer.ingest.kafka import KafkaUnavailable, end_offsets
from consumer.outbox.circuit_store import CircuitRow, CircuitStore
from consumer.outbox.circuit_store import RealmFault as RecordedFault
from consumer.outbox.database import Database
from consumer.outbox.errors import OutboxError
from consumer.outbox.held import Held, HeldCounts, Which, count_held, read_held
from consumer.outbox.maintenance_store import EVERY_REALM, Maintenance, MaintenanceStore
from consumer.outbox.migrate import check_schema
from consumer.outbox.overview import CallsRow, Overview, read_overview
from consumer.outbox.rows import EntryState
from consumer.settings import Settings
from consumer.version import VERSION

__all__ = ["question_of", "read_status"]

_HELD_SHOWN = 10
_HEARD_OF = 10.0
"""Seconds after which an instance that runs has asked."""


async def read_status(settings: Settings, database: Database) -> StatusReport:
    """Ask MariaDB and Kafka at the same time; each may be away."""
    found, ends = await asyncio.gather(_from_database(settings, database), _from_kafka(settings))
    unreachable = tuple(part for part in (found, ends) if isinstance(part, Unreachable))
    configuration = Configuration.of(settings)
    if isinstance(found, Unreachable):
        return _without_database(settings, configuration, ends, unreachable)
    overview, circuit, faults, held, counts, stops = found
    return StatusReport(
        version=VERSION,
        generated_at=_now(),
        connection=_connection(circuit, faults, stops),
        timestamps=Timestamps(
            last_success=_utc(circuit.last_success_at), last_health_check=_utc(circuit.last_check_at)
        ),
        queue=_queue(overview),
        configuration=configuration,
        ingest=Ingest(
            topic=settings.kafka_topic,
            group=settings.kafka_group,
            partitions=_partitions(settings, overview, ends),
        ),
        drain=Drain(
            instances=tuple(
                Instance(
                    name=each.name,
                    roles=each.roles,
                    shards=0 if (leases := overview.leases.get(each.name)) is None else leases.shards,
                    lease_until=None if leases is None else _utc(leases.until),
                    calls=None if each.calls is None else _calls(each.calls),
                )
                for each in overview.instances
            ),
            lanes_ready=overview.lanes["READY"],
            lanes_waiting=overview.lanes["WAITING"],
            lanes_held=overview.lanes["HELD"],
            held=_lanes([each for each in held if each.state is not EntryState.PENDING]),
            waiting_for=_by_reason(overview.waiting_for),
            heals_refused=_by_reason(overview.heals_refused),
            for_somebody=_by_reason(counts.waiting),
            waits=_lanes([each for each in held if each.state is EntryState.PENDING]),
        ),
        unreachable=unreachable,
    )


async def _from_database(
    settings: Settings, database: Database
) -> (
    tuple[Overview, CircuitRow, list[RecordedFault], list[Held], HeldCounts, list[Maintenance]] | Unreachable
):
    try:
        await check_schema(database)
        circuits = CircuitStore(database, keycloak=settings.keycloak_url)
        held = await read_held(database, Which(), limit=_HELD_SHOWN, waits_for=FOR_SOMEBODY)
        return (
            await read_overview(database),
            await circuits.read(),
            await circuits.realm_faults(),
            held,
            await count_held(database, waits_for=FOR_SOMEBODY),
            await MaintenanceStore(database).read(),
        )
    except OutboxError as error:
        return Unreachable("MariaDB", str(error))


async def _from_kafka(settings: Settings) -> dict[int, int] | Unreachable:
    try:
        return await end_offsets(kafka_address(settings))
    except KafkaUnavailable as error:
        return Unreachable("Kafka", str(error))


def _connection(circuit: CircuitRow, faults: list[RecordedFault], stops: list[Maintenance]) -> Connection:
    state = CircuitState(circuit.state)
    available: bool | Unknown = Unknown("never checked: no instance has run yet")
    if state is not CircuitState.CLOSED:
        available = False
    elif circuit.last_check_ok is not None or circuit.last_success_at is not None:
        available = circuit.last_check_ok is not False
    return Connection(
        available=available,
        circuit_state=state,
        failure_count=circuit.failures,
        opened_at=_utc(circuit.opened_at),
        reason=None if state is CircuitState.CLOSED else circuit.reason,
        question=question_of(circuit, _now(), stopped=any(stop.realm == EVERY_REALM for stop in stops)),
        realm_faults=tuple(
            RealmFault(fault.realm, fault.fault, fault.detail, fault.since.replace(tzinfo=UTC))
            for fault in faults
        ),
        maintenance=any(stop.realm == EVERY_REALM for stop in stops),
        stops=tuple(
            Stop(stop.realm or None, stop.actor, stop.reason, stop.since.replace(tzinfo=UTC))
            for stop in stops
        ),
    )


def question_of(circuit: CircuitRow, now: datetime, *, stopped: bool) -> Question | None:
    """What is asked while the circuit is open; None while it is not.

    Args:
        circuit: the shared row, as read at `now`.
        now: with an offset.
        stopped: whether deliveries are stopped on purpose.
    """
    if circuit.state != CircuitState.OPEN:
        return None
    stands = while_open(circuit, instance="")
    asks_at = now + timedelta(seconds=asks_in(stands))
    why_not = None
    if stopped:
        why_not = "maintenance"
    elif stands.rest_in > 0:
        why_not = f"Keycloak asked to be left alone until {clock_time(asks_at, now)}"
    elif stands.asks and stands.open_for > _HEARD_OF:
        why_not = "no instance that delivers is alive"
    waits_for_news = stands.met is Presence.AWAY
    return Question(
        asks_at=None if stopped else asks_at,
        why_not=why_not,
        control_call_at=None
        if waits_for_news or stopped
        else now + timedelta(seconds=max(0.0, stands.retry_in)),
        asked_at=None if circuit.asked_ago is None else now - timedelta(seconds=circuit.asked_ago),
        asker=None if circuit.said is None else circuit.asker,
        answer=circuit.said,
    )


def _queue(overview: Overview) -> QueueMetrics:
    entries, oldest = overview.entries, overview.oldest_pending
    return QueueMetrics(
        pending_syncs=entries[EntryState.PENDING],
        held=entries[EntryState.HELD],
        delivered=entries[EntryState.DELIVERED],
        dead_letters=entries[EntryState.DEAD_LETTER],
        superseded=entries[EntryState.SUPERSEDED],
        poison=overview.poison,
        duplicates=overview.duplicates,
        oldest_pending=None if oldest is None else timedelta(seconds=oldest),
        cached_tokens=Unknown("each instance keeps its own, in memory only"),
    )


def _lanes(held: list[Held]) -> tuple[HeldLane, ...]:
    return tuple(
        HeldLane(each.realm, each.event_id, each.state.value, each.reason, _utc(each.since), each.behind)
        for each in held
    )


def _by_reason(counts: dict[str, int]) -> tuple[LanesFor, ...]:
    return tuple(LanesFor(reason, lanes) for reason, lanes in sorted(counts.items()))


def _partitions(
    settings: Settings, overview: Overview, ends: dict[int, int] | Unreachable
) -> tuple[Partition, ...]:
    rows = {row.partition: row for row in overview.partitions if row.topic == settings.kafka_topic}
    numbers = sorted(rows.keys() | (ends.keys() if isinstance(ends, dict) else set()))
    return tuple(
        Partition(
            number=number,
            watermark=None if (row := rows.get(number)) is None else row.next_offset,
            writer=None if row is None else row.writer,
            lag=Unknown("Kafka does not answer")
            if isinstance(ends, Unreachable)
            else max(0, ends.get(number, 0) - (0 if row is None else row.next_offset)),
            paused=row is not None and bool(row.pause.reasons) and not row.pause.yields,
            paused_for=() if row is None else row.pause.reasons,
            yields_to_retention=row is not None and row.pause.yields,
            log_start=None if row is None else row.log_start,
        )
        for number in numbers
    )


def _without_database(
    settings: Settings,
    configuration: Configuration,
    ends: dict[int, int] | Unreachable,
    unreachable: tuple[Unreachable, ...],
) -> StatusReport:
    unknown = Unknown("the database is not readable")
    partitions: tuple[Partition, ...] | Unknown = unknown
    if isinstance(ends, dict):
        partitions = tuple(
            Partition(
                number=n,
                watermark=unknown,
                writer=unknown,
                lag=unknown,
                paused=unknown,
                paused_for=unknown,
                log_start=unknown,
            )
            for n in sorted(ends)
        )
    return StatusReport(
        version=VERSION,
        generated_at=_now(),
        connection=Connection(
            available=unknown, circuit_state=unknown, failure_count=unknown, opened_at=unknown
        ),
        timestamps=Timestamps(last_success=unknown, last_health_check=unknown),
        queue=QueueMetrics(
            pending_syncs=unknown,
            held=unknown,
            delivered=unknown,
            dead_letters=unknown,
            superseded=unknown,
            poison=unknown,
            duplicates=unknown,
            oldest_pending=unknown,
            cached_tokens=unknown,
        ),
        configuration=configuration,
        ingest=Ingest(topic=settings.kafka_topic, group=settings.kafka_group, partitions=partitions),
        drain=Drain(
            instances=unknown,
            lanes_ready=unknown,
            lanes_waiting=unknown,
            lanes_held=unknown,
            held=unknown,
            waiting_for=unknown,
            heals_refused=unknown,
            for_somebody=unknown,
            waits=unknown,
        ),
        unreachable=unreachable,
    )


def _calls(row: CallsRow) -> Calls:
    return Calls(
        limit=row.limit,
        ceiling=row.ceiling,
        per_second=row.per_second,
        reason=row.why,
        changed_at=_utc(row.changed_at),
    )


def _now() -> datetime:
    """The moment of a report, as the clocks here show it."""
    return datetime.now(UTC).astimezone()


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
