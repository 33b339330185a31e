from __future__ import annotations

from consumer.outbox.database import Database
from consumer.outbox.lease_store import LeaseStore
from consumer.outbox.overview import read_overview
from consumer.outbox.rows import LimitNote
from tests.integration.support.bench import Bench

NOTE = LimitNote(limit=12, ceiling=16, per_second=2.5, why="more calls at once serve more", changed_ago=90.0)


def instance(database: Database, name: str) -> LeaseStore:
    return LeaseStore(database, owner=name, roles="drain", version="0", seconds=30)


async def test_a_renewal_tells_how_an_instances_calls_stand(bench: Bench, database: Database) -> None:
    await instance(database, "a").renew(NOTE)

    (row,) = (await read_overview(database)).instances
    assert row.calls is not None
    assert (row.calls.limit, row.calls.ceiling, row.calls.per_second) == (12, 16, 2.5)
    assert row.calls.why == "more calls at once serve more"
    ago = bench.value("SELECT TIMESTAMPDIFF(SECOND, limit_changed_at, NOW(6)) FROM instances")
    assert 90 <= ago <= 150


async def test_the_latest_renewal_counts(bench: Bench, database: Database) -> None:
    store = instance(database, "a")
    await store.renew(NOTE)

    await store.renew(
        LimitNote(limit=4, ceiling=16, per_second=None, why="as at the start", changed_ago=None)
    )

    row = bench.rows("SELECT call_limit, calls_per_second, limit_why, limit_changed_at FROM instances")
    assert row == [
        {
            "call_limit": 4,
            "calls_per_second": None,
            "limit_why": "as at the start",
            "limit_changed_at": None,
        }
    ]


async def test_an_instance_without_calls_has_none(database: Database) -> None:
    await instance(database, "a").announce()

    (row,) = (await read_overview(database)).instances
    assert row.calls is None
