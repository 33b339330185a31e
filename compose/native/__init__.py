"""Real Kafka, MariaDB, Keycloak and Zipkin, started as an ordinary user, without Docker.

The same stack serves `make up`, the demo and the tests: `python -m compose.native up`, or `compose.native.stack.Stack`.
"""

from __future__ import annotations
