"""The status of the whole system, as a screen for people and as JSON for programs.

The groups Connection, Timestamps, Queue Metrics and Configuration are those of the polling service's screen, with its
names; Ingest and Drain are new. `mode` and `exit_code` decide; the rest only shows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from consumer.circuit.breaker import CircuitState
from consumer.cli.exit_codes import ExitCode, worst
from consumer.cli.render import RULE, Unknown, age, ago, clock_time, row, table, when
from consumer.drain.reasons import FOR_SOMEBODY, advice_of
from consumer.durations import format_age, format_duration

if TYPE_CHECKING:
    from dataclasses import Field

    from consumer.settings import Settings

SCHEMA_VERSION: Final = 1
"""Of the JSON form; grows when a name goes or changes its meaning, not when one is added."""


_KEY_MISSING: Final = "unknown_sealing_key"
"""What holds up every password that is sealed to that key, and with it the system: the others hold up single users."""


class Mode(StrEnum):
    """In what mode the system runs, by the same words everywhere."""

    NORMAL = "NORMAL"
    DEGRADED = "DEGRADED"
    OFFLINE = "OFFLINE"
    MAINTENANCE = "MAINTENANCE"


@dataclass(frozen=True, slots=True)
class RealmFault:
    """A realm whose configuration keeps kcsync out (401, 403, missing); its users wait, others do not.

    Attributes:
        realm: Its name.
        reason: What Keycloak answered, as a reason code.
        detail: The same for people, and what to do about it.
        since: Since when.
    """

    realm: str
    reason: str
    detail: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Stop:
    """Deliveries that an operator has stopped.

    Attributes:
        realm: Of this realm; None if of every realm.
        actor: Who did it.
        reason: Why, if that was said.
        since: Since when.
    """

    realm: str | None
    actor: str
    reason: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a Keycloak that is away.

    Attributes:
        asks_at: When it is asked next; None where nobody asks.
        why_not: Why nobody asks now; None where somebody does.
        control_call_at: When a control call is made whatever is answered; None where it waits for an answer.
        asked_at: When it was asked last; None before the first time.
        asker: Which instance asked.
        answer: What was met.
    """

    asks_at: datetime | None
    why_not: str | None = None
    control_call_at: datetime | None = None
    asked_at: datetime | None = None
    asker: str | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """How things stand with Keycloak.

    Attributes:
        available: Whether it answered the last health check.
        circuit_state: The circuit that all instances share.
        failure_count: Failures counted towards the threshold.
        opened_at: When the circuit opened; None while it is closed.
        reason: Why it opened, or what the last control call since then met; None while it is closed.
        question: What is asked while it is open; None while it is not.
        realm_faults: Realms that wait for their configuration to be mended.
        maintenance: Whether an operator has stopped all deliveries on purpose.
        stops: What operators have stopped, who, when and why.
    """

    available: bool | Unknown
    circuit_state: CircuitState | Unknown
    failure_count: int | Unknown
    opened_at: datetime | Unknown | None = None
    reason: str | None = None
    question: Question | None = None
    realm_faults: tuple[RealmFault, ...] = ()
    maintenance: bool = False
    stops: tuple[Stop, ...] = ()


@dataclass(frozen=True, slots=True)
class Timestamps:
    """When something last happened; None means never."""

    last_success: datetime | Unknown | None
    last_health_check: datetime | Unknown | None


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """How many entries are in which state, and what else was counted.

    Attributes:
        pending_syncs: Entries PENDING.
        held: Entries HELD, which wait for somebody or something.
        delivered: Entries DELIVERED and not yet past their retention.
        dead_letters: Entries DEAD_LETTER.
        superseded: Entries SUPERSEDED.
        poison: Records that are no events.
        duplicates: Events met at a second offset, as long as they are remembered.
        oldest_pending: Age of the oldest pending entry; None without one.
        cached_tokens: Admin tokens held, one per realm and instance.
    """

    pending_syncs: int | Unknown
    held: int | Unknown
    delivered: int | Unknown
    dead_letters: int | Unknown
    superseded: int | Unknown
    poison: int | Unknown
    duplicates: int | Unknown
    oldest_pending: timedelta | Unknown | None
    cached_tokens: int | Unknown


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings that explain what the screen shows."""

    failure_threshold: int
    cooldown: timedelta
    grace_period: timedelta
    health_cache: timedelta
    offline_mode_allowed: bool
    sync_interval: timedelta
    batch_size: int
    cleanup_interval: timedelta
    pause_policy: str

    @classmethod
    def of(cls, settings: Settings) -> Configuration:
        """Take them from the settings of this process."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of the topic.

    Attributes:
        number: Its number.
        watermark: The next offset to ingest; None if nothing was ingested yet.
        writer: The instance that ingests it; None if there is none.
        lag: Records in Kafka that are not ingested.
        paused: Whether its reading is paused.
        paused_for: What holds it: `circuit`, `maintenance`, `backlog`, `operator`.
        yields_to_retention: Whether it is read in spite of that, because Kafka would soon remove unread records.
        log_start: The first record that Kafka held when its writer last looked; None before that.
    """

    number: int
    watermark: int | Unknown | None
    writer: str | Unknown | None
    lag: int | Unknown
    paused: bool | Unknown
    paused_for: tuple[str, ...] | Unknown = ()
    yields_to_retention: bool = False
    log_start: int | Unknown | None = None


@dataclass(frozen=True, slots=True)
class Ingest:
    """What is read from Kafka."""

    topic: str
    group: str
    partitions: tuple[Partition, ...] | Unknown


@dataclass(frozen=True, slots=True)
class Calls:
    """How many calls to Keycloak an instance makes, as of its last renewal of leases.

    Attributes:
        limit: At once, at most.
        ceiling: What the limit never exceeds.
        per_second: Calls that it may begin in a second, its share of the cap; None without a cap.
        reason: Why the limit last changed.
        changed_at: When; None if it has not since the start.
    """

    limit: int
    ceiling: int
    per_second: float | None
    reason: str
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Instance:
    """One process that runs.

    Attributes:
        name: Its name.
        roles: What it does: `ingest`, `drain` or both.
        shards: How many of the 256 shards it owns.
        lease_until: When the first of its leases ends unless it is renewed.
        calls: How many calls to Keycloak it makes; None if it makes none, or has not said.
    """

    name: str
    roles: tuple[str, ...]
    shards: int
    lease_until: datetime | Unknown | None
    calls: Calls | None = None


@dataclass(frozen=True, slots=True)
class HeldLane:
    """A user whose changes wait for somebody. `kcsync held` names the user.

    Attributes:
        realm: The user's realm.
        event_id: The held entry's, the dead letter's that holds the lane, or that of the change which waits.
        state: `HELD`, `DEAD_LETTER`, or `PENDING` of what waits.
        reason: Why it is held, why it died, or what it waits for.
        since: Since when; None if what would tell it is gone.
        behind: How many changes wait behind it.
    """

    realm: str
    event_id: str
    state: str
    reason: str
    since: datetime | None
    behind: int


@dataclass(frozen=True, slots=True)
class LanesFor:
    """How many users share a reason.

    Attributes:
        reason: A reason code.
        lanes: How many.
    """

    reason: str
    lanes: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Who delivers, and how the lanes stand.

    Attributes:
        instances: All that are alive, those that only ingest too.
        lanes_ready: Lanes whose head could be delivered now.
        lanes_waiting: Lanes whose head waits for its next attempt.
        lanes_held: Lanes whose head is HELD, or that a dead letter holds.
        held: The oldest of what is held, and why.
        waiting_for: What the heads of waiting lanes wait for, among the thousand lanes that go on first.
        for_somebody: The same of those that no time ends, among the ten thousand that go on first.
        waits: The oldest of these.
        heals_refused: Lanes that were in doubt and that Keycloak refused to make equal to what was delivered.
    """

    instances: tuple[Instance, ...] | Unknown
    lanes_ready: int | Unknown
    lanes_waiting: int | Unknown
    lanes_held: int | Unknown
    held: tuple[HeldLane, ...] | Unknown = ()
    waiting_for: tuple[LanesFor, ...] | Unknown = ()
    heals_refused: tuple[LanesFor, ...] | Unknown = ()
    for_somebody: tuple[LanesFor, ...] | Unknown = ()
    waits: tuple[HeldLane, ...] | Unknown = ()


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Something that `status` asked and that did not answer.

    Attributes:
        what: `Kafka`, `MariaDB` or `Keycloak`.
        reason: Why, without credentials.
    """

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class StatusReport:
    """Everything `status` shows, as it was at one moment."""

    version: str
    generated_at: datetime
    connection: Connection
    timestamps: Timestamps
    queue: QueueMetrics
    configuration: Configuration
    ingest: Ingest
    drain: Drain
    unreachable: tuple[Unreachable, ...] = ()


def mode(circuit_state: CircuitState | Unknown, *, realm_fault: bool, maintenance: bool) -> Mode | Unknown:
    """Say in what mode the system runs.

    Maintenance is somebody's will, so it goes before what the circuit saw; without knowing the circuit nothing else can
    be said.

    Args:
        circuit_state: The shared circuit.
        realm_fault: Whether at least one realm waits for its configuration.
        maintenance: Whether deliveries were stopped on purpose.
    """
    if maintenance:
        return Mode.MAINTENANCE
    if isinstance(circuit_state, Unknown):
        return circuit_state
    if circuit_state is CircuitState.OPEN:
        return Mode.OFFLINE
    return Mode.DEGRADED if circuit_state is CircuitState.HALF_OPEN or realm_fault else Mode.NORMAL


def mode_of(report: StatusReport) -> Mode | Unknown:
    """Say in what mode the reported system runs."""
    connection = report.connection
    return mode(
        connection.circuit_state,
        realm_fault=bool(connection.realm_faults or connection.stops),
        maintenance=connection.maintenance,
    )


def outage_is_critical(report: StatusReport) -> bool:
    """Tell whether the circuit has been open for longer than the grace period."""
    opened_at = report.connection.opened_at
    return (
        report.connection.circuit_state is CircuitState.OPEN
        and isinstance(opened_at, datetime)
        and report.generated_at - opened_at > report.configuration.grace_period
    )


def exit_code(report: StatusReport) -> ExitCode:
    """Choose the exit code of `status`: the worst of what the report shows.

    A count that is unknown is no reason of its own: whatever made it unknown is in `unreachable`.
    """
    codes = [ExitCode.HEALTHY]
    if report.unreachable:
        codes.append(ExitCode.UNREACHABLE)
    partitions = () if isinstance(report.ingest.partitions, Unknown) else report.ingest.partitions
    if (
        mode_of(report) != Mode.NORMAL
        or report.connection.available is False
        or any(partition.paused is True or partition.yields_to_retention for partition in partitions)
        # Nobody alive is not idle: nothing is read, or nothing is delivered.
        or _roles_missing(report.drain)
    ):
        codes.append(ExitCode.DEGRADED)
    waiting = () if isinstance(report.drain.for_somebody, Unknown) else report.drain.for_somebody
    if any(each.reason == _KEY_MISSING for each in waiting):
        codes.append(ExitCode.DEGRADED)
    if waiting or any(
        isinstance(count, int) and count > 0
        for count in (report.queue.dead_letters, report.queue.held, report.queue.poison)
    ):
        codes.append(ExitCode.DEAD_LETTERS)
    return worst(*codes)


def render_text(report: StatusReport) -> str:
    """Write the screen for people: plain text without colours, times as clocks show them and how long ago that was."""
    lines = ["Keycloak Resilience Status", RULE]
    for title, rows in (
        ("Connection", _connection(report)),
        ("Timestamps", _timestamps(report)),
        ("Queue Metrics", _queue(report.queue)),
        ("Configuration", _configuration(report.configuration)),
        ("Ingest", _ingest(report.ingest)),
        ("Drain", _drain(report.drain, report.generated_at)),
    ):
        lines += [f"{title}:", *rows]
    if report.unreachable:
        lines += ["Unreachable:", *(row(missing.what, missing.reason) for missing in report.unreachable)]
    return "\n".join([*lines, RULE])


def to_json(report: StatusReport) -> dict[str, Any]:
    """Give the report as plain JSON values.

    Names are those of the dataclasses; points in time are ISO 8601 in UTC; a length of time is a number of seconds
    under its name with `_seconds`. A value that is not known is null, and its path stands in `unknown` with the reason;
    a null without such a path means never, or none.
    """
    unknown: dict[str, str] = {}
    groups = {
        field.name: _plain(getattr(report, field.name), field.name, unknown)
        for field in fields(report)
        if field.name not in {"version", "generated_at"}
    }
    groups["connection"] |= {
        "mode": _plain(mode_of(report), "connection.mode", unknown),
        "outage_critical": outage_is_critical(report),
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "version": report.version,
        "generated_at": _plain(report.generated_at, "generated_at", unknown),
        **groups,
        "exit_code": int(exit_code(report)),
        "unknown": unknown,
    }


def _connection(report: StatusReport) -> list[str]:
    connection = report.connection
    state = str(connection.circuit_state)
    if isinstance(connection.opened_at, datetime):
        opened = clock_time(connection.opened_at, report.generated_at)
        state += f" (since {opened}, for {format_age(report.generated_at - connection.opened_at)})"
    rows = [
        row("Available", connection.available),
        row("Circuit State", state),
        row("Mode", mode_of(report)),
        row("Failure Count", connection.failure_count),
    ]
    if connection.reason is not None:
        rows.append(row("Reason", connection.reason))
    if connection.question is not None:
        rows += question_rows(connection.question, report.generated_at)
    if outage_is_critical(report):
        grace = format_duration(report.configuration.grace_period)
        rows.append(row("Outage", f"CRITICAL, longer than the grace period of {grace}"))
    for fault in connection.realm_faults:
        since = when(fault.since, report.generated_at)
        rows += [
            row("Realm Fault", f"{fault.realm}: {fault.reason}, since {since}"),
            row("Why", fault.detail),
        ]
    rows += [row("Maintenance", describe_stop(stop, report.generated_at)) for stop in connection.stops]
    return rows


def question_rows(question: Question, now: datetime) -> list[str]:
    """Say when Keycloak is asked next, and what the last question met."""
    asks = when(question.asks_at, now) if question.why_not is None else "nobody asks"
    rows = [row("Asks Next", asks if question.why_not is None else f"{asks}: {question.why_not}")]
    if question.asks_at is not None and question.why_not is None:
        rest = "as soon as it answers that it is there"
        if question.control_call_at is not None:
            rest += f", and at the latest {when(question.control_call_at, now)}"
        rows.append(row("Control Call", rest))
    if question.answer is not None:
        rows.append(
            row("Last Answer", f"{question.answer}, {when(question.asked_at, now)}, to {question.asker}")
        )
    return rows


def describe_stop(stop: Stop, now: datetime) -> str:
    """Say in one line what was stopped, since when, by whom and why."""
    line = f"{stop.realm or 'every realm'}, since {when(stop.since, now)}, by {stop.actor}"
    return f"{line}: {stop.reason}" if stop.reason else line


def _timestamps(report: StatusReport) -> list[str]:
    return [
        row("Last Success", when(report.timestamps.last_success, report.generated_at)),
        row("Last Health Check", when(report.timestamps.last_health_check, report.generated_at)),
    ]


def _queue(queue: QueueMetrics) -> list[str]:
    return [
        row("Pending Syncs", queue.pending_syncs),
        row("Oldest Pending", age(queue.oldest_pending)),
        row("Held", queue.held),
        row("Delivered", queue.delivered),
        row("Dead Letters", queue.dead_letters),
        row("Superseded", queue.superseded),
        row("Poison", queue.poison),
        row("Duplicates", queue.duplicates),
        row("Cached Tokens", queue.cached_tokens),
    ]


def _configuration(configuration: Configuration) -> list[str]:
    return [
        row("Failure Threshold", configuration.failure_threshold),
        row("Cooldown", format_duration(configuration.cooldown)),
        row("Grace Period", format_duration(configuration.grace_period)),
        row("Health Cache", format_duration(configuration.health_cache)),
        row("Offline Mode", configuration.offline_mode_allowed),
        row("Sync Interval", format_duration(configuration.sync_interval)),
        row("Batch Size", configuration.batch_size),
        row("Cleanup Interval", format_duration(configuration.cleanup_interval)),
        row("Pause Policy", configuration.pause_policy),
    ]


def _ingest(ingest: Ingest) -> list[str]:
    rows = [row("Topic", ingest.topic), row("Group", ingest.group)]
    if isinstance(ingest.partitions, Unknown):
        return [*rows, row("Partitions", ingest.partitions)]
    return rows + table(
        ("Partition", "Log Start", "Watermark", "Lag", "Paused", "Writer"),
        [
            (
                partition.number,
                "unknown" if partition.log_start is None else partition.log_start,
                "none" if partition.watermark is None else partition.watermark,
                partition.lag,
                _pause(partition),
                "none" if partition.writer is None else partition.writer,
            )
            for partition in ingest.partitions
        ],
    )


def _pause(partition: Partition) -> object:
    if isinstance(partition.paused_for, Unknown) or not partition.paused_for:
        return partition.paused
    reasons = ", ".join(partition.paused_for)
    return f"{partition.paused} ({reasons}{'; yields to retention' if partition.yields_to_retention else ''})"


def _drain(drain: Drain, now: datetime) -> list[str]:
    rows = [
        row("Lanes Ready", drain.lanes_ready),
        row("Lanes Waiting", drain.lanes_waiting),
        row("Lanes Held", drain.lanes_held),
    ]
    if isinstance(drain.waiting_for, tuple):
        by_itself = [each for each in drain.waiting_for if each.reason not in FOR_SOMEBODY]
        rows += [row("Waiting For", f"{_lanes_for(each)}{_remedy(each.reason)}") for each in by_itself]
    if isinstance(drain.for_somebody, tuple):
        needy = [f"{_lanes_for(each)}{_remedy(each.reason)}" for each in drain.for_somebody]
        rows += [row("Needs Somebody", each) for each in needy]
    if isinstance(drain.heals_refused, tuple):
        refused = [f"{_lanes_for(each)}{_remedy(each.reason)}" for each in drain.heals_refused]
        rows += [row("Heal Refused", each) for each in refused]
    held = () if isinstance(drain.held, Unknown) else drain.held
    waits = () if isinstance(drain.waits, Unknown) else drain.waits
    if held or waits:
        rows += [
            row("Held For", f"{reason}{_remedy(reason)}") for reason in sorted({each.reason for each in held})
        ]
        rows.append(row("Who", "kcsync held names the users, and lets them go on"))
        rows += table(
            ("Held By", "Reason", "Since", "Behind", "Realm", "Event"),
            [
                (
                    lane.state,
                    lane.reason,
                    "unknown" if lane.since is None else when(lane.since, now),
                    lane.behind,
                    lane.realm,
                    lane.event_id,
                )
                for lane in (*held, *waits)
            ],
        )
    if isinstance(drain.instances, Unknown):
        return [*rows, row("Instances", drain.instances)]
    missing = _roles_missing(drain)
    if not drain.instances:
        return [*rows, row("Instances", "none alive: nothing is read or delivered — kcsync start")]
    if missing:
        undone = {"ingest": "read", "drain": "delivered"}[missing[0]]
        rows.append(
            row("Role Missing", f"{missing[0]}: nothing is {undone} — kcsync start --role {missing[0]}")
        )
    return rows + table(
        ("Instance", "Roles", "Shards", "Lease Ends", "Calls", "Limit Changed"),
        [
            (
                each.name,
                "+".join(each.roles),
                each.shards,
                ago(each.lease_until, now),
                *_calls(each.calls, now),
            )
            if "drain" in each.roles
            else (each.name, "+".join(each.roles), "-", "-", "-", "-")
            for each in drain.instances
        ],
    )


def _lanes_for(each: LanesFor) -> str:
    return f"{each.reason} ({each.lanes} {'user' if each.lanes == 1 else 'users'})"


def _remedy(reason: str) -> str:
    advice = advice_of(reason)
    return "" if advice is None else f" — {advice.meaning}: {advice.remedy}"


def _calls(calls: Calls | None, now: datetime) -> tuple[str, str]:
    """How many at once and a second, and why."""
    if calls is None:
        return "unknown", "unknown"
    most = f"{calls.limit} of {calls.ceiling}"
    if calls.per_second is not None:
        most += f", {calls.per_second:.3g}/s"
    if calls.changed_at is None:
        return most, calls.reason
    return most, f"{ago(calls.changed_at, now)}: {calls.reason}"


def _roles_missing(drain: Drain) -> tuple[str, ...]:
    """Which roles nobody fills."""
    if isinstance(drain.instances, Unknown):
        return ()
    filled = {role for each in drain.instances for role in each.roles}
    return tuple(role for role in ("ingest", "drain") if role not in filled)


def _plain(value: Any, path: str, unknown: dict[str, str]) -> Any:
    if isinstance(value, Unknown):
        unknown[path] = value.reason
        return None
    if isinstance(value, tuple):
        return [_plain(item, f"{path}[{index}]", unknown) for index, item in enumerate(value)]
    if is_dataclass(value):
        named = ((_json_name(field), getattr(value, field.name)) for field in fields(value))
        return {name: _plain(item, f"{path}.{name}", unknown) for name, item in named}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.total_seconds() if isinstance(value, timedelta) else value


def _json_name(field: Field[Any]) -> str:
    # By the declared type, so that the name stays when the value is null.
    return f"{field.name}_seconds" if "timedelta" in str(field.type) else field.name
