"""How things stand, as `kcsync status --json` says it: asked every second, by the same code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from consumer.cli.read_status import read_status
from consumer.cli.status_report import to_json
from consumer.from_settings import open_database
from consumer.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What the demo takes from one status; None means that it could not be found out.

    Attributes:
        instances: Consumers alive.
        circuit: CLOSED, OPEN or HALF_OPEN.
        partitions: Partitions of the topic.
        read: Those that somebody reads.
        paused: Those that are paused.
        in_kafka: Events in Kafka that are not in the outbox yet.
        pending: Events in the outbox that are not delivered yet.
        delivered: Events that Keycloak has.
        troubled: Events that were given up, held or not understood.
    """

    instances: int | None
    circuit: str | None
    partitions: int
    read: int
    paused: int
    in_kafka: int | None
    pending: int | None
    delivered: int | None
    troubled: int | None

    @property
    def all_paused(self) -> bool:
        """Whether nothing is read from Kafka."""
        return 0 < self.partitions == self.paused

    def settled(self, published: int) -> bool:
        """Whether all that was published has come to its end."""
        return (
            self.in_kafka == 0
            and self.pending == 0
            and self.delivered is not None
            and self.troubled is not None
            and self.delivered + self.troubled >= published
        )


def glance_at(status: Mapping[str, Any]) -> Glance:
    """Take from a status in its JSON form what the demo shows and waits for."""
    queue, connection = status["queue"], status["connection"]
    instances = status["drain"]["instances"]
    partitions = status["ingest"]["partitions"] or []
    lags = [partition["lag"] for partition in partitions]
    trouble = [queue[name] for name in ("dead_letters", "held", "superseded", "poison", "duplicates")]
    return Glance(
        instances=None if instances is None else len(instances),
        circuit=connection["circuit_state"],
        partitions=len(partitions),
        read=sum(partition["writer"] is not None for partition in partitions),
        paused=sum(partition["paused"] is True for partition in partitions),
        in_kafka=None if not lags or None in lags else sum(lags),
        pending=queue["pending_syncs"],
        delivered=queue["delivered"],
        troubled=None if None in trouble else sum(trouble),
    )


class Watch:
    """Looks at kcsync until closed. Reads only.

    Args:
        environment: the consumer's own, so that both look at the same database and topic.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._settings = Settings.load(environment)
        self._database = open_database(self._settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._database.aclose()

    async def look(self) -> Glance:
        """Ask once."""
        return glance_at(to_json(await read_status(self._settings, self._database)))
