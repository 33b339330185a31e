"""Sealing keys as operators handle them: new ones, a rotation with events on the way, and those whose time is over."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from consumer.cli.main import app
from consumer.outbox.database import Database
from producer_lib import PasswordChange, PrehashedPassword, Producer, SealingKey, UserCreate
from tests.integration.support.batches import Writer, update
from tests.integration.support.bench import SOURCE, Bench
from tests.integration.support.waiting import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def keys(bench: Bench, folder: Path, *arguments: str) -> Result:
    """Run `kcsync keys …` inside the test: a process of its own would take a second each."""
    environment = bench.environment(KCSYNC_KEYS_DIR=str(folder))
    return CliRunner().invoke(app, ["keys", *arguments], env=environment)


def waiting_for_key(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in status["drain"]["waiting_for"] if each["reason"] == "unknown_sealing_key"]


def producer(bench: Bench, public_key: str, **options: Any) -> Producer:
    return Producer(
        bootstrap_servers=bench.endpoints.kafka_bootstrap,
        source=SOURCE,
        realm=bench.realm,
        sealing_key=SealingKey.from_text(public_key),
        topic=bench.topic,
        **options,
    )


def sealed_to(kid: str) -> bytes:
    return orjson.dumps({"kid": kid, "alg": "x", "ciphertext": ""})


class TestWithoutAConsumer:
    def test_a_generated_key_is_shown_and_never_overwritten(self, bench: Bench, folder: Path) -> None:
        made = keys(bench, folder, "generate", "2026-11")
        again = keys(bench, folder, "generate", "2026-11")
        older = keys(bench, folder, "generate", "2026-01")
        odd = keys(bench, folder, "generate", "../2026-12")

        assert made.exit_code == 0
        assert SealingKey.from_text(made.stdout).kid == "2026-11"
        assert (again.exit_code, odd.exit_code) == (2, 2)
        assert "exists already" in again.stderr
        assert (older.exit_code, "goes on sealing to 2026-11" in older.stderr) == (0, True)
        assert (folder / "2026-11.key").stat().st_mode & 0o777 == 0o600


async def used(bench: Bench, database: Database) -> None:
    """Something of every sort that is sealed to the old key."""
    await (await Writer.take(database)).persist([update(str(n), f"user-{n}") for n in range(6)])
    prehashed = orjson.dumps({"alg": "argon2id", "sealed": orjson.loads(sealed_to("old"))})
    for number, (state, reason, data, credential) in enumerate(
        [
            ("PENDING", None, b"{}", sealed_to("old")),
            ("PENDING", None, b"{}", prehashed),
            ("HELD", "suspected_cause", b"{}", sealed_to("old")),
            ("HELD", "kind_unregistered", sealed_to("old"), None),
            ("DEAD_LETTER", "password_policy", b"{}", sealed_to("old")),
            ("PENDING", None, b"{}", sealed_to("lost")),
        ]
    ):
        bench.change(
            "UPDATE entries SET state = %s, state_reason = %s, data = %s, credential = %s WHERE username = %s",
            *(state, reason, data, credential, f"user-{number}"),
        )
    bench.change(
        "INSERT INTO folds (lane_id, shard, fields, credential, credential_event_id, credential_at)"
        " SELECT lane_id, shard, '{}', %s, 'e', NOW(6) FROM lanes WHERE username_key IN ('user-0', 'user-1')",
        sealed_to("old"),
    )
    bench.change(
        "INSERT INTO poison (topic_id, partition_no, log_offset, reason, detail, kid, sealed)"
        " VALUES (1, 0, 99, 'not_json', '', %s, '')",
        "old",
    )


@pytest.mark.long
async def test_what_uses_a_key_is_counted_and_keeps_it(
    bench: Bench, database: Database, folder: Path
) -> None:
    await used(bench, database)
    environment = {"KCSYNC_KEYS_DIR": str(folder)}
    for kid in ("old", "older", "p-new"):
        assert (await bench.kcsync("keys", "generate", kid, **environment)).code == 0

    as_json = await bench.kcsync("keys", "list", "--json", **environment)
    as_text = await bench.kcsync("keys", "list", **environment)
    refused = await bench.kcsync("keys", "retire", "old", **environment)
    current = await bench.kcsync("keys", "retire", "p-new", **environment)
    unused = await bench.kcsync("keys", "retire", "older", **environment)
    unknown = await bench.kcsync("keys", "retire", "older", **environment)

    found = {each["kid"]: each for each in json.loads(as_json.out)["keys"]}
    counts = {
        name: found["old"][name] for name in ("pending", "held", "unread", "kept", "poison", "dead_letters")
    }
    assert counts == {"pending": 2, "held": 1, "unread": 1, "kept": 2, "poison": 1, "dead_letters": 1}
    assert [kid for kid, each in found.items() if each["current"]] == ["p-new"]
    assert (found["lost"]["here"], found["lost"]["pending"]) == (False, 1)
    # Something waits for a key that is missing.
    assert (as_json.code, as_text.code) == (3, 3)
    assert "MISSING" in as_text.out
    assert refused.code == 6
    assert (
        "2 pending entries, 1 held entries, 1 held events of unknown kinds, 2 kept passwords, 1 poison"
        in refused.err
    )
    assert (folder / "old.key").exists()
    assert (current.code, "make a newer one first" in current.err) == (2, True)
    assert unused.code == 0, unused.err
    assert (folder / "retired" / "older.key").exists()
    assert (unknown.code, "holds no key 'older'" in unknown.err) == (2, True)
    assert [row["action"] for row in bench.rows("SELECT action FROM audit")] == ["retire key"]


async def test_a_rotation_loses_nothing_and_needs_no_restart(bench: Bench, folder: Path) -> None:
    """As docs/operations.md describes it, with producers that are late and one that is early."""
    environment = {"KCSYNC_KEYS_DIR": str(folder)}
    old = (await bench.kcsync("keys", "generate", "2026-01", **environment)).out
    elsewhere = folder.parent / "elsewhere"
    new = (await bench.kcsync("keys", "generate", "2026-02", KCSYNC_KEYS_DIR=str(elsewhere))).out
    consumer = await bench.started(**environment, KCSYNC_CREDENTIAL_RETENTION="none")
    await until(lambda: bench.value("SELECT COUNT(*) FROM watermarks") == 3, what="partitions taken")

    # Too early: the new public key is out before the private key is in.
    async with producer(bench, old) as late, producer(bench, new) as early:
        await late.publish(UserCreate(username=f"{bench.name}-a", password="first password 1"))
        await early.publish(UserCreate(username=f"{bench.name}-b", password="first password 1"))
        await until(
            lambda: (
                bench.value("SELECT COUNT(*) FROM entries WHERE state_reason = 'unknown_sealing_key'") == 1
            ),
            what="an entry that waits for its key",
            within=60,
        )
        await until(lambda: bench.counts() == {"DELIVERED": 1, "PENDING": 1}, what="the other", within=60)
        # A lane that just tries again is not listed for a moment.
        async with asyncio.timeout(60):
            while not (listed := waiting_for_key(waiting := await bench.status(**environment))):
                pass

        (elsewhere / "2026-02.key").rename(folder / "2026-02.key")
        # The old key is accepted beside the new one, and either opens hashes too.
        await late.publish(
            PasswordChange(
                username=f"{bench.name}-a", password=await PrehashedPassword.of("second password 2")
            )
        )
        await early.publish(PasswordChange(username=f"{bench.name}-a", password="third password 3"))
        await until(lambda: bench.settled(4), what="everything delivered", within=150)

    retired = await bench.kcsync("keys", "retire", "2026-01", **environment)
    await until(
        lambda: "2026-02" in consumer.said.rpartition("sealing keys read again")[2], what="the folder read"
    )

    assert [each["lanes"] for each in listed] == [1]
    assert waiting["exit_code"] == 3
    assert consumer.said.count("sealing key is missing") == 1
    assert retired.code == 0, retired.err
    # With KCSYNC_CREDENTIAL_RETENTION=none nothing that was delivered is left, not even sealed.
    assert bench.value("SELECT COUNT(*) FROM entries WHERE credential IS NOT NULL") == 0
    assert bench.value("SELECT COUNT(*) FROM folds WHERE credential IS NOT NULL") == 0
    assert not [name for name, text in bench.every_text() if b"password 3" in text]
