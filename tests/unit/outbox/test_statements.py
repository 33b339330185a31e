from __future__ import annotations

import ast
import re
from importlib import resources
from pathlib import Path

import pytest

import consumer
from consumer.outbox.bulk import multi_row_statements
from consumer.outbox.statements import load_statements

FILES = sorted(
    file.name.removesuffix(".sql") for file in resources.files("consumer.outbox").joinpath("sql").iterdir()
)
SOURCES = sorted(Path(consumer.__file__).parent.rglob("*.py"))
ALL = {(file, name): sql for file in FILES for name, sql in load_statements(file).items()}


def used() -> set[tuple[str, str]]:
    """Each `_SQL["name"]` in the source, with the file its variable was loaded from."""
    found = set()
    for source in SOURCES:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        loaded = {
            node.targets[0].id: node.value.args[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and node.value.func.id == "load_statements"
            and isinstance(node.value.args[0], ast.Constant)
        }
        found |= {
            (str(loaded[node.value.id]), str(node.slice.value))
            for node in ast.walk(tree)
            if isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id in loaded
            and isinstance(node.slice, ast.Constant)
        }
    return found


class TestLoading:
    def test_gives_statements_without_their_comments(self) -> None:
        assert (
            load_statements("leases")["forget_instance"]
            == "DELETE FROM instances WHERE instance = %(instance)s"
        )

    def test_refuses_a_name_given_twice(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "sql").mkdir()
        (tmp_path / "sql" / "twice.sql").write_text(
            "-- name: a\n-- One.\nSELECT 1;\n-- name: a\n-- Two.\nSELECT 2;\n", encoding="utf-8"
        )
        monkeypatch.setattr(resources, "files", lambda _: tmp_path)

        with pytest.raises(ValueError, match="twice"):
            load_statements("twice")

    def test_writes_what_statements_have_in_common_into_each(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "sql").mkdir()
        (tmp_path / "sql" / "parts.sql").write_text(
            "-- name: columns\n-- A part.\na, b;\n-- name: all\n-- It.\nSELECT {columns} FROM t;\n",
            encoding="utf-8",
        )
        monkeypatch.setattr(resources, "files", lambda _: tmp_path)

        assert load_statements("parts") == {"all": "SELECT a, b FROM t"}


class TestTheFiles:
    @pytest.mark.parametrize("statement", ALL.values(), ids=["/".join(key) for key in ALL])
    def test_hold_one_statement_a_name(self, statement: str) -> None:
        assert statement
        assert ";" not in statement

    @pytest.mark.parametrize("file", FILES)
    def test_say_of_each_statement_what_it_is_for(self, file: str) -> None:
        text = resources.files("consumer.outbox").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")

        assert re.findall(r"^-- name: (\w+)$", text, re.MULTILINE) == re.findall(
            r"^-- name: (\w+)\n-- [A-Z].*\.$", text, re.MULTILINE
        ), "each name is followed by a sentence"

    def test_hold_nothing_that_nobody_uses_and_all_that_is_used(self) -> None:
        assert used() == ALL.keys()

    @pytest.mark.parametrize("statement", ALL.values(), ids=["/".join(key) for key in ALL])
    def test_compare_no_time_with_a_clock_of_ours(self, statement: str) -> None:
        # Spans come in, moments are the database's: instances need no common clock.
        assert not re.search(r"%\((now|at|time)(_\w+)?\)s", statement)


def bulk_inserts() -> set[tuple[str, str]]:
    """The statements that are handed to `multi_row_statements`."""
    found = set()
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        for call in re.findall(r'multi_row_statements\(\s*_SQL\["(\w+)"\]', text):
            found.add((source.stem.removesuffix("_store"), call))
    return found


class TestBulkInserts:
    @pytest.mark.parametrize("key", sorted(bulk_inserts()), ids="/".join)
    def test_become_one_statement_for_many_rows(self, key: tuple[str, str]) -> None:
        sql = ALL[key]
        columns = sql[: sql.index(")")].count(",") + 1

        ((statement, _),) = multi_row_statements(sql, [[7] * columns] * 3)

        row = "(" + ",".join(["7"] * columns) + ")"
        assert f"VALUES {row},{row},{row}" in statement
        assert "%s" not in statement

    def test_are_found_by_this_test(self) -> None:
        assert {("ingest", "insert_entries"), ("drain", "insert_attempts")} <= bulk_inserts()
