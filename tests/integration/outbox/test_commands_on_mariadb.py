from __future__ import annotations

from dataclasses import replace

import pytest

from consumer.drain.commands import decide
from consumer.drain.executor import CommandExecutor
from consumer.outbox.command_store import Action, CommandStore, Order, Verdict
from consumer.outbox.database import Database
from consumer.outbox.held import Which, count_held, read_held
from consumer.outbox.lane import lane_id, shard_of
from consumer.outbox.lease_store import LeaseStore
from consumer.outbox.rows import EntryState
from tests.integration.support.batches import REALM, Writer, update
from tests.integration.support.bench import Bench
from tests.integration.support.draining import Played, draining
from tests.integration.support.waiting import until

PENDING, HELD, DELIVERED, DEAD_LETTER, _ = EntryState
ALICE = lane_id(REALM, "alice")


async def held_alice(bench: Bench, database: Database, behind: int = 2) -> int:
    """An entry of alice that is held, with others behind it; its id."""
    entries = [update(f"alice:{n}", "alice") for n in range(1 + behind)]
    await (await Writer.take(database)).persist(entries)
    bench.change(
        "UPDATE entries SET state = 'HELD', state_reason = 'suspected_cause', openings = 3 WHERE event_id = 'alice:0'"
    )
    return int(bench.value("SELECT entry_id FROM entries WHERE event_id = 'alice:0'"))


def order(entry: int, action: Action = Action.RELEASE, arrivals: int = 3) -> Order:
    return Order(lane_id=ALICE, action=action, entry_id=entry, state=HELD, arrivals=arrivals)


async def test_what_is_held_is_listed_with_what_stands_behind_it(bench: Bench, database: Database) -> None:
    entry = await held_alice(bench, database)

    (held,) = await read_held(database, Which(), limit=10)

    assert (held.entry_id, held.lane_id, held.behind, held.reason) == (entry, ALICE, 2, "suspected_cause")
    assert (held.realm, held.username, held.event_id, held.arrivals) == (REALM, "alice", "alice:0", 3)
    assert len(await read_held(database, Which(lane=ALICE, reason="suspected_cause"), limit=10)) == 1
    assert await read_held(database, Which(event_id="alice:1"), limit=10) == []
    assert await read_held(database, Which(realm="other"), limit=10) == []
    counts = await count_held(database)
    assert (counts.entries, counts.lanes) == ({"suspected_cause": 1}, 0)


async def test_the_owner_releases_an_entry_answers_and_audits(bench: Bench, database: Database) -> None:
    entry = await held_alice(bench, database)
    store = CommandStore(database, owner="nobody")
    keycloak = Played()
    async with draining(database, keycloak):
        await until(lambda: bench.value("SELECT state FROM lanes") == "HELD", what="a held lane")
        request = await store.queue([order(entry)], actor="alice@desk", why="looked at it")
        await until(lambda: bench.settled(3), what="three delivered")
        tally = await store.tally(request)

    assert keycloak.applied == ["alice:0", "alice:1", "alice:2"]
    assert (tally.done, tally.waiting, dict(tally.refused)) == (1, 0, {})
    (audit,) = bench.rows("SELECT actor, action, arguments, outcome FROM audit")
    assert (audit["actor"], audit["action"], audit["outcome"]) == ("alice@desk", "release", "DONE")
    assert "alice:0" in audit["arguments"]
    assert bench.value("SELECT openings FROM entries WHERE event_id = 'alice:0'") == 0


async def test_a_drop_is_marked_and_refused_once_more_has_come(bench: Bench, database: Database) -> None:
    entry = await held_alice(bench, database)
    store = CommandStore(database, owner="nobody")
    keycloak = Played()
    async with draining(database, keycloak):
        late = await store.queue([order(entry, Action.DROP, arrivals=2)], actor="a", why=None)
        await until(lambda: bench.value("SELECT COUNT(*) FROM audit") == 1, what="an answer")
        assert bench.counts() == {"HELD": 1, "PENDING": 2}
        await store.queue([order(entry, Action.DROP)], actor="a", why=None)
        await until(lambda: bench.counts() == {"DEAD_LETTER": 1, "DELIVERED": 2}, what="a dropped entry")

    assert (await store.tally(late)).refused == {"more events of that user have come since: look again": 1}
    assert keycloak.applied == ["alice:1", "alice:2"]
    assert bench.rows(
        "SELECT state_reason, ended_at IS NOT NULL AS ended FROM entries WHERE state = 'DEAD_LETTER'"
    ) == [{"state_reason": "dropped", "ended": 1}]
    assert bench.value("SELECT kind FROM marks") == "dead"


async def test_a_hold_is_released_and_the_lane_goes_on(bench: Bench, database: Database) -> None:
    entry = await held_alice(bench, database)
    bench.change("UPDATE entries SET state = 'DEAD_LETTER', ended_at = NOW(6) WHERE entry_id = %s", entry)
    bench.change(
        "INSERT INTO folds (lane_id, shard, fields, held_by_entry, held_reason) VALUES (%s, %s, '{}', %s, 'conflict')",
        ALICE,
        ALICE[0],
        entry,
    )
    store = CommandStore(database, owner="nobody")
    keycloak = Played()
    async with draining(database, keycloak, sweep=0.1):
        await until(lambda: bench.value("SELECT state FROM lanes") == "HELD", what="a held lane")
        (held,) = await read_held(database, Which(), limit=10)
        assert (held.state, held.behind, held.reason) == (DEAD_LETTER, 2, "conflict")
        release = Order(
            lane_id=ALICE, action=Action.RELEASE_LANE, entry_id=entry, state=DEAD_LETTER, arrivals=3
        )
        await store.queue([release], actor="a", why=None)
        await until(lambda: bench.counts() == {"DEAD_LETTER": 1, "DELIVERED": 2}, what="two delivered")

    assert keycloak.applied == ["alice:1", "alice:2"]
    assert bench.value("SELECT COUNT(*) FROM folds WHERE held_by_entry IS NOT NULL") == 0


async def test_commands_expire(bench: Bench, database: Database) -> None:
    entry = await held_alice(bench, database)
    store = CommandStore(database, owner="nobody")
    request = await store.queue([order(entry)], actor="a", why=None)
    assert bench.value("SELECT TIMESTAMPDIFF(SECOND, asked_at, expires_at) FROM commands") == 3600
    bench.change("UPDATE commands SET expires_at = NOW(6)")
    async with draining(database, Played()):
        await until(lambda: bench.value("SELECT answer FROM commands") is not None, what="an answer")

    assert (await store.tally(request)).expired == 1
    assert bench.counts() == {"HELD": 1, "PENDING": 2}


async def test_the_oldest_command_of_each_lane_comes_first_and_none_is_passed_over(
    bench: Bench, database: Database
) -> None:
    users = ("alice", "bob", "carol", "dave", "erin")
    await (await Writer.take(database)).persist([update(f"{user}:0", user) for user in users])
    lanes = [lane_id(REALM, user) for user in users]
    foreign = shard_of(lanes[-1])
    ours = {shard_of(lane) for lane in lanes} - {foreign}
    store = CommandStore(database, owner="first")
    # Three of each lane; the last lane is somebody else's.
    orders = [replace(order(n), lane_id=lane) for n in range(3) for lane in lanes]
    await store.queue(orders, actor="a", why=None)

    seen: dict[bytes, list[int]] = {}
    while commands := await store.waiting(ours, limit=2):
        assert len({command.lane.lane_id for command in commands}) == len(commands) <= 2
        for command in commands:
            seen.setdefault(command.lane.lane_id, []).append(command.entry_id)
            bench.change("UPDATE commands SET answer = 'DONE' WHERE command_id = %s", command.command_id)

    assert seen == {lane: [0, 1, 2] for lane in lanes if shard_of(lane) != foreign}


@pytest.mark.parametrize("lost", [False, True])
async def test_a_zombie_changes_nothing(bench: Bench, database: Database, lost: bool) -> None:  # noqa: FBT001 - with and without the fence
    entry = await held_alice(bench, database)
    store = CommandStore(database, owner="first")
    leases = LeaseStore(database, owner="first", roles="", version="0", seconds=30)
    tokens = await leases.acquire([ALICE[0]])
    await store.queue([order(entry)], actor="a", why=None)
    commands = await store.waiting(tokens, limit=10)
    if lost:
        bench.change("UPDATE leases SET token = token + 1, owner = 'second' WHERE shard = %s", ALICE[0])

    written = await CommandExecutor(store).execute(commands, tokens)

    assert len(written) == (not lost)
    assert bench.counts() == ({"HELD": 1, "PENDING": 2} if lost else {"PENDING": 3})
    assert bench.value("SELECT COUNT(*) FROM audit") == (not lost)


@pytest.mark.parametrize("action", [Action.RELEASE, Action.DROP])
async def test_a_command_is_answered_once_even_if_the_commit_of_the_first_try_was_late(
    bench: Bench, database: Database, action: Action
) -> None:
    """Whoever tries again read how things stand before that COMMIT."""
    entry = await held_alice(bench, database)
    store = CommandStore(database, owner="first")
    tokens = await LeaseStore(database, owner="first", roles="", version="0", seconds=30).acquire([ALICE[0]])
    await store.queue([order(entry, action)], actor="a", why=None)
    (command,) = await store.waiting(tokens, limit=10)
    found = await store.found([command])
    answer = decide(command, found[command.command_id], token=tokens[ALICE[0]])

    first, second = await store.settle([answer]), await store.settle([answer])

    assert (first, second) == (set(), {ALICE})
    assert bench.value("SELECT COUNT(*) FROM audit") == 1


@pytest.mark.parametrize("state", ["PENDING", "DEAD_LETTER"])
async def test_what_changed_between_the_look_and_the_word_is_left_alone(
    bench: Bench, database: Database, state: str
) -> None:
    """An entry whose kind became known is released, or refused, while an operator drops it."""
    entry = await held_alice(bench, database)
    store = CommandStore(database, owner="first")
    tokens = await LeaseStore(database, owner="first", roles="", version="0", seconds=30).acquire([ALICE[0]])
    await store.queue([order(entry, Action.DROP)], actor="a", why=None)
    (command,) = await store.waiting(tokens, limit=10)
    found = await store.found([command])
    answer = decide(command, found[command.command_id], token=tokens[ALICE[0]])
    bench.change(
        "UPDATE entries SET state = %s, state_reason = 'meanwhile' WHERE entry_id = %s", state, entry
    )

    assert await store.settle([answer]) == {ALICE}
    assert bench.value("SELECT state FROM entries WHERE entry_id = %s", entry) == state
    assert bench.value("SELECT COUNT(*) FROM marks") == 0

    (again,) = await CommandExecutor(store).execute([command], tokens)
    assert (again.verdict, again.detail) == (Verdict.REFUSED, f"the entry is {state} now")


async def test_a_dead_letter_that_holds_its_lane_is_never_purged(bench: Bench, database: Database) -> None:
    """Not even when nothing stands behind it, and the hint of the lane was lost."""
    entry = await held_alice(bench, database, behind=0)
    bench.change(
        "UPDATE entries SET state = 'DEAD_LETTER', ended_at = NOW(6) - INTERVAL 100 DAY WHERE entry_id = %s",
        entry,
    )
    bench.change("UPDATE lanes SET state = 'IDLE'")
    bench.change(
        "INSERT INTO folds (lane_id, shard, fields, held_by_entry, held_reason) VALUES (%s, %s, '{}', %s, 'conflict')",
        ALICE,
        ALICE[0],
        entry,
    )

    kept = await bench.kcsync("cleanup")
    left = bench.value("SELECT COUNT(*) FROM entries")
    bench.change("UPDATE folds SET held_by_entry = NULL")
    await bench.kcsync("cleanup")

    assert kept.code == 0, kept.err
    assert (left, bench.value("SELECT COUNT(*) FROM entries")) == (1, 0)
