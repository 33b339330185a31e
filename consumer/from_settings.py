"""What the settings mean to each part: clients of the servers, and the numbers that parts decide by."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from consumer.circuit.breaker import CircuitPolicy
from consumer.delivery.keycloak import Keycloak
from consumer.drain.guard import GuardPolicy
from consumer.drain.policy import MERGE_LIMIT, DrainPolicy
from consumer.ingest.kafka import KafkaAddress
from consumer.kind_overrides import MISSING_USER_KINDS
from consumer.outbox.database import Database
from consumer.outbox.purge import PurgeStore, Retention
from consumer.setting_values import LAST_PASSWORD, NO_PASSWORDS, holding_kinds, probes_of
from consumer.settings import Settings
from consumer.tls import client_tls

__all__ = [
    "circuit_policy",
    "drain_policy",
    "guard_policy",
    "kafka_address",
    "kinds_that_create",
    "open_database",
    "open_keycloak",
    "purge_store",
]


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
        TlsFileError: a file of certificates cannot be used.
    """
    tls = client_tls(
        "KCSYNC_KEYCLOAK",
        ca_file=settings.keycloak_ca_file,
        cert_file=settings.keycloak_cert_file,
        key_file=settings.keycloak_key_file,
    )
    return Keycloak(
        url=settings.keycloak_url,
        realms=settings.keycloak_realms,
        client_id=settings.keycloak_client_id,
        client_secret=settings.keycloak_client_secret.get_secret_value(),
        timeout_seconds=settings.keycloak_timeout.total_seconds(),
        max_calls=settings.keycloak_calls,
        ssl_context=tls,
        protect_role_holders=settings.protect_role_holders == "on",
        bulk_creates=settings.bulk_creates == "on",
        federation_probes=probes_of(settings.federation_probes),
    )


def purge_store(database: Database, settings: Settings) -> PurgeStore:
    """Housekeeping by the settings' retention, with that of single kinds."""
    kinds = {each.kind: _retention(settings.of_kind(each.kind)) for each in settings.kind_overrides}
    return PurgeStore(
        database,
        owner=settings.instance,
        retention=replace(_retention(settings), kinds=kinds),
        remember=_finite(settings.ledger_retention),
    )


def _retention(settings: Settings) -> Retention:
    """How long entries stay, whatever their kind."""

    def seconds(value: timedelta | str) -> float | None:
        return None if (finite := _finite(value)) is None else finite.total_seconds()

    return Retention(
        delivered=seconds(settings.delivered_retention),
        dead_letter=seconds(settings.dead_letter_retention),
        passwords=_passwords(settings),
    )


def _finite(retention: timedelta | str) -> timedelta | None:
    return retention if isinstance(retention, timedelta) else None


def _passwords(settings: Settings) -> float | None:
    """How many seconds a fold keeps the last password; None is for ever."""
    match settings.credential_retention:
        case timedelta() as grace:
            return grace.total_seconds()
        case retention:
            return None if retention == LAST_PASSWORD else 0.0


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
        bulk_creates=settings.bulk_creates == "on",
        holding=holding_kinds(settings.lane_policy),
        pending_max_age=max_age.total_seconds() if isinstance(max_age, timedelta) else None,
        keep_passwords=settings.credential_retention != NO_PASSWORDS,
        kinds={each.kind: drain_policy(settings.of_kind(each.kind)) for each in settings.kind_overrides},
    )


def kinds_that_create(settings: Settings) -> frozenset[str]:
    """The kinds that create a user whom Keycloak does not have."""
    return frozenset(kind for kind in MISSING_USER_KINDS if settings.of_kind(kind).missing_user == "create")


def circuit_policy(settings: Settings) -> CircuitPolicy:
    """When the circuit opens and closes, by the settings."""
    return CircuitPolicy(
        threshold=settings.failure_threshold,
        # After an outage one call runs at a time: so many that time out in a row must still count together.
        window=max(60.0, 2 * settings.failure_threshold * settings.keycloak_timeout.total_seconds()),
        cooldown=settings.cooldown.total_seconds(),
        cooldown_cap=settings.cooldown_cap.total_seconds(),
        health_cache=settings.health_cache.total_seconds(),
    )


def guard_policy(settings: Settings) -> GuardPolicy:
    """How many deletes go through in an hour and realm, by the settings."""
    return GuardPolicy(deletes=settings.deletion_limit, share=settings.deletion_percent / 100)
