"""Can the outbox live on this database server? MariaDB from 10.11 on, with one primary that writes."""

from __future__ import annotations

import re

from consumer.outbox.database import Database, Transaction
from consumer.outbox.errors import ServerUnsupported

__all__ = ["check_server", "refusal"]

_OLDEST = (10, 11)
_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+-MariaDB")


async def check_server(database: Database) -> str:
    """Refuse a server that the outbox cannot rely on; its version, as it names it.

    Raises:
        ServerUnsupported: with what is wrong, and what would be right.
        DatabaseUnavailable: MariaDB cannot be reached.
    """

    async def work(tx: Transaction) -> tuple[str, bool]:
        version = await tx.fetch_one("SELECT VERSION() AS version")
        assert version is not None
        # Not `@@wsrep_on`: a build without Galera does not know the name.
        galera = await tx.fetch_one("SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")
        return version["version"], galera is not None and galera["Value"] == "ON"

    version, galera = await database.transact(work)
    reason = refusal(version, galera=galera)
    if reason is not None:
        raise ServerUnsupported(f"the database server at {database.address} {reason}")
    return version


def refusal(version: str, *, galera: bool) -> str | None:
    """Say what keeps a server from being used; None if nothing does.

    Args:
        version: what `SELECT VERSION()` gives.
        galera: whether `wsrep_on` is on.
    """
    known = _VERSION.search(version)
    if known is None:
        return f"is not MariaDB (its version is {version}); use MariaDB 10.11 or newer"
    if (int(known[1]), int(known[2])) < _OLDEST:
        return f"is MariaDB {known[1]}.{known[2]}, which is too old; use MariaDB 10.11 or newer"
    if galera:
        # Several primaries certify transactions only at COMMIT: two owners could both hold a lease, and GET_LOCK
        # holds on one node alone.
        return (
            "is a Galera node (wsrep_on=ON), where leases and locks do not hold between nodes; "
            "use one writing primary with ordinary replication"
        )
    return None
