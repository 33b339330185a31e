"""The checks of `kcsync test`: configuration, availability, database tables. They change nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from consumer.circuit.breaker import CircuitState
from consumer.cli.checks import Check, CheckGroup
from consumer.cli.exit_codes import ExitCode
from consumer.cli.read_status import question_of
from consumer.cli.render import when
from consumer.cli.session import kinds_of
from consumer.delivery.advice import explained
from consumer.delivery.errors import KeyFolderError
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.outcome import Blame, NotDelivered, Reason
from consumer.delivery.passwords import KeyRing
from consumer.from_settings import kafka_address, open_keycloak
from consumer.ingest.kafka import KafkaUnavailable, end_offsets
from consumer.kinds import KindRefused
from consumer.outbox.circuit_store import CircuitStore
from consumer.outbox.database import Database
from consumer.outbox.errors import DatabaseUnavailable, OutboxError, SchemaMismatch, ServerUnsupported
from consumer.outbox.maintenance_store import EVERY_REALM, MaintenanceStore
from consumer.outbox.migrate import check_schema
from consumer.outbox.overview import queue_counts, table_counts
from consumer.outbox.server import check_server
from consumer.settings import Settings
from producer_lib import event_type, kinds

__all__ = [
    "attributes_check",
    "bulk_check",
    "federations_check",
    "grants_check",
    "naming_check",
    "roles_check",
    "run_checks",
]

_SHOWN = (
    "failure_threshold",
    "cooldown",
    "grace_period",
    "offline_mode_allowed",
    "health_cache",
    "sync_interval",
    "batch_size",
    "max_attempts",
    "delete_mode",
)


async def run_checks(settings: Settings, database: Database) -> list[CheckGroup]:
    """Look at everything; one thing that is wrong does not keep the others from being looked at."""
    return [
        _configuration(settings),
        _kinds(settings),
        await _availability(settings),
        await _circuit(settings, database),
        await _tables(database),
    ]


def _configuration(settings: Settings) -> CheckGroup:
    shown = settings.masked()
    checks = [Check(name, shown[name]) for name in _SHOWN]
    try:
        keys = KeyRing.load(settings.keys_dir)
    except KeyFolderError as error:
        checks.append(Check("sealing keys", "none", ExitCode.USAGE, str(error)))
    else:
        checks.append(Check("sealing keys", ", ".join(sorted(keys.kids))))
    return CheckGroup("Configuration", tuple(checks))


def _kinds(settings: Settings) -> CheckGroup:
    own = [Check(kind, event_type(kind)) for kind in sorted(kinds())]
    try:
        custom = kinds_of(settings)
    except KindRefused as error:
        return CheckGroup("Kinds", (*own, Check("custom kinds", "refused", ExitCode.USAGE, str(error))))
    found = [Check(name, f"{kind.contract.type} (custom)") for name, kind in sorted(custom.items())]
    return CheckGroup("Kinds", (*own, *found))


async def _availability(settings: Settings) -> CheckGroup:
    keycloak = open_keycloak(settings)
    try:
        realms = [await _realm(keycloak, realm, settings.keycloak_url) for realm in settings.keycloak_realms]
        if all(check.code is ExitCode.HEALTHY for check in realms):
            for realm in settings.keycloak_realms:
                realms += [
                    await naming_check(keycloak, realm),
                    await attributes_check(keycloak, realm),
                    await grants_check(keycloak, realm),
                    await federations_check(keycloak, realm),
                ]
        if settings.protect_role_holders == "on":
            realms += [await roles_check(keycloak, realm) for realm in settings.keycloak_realms]
        if settings.bulk_creates == "on":
            realms += [await bulk_check(keycloak, realm) for realm in settings.keycloak_realms]
    finally:
        await keycloak.aclose()
    return CheckGroup("Availability Test", (*realms, await _kafka(settings)))


async def _realm(keycloak: Keycloak, realm: str, url: str) -> Check:
    label = f"Keycloak available ({realm})"
    result = await keycloak.control_call(realm)
    took = timedelta(seconds=result.ended - result.began)
    if result.trouble is None:
        return Check(label, "True", took=took)
    blame = result.trouble.failure.blame
    code = ExitCode.UNREACHABLE if blame is Blame.KEYCLOAK else ExitCode.DEGRADED
    hint = f"{url}: {explained(result.trouble)}"
    return Check(label, f"False: {result.trouble.reason.value}", code, hint, took)


async def roles_check(keycloak: Keycloak, realm: str) -> Check:
    """Look whether holders of roles can be known in a realm, as protecting them needs."""
    return _right(
        f"Roles readable ({realm})",
        await keycloak.roles_trouble(realm),
        "give the client the role view-clients of realm-management, or set KCSYNC_PROTECT_ROLE_HOLDERS=off; until then "
        "deletes, disabling, passwords and e-mail addresses wait (roles_unreadable)",
    )


async def bulk_check(keycloak: Keycloak, realm: str) -> Check:
    """Look whether it can be known what a realm gives to new users, as creating many in one call needs."""
    return _right(
        f"Bulk creates possible ({realm})",
        await keycloak.bulk_trouble(realm),
        "give the client the role manage-realm of realm-management for the time of the load, or set "
        "KCSYNC_BULK_CREATES=off; until then users are created one by one",
    )


def _right(label: str, trouble: NotDelivered | None, hint: str) -> Check:
    """Whether we have a right that a setting needs; `hint` says what to do if we have not."""
    if trouble is None:
        return Check(label, "True")
    found = f"False: {trouble.reason.value}"
    if trouble.failure.blame is Blame.KEYCLOAK:
        return Check(label, found, ExitCode.UNREACHABLE, explained(trouble))
    return Check(label, found, ExitCode.DEGRADED, hint)


async def attributes_check(keycloak: Keycloak, realm: str) -> Check:
    """Look what a realm does with attributes that its user profile does not declare; events may name none."""
    found = await keycloak.unmanaged_attributes(realm)
    kept = "unknown" if found.trouble is not None else found.policy or "dropped"
    return Check(f"Undeclared attributes ({realm})", kept, hint=found.advice)


async def naming_check(keycloak: Keycloak, realm: str) -> Check:
    """Look how usernames change in a realm."""
    naming = await keycloak.naming(realm)
    return Check(f"Usernames ({realm})", naming.found, hint=naming.advice(realm))


async def federations_check(keycloak: Keycloak, realm: str) -> Check:
    """Look what is behind a realm's users, and whether an absent user can be told from one who cannot be seen."""
    found = await keycloak.user_federations(realm)
    code = ExitCode.DEGRADED if found.is_wrong else ExitCode.HEALTHY
    return Check(f"User federations ({realm})", found.found, code, found.advice)


async def grants_check(keycloak: Keycloak, realm: str) -> Check:
    """Look whether events may name realm roles of a realm; perhaps none does."""
    label = f"Realm roles grantable ({realm})"
    trouble = await keycloak.grants_trouble(realm)
    if trouble is None:
        return Check(label, "True")
    hint = (
        "before events name realm_roles, groups that have realm roles, or required actions of a provider's own, give the client "
        f"the role view-realm of realm-management; until then they wait ({Reason.ROLES_UNREADABLE})"
    )
    return Check(label, f"False: {trouble.reason.value}", hint=hint)


async def _kafka(settings: Settings) -> Check:
    began = time.monotonic()
    try:
        ends = await end_offsets(kafka_address(settings))
    except KafkaUnavailable as error:
        hint = f"{error}; check KCSYNC_KAFKA_BOOTSTRAP and KCSYNC_KAFKA_TOPIC"
        return Check("Kafka available", "False", ExitCode.UNREACHABLE, hint)
    took = timedelta(seconds=time.monotonic() - began)
    return Check(
        "Kafka available", f"True: {len(ends)} partitions, {sum(ends.values())} records written", took=took
    )


async def _circuit(settings: Settings, database: Database) -> CheckGroup:
    """How the circuit stands, whatever Keycloak has just answered to us, and what waits for it."""
    title = "Circuit"
    try:
        await check_schema(database)
        circuit = await CircuitStore(database, keycloak=settings.keycloak_url).read()
        stops = await MaintenanceStore(database).read()
        pending = (await queue_counts(database)).pending
    except OutboxError:
        return CheckGroup(title, (Check("Circuit state", "unknown: MariaDB says how it stands"),))
    now = datetime.now(UTC).astimezone()
    waiting = Check("Pending syncs", str(pending))
    if circuit.state == CircuitState.CLOSED:
        return CheckGroup(title, (Check("Circuit state", "CLOSED"), waiting))
    since = "" if circuit.opened_at is None else f", since {when(circuit.opened_at.replace(tzinfo=UTC), now)}"
    checks = [Check("Circuit state", f"{circuit.state}{since}", ExitCode.DEGRADED, circuit.reason)]
    stopped = any(stop.realm == EVERY_REALM for stop in stops)
    question = question_of(circuit, now, stopped=stopped)
    if question is not None and question.why_not is None:
        hint = "`kcsync sync-now --probe` makes it ask at once"
        checks.append(Check("Asks next", when(question.asks_at, now), hint=hint))
    elif question is not None:
        checks.append(Check("Asks next", f"nobody asks: {question.why_not}"))
    return CheckGroup(title, (*checks, waiting))


async def _tables(database: Database) -> CheckGroup:
    title = "Database Tables"
    try:
        server = Check("MariaDB", await check_server(database))
    except DatabaseUnavailable as error:
        return CheckGroup(title, (Check("MariaDB", "unreachable", ExitCode.UNREACHABLE, str(error)),))
    except ServerUnsupported as error:
        return CheckGroup(title, (Check("MariaDB", "not usable", ExitCode.USAGE, str(error)),))
    try:
        await check_schema(database)
        counts = await table_counts(database)
    except SchemaMismatch as error:
        return CheckGroup(title, (server, Check("schema", "not ours", ExitCode.USAGE, str(error))))
    except OutboxError as error:
        return CheckGroup(title, (server, Check("schema", "not readable", ExitCode.UNREACHABLE, str(error))))
    return CheckGroup(title, (server, *(Check(name, f"{rows} rows") for name, rows in counts.items())))
