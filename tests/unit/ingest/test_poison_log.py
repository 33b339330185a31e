from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from consumer.ingest.poison_log import PoisonLog
from consumer.outbox.rows import PoisonRow, Position

Lines = list[MutableMapping[str, Any]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged."""
    with structlog.testing.capture_logs() as caught:
        yield caught


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def poison(*offsets: int, reason: str = "not_json") -> list[PoisonRow]:
    return [
        PoisonRow(
            position=Position(1, 2, offset),
            reason=reason,
            detail="no JSON",
            lane_id=None,
            key=None,
            timestamp=None,
            length=0,
            digest=b"",
            kept=0,
            kid="k1",
            sealed=b"",
        )
        for offset in offsets
    ]


def test_the_first_of_a_minute_are_said_one_by_one_and_the_others_together(lines: Lines) -> None:
    clock = Clock()
    log = PoisonLog(clock=clock)

    log.note(poison(*range(7)))
    log.note(poison(*range(7, 500)))
    log.note(poison(500, reason="too_large"))
    log.tick()

    assert [line["offset"] for line in lines] == list(range(10))
    assert {(line["reason"], line["detail"], line["partition"]) for line in lines} == {
        ("not_json", "no JSON", 2)
    }

    clock.now += 60
    log.tick()
    log.tick()

    (last,) = lines[10:]
    assert (last["event"], last["log_level"]) == ("more records are poison", "error")
    assert (last["records"], last["reasons"]) == (491, {"not_json": 490, "too_large": 1})


def test_the_next_minute_begins_anew(lines: Lines) -> None:
    clock = Clock()
    log = PoisonLog(clock=clock)
    log.note(poison(*range(12)))
    clock.now += 61

    log.note(poison(12))

    assert [line["event"] for line in lines[10:]] == ["more records are poison", "record is poison"]


def test_who_stops_says_what_it_has_not_said_yet(lines: Lines) -> None:
    log = PoisonLog(clock=Clock())
    log.note(poison(*range(12)))

    log.summarise()

    assert lines[-1]["records"] == 2


def test_nothing_is_said_of_nothing(lines: Lines) -> None:
    log = PoisonLog(clock=Clock())

    log.note([])
    log.tick()
    log.summarise()

    assert lines == []
