from __future__ import annotations

import itertools

import pytest

from consumer.cli.exit_codes import ExitCode, exit_code_table, worst


def test_the_numbers_are_a_promise_to_scripts() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "HEALTHY": 0,
        "INTERNAL": 1,
        "USAGE": 2,
        "DEGRADED": 3,
        "DEAD_LETTERS": 4,
        "UNREACHABLE": 5,
        "PARTIAL": 6,
        "DRIFT": 7,
    }


class TestWorst:
    def test_without_any_all_is_well(self) -> None:
        assert worst() is ExitCode.HEALTHY

    @pytest.mark.parametrize(
        ("codes", "expected"),
        [
            ((ExitCode.HEALTHY, ExitCode.PARTIAL), ExitCode.PARTIAL),
            ((ExitCode.DEAD_LETTERS, ExitCode.PARTIAL), ExitCode.DEAD_LETTERS),
            ((ExitCode.DEAD_LETTERS, ExitCode.DRIFT), ExitCode.DRIFT),
            ((ExitCode.DEGRADED, ExitCode.DRIFT, ExitCode.DEAD_LETTERS), ExitCode.DEGRADED),
            ((ExitCode.DEGRADED, ExitCode.UNREACHABLE), ExitCode.UNREACHABLE),
            ((ExitCode.USAGE, ExitCode.UNREACHABLE), ExitCode.USAGE),
            ((ExitCode.INTERNAL, ExitCode.USAGE), ExitCode.INTERNAL),
        ],
    )
    def test_causes_go_before_consequences(self, codes: tuple[ExitCode, ...], expected: ExitCode) -> None:
        assert worst(*codes) is expected
        assert worst(*reversed(codes)) is expected

    def test_every_code_has_its_place(self) -> None:
        for one, other in itertools.product(ExitCode, repeat=2):
            assert worst(one, other) in {one, other}


def test_the_table_has_every_code_with_its_meaning() -> None:
    lines = exit_code_table().splitlines()

    assert len(lines) == 1 + len(ExitCode) + 2
    for code in ExitCode:
        assert f"  {code.value:>3}  {code.meaning}" in lines
    assert max(map(len, lines)) <= 110
