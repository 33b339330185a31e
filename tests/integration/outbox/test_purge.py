from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta

import pytest

from consumer.outbox.database import Database
from consumer.outbox.overview import read_overview
from consumer.outbox.purge import Purged, PurgeStore, Retention
from consumer.outbox.rows import LogNote
from tests.integration.support.batches import Writer, update
from tests.integration.support.bench import Bench

DAY = 24 * 3600.0
NOTHING = dict.fromkeys(Purged, 0)


def house(
    database: Database,
    owner: str = "first",
    *,
    delivered: float | None = 7 * DAY,
    dead_letter: float | None = 30 * DAY,
    kinds: Mapping[str, Retention] | None = None,
    remember: timedelta | None = timedelta(days=30),
    passwords: float | None = None,
) -> PurgeStore:
    retention = Retention(
        delivered=delivered, dead_letter=dead_letter, passwords=passwords, kinds=kinds or {}
    )
    return PurgeStore(database, owner=owner, retention=retention, remember=remember)


async def entries(database: Database, *usernames: str) -> None:
    writer = await Writer.take(database)
    await writer.persist([update(str(number), name) for number, name in enumerate(usernames, start=1)])


def end(bench: Bench, state: str, days: float, *usernames: str) -> None:
    """Let the entries of these users have ended so many days ago."""
    for name in usernames:
        bench.change(
            "UPDATE entries SET state = %s, ended_at = NOW(6) - INTERVAL %s SECOND WHERE username = %s",
            state,
            int(days * DAY),
            name,
        )
        bench.change("UPDATE lanes SET state = 'IDLE' WHERE username_key = %s", name)


def left(bench: Bench) -> list[str]:
    return [row["username"] for row in bench.rows("SELECT username FROM entries ORDER BY entry_id")]


def attempt(bench: Bench, *usernames: str) -> None:
    for name in usernames:
        bench.change(
            "INSERT INTO attempts (entry_id, n, started_at, ended_at, outcome, reason, instance)"
            " SELECT entry_id, 1, NOW(6), NOW(6), 'DELIVERED', 'updated', 'first' FROM entries WHERE username = %s",
            name,
        )


def poison(bench: Bench, days: int, count: int = 1) -> None:
    bench.change(
        "INSERT INTO poison (topic_id, partition_no, log_offset, reason, detail, kid, sealed, received_at)"
        " SELECT 1, 0, %s + seq, 'not_json', '', 'key', '', NOW(6) - INTERVAL %s DAY FROM seq_1_to_1000 LIMIT %s",
        days * 1000,
        days,
        count,
    )


class TestPurge:
    async def test_removes_what_is_past_its_retention_and_nothing_else(
        self, bench: Bench, database: Database
    ) -> None:
        await entries(database, "old", "new", "dead-old", "dead-new", "replaced", "waits")
        end(bench, "DELIVERED", 8, "old")
        end(bench, "DELIVERED", 6, "new")
        end(bench, "DEAD_LETTER", 31, "dead-old")
        end(bench, "DEAD_LETTER", 29, "dead-new")
        end(bench, "SUPERSEDED", 8, "replaced")
        attempt(bench, "old", "new")
        poison(bench, 31)
        poison(bench, 29)
        bench.change(
            "INSERT INTO instances (instance, roles, version, deadline)"
            " VALUES ('gone', 'drain', '0', NOW(6) - INTERVAL 2 DAY), ('here', 'drain', '0', NOW(6))"
        )
        store = house(database)
        expected = dict.fromkeys(Purged, 1) | {Purged.EVENT: 0, Purged.MARK: 0, Purged.PASSWORD: 0}

        counted = await store.count()
        assert len(left(bench)) == 6
        removed = await store.purge()

        assert counted == removed == expected
        assert left(bench) == ["new", "dead-new", "waits"]
        assert bench.value("SELECT COUNT(*) FROM attempts") == 1
        assert bench.value("SELECT COUNT(*) FROM poison") == 1
        assert bench.value("SELECT instance FROM instances") == "here"
        # What makes a replay safe outlives the entries, for as long as Kafka may hold the events.
        assert bench.value("SELECT COUNT(*) FROM ledger") == 6
        assert await store.purge() == NOTHING

    async def test_goes_through_many_pieces(self, bench: Bench, database: Database) -> None:
        await entries(database, *(f"user-{number}" for number in range(2500)))
        bench.change("UPDATE entries SET state = 'DELIVERED', ended_at = NOW(6) - INTERVAL 8 DAY")
        bench.change("UPDATE entries SET state = 'PENDING', ended_at = NULL WHERE entry_id % 100 = 0")
        poison(bench, 40, count=120)

        removed = await house(database).purge()

        assert removed == NOTHING | {Purged.DELIVERED: 2475, Purged.POISON: 120}
        assert bench.counts() == {"PENDING": 25}

    async def test_with_never_keeps_for_ever(self, bench: Bench, database: Database) -> None:
        await entries(database, "old", "dead")
        end(bench, "DELIVERED", 4000, "old")
        end(bench, "DEAD_LETTER", 4000, "dead")
        poison(bench, 4000)
        store = house(database, delivered=None, dead_letter=None)

        assert await store.count() == await store.purge() == NOTHING
        assert left(bench) == ["old", "dead"]
        assert bench.value("SELECT COUNT(*) FROM poison") == 1

    async def test_keeps_single_kinds_for_longer_or_shorter(self, bench: Bench, database: Database) -> None:
        names = [f"{kind}-{days}" for kind in ("update", "delete", "create") for days in (2, 8, 40)]
        await entries(database, *names)
        for name in names:
            kind, days = name.split("-")
            end(bench, "DELIVERED", int(days), name)
            bench.change("UPDATE entries SET kind = %s WHERE username = %s", f"user_{kind}", name)
        bench.change("UPDATE entries SET state = 'DEAD_LETTER' WHERE username = 'delete-40'")
        store = house(
            database,
            kinds={
                "user_delete": Retention(delivered=30 * DAY, dead_letter=None),
                "user_create": Retention(delivered=DAY, dead_letter=30 * DAY),
            },
        )

        counted, removed = await store.count(), await store.purge()

        assert counted == removed == NOTHING | {Purged.DELIVERED: 5}
        assert left(bench) == ["update-2", "delete-2", "delete-8", "delete-40"]

    async def test_removes_single_kinds_where_all_others_stay_for_ever(
        self, bench: Bench, database: Database
    ) -> None:
        await entries(database, *(f"user-{number}" for number in range(2500)))
        bench.change("UPDATE entries SET state = 'DELIVERED', ended_at = NOW(6) - INTERVAL 8 DAY")
        # At the far end, behind more than a piece of what stays.
        bench.change("UPDATE entries SET kind = 'user_delete' ORDER BY entry_id DESC LIMIT 10")
        store = house(
            database, delivered=None, kinds={"user_delete": Retention(delivered=DAY, dead_letter=None)}
        )

        counted, removed = await store.count(), await store.purge()

        assert counted == removed == NOTHING | {Purged.DELIVERED: 10}
        assert bench.value("SELECT COUNT(*) FROM entries WHERE kind = 'user_update'") == 2490

    @pytest.mark.parametrize("by", ["its lane is held", "an entry waits behind it"])
    async def test_keeps_a_dead_letter_that_may_hold_its_lane(
        self, bench: Bench, database: Database, by: str
    ) -> None:
        await entries(database, "ada", "bob")
        end(bench, "DEAD_LETTER", 60, "ada", "bob")
        if by == "its lane is held":
            bench.change("UPDATE lanes SET state = 'HELD' WHERE username_key = 'ada'")
        else:
            await (await Writer.take(database, next_offset=2)).persist([update("3", "ada")])
        store = house(database)

        counted, removed = await store.count(), await store.purge()

        assert counted == removed == NOTHING | {Purged.DEAD_LETTER: 1}
        assert bench.value("SELECT COUNT(*) FROM entries WHERE state = 'DEAD_LETTER' AND username = 'ada'")

    async def test_waits_for_nobody_who_works_on_an_entry(self, bench: Bench, database: Database) -> None:
        """An operator's command may just be giving it another chance."""
        await entries(database, "ada", "bob")
        end(bench, "DEAD_LETTER", 60, "ada", "bob")
        with bench.session() as cursor:
            cursor.execute("SELECT entry_id FROM entries WHERE username = 'ada'")
            (ada,) = cursor.fetchall()
            cursor.execute("BEGIN")
            cursor.execute(
                "UPDATE entries SET state = 'PENDING', ended_at = NULL WHERE entry_id = %s", ada["entry_id"]
            )
            async with asyncio.timeout(4):
                removed = await house(database).purge()
            cursor.execute("COMMIT")

        assert removed == NOTHING | {Purged.DEAD_LETTER: 1}
        assert left(bench) == ["ada"]


async def test_ingest_and_drain_go_on_meanwhile(bench: Bench, database: Database) -> None:
    """Neither waits for a piece: they never meet on a row."""
    writer = await Writer.take(database)
    await writer.persist([update(str(number), f"old-{number}") for number in range(3000)])
    bench.change("UPDATE entries SET state = 'DELIVERED', ended_at = NOW(6) - INTERVAL 8 DAY")
    slowest, batches = 0.0, 0
    purging = asyncio.create_task(house(database).purge())
    while not purging.done():
        began = time.monotonic()
        await writer.persist([update(f"new-{batches}", f"new-{batches}")])
        changed = await database.execute(
            "UPDATE entries SET claimed_at = NOW(6) WHERE state = 'PENDING' AND ended_at IS NULL AND event_id = %s",
            (f"new-{batches}",),
        )
        assert changed == 1
        slowest, batches = max(slowest, time.monotonic() - began), batches + 1

    removed = await purging
    # The change above locks the row beside the one it looks for, and a purge passes by what is locked: the next has it.
    later = await house(database).purge()
    assert removed is not None
    assert later is not None
    assert removed | {Purged.DELIVERED: removed[Purged.DELIVERED] + later[Purged.DELIVERED]} == NOTHING | {
        Purged.DELIVERED: 3000
    }
    assert batches > 3
    # A lock wait would end after 5 s, with an error.
    assert slowest < 3
    assert bench.counts() == {"PENDING": batches}


async def test_poison_that_went_is_counted_no_more(bench: Bench, database: Database) -> None:
    """Its mark stays, or a replay would stumble over it; nobody has to look at it any more."""
    poison(bench, 31)
    bench.change(
        "INSERT INTO marks (topic_id, partition_no, log_offset, kind) VALUES (1, 0, 31001, 'poison')"
    )
    assert (await read_overview(database)).poison == 1

    await house(database).purge()

    assert (await read_overview(database)).poison == 0
    assert bench.value("SELECT COUNT(*) FROM marks") == 1


async def seen_log(writer: Writer, *, start: int, end: int | None = None) -> None:
    """The writer looks at Kafka and finds this; by default, that all of it was read."""
    note = LogNote(writer.partition, writer.token, start, writer.next_offset if end is None else end)
    await writer.store.note_logs(writer.topic_id, [note])


def age(bench: Bench, days: int, *offsets: int) -> None:
    """Let the events at these offsets have come so many days ago, and their marks too."""
    bench.change(
        "UPDATE ledger SET first_seen = NOW(6) - INTERVAL %s DAY WHERE log_offset IN %s", days, offsets
    )
    bench.change(
        "UPDATE marks SET marked_at = NOW(6) - INTERVAL %s DAY WHERE log_offset IN %s", days, offsets
    )


def mark(bench: Bench, *offsets: int, field: str = "") -> None:
    for offset in offsets:
        bench.change(
            "INSERT INTO marks (topic_id, partition_no, log_offset, field, kind) VALUES (1, 0, %s, %s, 'dead')",
            offset,
            field,
        )


def remembered(bench: Bench) -> tuple[list[int], list[int]]:
    """Offsets of the ledger and of the marks."""
    ledger = bench.rows("SELECT log_offset FROM ledger ORDER BY log_offset")
    marks = bench.rows("SELECT DISTINCT log_offset FROM marks ORDER BY log_offset")
    return [row["log_offset"] for row in ledger], [row["log_offset"] for row in marks]


class TestWhatKafkaHasNoLonger:
    async def test_is_forgotten_when_it_is_old(self, bench: Bench, database: Database) -> None:
        writer = await Writer.take(database)
        await writer.persist([update(str(number), f"user-{number}") for number in range(6)])
        mark(bench, *range(6))
        mark(bench, 1, field="email")
        age(bench, 31, 0, 1, 3, 4)
        age(bench, 29, 2, 5)
        await seen_log(writer, start=4)
        store = house(database)

        counted = await store.count()
        assert remembered(bench) == (list(range(6)), list(range(6)))
        removed = await store.purge()

        assert counted == removed == NOTHING | {Purged.EVENT: 3, Purged.MARK: 4}
        assert remembered(bench) == ([2, 4, 5], [2, 4, 5])
        assert await store.purge() == NOTHING

    async def test_is_kept_with_never(self, bench: Bench, database: Database) -> None:
        writer = await Writer.take(database)
        await writer.persist([update("1", "ada")])
        age(bench, 4000, 0)
        await seen_log(writer, start=1)
        store = house(database, remember=None)

        assert await store.count() == await store.purge() == NOTHING
        assert remembered(bench) == ([0], [])

    async def test_is_kept_until_every_partition_was_read_so_far(
        self, bench: Bench, database: Database
    ) -> None:
        """A duplicate, published in time, may wait in Kafka while ingest is paused."""
        writer, paused = await Writer.take(database), await Writer.take(database, partition=1)
        await writer.persist([update("1", "ada")])
        age(bench, 31, 0)
        store = house(database)
        await seen_log(writer, start=1)
        # Nobody has looked at the other partition.
        assert await store.purge() == NOTHING
        # It holds a record that was not read.
        await seen_log(paused, start=0, end=1)
        assert await store.purge() == NOTHING
        await paused.persist([update("1", "ada")])

        assert await store.purge() == NOTHING | {Purged.EVENT: 1}
        assert bench.rows("SELECT partition_no, kind, first_offset FROM marks") == [
            {"partition_no": 1, "kind": "duplicate", "first_offset": 0}
        ]

    async def test_is_what_the_writer_of_today_says(self, bench: Bench, database: Database) -> None:
        zombie = await Writer.take(database)
        await zombie.persist([update("1", "ada"), update("2", "bob")])
        heir = await Writer.take(database, name="second", next_offset=2)
        await seen_log(zombie, start=2)
        assert bench.value("SELECT log_start FROM watermarks") is None
        await seen_log(heir, start=1)
        await seen_log(zombie, start=2)

        assert bench.rows("SELECT log_start, log_end, log_seen_at IS NULL AS never FROM watermarks") == [
            {"log_start": 1, "log_end": 2, "never": 0}
        ]
        assert [row.log_start for row in (await read_overview(database)).partitions] == [1]

    async def test_comes_again_as_a_new_event(self, bench: Bench, database: Database) -> None:
        writer = await Writer.take(database)
        await writer.persist([update("1", "ada")])
        age(bench, 31, 0)
        await seen_log(writer, start=1)
        await house(database).purge()

        rows = await writer.persist([update("1", "ada")])

        assert (len(rows.entries), len(rows.duplicates)) == (1, 0)
        assert remembered(bench) == ([1], [])

    async def test_is_gone_through_in_pieces(self, bench: Bench, database: Database) -> None:
        """More than a piece of the ledger, and of the marks; some positions have marks of several fields."""
        writer = await Writer.take(database, next_offset=12_000)
        bench.change(
            "INSERT INTO ledger (event_hash, topic_id, partition_no, log_offset, content_hash, first_seen)"
            " SELECT UNHEX(MD5(seq)), 1, 0, seq, '', NOW(6) - INTERVAL IF(seq %% 3 = 0, 40, 20) DAY FROM seq_0_to_11999"
            " WHERE seq < %s",
            12_000,
        )
        bench.change(
            "INSERT INTO marks (topic_id, partition_no, log_offset, field, kind, marked_at)"
            " SELECT 1, 0, seq DIV 2, seq %% 2, 'refused', NOW(6) - INTERVAL IF(seq %% 4 = 0, 20, 40) DAY"
            " FROM seq_0_to_11999 WHERE seq < %s",
            12_000,
        )
        await seen_log(writer, start=11_000)
        store = house(database)

        counted, removed = await store.count(), await store.purge()

        assert counted == removed == NOTHING | {Purged.EVENT: 3667, Purged.MARK: 9000}
        assert await store.count() == NOTHING
        assert bench.value("SELECT COUNT(*) FROM ledger") == 12_000 - 3667
        assert (
            bench.value("SELECT COUNT(*) FROM ledger WHERE log_offset < 11000 AND log_offset MOD 3 = 0") == 0
        )
        assert bench.value("SELECT COUNT(*) FROM marks") == 3000

    async def test_is_looked_for_in_the_whole_ledger_once_a_day_by_itself(
        self, bench: Bench, database: Database
    ) -> None:
        writer = await Writer.take(database)
        await writer.persist([update(str(number), "ada") for number in range(3)])
        mark(bench, *range(3))
        store = house(database)
        hourly = 0.9 * 3600

        async def an_hour_later() -> dict[Purged, int] | None:
            bench.change("UPDATE housekeeping SET finished_at = finished_at - INTERVAL 1 HOUR")
            return await store.purge(unless_within=hourly)

        age(bench, 31, 0)
        await seen_log(writer, start=3)
        assert await store.purge(unless_within=hourly) == NOTHING | {Purged.EVENT: 1, Purged.MARK: 1}
        age(bench, 31, 1)
        assert await an_hour_later() == NOTHING | {Purged.MARK: 1}
        bench.change("UPDATE housekeeping SET finished_at = finished_at - INTERVAL 22 HOUR")
        assert await an_hour_later() == NOTHING | {Purged.EVENT: 1}
        age(bench, 31, 2)
        # Who asks for it gets it.
        assert await store.purge() == NOTHING | {Purged.EVENT: 1, Purged.MARK: 1}

    async def test_is_forgotten_while_ingest_and_drain_write(self, bench: Bench, database: Database) -> None:
        """Rows that are just being written, new events and marks of late deaths, are waited for by nobody."""
        writer = await Writer.take(database)
        await writer.persist([update("1", "ada"), update("2", "bob")])
        mark(bench, 0)
        age(bench, 31, 0)
        await seen_log(writer, start=2)
        with bench.session() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(
                "INSERT INTO ledger (event_hash, topic_id, partition_no, log_offset, content_hash)"
                " SELECT UNHEX(MD5(seq)), 1, 0, seq, '' FROM seq_100_to_200"
            )
            cursor.execute(
                "INSERT INTO marks (topic_id, partition_no, log_offset, kind) VALUES (1, 0, 1, 'dead')"
            )
            async with asyncio.timeout(4):
                removed = await house(database).purge()
            cursor.execute("COMMIT")

        assert removed == NOTHING | {Purged.EVENT: 1, Purged.MARK: 1}


class TestOneAtATime:
    async def test_a_second_process_leaves_it_to_the_first(self, bench: Bench, database: Database) -> None:
        await entries(database, *(f"user-{number}" for number in range(1500)))
        bench.change("UPDATE entries SET state = 'DELIVERED', ended_at = NOW(6) - INTERVAL 8 DAY")
        both = Database(bench.address)
        try:
            found = await asyncio.gather(house(database, "first").purge(), house(both, "second").purge())
        finally:
            await both.aclose()

        assert sorted(each is None for each in found) == [False, True]
        assert left(bench) == []

    async def test_what_was_done_a_moment_ago_is_not_done_again(
        self, bench: Bench, database: Database
    ) -> None:
        assert await house(database, "first").purge(unless_within=1800) == NOTHING
        assert await house(database, "second").purge(unless_within=1800) is None
        bench.change("UPDATE housekeeping SET finished_at = NOW(6) - INTERVAL 31 MINUTE")
        assert await house(database, "second").purge(unless_within=1800) == NOTHING
        assert await house(database, "third").purge() == NOTHING

    async def test_who_died_at_it_is_followed_when_its_time_is_over(
        self, bench: Bench, database: Database
    ) -> None:
        await house(database).purge()
        bench.change("UPDATE housekeeping SET owner = 'dead', deadline = NOW(6) + INTERVAL 1 MINUTE")
        assert await house(database).purge() is None
        bench.change("UPDATE housekeeping SET deadline = NOW(6) - INTERVAL 1 SECOND")
        assert await house(database).purge() == NOTHING

    async def test_who_was_too_slow_removes_nothing_more(self, bench: Bench, database: Database) -> None:
        """It may have been stopped for an hour in the middle of it."""
        await entries(database, *(f"user-{number}" for number in range(2500)))
        bench.change("UPDATE entries SET state = 'DELIVERED', ended_at = NOW(6) - INTERVAL 8 DAY")
        bench.change(
            "CREATE TRIGGER slow AFTER DELETE ON entries FOR EACH ROW"
            " UPDATE housekeeping SET owner = 'other', deadline = NOW(6) + INTERVAL 1 MINUTE"
        )

        assert await house(database).purge() == NOTHING | {Purged.DELIVERED: 1000}

        assert len(left(bench)) == 1500
        assert bench.value("SELECT owner FROM housekeeping") == "other"


def fold(bench: Bench, username: str, *, hours: float, suspect: bool = False) -> None:
    """Let the fold of a user keep a password that was delivered so many hours ago."""
    bench.change(
        "INSERT INTO folds (lane_id, shard, fields, credential, credential_event_id, credential_offset, credential_at,"
        " suspect_since) SELECT lane_id, shard, '{}', '{}', 'e-1', 7, NOW(6) - INTERVAL %s SECOND,"
        " IF(%s, NOW(6), NULL) FROM lanes WHERE username_key = %s",
        int(hours * 3600),
        int(suspect),
        username,
    )


def keeping(bench: Bench) -> list[str]:
    return [
        row["username_key"]
        for row in bench.rows(
            "SELECT username_key FROM folds JOIN lanes USING (lane_id) WHERE credential IS NOT NULL ORDER BY username_key"
        )
    ]


class TestPasswords:
    async def test_are_forgotten_in_time_but_not_where_a_doubt_may_need_them(
        self, bench: Bench, database: Database
    ) -> None:
        await entries(database, "ada", "bob", "cyd", "dan", "eve")
        for user in ("ada", "cyd", "dan", "eve"):
            fold(bench, user, hours=2, suspect=user == "cyd")
        fold(bench, "bob", hours=0.5)
        end(bench, "DELIVERED", 0, "ada")
        bench.change("UPDATE entries SET claimed_at = NOW(6) WHERE username = %s", "dan")
        bench.change("UPDATE entries SET maybe_applied_since = NOW(6) WHERE username = %s", "eve")
        store = house(database, passwords=3600)

        counted = await store.count()
        removed = await store.purge()

        assert removed == NOTHING | {Purged.PASSWORD: 1}
        # Calls under way are not looked at for a dry run.
        assert counted[Purged.PASSWORD] == 3
        assert keeping(bench) == ["bob", "cyd", "dan", "eve"]
        forgotten = bench.rows(
            "SELECT credential_at, credential_event_id, credential_offset FROM folds WHERE credential IS NULL"
        )
        assert forgotten == [{"credential_at": None, "credential_event_id": "e-1", "credential_offset": 7}]

    async def test_all_go_where_none_is_kept(self, bench: Bench, database: Database) -> None:
        await entries(database, "ada", "bob")
        for user in ("ada", "bob"):
            fold(bench, user, hours=0)

        removed = await house(database, passwords=0.0).purge()

        assert removed == NOTHING | {Purged.PASSWORD: 2}
        assert keeping(bench) == []

    async def test_the_last_ones_stay_where_they_are_kept(self, bench: Bench, database: Database) -> None:
        await entries(database, "ada")
        fold(bench, "ada", hours=10_000)

        assert await house(database, passwords=None).purge() == NOTHING
        assert keeping(bench) == ["ada"]
