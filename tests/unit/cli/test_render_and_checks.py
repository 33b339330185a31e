from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from consumer.cli.checks import Check, CheckGroup, checks_exit_code, render_checks
from consumer.cli.exit_codes import ExitCode
from consumer.cli.render import Unknown, age, ago, row, table, when

NOW = datetime(2026, 2, 7, 10, 0, tzinfo=UTC)


class TestWhen:
    @pytest.mark.parametrize(
        ("at", "text"),
        [
            (None, "never"),
            (Unknown("no answer"), "unknown (no answer)"),
            (NOW, "0s ago"),
            (NOW - timedelta(minutes=5), "5m ago"),
            (NOW - timedelta(days=3), "3d ago"),
            (NOW + timedelta(seconds=40), "in 40s"),
        ],
    )
    def test_says_it_as_people_do(self, at: datetime | Unknown | None, text: str) -> None:
        assert ago(at, NOW) == text
        clock = f"{at.isoformat(sep=' ', timespec='seconds')} ({text})" if isinstance(at, datetime) else text
        assert when(at, NOW) == clock


def test_an_age_can_be_none_or_unknown() -> None:
    assert [age(None), age(Unknown("x")), age(timedelta(minutes=3))] == ["none", "unknown (x)", "3m"]


def test_rows_and_tables_are_aligned() -> None:
    assert row("Cooldown", "60s") == "  Cooldown:            60s"
    assert table(("A", "Long"), [("wide cell", 1), ("b", None)]) == [
        "  A          Long",
        "  wide cell  1",
        "  b          None",
    ]


class TestChecks:
    groups = (
        CheckGroup("Configuration", (Check("failure_threshold", "3"),)),
        CheckGroup(
            "Availability Test",
            (
                Check("Keycloak available", "True", took=timedelta(milliseconds=12.4)),
                Check("Kafka available", "False", ExitCode.UNREACHABLE, "is it running at 127.0.0.1:9092?"),
            ),
        ),
        CheckGroup("Database Tables", (Check("entries", "12 rows", ExitCode.DEGRADED),)),
    )

    def test_that_are_right_may_have_something_to_know(self) -> None:
        group = CheckGroup("Availability", (Check("Undeclared attributes", "dropped", hint="declare them"),))

        screen = render_checks([group])

        assert "      → declare them" in screen
        assert screen.endswith("Test complete.")

    def test_are_numbered_with_a_hint_where_something_is_wrong(self) -> None:
        assert render_checks(self.groups).splitlines() == [
            "Testing Keycloak resilience configuration...",
            "1. Configuration:",
            "  ✓ failure_threshold:               3",
            "2. Availability Test:",
            "  ✓ Keycloak available:              True (12 ms)",
            "  ✗ Kafka available:                 False",
            "      → is it running at 127.0.0.1:9092?",
            "3. Database Tables:",
            "  ✗ entries:                         12 rows",
            "Test complete: 2 of the checks failed.",
        ]

    def test_end_with_the_worst_code(self) -> None:
        assert checks_exit_code(self.groups) is ExitCode.UNREACHABLE
        assert checks_exit_code(self.groups[:1]) is ExitCode.HEALTHY
        assert render_checks(self.groups[:1]).endswith("Test complete.")
