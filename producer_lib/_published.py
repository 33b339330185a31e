"""Where is the event now?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What Kafka has confirmed.

    Attributes:
        event_id: The event's id.
        topic: Where it is.
        partition: Where it is.
        offset: Where it is.
        traceparent: The trace to look for. None where the application records none.
    """

    event_id: str
    topic: str
    partition: int
    offset: int
    traceparent: str | None
