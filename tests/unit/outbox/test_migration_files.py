from __future__ import annotations

import hashlib
import re
from importlib import resources

import pytest

from consumer.outbox.errors import SchemaMismatch
from consumer.outbox.migrate import Migration, _missing, migrations

Applied = dict[int, tuple[str, bytes]]


def applied(*, upto: int | None = None) -> Applied:
    return {m.version: (m.name, m.checksum) for m in migrations() if upto is None or m.version <= upto}


class TestTheFiles:
    def test_are_numbered_without_repetition(self) -> None:
        """Gaps are let pass: numbers are handed out in ranges."""
        versions = [m.version for m in migrations()]

        assert versions == sorted(set(versions))

    def test_are_all_migrations(self) -> None:
        folder = resources.files("consumer.outbox").joinpath("migrations")

        files = {file.name for file in folder.iterdir() if not file.name.startswith("__")}

        assert files == {f"{m.version:04d}_{m.name}.sql" for m in migrations()}

    @pytest.mark.parametrize("migration", migrations(), ids=lambda m: m.name)
    def test_hold_one_statement_each(self, migration: Migration) -> None:
        text = re.sub(r"^--.*$", "", migration.sql, flags=re.MULTILINE)
        outside_quotes = re.sub(r"'[^']*'", "", text)

        assert outside_quotes.count(";") == 1
        assert outside_quotes.rstrip().endswith(";")

    @pytest.mark.parametrize("migration", migrations(), ids=lambda m: m.name)
    def test_can_be_run_again_because_ddl_is_not_rolled_back(self, migration: Migration) -> None:
        again = (
            r"IF NOT EXISTS|ON DUPLICATE KEY UPDATE"
            r"|^ALTER TABLE \w+\n  MODIFY COLUMN [^,]*;"
            r"|^UPDATE \w+ SET (\w+) = .* AND \1 IS NULL;|^UPDATE \w+ SET (\w+) = NULL WHERE .* AND \2 IS NOT NULL;"
        )
        assert re.search(again, migration.sql, re.MULTILINE)

    @pytest.mark.parametrize("migration", migrations(), ids=lambda m: m.name)
    def test_compare_texts_as_bytes(self, migration: Migration) -> None:
        if "CREATE TABLE" in migration.sql:
            assert "COLLATE = utf8mb4_nopad_bin" in migration.sql

    @pytest.mark.parametrize("migration", migrations(), ids=lambda m: m.name)
    def test_hold_nothing_that_the_driver_would_take_for_a_parameter(self, migration: Migration) -> None:
        assert "%" not in migration.sql


def test_the_checksum_is_of_the_whole_text() -> None:
    assert Migration(1, "x", "SELECT 1").checksum == hashlib.sha256(b"SELECT 1").digest()


class TestWhatIsMissing:
    def test_is_everything_in_an_empty_database(self) -> None:
        assert _missing({}) == migrations()

    def test_is_what_came_since(self) -> None:
        assert [m.version for m in _missing(applied(upto=3))][:2] == [4, 5]

    def test_is_nothing_when_all_is_applied(self) -> None:
        assert _missing(applied()) == []

    def test_includes_one_left_out_in_between(self) -> None:
        some = applied()
        del some[2]

        assert [m.version for m in _missing(some)] == [2]

    def test_a_migration_of_a_newer_version_is_refused(self) -> None:
        with pytest.raises(SchemaMismatch, match="9999_from_the_future"):
            _missing({**applied(), 9999: ("from_the_future", b"\0" * 32)})

    def test_a_migration_that_was_changed_is_refused(self) -> None:
        with pytest.raises(SchemaMismatch, match="another text"):
            _missing({**applied(), 1: (migrations()[0].name, b"\0" * 32)})
