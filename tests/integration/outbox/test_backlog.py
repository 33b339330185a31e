"""The backlog as MariaDB counts it."""

from __future__ import annotations

from consumer.outbox.backlog_store import Backlog, BacklogStore
from consumer.outbox.database import Database
from consumer.outbox.statements import load_statements
from tests.integration.support.bench import Bench


def lane(
    bench: Bench, name: str, entries: int, *, state: str = "READY", realm: str = "staff", held: int = 0
) -> None:
    """A lane with so many entries, the first of them held, and one that was delivered."""
    bench.change(
        "INSERT INTO lanes (lane_id, shard, realm, username_key, home_topic_id, home_partition, state, priority)"
        " VALUES (UNHEX(MD5(%s)), 1, %s, %s, 1, 0, %s, 5)",
        name,
        realm,
        name,
        state,
    )
    for number in range(entries + 1):
        entry_state = "DELIVERED" if number == entries else "HELD" if number < held else "PENDING"
        bench.change(
            "INSERT INTO entries (lane_id, shard, kind, schema_version, source, event_id, username, priority,"
            " event_time, data, state) VALUES (UNHEX(MD5(%s)), 1, 'user_update', 1, '/t', %s, %s, 5, NOW(6), '{}', %s)",
            name,
            f"{name}-{number}",
            name,
            entry_state,
        )


async def test_what_is_blocked_is_counted_apart(bench: Bench, database: Database) -> None:
    lane(bench, "ready", 3)
    lane(bench, "waiting", 2, state="WAITING")
    lane(bench, "held", 6, state="HELD", held=1)
    lane(bench, "elsewhere", 4, realm="broken", state="WAITING")
    lane(bench, "both", 2, realm="broken", state="HELD", held=1)
    bench.change("INSERT INTO realms (realm, fault) VALUES ('broken', 'forbidden'), ('staff', NULL)")
    lane(bench, "stopped", 5, realm="quiet", state="WAITING")
    # At fault and stopped as well, a realm still counts once; a stop of everything counts nothing.
    bench.change(
        "INSERT INTO maintenance (realm, actor) VALUES ('quiet', 'alice'), ('broken', 'alice'), ('', 'alice')"
    )
    store = BacklogStore(database)

    assert await store.unfinished() == 3 + 2 + 6 + 4 + 2 + 5
    assert await store.blocked() == 6 + 4 + 2 + 5


async def test_one_counts_for_all(bench: Bench, database: Database) -> None:
    one, other = BacklogStore(database), BacklogStore(database)
    assert await one.read() == Backlog(due=0, blocked=0, full=False, stale=True)

    assert await one.claim(seconds=60)
    assert not await other.claim(seconds=60)
    await one.note(due=7, blocked=2, full=True, rest=60)
    assert await other.read() == Backlog(due=7, blocked=2, full=True, stale=False)

    await one.note(due=7, blocked=2, full=True, rest=0)
    assert (await other.read()).stale
    assert await other.claim(seconds=60)


async def test_counting_reads_indexes_only_where_much_stands(bench: Bench, database: Database) -> None:
    lane(bench, "ready", 3)
    lane(bench, "held", 6, state="HELD", held=1)
    bench.change("INSERT INTO realms (realm, fault) VALUES ('broken', 'forbidden')")
    sql = load_statements("backlog")

    unfinished = [row for row in bench.rows(f"EXPLAIN {sql['unfinished']}") if row["table"]]
    assert [row["key"] for row in unfinished] == ["by_state"] * 2
    assert all("Using index" in row["Extra"] for row in unfinished)
    entries = [row for row in bench.rows(f"EXPLAIN {sql['blocked']}") if row["table"] == "e"]
    assert [(row["key"], row["Extra"]) for row in entries] == [("lane", "Using index")] * 2
