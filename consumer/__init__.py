"""kcsync's consumer: Kafka → outbox → Keycloak."""

from __future__ import annotations
