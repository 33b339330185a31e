from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from consumer.outbox.horizon import Horizon, SeenLog, horizons

MONTH = timedelta(days=30)
NOW = datetime(2026, 11, 21, 12)  # noqa: DTZ001 - as the database gives it
SLACK = timedelta(minutes=1)


def seen(topic_id: int, partition: int, *, start: int | None = 100) -> SeenLog:
    """A partition of which Kafka holds 100 records, all of them ingested."""
    return SeenLog(
        topic_id=topic_id,
        partition=partition,
        next_offset=200,
        log_start=start,
        log_end=None if start is None else 200,
        log_seen_at=None if start is None else NOW,
    )


def test_what_kafka_has_no_longer_goes_when_it_is_old() -> None:
    logs = [seen(1, 0), replace(seen(1, 1), log_start=150, next_offset=300)]

    assert horizons(logs, MONTH) == [Horizon(1, NOW - SLACK - MONTH, {0: 100, 1: 150})]


def test_all_that_kafka_still_has_stays() -> None:
    assert horizons([seen(1, 0, start=0), seen(1, 1, start=0)], MONTH) == []
    assert horizons([seen(1, 0, start=0), seen(1, 1)], MONTH) == [Horizon(1, NOW - SLACK - MONTH, {1: 100})]


def test_the_age_counts_to_where_the_slowest_partition_was_read() -> None:
    """A duplicate may wait in any of them, though it was published within the age."""
    behind = replace(seen(1, 1), log_seen_at=NOW - timedelta(days=3))

    (horizon,) = horizons([seen(1, 0), behind, seen(1, 2)], MONTH)

    assert horizon.before == NOW - SLACK - MONTH - timedelta(days=3)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(seen(1, 1), next_offset=199), id="a record is unread"),
        pytest.param(seen(1, 1, start=None), id="nobody has looked"),
    ],
)
def test_nothing_of_a_topic_goes_while_a_partition_may_hold_an_unread_duplicate(other: SeenLog) -> None:
    assert horizons([seen(1, 0), other], MONTH) == []


def test_topics_are_judged_apart() -> None:
    logs = [seen(2, 0), seen(1, 0, start=None), seen(3, 0, start=7), seen(1, 1)]

    assert [(each.topic_id, each.starts) for each in horizons(logs, MONTH)] == [(2, {0: 100}), (3, {0: 7})]
