from __future__ import annotations

import re
from pathlib import Path

import pytest

import consumer
from consumer.delivery.advice import ADVICE, DONE
from consumer.delivery.outcome import Reason
from consumer.drain.reasons import DRAIN_ADVICE, FOR_SOMEBODY, DrainReason, advice_of
from consumer.ingest.reasons import POISON_ADVICE, PoisonReason


def test_every_reason_of_the_drain_says_what_it_means_and_what_to_do() -> None:
    assert DRAIN_ADVICE.keys() == set(DrainReason)
    for advice in DRAIN_ADVICE.values():
        assert advice.meaning
        assert advice.remedy


def test_every_reason_of_poison_says_what_it_means_and_what_to_do() -> None:
    assert POISON_ADVICE.keys() == set(PoisonReason)


@pytest.mark.parametrize("room", ["drain", "ingest"])
def test_no_reason_is_given_that_is_not_in_a_table(room: str) -> None:
    folder = Path(consumer.__file__).parent / room
    given = [
        (file.name, line.strip())
        for file in folder.glob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"\breason ?= ?\"", line) and "_log" not in line
    ]

    # What a held event turns out to be when it can be read, delivery's own code.
    assert [each for each in given if each[0] != "reread.py"] == []


def test_no_code_means_two_things() -> None:
    codes = [*map(str, Reason), *map(str, DrainReason), *map(str, PoisonReason)]

    assert len(codes) == len(set(codes))
    # Of the columns that hold them.
    assert max(map(len, codes)) <= 64


def test_any_code_that_is_stored_is_found() -> None:
    assert {code for code in map(str, Reason) if advice_of(code) is None} == set(map(str, DONE))
    assert advice_of("suspected_cause") is DRAIN_ADVICE[DrainReason.SUSPECTED_CAUSE]
    assert advice_of("forbidden") is ADVICE[Reason.FORBIDDEN]
    assert advice_of("of another version") is None


def test_somebody_is_needed_where_neither_time_nor_another_user_helps() -> None:
    assert {"roles_unreadable", "group_missing", "unknown_sealing_key", "deletion_guard"} <= FOR_SOMEBODY
    assert not FOR_SOMEBODY & {"email_in_use", "timeout", "broken_off", "taken_over", "forbidden"}
