"""Bring the schema up to date: numbered SQL files, one statement each, forward only.

MariaDB commits DDL by itself, so a migration cannot be rolled back half-way: each file holds one statement that can be
run again. A server lock keeps instances that start together from migrating together.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

from consumer.outbox.database import Database, Transaction
from consumer.outbox.errors import SchemaMismatch
from consumer.outbox.server import check_server

__all__ = ["Migration", "check_schema", "migrate", "migrations"]

_NAME = re.compile(r"^(\d{4})_(\w+)\.sql$")
_LOCK_SECONDS = 60

_CREATE_HISTORY = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  version    INT UNSIGNED NOT NULL,
  name       VARCHAR(128) NOT NULL,
  checksum   BINARY(32)   NOT NULL,
  applied_at DATETIME(6)  NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (version)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin
"""
_HISTORY = "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
_HAS_HISTORY = (
    "SELECT 1 AS present FROM information_schema.tables"
    " WHERE table_schema = DATABASE() AND table_name = 'schema_migrations'"
)
_RECORD = "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> bytes:
        """SHA-256 of the file: an applied migration must never change."""
        return hashlib.sha256(self.sql.encode()).digest()


def migrations() -> list[Migration]:
    """All migrations of this version, in order."""
    files = resources.files("consumer.outbox").joinpath("migrations").iterdir()
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in files
        if (match := _NAME.match(file.name))
    ]
    return sorted(found, key=lambda migration: migration.version)


async def migrate(database: Database) -> list[Migration]:
    """Apply what is missing; the migrations that were applied now.

    Raises:
        ServerUnsupported: the server is none that the outbox can rely on.
        SchemaMismatch: the database holds a migration that this version does not know, or another text of one.
        DatabaseUnavailable: MariaDB cannot be reached.
    """

    async def work(tx: Transaction) -> list[Migration]:
        row = await tx.fetch_one(
            "SELECT GET_LOCK(CONCAT(DATABASE(), '.kcsync_migrate'), %s) AS got", (_LOCK_SECONDS,)
        )
        if row is None or row["got"] != 1:
            raise SchemaMismatch(
                f"another process has been migrating this database for {_LOCK_SECONDS} s; "
                "wait for it, then run `kcsync migrate` again"
            )
        try:
            await tx.execute(_CREATE_HISTORY)
            missing = _missing(await _applied(tx))
            for migration in missing:
                await tx.execute(migration.sql)
                await tx.execute(_RECORD, (migration.version, migration.name, migration.checksum))
            # Before the lock is given up: whoever waits for it must find the last one recorded.
            await tx.execute("COMMIT")
            return missing
        finally:
            await tx.execute("DO RELEASE_LOCK(CONCAT(DATABASE(), '.kcsync_migrate'))")

    await check_server(database)
    # A connection of its own: migrating may take longer than any other transaction is allowed to.
    patient = database.patient(_LOCK_SECONDS * 10)
    try:
        return await patient.transact(work)
    finally:
        await patient.aclose()


async def check_schema(database: Database) -> None:
    """Refuse to work on a schema that is not exactly ours.

    Raises:
        SchemaMismatch: with what is missing or foreign, and what to do.
    """
    if await database.fetch_one(_HAS_HISTORY) is None:
        raise SchemaMismatch(f"the database {database.address} has no kcsync tables; run `kcsync migrate`")
    missing = _missing(await database.transact(_applied))
    if missing:
        raise SchemaMismatch(
            f"the database {database.address} lacks migration {missing[0].version:04d}_{missing[0].name}"
            f" and {len(missing) - 1} more; run `kcsync migrate`"
        )


async def _applied(tx: Transaction) -> dict[int, tuple[str, bytes]]:
    return {row["version"]: (row["name"], row["checksum"]) for row in await tx.fetch(_HISTORY)}


def _missing(applied: dict[int, tuple[str, bytes]]) -> list[Migration]:
    known = {migration.version: migration for migration in migrations()}
    for version, (name, checksum) in applied.items():
        if version not in known:
            raise SchemaMismatch(
                f"the database holds migration {version:04d}_{name}, which this version of kcsync does not know; "
                "run the newer version that wrote it"
            )
        if known[version].checksum != checksum:
            raise SchemaMismatch(
                f"migration {version:04d}_{name} was applied with another text than this version has; "
                "an applied migration must not change: install the release that wrote it, or restore a backup"
            )
    return [migration for version, migration in sorted(known.items()) if version not in applied]
