"""The circuit breaker towards Keycloak: when to stop calling, when to try again, who is told."""

from __future__ import annotations
