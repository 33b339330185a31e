"""The outbox is tested on every MariaDB that it supports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compose.native.artifacts import OLDER_MARIADB_VERSION
from compose.native.mariadb import MariaDB, lone_mariadb
from compose.native.stack import Stack


@pytest.fixture(scope="session")
def older_mariadb() -> Iterator[MariaDB]:
    """The oldest MariaDB supported, by itself."""
    with lone_mariadb(OLDER_MARIADB_VERSION) as server:
        yield server


@pytest.fixture(params=["11.4", pytest.param("10.11", marks=pytest.mark.long)])
def mariadb(stack: Stack, request: pytest.FixtureRequest) -> MariaDB:
    """Each in turn; the older one in `make test-all`. The plans are looked at on both in `make test` too."""
    server: MariaDB = stack.mariadb if request.param == "11.4" else request.getfixturevalue("older_mariadb")
    return server
