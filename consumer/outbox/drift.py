"""Users whom others have changed in Keycloak since we delivered, as far as a heal has met it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from consumer.outbox.database import Database
from consumer.outbox.statements import load_statements

__all__ = ["Drifted", "read_drift", "still_asked"]

_SQL = load_statements("drift")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """One user who is not as was delivered.

    Attributes:
        lane_id: the user's lane.
        realm: the user's realm.
        username: the username as Keycloak stores it. For the command line only.
        fields: per field, what was found: a value of `consumer.delivery.heal_plan.Drift`.
        since: when it was found (UTC, without a zone).
    """

    lane_id: bytes
    realm: str
    username: str = field(repr=False)
    fields: Mapping[str, str]
    since: datetime


async def read_drift(
    database: Database, *, lane: bytes | None = None, realm: str | None = None, limit: int
) -> list[Drifted]:
    """Users who are not as was delivered, those found first at the front.

    Args:
        database: the outbox.
        lane: of this user; None: of any.
        realm: of this realm; None: of any.
        limit: at most so many.
    """
    rows = await database.fetch(_SQL["drifted"], {"lane": lane, "realm": realm, "limit": limit})
    return [
        Drifted(
            lane_id=row["lane_id"],
            realm=row["realm"],
            username=row["username_key"],
            fields=orjson.loads(row["drift"]),
            since=row["since"],
        )
        for row in rows
    ]


async def still_asked(database: Database, lanes: Collection[bytes]) -> int:
    """How many of these users wait for what an operator asked to be done about them."""
    row = await database.fetch_one(_SQL["still_asked"], {"lanes": tuple(lanes)})
    return 0 if row is None else int(row["n"])
