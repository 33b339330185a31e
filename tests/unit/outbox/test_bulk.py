from __future__ import annotations

from datetime import datetime
from typing import cast

import pytest

from consumer.outbox import bulk
from consumer.outbox.bulk import Value, multi_row_statements, packets

SQL = "INSERT INTO t (a, b) VALUES (%s, %s)"


def only(sql: str, *rows: tuple[Value, ...]) -> str:
    ((statement, parameters),) = multi_row_statements(sql, rows)
    assert parameters is None
    return statement


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (7, "7"),
        (-1, "-1"),
        (2**64 - 1, "18446744073709551615"),
        (True, "1"),
        (False, "0"),
        (None, "NULL"),
        ("a", "_utf8mb4 x'61'"),
        ("", "_utf8mb4 x''"),
        ("ö", "_utf8mb4 x'c3b6'"),
        ("'); DROP TABLE t; --", "_utf8mb4 x'27293b2044524f50205441424c4520743b202d2d'"),
        ("100%s", "_utf8mb4 x'3130302573'"),
        (b"", "x''"),
        (b"\x00'\\", "x'00275c'"),
        (datetime(2026, 11, 21, 22, 33, 44, 5), "'2026-11-21 22:33:44.000005'"),  # noqa: DTZ001 - naive UTC, as stored
        (datetime(2026, 11, 21), "'2026-11-21 00:00:00'"),  # noqa: DTZ001 - the same
    ],
)
def test_how_a_value_is_written(value: Value, literal: str) -> None:
    assert (
        only("INSERT INTO t (a) VALUES (%s)", (value,)).removeprefix("INSERT INTO t (a) VALUES ")
        == f"({literal})"
    )


def test_rows_share_a_statement_in_their_order() -> None:
    assert only(SQL, (1, 2), (3, 4)) == "INSERT INTO t (a, b) VALUES (1,2),(3,4)"


def test_what_follows_the_values_stays() -> None:
    sql = "INSERT INTO t (a)\nVALUES (%s)\nON DUPLICATE KEY UPDATE a = VALUES(a)"

    assert only(sql, (1,), (2,)) == "INSERT INTO t (a)\nVALUES (1),(2)\nON DUPLICATE KEY UPDATE a = VALUES(a)"


def test_no_rows_make_no_statement() -> None:
    assert list(multi_row_statements(SQL, [])) == []


def test_a_statement_ends_before_it_is_too_long_and_no_row_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_LONGEST", 40)

    made = [statement for statement, _ in multi_row_statements(SQL, [(n, n) for n in range(100)])]

    assert len(made) > 1
    assert all(len(statement) < len(SQL) + 40 for statement in made)
    rows = ",".join(statement.partition("VALUES ")[2] for statement in made)
    assert rows == ",".join(f"({n},{n})" for n in range(100))


def test_a_row_longer_than_the_limit_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_LONGEST", 10)

    assert len(list(multi_row_statements(SQL, [(1, 2), (b"x" * 50, 3), (4, 5)]))) == 3


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE t SET a = %s",
        "INSERT INTO t (a) VALUES (%(a)s)",
        "INSERT INTO t (a, b) VALUES (%s, NOW(6))",
        "INSERT INTO t (a) SELECT %s",
    ],
)
def test_other_statements_are_refused(sql: str) -> None:
    with pytest.raises(ValueError, match="placeholders"):
        only(sql, (1,))


@pytest.mark.parametrize("row", [(1,), (1, 2, 3)])
def test_a_row_of_another_length_is_refused(row: tuple[Value, ...]) -> None:
    with pytest.raises(ValueError, match="2 columns"):
        only(SQL, row)


def test_a_type_that_nobody_has_thought_of_is_refused() -> None:
    with pytest.raises(KeyError):
        only(SQL, (1, cast(Value, 1.5)))


def test_statements_share_a_packet_in_their_order() -> None:
    assert list(packets(["A", "B", "C"])) == ["A;\nB;\nC"]
    assert list(packets([])) == []


def test_a_packet_ends_before_it_is_too_long_and_no_statement_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "_LONGEST", 12)

    assert list(packets(["AAAA", "BBBB", "C" * 20, "D"])) == ["AAAA;\nBBBB", "C" * 20, "D"]
