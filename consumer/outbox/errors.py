"""What can go wrong between us and MariaDB.

OutboxError
├── DatabaseUnavailable    nothing is known to have happened; try again
├── CommitUnknown          the connection was lost while committing; read what is there
├── SchemaMismatch         the database's schema is not the one this version needs
└── ServerUnsupported      the server is no MariaDB that the outbox can rely on
"""

from __future__ import annotations

__all__ = ["CommitUnknown", "DatabaseUnavailable", "OutboxError", "SchemaMismatch", "ServerUnsupported"]


class OutboxError(Exception):
    """Something went wrong between us and MariaDB."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class DatabaseUnavailable(OutboxError):
    """MariaDB cannot be reached; nothing was committed, so the same work can be done again."""


class CommitUnknown(OutboxError):
    """The connection was lost while committing; only the tables know whether the work was done."""


class SchemaMismatch(OutboxError):
    """The database's schema is not the one this version needs; run `kcsync migrate`."""


class ServerUnsupported(OutboxError):
    """The database server is none that the outbox can rely on; use MariaDB 10.11 or newer with one primary."""
