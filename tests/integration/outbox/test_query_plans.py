"""Every query that runs often reads through its index, whatever the outbox holds.

The optimizer's choice is looked at twice: in the plan (which index, how many rows it expects), and in the rows that the
server then really touched. Both are bounded, so a lost index, or a statement that no longer fits its index, fails here.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymysql
import pymysql.cursors
import pytest

from compose.native.mariadb import MariaDB
from compose.native.stack import Stack
from consumer.database_address import DatabaseAddress
from consumer.outbox.database import Database
from consumer.outbox.migrate import migrate
from consumer.outbox.statements import load_statements

BACKLOG = load_statements("backlog")
COMMAND = load_statements("command")
DELETION = load_statements("deletion")
DRAIN = load_statements("drain")
FORGET = load_statements("forget")
HELD = load_statements("held")
INGEST = load_statements("ingest")
KEYS = load_statements("keys")
LEASES = load_statements("leases")
MAINTENANCE = load_statements("maintenance")
OVERVIEW = load_statements("overview")
PURGE = load_statements("purge")
SYNC = load_statements("sync")
UNKNOWN = load_statements("unknown")

ALL = 150_000
ENDED = 110_000
ALL_SHARDS = tuple(range(256))
SOME_SHARDS = tuple(range(0, 256, 16))
WEEK = 7 * 24 * 3600


def lane(number: int) -> bytes:
    return hashlib.md5(str(number).encode(), usedforsecurity=False).digest()


def event(number: int) -> bytes:
    return hashlib.md5(f"event-{number}".encode(), usedforsecurity=False).digest()


HOT = lane(1)
LANES = tuple(lane(number) for number in range(1, 101))
OPEN = tuple(range(ENDED + 10_001, ENDED + 10_101))
"""Ids of open entries: they are given in order."""
MIDDLE, UNTIL = b"\x80" + bytes(15), b"\x88" + bytes(15)
"""Of the ledger's hashes: some 4,700 are between."""
LOG_ROWS = json.dumps([{"partition": each, "token": 0, "start": 1, "end": 9} for each in range(3)])
ENTRY_ROWS = json.dumps(
    [
        {
            "entry_id": entry,
            "token": 1,
            "state": "PENDING",
            "attempts": 0,
            "calls": 1,
            "openings": 0,
            "eligible_us": 0,
            "charged": 0,
            "delay_us": 0,
        }
        for entry in OPEN
    ]
)
LANE_ROWS = json.dumps(
    [{"lane": each.hex(), "state": "READY", "arrivals": 4, "priority": 5, "delay_us": 0} for each in LANES]
)


@dataclass(frozen=True, slots=True)
class Query:
    """A statement, and what it may cost.

    Attributes:
        sql: the statement.
        parameters: its values.
        keys: per table, or its alias, the index it reads through.
        reads: the most rows the server may touch, of all tables together.
        expects: the most rows of one table that the plan may expect to read for one row of the table before; by
            default as many as may be touched. With LIMIT the plan counts what it would read without.
    """

    sql: str
    parameters: Mapping[str, Any] | Sequence[Any]
    keys: Mapping[str, str]
    reads: int
    expects: int | None = None


LONG_AGO = datetime(1970, 1, 1)  # noqa: DTZ001 - as the statements take it
LATER = datetime(2100, 1, 1)  # noqa: DTZ001 - the same


def entries_of(statement: str) -> Query:
    return Query(
        DRAIN[statement],
        {"entries": OPEN, "locked_at": LONG_AGO},
        {"entries": "PRIMARY"} | ({"l": "PRIMARY"} if statement == "claim" else {}),
        reads=300,
    )


def expired(state: str, *, limit: int = 1000, seconds: int = WEEK, only: str = "") -> dict[str, Any]:
    after = {"after": LONG_AGO, "after_id": 0, "limit": limit}
    return {"state": state, "seconds": seconds, "kinds": (only,), "only": int(bool(only))} | after


def held_by(limit: int = 100, **only: Any) -> dict[str, Any]:
    return {"lane": None, "realm": None, "event_id": None, "reason": None, "limit": limit, **only}


COMMANDS = tuple(range(20_001, 20_101))
"""Ids of commands that wait for an answer."""
COMMAND_ROWS = json.dumps([{"command_id": each, "answer": "DONE", "detail": ""} for each in COMMANDS])
CHANGE_ROWS = json.dumps([{"entry_id": each, "state": "PENDING", "reason": "released"} for each in OPEN])
PARK_ROWS = json.dumps([{"lane": each.hex(), "kind": "user_create"} for each in LANES])
KNOWN = json.dumps([{"kind": "user_update", "version": 1}, {"kind": "user_create", "version": 1}])
REQUEST = hashlib.md5(b"3", usedforsecurity=False).digest()
WAITING_LANE = lane(700)
"""A lane that is ready, with a handful of entries."""


QUERIES = {
    # Due by shard: lanes by priority and age. 2,400 lanes are ready, 30 of the 1,200 that wait are due.
    "ready lanes of all shards": Query(
        DRAIN["ready_lanes"],
        {"shards": ALL_SHARDS, "limit": 100, "in_hand": LANES},
        {"lanes": "urgent"},
        150,
        expects=5_000,
    ),
    "ready lanes of some shards": Query(
        DRAIN["ready_lanes"],
        {"shards": SOME_SHARDS, "limit": 100, "in_hand": LANES},
        {"lanes": "urgent"},
        3_000,
        expects=5_000,
    ),
    "waking lanes": Query(DRAIN["wake_lanes"], {"shards": ALL_SHARDS}, {"lanes": "due"}, 150),
    "lanes that an outage keeps waiting": Query(
        DRAIN["waiting_for_outage"],
        {
            "shards": ALL_SHARDS,
            "reasons": ("timeout", "connection_failed"),
            "wait_in_doubt": ("user_create", "user_delete"),
            "limit": 10_000,
        },
        {"l": "due", "e": "PRIMARY", "h": "lane"},
        10_000,
        expects=60_000,
    ),
    "hurried entries": entries_of("hurry_entries"),
    "hurried lanes": Query(DRAIN["hurry_lanes"], {"lanes": LANES}, {"lanes": "PRIMARY"}, 300),
    "heads of a hundred lanes, a hot one among them": Query(
        DRAIN["heads"],
        {"lanes": LANES},
        {"l": "PRIMARY", "h": "lane", "t": "lane", "e": "PRIMARY", "f": "PRIMARY"},
        700,
        expects=60_000,
    ),
    "first entries of a hundred lanes, a hot one among them": Query(
        " UNION ALL ".join([DRAIN["first_open"]] * len(LANES)),
        [value for each in LANES for value in (each, 5)],
        {"entries": "lane"},
        600,
        expects=60_000,
    ),
    "open entries": Query(DRAIN["open_entries"], {"entries": OPEN}, {"e": "PRIMARY"}, 150),
    "lanes in doubt": Query(
        DRAIN["suspects"],
        {"shards": ALL_SHARDS, "after": 60, "limit": 100, "resting": ("staff",)},
        {"f": "suspect", "d": "due", "k": "look", "l": "PRIMARY", "e": "lane"},
        2_000,
    ),
    "doubts that others noted": Query(DRAIN["noted_doubts"], {"lanes": LANES}, {"doubts": "lane"}, 500),
    "doubts that were taken in": Query(DRAIN["remove_doubts"], {"doubts": (1, 2)}, {"doubts": "PRIMARY"}, 20),
    "lanes in hand still in doubt": Query(
        DRAIN["still_suspect"], {"lanes": LANES[1:], "after": 60}, {"f": "PRIMARY", "e": "lane"}, 1_000
    ),
    "pending still": Query(DRAIN["still_pending"], {"entries": OPEN}, {"entries": "PRIMARY"}, 150),
    "keeping doubt": entries_of("keep_doubt"),
    "claim": entries_of("claim"),
    "claimed": entries_of("claimed"),
    "what another user has to do": Query(
        DRAIN["unfinished"], {"lane": HOT}, {"e": "lane"}, 20, expects=60_000
    ),
    "handing back": Query(DRAIN["unclaim"], {"rows": ENTRY_ROWS}, {"e": "PRIMARY"}, 500),
    "settling what is alike": Query(
        DRAIN["settle_alike"],
        {
            "entries": OPEN,
            "state": "DELIVERED",
            "reason": "updated",
            "attempts": 0,
            "calls": 1,
            "openings": 0,
            "eligible_us": 0,
            "charged": 0,
            "delay_us": None,
            "maybe": None,
            "holder": None,
        },
        {"entries": "PRIMARY"},
        500,
    ),
    "settling": Query(DRAIN["settle"], {"rows": ENTRY_ROWS}, {"e": "PRIMARY"}, 500),
    "judging attempts": Query(
        DRAIN["judge_attempts"],
        {"charged": 1, "entries": tuple(range(1, 101))},
        {"attempts": "PRIMARY"},
        250,
    ),
    "putting lanes to sleep": Query(
        DRAIN["idle_lanes"],
        {"lanes": LANES, "tails": tuple((each, 3) for each in LANES)},
        {"lanes": "PRIMARY"},
        500,
    ),
    "hinting lanes": Query(DRAIN["hint_lanes"], {"rows": LANE_ROWS}, {"l": "PRIMARY"}, 500),
    # The index holds the priorities, so that a hot lane is counted without its entries.
    "rousing lanes": Query(
        DRAIN["rouse_lanes"], {"lanes": LANES}, {"l": "PRIMARY", "e": "lane"}, 60_000, expects=60_000
    ),
    "recounting lanes": Query(
        DRAIN["recount"], {"lanes": LANES}, {"l": "PRIMARY", "e": "lane"}, 60_000, expects=60_000
    ),
    "parked lanes": Query(
        DRAIN["parked"],
        {"kind": "user_create", "shards": ALL_SHARDS, "limit": 10},
        {"parked": "next"},
        50,
    ),
    # The sweep: ends of the range, and one piece of it. A piece touches its open entries and their lanes, and the head
    # of lanes that are held.
    "range of the sweep": Query(DRAIN["open_range"], (), {}, 5),
    "a piece of the sweep": Query(
        DRAIN["asleep_lanes"],
        {"shards": ALL_SHARDS, "after": ENDED, "until": ENDED + 5_000},
        {"e": "by_state", "l": "PRIMARY", "h": "lane"},
        13_000,
        expects=10_000,
    ),
    "a piece of the sweep in a hot lane": Query(
        DRAIN["asleep_lanes"],
        {"shards": ALL_SHARDS, "after": 135_000, "until": 140_000},
        {"e": "by_state", "l": "PRIMARY", "h": "lane"},
        13_000,
        expects=10_000,
    ),
    "events seen before": Query(INGEST["seen_events"], {"hashes": LANES}, {"ledger": "PRIMARY"}, 150),
    "watermarks": Query(
        INGEST["lock_watermarks"], {"topic_id": 1, "partitions": (0, 1, 2)}, {"watermarks": "PRIMARY"}, 10
    ),
    "tokens of a write-back": Query(
        LEASES["lock_tokens"], {"shards": SOME_SHARDS, "owner": "first"}, {"leases": "PRIMARY"}, 300
    ),
    "tokens of a claim": Query(
        LEASES["lock_claimable"],
        {"shards": SOME_SHARDS, "owner": "first", "margin": 3},
        {"leases": "PRIMARY"},
        300,
    ),
    # What the screens ask.
    "entries by state": Query(OVERVIEW["entry_counts"], (), {"entries": "by_state"}, ALL + 10),
    "backlog": Query(BACKLOG["unfinished"], (), {"entries": "by_state"}, 42_000, expects=ALL),
    "blocked part of the backlog": Query(BACKLOG["blocked"], (), {"e": "lane"}, 45_000, expects=60_000),
    "unfinished entries": Query(OVERVIEW["queue"], (), {"entries": "by_state"}, 42_000, expects=ALL),
    "oldest pending": Query(OVERVIEW["oldest_pending"], (), {"entries": "PRIMARY"}, 5),
    "what waiting lanes wait for": Query(
        OVERVIEW["waiting_for"], {"limit": 1000}, {"lanes": "due", "h": "lane", "e": "PRIMARY"}, 6_000
    ),
    "heals refused": Query(OVERVIEW["heals_refused"], (), {"folds": "heal_refused"}, 100),
    # Where a key is used: an operator's question, asked seldom.
    "passwords of entries by key": Query(
        KEYS["entries_by_key"], (), {"entries": "by_state"}, 45_000, expects=ALL
    ),
    "held events of unknown kinds by key": Query(
        KEYS["unread_by_key"], (), {"entries": "by_state"}, 3_000, expects=30_000
    ),
    "last passwords by key": Query(KEYS["folds_by_key"], (), {"folds": "kept"}, 25_000),
    "poison by key": Query(KEYS["poison_by_key"], (), {}, 45_000),
    "poison": Query(
        OVERVIEW["poison_count"], (), {"poison": "by_time", "marks": "by_kind"}, 21_100, expects=25_000
    ),
    "poison kept in the last hour": Query(INGEST["poison_kept"], {"most": 65_536}, {"poison": "by_time"}, 50),
    "duplicates": Query(OVERVIEW["duplicate_count"], (), {"marks": "by_kind"}, 50),
    "one user": Query(
        "SELECT e.entry_id, e.kind, e.state FROM lanes l JOIN entries e USING (lane_id)"
        " WHERE l.realm = 'customers' AND l.username_key = 'user-17' ORDER BY e.entry_id",
        (),
        {"l": "user", "e": "lane"},
        100,
    ),
    "dead letters of a tenant": Query(
        "SELECT entry_id, state_reason FROM entries WHERE tenant = 'tenant-100' AND state = 'DEAD_LETTER'"
        " ORDER BY ended_at DESC LIMIT 100",
        (),
        {"entries": "by_tenant"},
        110,
        expects=2_000,
    ),
    # Commands: asked for by many, looked for by every drainer.
    "commands that wait, some of very many": Query(
        COMMAND["waiting"],
        {"shards": ALL_SHARDS, "limit": 100},
        {"commands": "waiting", "c": "PRIMARY", "l": "PRIMARY"},
        450,
        expects=15_000,
    ),
    "what commands are about, one of them a hot lane": Query(
        COMMAND["found"],
        {"commands": COMMANDS},
        {"c": "PRIMARY", "l": "PRIMARY", "e": "PRIMARY", "f": "PRIMARY", "h": "lane"},
        1_000,
        expects=60_000,
    ),
    "entries as commands want them": Query(
        COMMAND["change_entries"], {"rows": CHANGE_ROWS}, {"e": "PRIMARY"}, 500
    ),
    "marks of what was dropped": Query(COMMAND["mark_dead"], {"entries": OPEN}, {"entries": "PRIMARY"}, 500),
    "ending holds": Query(COMMAND["end_holds"], {"lanes": LANES}, {"folds": "PRIMARY"}, 250),
    "answering commands": Query(
        COMMAND["answer"], {"rows": COMMAND_ROWS, "owner": "first"}, {"c": "PRIMARY"}, 500
    ),
    "what became of a request": Query(COMMAND["answers"], {"request": REQUEST}, {"commands": "request"}, 500),
    "shards of a request": Query(
        COMMAND["shards_waiting"], {"request": REQUEST}, {"commands": "request"}, 250
    ),
    "forgetting answers": Query(COMMAND["forget_answered"], (), {"commands": "answered"}, 2_500),
    # The guard, before every delete.
    "deletes with a place": Query(
        DELETION["let_through"], {"entries": tuple(range(1, 101))}, {"deletions": "PRIMARY"}, 150
    ),
    "places of the last hour": Query(DELETION["used"], {"realm": "customers"}, {"deletions": "recent"}, 400),
    "users of a realm, counted up to a limit": Query(
        DELETION["users"],
        {"realm": "customers", "limit": 500},
        {"l": "user", "f": "PRIMARY"},
        2_000,
        expects=50_000,
    ),
    "forgetting places": Query(
        DELETION["forget"], {"realm": "staff"}, {"deletions": "recent", "e": "PRIMARY"}, 10_000
    ),
    # What is held, and why.
    "held entries": Query(
        HELD["held_entries"], held_by(), {"e": "by_state", "l": "PRIMARY", "b": "lane"}, 1_000, expects=5_000
    ),
    "held entries of one lane": Query(
        HELD["held_entries"], held_by(lane=lane(1109)), {"l": "PRIMARY", "b": "lane"}, 500, expects=5_000
    ),
    "held lanes": Query(
        HELD["held_lanes"],
        held_by(),
        {"f": "held", "l": "PRIMARY", "e": "PRIMARY", "b": "lane"},
        500,
    ),
    "what waits for somebody": Query(
        HELD["for_somebody"],
        held_by(looked_at=1_000, reasons=("roles_unreadable", "group_missing")),
        {"waits": "due", "turns": "urgent", "h": "lane", "e": "PRIMARY"},
        12_000,
        expects=60_000,
    ),
    "what waits for somebody, counted": Query(
        HELD["for_somebody_counts"],
        {"looked_at": 1_000, "reasons": ("roles_unreadable", "group_missing")},
        {"waits": "due", "turns": "urgent", "h": "lane", "e": "PRIMARY"},
        12_000,
        expects=60_000,
    ),
    "whether a realm is known": Query(
        HELD["knows_realm"], {"realm": "staff"}, {"lanes": "user"}, 5, expects=20_000
    ),
    "held entries that may be known now": Query(
        UNKNOWN["known_now"],
        {"known": KNOWN, "shards": SOME_SHARDS, "after": 0, "limit": 100},
        {"e": "by_state"},
        5_000,
        expects=5_000,
    ),
    "held by reason": Query(HELD["held_counts"], (), {"entries": "by_state"}, 5_000, expects=5_000),
    "held lanes counted": Query(HELD["held_lane_count"], (), {"folds": "held"}, 50),
    # Sync on demand, asked again and again while somebody looks on.
    "tail of a sync": Query(SYNC["mark"], (), {}, 5),
    "due lanes": Query(
        SYNC["due_lanes"],
        {"lane": None, "tail": ALL, "limit": 500},
        {"l": "urgent", "e": "lane"},
        2_000,
        expects=60_000,
    ),
    "one lane, if due": Query(
        SYNC["due_lanes"],
        {"lane": WAITING_LANE, "tail": ALL, "limit": 500},
        {"l": "PRIMARY", "e": "lane"},
        20,
    ),
    "what has ended in the last minutes": Query(
        SYNC["ended"],
        {"lane": None, "tail": ALL, "since": datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=3)},
        {"entries": "by_state"},
        3_000,
        expects=5_000,
    ),
    "what has ended in one lane": Query(
        SYNC["ended"],
        {"lane": WAITING_LANE, "tail": ALL, "since": LONG_AGO},
        {"entries": "lane"},
        50,
    ),
    "what is still open": Query(
        SYNC["still_open"], {"lane": None, "tail": ALL}, {"entries": "by_state"}, 42_000, expects=ALL
    ),
    "what is still open in one lane": Query(
        SYNC["still_open"], {"lane": WAITING_LANE, "tail": ALL}, {"entries": "lane"}, 50
    ),
    "heads of waiting lanes": Query(
        SYNC["waiting_heads"],
        {"lane": None, "limit": 100_000},
        {"l": "urgent", "e": "PRIMARY", "h": "lane"},
        10_000,
        expects=60_000,
    ),
    "the head of one waiting lane": Query(
        SYNC["waiting_heads"], {"lane": lane(707), "limit": 100_000}, {"l": "PRIMARY", "h": "lane"}, 30
    ),
    "one lane, if ready": Query(
        SYNC["lane_if_ready"], {"lane": WAITING_LANE, "shards": ALL_SHARDS}, {"lanes": "PRIMARY"}, 5
    ),
    # Maintenance of a realm: its waiting lanes, among all that wait.
    "rousing a realm": Query(
        MAINTENANCE["rouse"], {"realm": "staff"}, {"lanes": "due"}, 3_000, expects=5_000
    ),
    # Lanes that wait for their kind.
    "parking lanes": Query(DRAIN["park_lanes"], {"rows": PARK_ROWS}, {"l": "PRIMARY"}, 500),
    "unparking lanes": Query(DRAIN["unpark_lanes"], {"lanes": LANES}, {"lanes": "PRIMARY"}, 250),
    # Housekeeping: a thousand at a time, by ranges.
    "delivered past their retention": Query(
        PURGE["expired"], expired("DELIVERED"), {"e": "by_state"}, 2_100, expects=ALL
    ),
    "a piece in which nothing is of the kind": Query(
        PURGE["expired"], expired("DELIVERED", only="user_delete"), {"e": "by_state"}, 2_100, expects=ALL
    ),
    "dead letters past their retention": Query(
        PURGE["expired"],
        expired("DEAD_LETTER", limit=100),
        {"e": "by_state", "l": "PRIMARY", "o": "lane"},
        700,
        expects=30_000,
    ),
    "last passwords past their retention": Query(
        PURGE["kept_passwords"],
        {"after": LONG_AGO, "after_lane": b"", "seconds": 3600, "limit": 1000},
        {"f": "kept", "e": "lane"},
        6_000,
        expects=ALL,
    ),
    "counting last passwords past their retention": Query(
        PURGE["count_kept_passwords"], {"seconds": 3600}, {"folds": "kept"}, 25_000
    ),
    "forgetting passwords": Query(PURGE["forget_passwords"], {"lanes": LANES}, {"folds": "PRIMARY"}, 250),
    "counting dead letters past their retention": Query(
        PURGE["count_expired"],
        expired("DEAD_LETTER"),
        {"e": "by_state", "o": "lane"},
        3_500,
        expects=30_000,
    ),
    "removing attempts": Query(
        PURGE["delete_attempts"], {"entries": tuple(range(1, 1001))}, {"attempts": "PRIMARY"}, 2_100
    ),
    "removing entries": Query(
        PURGE["delete_entries"],
        {"entries": tuple(range(1, 1001)), "state": "DELIVERED"},
        {"entries": "PRIMARY"},
        1_100,
    ),
    "removing poison": Query(
        PURGE["delete_poison"],
        {"seconds": 30 * 24 * 3600, "limit": 50},
        {"poison": "by_time"},
        110,
        expects=25_000,
    ),
    # What Kafka has no longer: through the ledger and the marks by their primary keys, a piece at once.
    "what Kafka holds, noted": Query(
        INGEST["note_logs"], {"topic_id": 1, "rows": LOG_ROWS}, {"w": "PRIMARY"}, 50
    ),
    "end of a piece of the ledger": Query(
        FORGET["ledger_piece_end"],
        {"after": MIDDLE, "offset": 4999},
        {"ledger": "PRIMARY"},
        5_100,
        expects=2 * ALL,
    ),
    "a piece of the ledger": Query(
        FORGET["forgettable_events"],
        {"after": MIDDLE, "until": UNTIL, "topic_id": 1, "before": LATER},
        {"l": "PRIMARY", "w": "PRIMARY"},
        10_100,
        expects=20_000,
    ),
    "forgetting events": Query(
        FORGET["delete_events"],
        {"hashes": tuple(event(number) for number in range(1, 1001))},
        {"ledger": "PRIMARY"},
        1_100,
    ),
    "end of a piece of the marks": Query(
        FORGET["marks_piece_end"],
        {"topic_id": 1, "partition": 1, "first": 1_000, "start": 50_000, "offset": 4_999},
        {"marks": "PRIMARY"},
        5_100,
        expects=20_000,
    ),
    "a piece of the marks": Query(
        FORGET["forgettable_marks"],
        {"topic_id": 1, "partition": 1, "first": 1_000, "last": 16_000, "before": LATER},
        {"marks": "PRIMARY"},
        5_100,
        expects=20_000,
    ),
    "forgetting marks": Query(
        FORGET["delete_marks"],
        {"topic_id": 1, "partition": 1, "offsets": tuple(range(1, 1501, 3)), "before": LATER},
        {"marks": "PRIMARY"},
        1_100,
    ),
}


class Filled:
    """A connection to a large outbox. What a query changes is rolled back."""

    def __init__(self, connection: pymysql.Connection[pymysql.cursors.DictCursor]) -> None:
        self._connection = connection

    def plan(self, query: Query) -> list[dict[str, Any]]:
        with self._connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {query.sql}", query.parameters or None)
            return list(cursor.fetchall())

    def touched(self, query: Query) -> int:
        """How many rows the server reads to run it."""
        with self._connection.cursor() as cursor:
            before = self._reads(cursor)
            cursor.execute(query.sql, query.parameters or None)
            if cursor.description:
                cursor.fetchall()
            reads = self._reads(cursor) - before
        self._connection.rollback()
        return reads

    @staticmethod
    def _reads(cursor: pymysql.cursors.DictCursor) -> int:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(row["Value"]) for row in cursor.fetchall())


@contextmanager
def filled_outbox(server: MariaDB, name: str) -> Iterator[Filled]:
    address = DatabaseAddress.parse(server.new_database(name))

    async def create() -> None:
        database = Database(address)
        try:
            await migrate(database)
        finally:
            await database.aclose()

    asyncio.run(create())
    connection = pymysql.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        database=address.database,
        cursorclass=pymysql.cursors.DictCursor,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION tx_isolation = 'READ-COMMITTED'")
        script = Path(__file__).with_name("fill.sql").read_text(encoding="utf-8")
        for statement in filter(str.strip, script.split(";\n")):
            cursor.execute(statement)
            cursor.fetchall()
        connection.commit()
        try:
            yield Filled(connection)
        finally:
            cursor.execute(f"DROP DATABASE `{address.database}`")


@pytest.fixture(scope="module", params=["11.4", pytest.param("10.11", marks=pytest.mark.long)])
def filled(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Filled]:
    server = stack.mariadb if request.param == "11.4" else request.getfixturevalue("older_mariadb")
    with filled_outbox(server, f"t_plans_{uuid4().hex[:8]}") as outbox:
        yield outbox


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_reads_through_its_index(filled: Filled, name: str) -> None:
    query = QUERIES[name]

    plan = filled.plan(query)
    reads = filled.touched(query)

    for step in plan:
        wanted = query.keys.get(step["table"])
        if wanted is not None:
            assert step["key"] == wanted, plan
            assert int(step["rows"]) <= (query.expects or query.reads), plan
    seen = {step["table"] for step in plan}
    assert query.keys.keys() <= seen, plan
    assert reads <= query.reads, plan


def test_a_lost_index_is_noticed(filled: Filled) -> None:
    """The same checks on an index that does not fit: this test's own proof."""
    query = QUERIES["dead letters of a tenant"]
    lost = Query(query.sql.replace("FROM entries", "FROM entries IGNORE INDEX (by_tenant)"), (), {}, 0)

    assert [step["key"] for step in filled.plan(lost)] != ["by_tenant"]
    assert filled.touched(lost) > query.reads
