from __future__ import annotations

import pytest

from consumer.ingest.retention import ASSUMED, Retention, Unread
from producer_lib import MAX_EVENT_BYTES

DAY = 86400.0
UNLIMITED = Retention(seconds=None, size=None)


class TestWhatTheTopicSays:
    @pytest.mark.parametrize(
        ("policy", "milliseconds", "size", "expected"),
        [
            ("delete", "604800000", "-1", Retention(seconds=7 * DAY, size=None)),
            ("delete", "-1", "1073741824", Retention(seconds=None, size=2**30)),
            ("delete", "-1", "-1", UNLIMITED),
            ("compact,delete", "1000", "5", Retention(seconds=1.0, size=5)),
            # Nothing is removed for its age or size.
            ("compact", "604800000", "5", UNLIMITED),
        ],
    )
    def test_is_read(self, policy: str, milliseconds: str, size: str, expected: Retention) -> None:
        config = {"cleanup.policy": policy, "retention.ms": milliseconds, "retention.bytes": size}

        assert Retention.of(config) == expected

    def test_is_looked_at_often_enough_for_the_shortest(self) -> None:
        seconds = [None, 7 * DAY, 120.0, 3.0]

        assert [Retention(seconds=each, size=None).look_every for each in seconds] == [30, 30, 12, 1]


class TestAge:
    def test_may_reach_half_and_then_must_fall_below_a_quarter(self) -> None:
        assert [ASSUMED.limit(endangered=each) / DAY for each in (False, True)] == [3.5, 1.75]
        assert UNLIMITED.limit(endangered=False) == float("inf")

    @pytest.mark.parametrize(
        ("younger_from", "expected"),
        [
            (None, True),  # all are older
            (101, True),  # the first unread one is
            (100, False),
            (7, False),
        ],
    )
    def test_is_that_of_the_oldest_unread_record(self, younger_from: int | None, *, expected: bool) -> None:
        assert ASSUMED.endangers(Unread(100, 0, 200, younger_from)) is expected

    def test_of_nothing_is_no_danger(self) -> None:
        assert not ASSUMED.endangers(Unread(200, 0, 200, None))

    def test_of_what_is_lost_already_is_no_danger(self) -> None:
        assert not ASSUMED.endangers(Unread(100, 200, 200, None))

    def test_is_no_danger_without_a_limit(self) -> None:
        assert not UNLIMITED.endangers(Unread(0, 0, 10_000_000, None))


class TestSize:
    SIZE = 1000 * MAX_EVENT_BYTES

    @pytest.mark.parametrize(
        ("next_offset", "start", "end", "expected"),
        [
            (1000, 0, 2000, True),  # half of the log is unread
            (1001, 0, 2000, False),
            (1500, 1000, 2100, True),  # 600 of 1,100
            (1500, 500, 2100, False),  # 600 of 1,600
            # All of it, and however large each were, no half of what Kafka keeps.
            (0, 0, 500, False),
            (0, 0, 501, True),
            (0, 1500, 2001, True),  # some are lost already
        ],
    )
    def test_lets_half_of_the_log_be_unread(
        self, next_offset: int, start: int, end: int, *, expected: bool
    ) -> None:
        retention = Retention(seconds=None, size=self.SIZE)

        assert retention.endangers(Unread(next_offset, start, end, None)) is expected
