"""The table of design.md 3.5, as far as this version handles it, row by row."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.ingest.resume import Committed, Finding, LogRange, decide

LOG = LogRange(start=10, end=100)


def ours(offset: int) -> Committed:
    return Committed(offset, ours=True)


def foreign(offset: int) -> Committed:
    return Committed(offset, ours=False)


@pytest.mark.parametrize(
    ("watermark", "committed", "finding", "offset"),
    [
        # stamp ours, not above the watermark
        (50, ours(50), Finding.CONTINUED, 50),
        (50, ours(49), Finding.CONTINUED, 50),
        (50, ours(0), Finding.CONTINUED, 50),
        # not ours, below
        (50, foreign(49), Finding.RESET_BELOW, 50),
        (50, foreign(0), Finding.RESET_BELOW, 50),
        # not ours, equal
        (50, foreign(50), Finding.CONTINUED, 50),
        # not ours, above
        (50, foreign(51), Finding.RESET_ABOVE, 50),
        (50, foreign(1000), Finding.RESET_ABOVE, 50),
        # ours, above the watermark or without one
        (50, ours(51), Finding.DATABASE_BEHIND, None),
        (None, ours(50), Finding.DATABASE_BEHIND, None),
        (None, ours(10), Finding.DATABASE_BEHIND, None),
        # none, watermark known
        (50, None, Finding.OFFSETS_LOST, 50),
        # none or not ours, no watermark
        (None, None, Finding.FIRST_START, 10),
        (None, foreign(40), Finding.FIRST_START, 40),
        (None, foreign(9), Finding.FIRST_START, 10),
        (None, foreign(101), Finding.FIRST_START, 100),
        # log start beyond the watermark; at the watermark nothing is missing
        (9, None, Finding.RETENTION_GAP, 10),
        (9, ours(9), Finding.RETENTION_GAP, 10),
        (9, foreign(5), Finding.RETENTION_GAP, 10),
        (10, None, Finding.OFFSETS_LOST, 10),
        # the log ends before the watermark; at the watermark everything is read
        (101, ours(101), Finding.LOG_TRUNCATED, None),
        (101, None, Finding.LOG_TRUNCATED, None),
        (100, ours(100), Finding.CONTINUED, 100),
    ],
)
def test_where_a_partition_goes_on(
    watermark: int | None, committed: Committed | None, finding: Finding, offset: int | None
) -> None:
    resume = decide(watermark, committed, LOG)

    assert (resume.finding, resume.offset) == (finding, offset)


@pytest.mark.parametrize(
    ("watermark", "committed", "log", "first"),
    [
        pytest.param(
            101, ours(150), LOG, Finding.LOG_TRUNCATED, id="a truncated log, before a database behind"
        ),
        pytest.param(
            5, ours(50), LOG, Finding.DATABASE_BEHIND, id="a database behind, before the gap it shows as"
        ),
    ],
)
def test_of_two_findings_the_one_that_stops_is_told(
    watermark: int, committed: Committed, log: LogRange, first: Finding
) -> None:
    assert decide(watermark, committed, log).finding is first


def test_a_retention_gap_names_exactly_what_is_lost() -> None:
    resume = decide(7, None, LOG)

    assert resume.missing == (7, 10)
    assert resume.needs_operator is not None
    assert "7 to 9" in resume.needs_operator


@pytest.mark.parametrize(
    ("watermark", "committed"),
    [(50, foreign(40)), (50, foreign(60)), (5, None), (50, ours(60)), (None, ours(60)), (200, None)],
)
def test_what_somebody_must_know_is_said(watermark: int | None, committed: Committed | None) -> None:
    assert decide(watermark, committed, LOG).needs_operator


@pytest.mark.parametrize(
    ("watermark", "committed"),
    [(50, ours(50)), (50, foreign(50)), (50, None), (None, None), (None, foreign(50))],
)
def test_what_is_ordinary_raises_no_alarm(watermark: int | None, committed: Committed | None) -> None:
    assert decide(watermark, committed, LOG).needs_operator is None


offsets = st.integers(min_value=0, max_value=60)


@settings(deadline=None)
@given(
    watermark=st.none() | offsets,
    committed=st.none() | st.builds(Committed, offsets, st.booleans()),
    log=st.tuples(offsets, offsets).map(lambda ends: LogRange(min(ends), max(ends))),
)
def test_reading_never_goes_below_the_watermark_nor_outside_the_log(
    watermark: int | None, committed: Committed | None, log: LogRange
) -> None:
    resume = decide(watermark, committed, log)

    if resume.offset is None:
        assert resume.needs_operator
        return
    assert log.start <= resume.offset <= log.end
    assert watermark is None or resume.offset >= watermark
    if watermark is not None and resume.offset > watermark:
        # The only way to leave something out is that Kafka no longer has it.
        assert resume.missing == (watermark, resume.offset) == (watermark, log.start)
