from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.durations import DurationError, format_age, format_duration, parse_duration


class TestParseDuration:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("500ms", 0.5),
            ("30", 30),
            ("0", 0),
            ("30s", 30),
            (" 30s ", 30),
            ("5m", 300),
            ("2h", 7_200),
            ("7d", 604_800),
            ("1h30m", 5_400),  # 3600 + 30 * 60
            ("1d12h", 129_600),  # 86400 + 12 * 3600
            ("1m500ms", 60.5),  # the m is minutes, the ms is not
            ("PT30S", 30),
            ("P7D", 604_800),
            ("PT1H30M", 5_400),
            ("P1DT12H", 129_600),
        ],
    )
    def test_reads_what_people_write(self, text: str, seconds: float) -> None:
        assert parse_duration(text) == timedelta(seconds=seconds)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "it is empty"),
            ("   ", "it is empty"),
            ("-5s", "a duration cannot be negative"),
            ("-PT5S", "a duration cannot be negative"),
            ("PT-5S", "a duration cannot be negative"),
            ("abc", "it is not a duration"),
            ("5 m", "it is not a duration"),
            ("30m1h", "it is not a duration"),
            ("5m5m", "it is not a duration"),
            ("1.5s", "it is not a duration"),
            ("5S", "it is not a duration"),
            ("5w", "it is not a duration"),
            ("P", "it is not a duration"),
            ("PT", "it is not a duration"),
            ("P1DT", "it is not a duration"),
            ("P5M", "it is not a duration"),
            ("٣s", "it is not a duration"),
            ("1e3", "it is not a duration"),
            ("99999999999999999999d", "it is too long"),
            ("9" * 5000, "it is too long"),
        ],
    )
    def test_refuses_the_rest_with_a_reason(self, text: str, reason: str) -> None:
        with pytest.raises(DurationError) as refusal:
            parse_duration(text)

        assert refusal.value.reason == reason
        assert refusal.value.text == text
        assert "write it like 500ms, 30" in str(refusal.value)


class TestFormatDuration:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0s"),
            (0.5, "500ms"),
            (1.25, "1s250ms"),
            (60, "60s"),
            (90, "90s"),
            (120, "2m"),
            (150, "2m30s"),
            (3_600, "1h"),
            (5_400, "1h30m"),
            (86_400, "24h"),
            (172_800, "2d"),
            (604_800, "7d"),
            (-30, "-30s"),
        ],
    )
    def test_writes_it_as_people_say_it(self, seconds: float, text: str) -> None:
        assert format_duration(timedelta(seconds=seconds)) == text

    @given(st.integers(min_value=0, max_value=10**15))
    def test_parse_reads_back_what_format_wrote(self, milliseconds: int) -> None:
        duration = (
            timedelta(milliseconds=milliseconds) if milliseconds < 10**14 else timedelta(days=999_999_999)
        )

        assert parse_duration(format_duration(duration)) == duration


class TestFormatAge:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (-5, "0s"),
            (0.9, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_199, "119m"),
            (7_200, "2h"),
            (172_800, "2d"),
        ],
    )
    def test_keeps_to_one_unit(self, seconds: float, text: str) -> None:
        assert format_age(timedelta(seconds=seconds)) == text
