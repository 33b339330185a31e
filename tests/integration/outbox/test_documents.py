"""Heads and folds come out of MariaDB as JSON documents: what went in must come out, whatever it is made of."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from consumer.outbox.bulk import Parameters
from consumer.outbox.database import Database
from consumer.outbox.drain_store import DrainStore, Head, LaneHint, Settlement, WriteBack
from consumer.outbox.fold import Credential, Fold, Value
from consumer.outbox.lease_store import LeaseStore
from consumer.outbox.rows import EntryState, Position
from tests.integration.support.batches import Writer, update
from tests.integration.support.bench import Bench

ALL = range(256)
ODD = "a\"b\\c'd/e\t\n\r\x01\x7f é \u2028 日本 \U0001f600 %s {x} \x00"


async def owner(database: Database) -> DrainStore:
    leases = LeaseStore(database, owner="me", roles="drain", version="0", seconds=60)
    await leases.renew()
    await leases.acquire(ALL)
    return DrainStore(database, owner="me")


async def heads_of(store: DrainStore, *, depth: int = 1) -> list[Head]:
    return await store.heads(await store.ready_lanes(ALL, 100), depth=depth)


async def test_many_entries_are_read_and_claimed_in_parts_and_come_out_in_their_order(
    database: Database,
) -> None:
    writer, users, each = await Writer.take(database), 90, 11
    for number in range(each):
        await writer.persist([update(f"{user}-{number}", f"user-{user}") for user in range(users)])
    store = await owner(database)

    heads = await heads_of(store, depth=each)
    groups = [(head, *head.followers) for head in heads]
    claims = await store.claim([member for group in groups for member in group], margin=1)

    for group in groups:
        _, user = group[0].username.split("-")
        assert [member.event_id for member in group] == [f"{user}-{number}" for number in range(each)]
        # By one statement, at one time.
        assert len({claims[member.entry_id] for member in group}) == 1
    assert len(claims) == users * each
    rows = await database.fetch("SELECT COUNT(*) AS n FROM entries WHERE claimed_at IS NOT NULL")
    assert rows[0]["n"] == users * each


async def test_entries_that_others_delivered_meanwhile_have_no_followers_and_are_not_claimed(
    bench: Bench, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await Writer.take(database)).persist([update(str(number), "ada") for number in range(3)])
    store = await owner(database)
    lanes = await store.ready_lanes(ALL, 10)
    fetch_column = database.fetch_column

    async def then_others_deliver(sql: str, parameters: Parameters = None) -> list[Any]:
        found = await fetch_column(sql, parameters)
        bench.change("UPDATE entries SET state = 'DELIVERED', ended_at = NOW(6)")
        return found

    monkeypatch.setattr(database, "fetch_column", then_others_deliver)
    (head,) = await store.heads(lanes, depth=5)

    assert head.followers == ()
    assert await store.claim([head], margin=1) == {}


async def test_an_entry_of_odd_characters_comes_out_as_it_went_in(bench: Bench, database: Database) -> None:
    data = {"attributes": {"note": [ODD, ""]}, "first_name": "Zoë \U0001f600"}
    await (await Writer.take(database)).persist([update("1", "ada")])
    # As no producer of ours writes them: text and bytes of every kind.
    traceparent, sealed = b"00-\xff\x00'\\", bytes(range(256))
    bench.change(
        "UPDATE entries SET credential = %s, traceparent = %s, data = %s, event_id = %s, username = %s, source = %s,"
        " state_reason = %s, claimed_at = '2026-01-02 03:04:05.000006'",
        *(sealed, traceparent, orjson.dumps(data), ODD + "1", ODD + "2", ODD + "3", ODD[:60]),
    )

    (head,) = await heads_of(await owner(database))

    assert head.data == data
    assert (head.event_id, head.username, head.source) == (ODD + "1", ODD + "2", ODD + "3")
    assert (head.credential, head.traceparent, head.tracestate) == (sealed, traceparent, None)
    assert head.state_reason == ODD[:60]
    assert head.claimed_at is not None
    assert head.claimed_at.isoformat(sep=" ") == "2026-01-02 03:04:05.000006"
    assert head.position == Position(1, 0, 0)
    assert head.state is EntryState.PENDING
    assert head.fold == Fold()


async def test_a_fold_of_odd_characters_comes_out_as_it_went_in(database: Database) -> None:
    await (await Writer.take(database)).persist([update("1", "ada"), update("2", "ada")])
    store = await owner(database)
    (head,) = await heads_of(store)
    claims = await store.claim([head], margin=1)
    (token, now) = claims[head.entry_id]
    fold = Fold(
        exists=False,
        exists_position=Position(1, 2, 2**63),
        fields={
            "attributes.\"odd'\\": Value([ODD], Position(1, 2, 3)),
            "enabled": Value(None, None),
        },
        user_id=f"f:Cb3iCI_4QlSy4vI3TSlfoQ:{'JDoe %/' * 32}"[:255],
        credential=Credential(orjson.dumps({"odd": ODD}), ODD[:80], None, now),
        credential_date=now.replace(microsecond=123_000),
        suspect_since=now,
        suspect_kind="timeout",
        heal_refused="heal_refused_by_history",
    )
    settlement = Settlement(head=head, state=EntryState.DELIVERED, reason="updated", attempts=0)
    await store.settle(
        [WriteBack(lane=head.lane, token=token, settlements=(settlement,), fold=fold)], instance="me"
    )

    (head,) = await heads_of(store)

    assert head.event_id == "2"
    assert head.fold == fold


async def test_an_id_too_long_to_be_kept_is_left_out_and_the_rest_is_kept(database: Database) -> None:
    await (await Writer.take(database)).persist([update("1", "ada"), update("2", "ada")])
    store = await owner(database)
    (head,) = await heads_of(store)
    (token, _) = (await store.claim([head], margin=1))[head.entry_id]
    settlement = Settlement(head=head, state=EntryState.DELIVERED, reason="updated", attempts=0)
    fold = Fold(exists=True, user_id=f"f:Cb3iCI_4QlSy4vI3TSlfoQ:{'x' * 255}")
    await store.settle(
        [WriteBack(lane=head.lane, token=token, settlements=(settlement,), fold=fold)], instance="me"
    )

    (head,) = await heads_of(store)

    assert head.fold == Fold(exists=True)


async def test_a_password_that_is_not_kept_leaves_its_event_and_its_place(database: Database) -> None:
    await (await Writer.take(database)).persist([update("1", "ada"), update("2", "ada")])
    store = await owner(database)
    (head,) = await heads_of(store)
    (token, now) = (await store.claim([head], margin=1))[head.entry_id]
    kept = Fold(exists=True, credential=Credential(b"{}", "e-1", Position(1, 0, 0), now))
    settlement = Settlement(head=head, state=EntryState.DELIVERED, reason="updated", attempts=0)
    fold = kept.without_password()
    await store.settle(
        [WriteBack(lane=head.lane, token=token, settlements=(settlement,), fold=fold)], instance="me"
    )

    (head,) = await heads_of(store)

    assert head.fold == fold
    assert head.fold.credential == Credential(None, "e-1", Position(1, 0, 0))


@pytest.mark.parametrize("number", [3, 40], ids=["singly", "alike"])
async def test_the_password_of_an_entry_goes_with_its_delivery(
    bench: Bench, database: Database, number: int
) -> None:
    await (await Writer.take(database)).persist([update(f"e-{n}", f"user-{n}") for n in range(number + 2)])
    bench.change("UPDATE entries SET credential = '{}' WHERE 1 = %s", 1)
    store = await owner(database)
    heads = sorted(await heads_of(store), key=lambda head: head.entry_id)
    claims = await store.claim(heads, margin=1)
    states = [EntryState.DEAD_LETTER, EntryState.PENDING, *[EntryState.DELIVERED] * number]

    await store.settle(
        [
            WriteBack(
                lane=head.lane,
                token=claims[head.entry_id][0],
                settlements=(Settlement(head=head, state=state, reason="any", attempts=0),),
            )
            for head, state in zip(heads, states, strict=True)
        ],
        instance="me",
    )

    # A dead letter may be tried again.
    assert bench.rows("SELECT state, COUNT(credential) AS n FROM entries GROUP BY state ORDER BY state") == [
        {"state": "PENDING", "n": 1},
        {"state": "DELIVERED", "n": 0},
        {"state": "DEAD_LETTER", "n": 1},
    ]


async def test_many_alike_and_some_that_are_not_are_all_written(bench: Bench, database: Database) -> None:
    await (await Writer.take(database)).persist([update(f"e-{n}", f"user-{n}") for n in range(50)])
    store = await owner(database)
    heads = sorted(await heads_of(store), key=lambda head: head.entry_id)
    claims = await store.claim(heads, margin=1)
    assert len(claims) == 50

    def result(number: int, head: Head) -> Settlement:
        if number % 10 == 9:
            return Settlement(
                head=head, state=EntryState.PENDING, reason=f"r-{number}", attempts=number, delay=600.0
            )
        return Settlement(head=head, state=EntryState.DELIVERED, reason="updated", attempts=0)

    fenced = await store.settle(
        [
            WriteBack(lane=head.lane, token=claims[head.entry_id][0], settlements=(result(number, head),))
            for number, head in enumerate(heads)
        ],
        instance="me",
    )

    assert fenced == set()
    assert bench.counts() == {"DELIVERED": 45, "PENDING": 5}
    assert bench.value(
        "SELECT GROUP_CONCAT(attempts ORDER BY attempts) FROM entries WHERE state = 'PENDING'"
    ) == ("9,19,29,39,49")
    assert (
        bench.value("SELECT COUNT(*) FROM entries WHERE state = 'PENDING' AND next_attempt_at > NOW(6)") == 5
    )
    assert (
        bench.value("SELECT COUNT(*) FROM entries WHERE claimed_at IS NOT NULL OR claim_token IS NOT NULL")
        == 0
    )
    assert bench.value("SELECT COUNT(*) FROM entries WHERE state = 'DELIVERED' AND ended_at IS NULL") == 0


async def test_lanes_are_put_to_sleep_only_where_nothing_has_arrived(
    bench: Bench, database: Database
) -> None:
    writer = await Writer.take(database)
    await writer.persist([update("1", "ada"), update("2", "bob")])
    store = await owner(database)
    seen = await store.ready_lanes(ALL, 10)
    await writer.persist([update("3", "bob")])
    # As after a command that held it: it may not stay so.
    bench.change("UPDATE lanes SET state = 'HELD' WHERE username_key = 'bob'")

    await store.hint([LaneHint(lane=lane, state="IDLE") for lane in seen])

    assert bench.value("SELECT state FROM lanes WHERE username_key = 'ada'") == "IDLE"
    assert bench.value("SELECT state FROM lanes WHERE username_key = 'bob'") == "READY"
