from __future__ import annotations

import pytest

from consumer.cli.cleanup_report import cleanup_lines
from consumer.outbox.purge import Purged
from tests.unit.settings.test_settings import load

REMOVED = dict.fromkeys(Purged, 0) | {Purged.DELIVERED: 3, Purged.POISON: 2, Purged.EVENT: 4}


def test_says_what_went_after_how_long() -> None:
    assert list(cleanup_lines(REMOVED, load(), dry_run=False)) == [
        "Removed 3 completed syncs (>7d)",
        "Removed 0 superseded entries (>7d)",
        "Removed 0 dead letters (>30d)",
        "Removed 2 poison records (>30d)",
        "Removed 4 event ids (>30d, and no longer in Kafka)",
        "Removed 0 marks (>30d, and no longer in Kafka)",
        "Removed 0 last passwords (>1h)",
        "Removed 0 silent instances (>24h)",
    ]


def test_a_dry_run_says_what_would_go() -> None:
    assert next(iter(cleanup_lines(REMOVED, load(), dry_run=True))) == "Would remove 3 completed syncs (>7d)"


def test_names_kinds_that_stay_for_another_time() -> None:
    settings = load(
        dead_letter_retention="never",
        kind_overrides="user_delete.delivered_retention=30d,user_create.delivered_retention=never,"
        "user_delete.dead_letter_retention=90d,user_update.max_attempts=3,user_update.delivered_retention=7d",
    )

    lines = list(cleanup_lines(REMOVED, settings, dry_run=False))

    assert lines[0] == "Removed 3 completed syncs (>7d, user_delete >30d, user_create never)"
    assert lines[2] == "Removed 0 dead letters (never, user_delete >90d)"
    assert lines[3] == "Kept all poison records (retention: never)"


@pytest.mark.parametrize(
    ("retention", "line"),
    [
        ("last", "Kept all last passwords (retention: last)"),
        ("none", "Removed 4 last passwords (none is kept)"),
        ("30m", "Removed 4 last passwords (>30m)"),
    ],
)
def test_says_which_passwords_stay(retention: str, line: str) -> None:
    removed = REMOVED | {Purged.PASSWORD: 4}

    assert line in list(cleanup_lines(removed, load(credential_retention=retention), dry_run=False))


def test_says_that_nothing_can_go() -> None:
    settings = load(delivered_retention="never", ledger_retention="never")

    lines = list(cleanup_lines(REMOVED, settings, dry_run=False))

    assert [line for line in lines if line.startswith("Kept")] == [
        "Kept all completed syncs (retention: never)",
        "Kept all superseded entries (retention: never)",
        "Kept all event ids (retention: never)",
        "Kept all marks (retention: never)",
    ]
