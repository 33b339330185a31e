from __future__ import annotations

from pathlib import Path

from consumer.cli.reasons_page import render_page
from consumer.delivery.outcome import Reason
from consumer.drain.reasons import DrainReason
from consumer.ingest.reasons import PoisonReason

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "reasons.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), (
        "run: python -m consumer.cli.reasons_page > docs/reference/reasons.md"
    )


def test_the_page_has_a_row_for_every_reason() -> None:
    rows = [line.split("|") for line in render_page().splitlines() if line.startswith("| `")]

    assert sorted(row[1].strip(" `") for row in rows) == sorted(
        [*map(str, Reason), *map(str, DrainReason), *map(str, PoisonReason)]
    )
    assert {len(row) for row in rows} == {4, 6}, "no text breaks its row"
