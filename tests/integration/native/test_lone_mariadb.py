from __future__ import annotations

import pymysql
import pytest

from compose.native import process
from compose.native.artifacts import OLDER_MARIADB_VERSION
from compose.native.errors import StackError
from compose.native.mariadb import lone_mariadb
from compose.native.state import ROOT


def test_a_lone_mariadb_is_of_its_version_and_leaves_nothing_behind() -> None:
    with lone_mariadb(OLDER_MARIADB_VERSION) as server:
        folder = server.instance.directory
        with server.administrator() as cursor:
            cursor.execute("SELECT VERSION(), @@tmpdir")
            # A folder of its own for what is temporary: a server that starts removes the tables it finds there.
            assert cursor.fetchone() == (f"{OLDER_MARIADB_VERSION}-MariaDB", str(folder / "mariadb" / "tmp"))
        assert folder.is_dir()
        assert folder.parent == ROOT
        assert process.members(str(folder), whole_instance=True)

    assert not process.members(str(folder), whole_instance=True)
    assert not folder.exists()
    with pytest.raises(pymysql.err.OperationalError), server.administrator():
        pytest.fail("it still answers")


@pytest.mark.long
def test_two_at_once_do_not_meet() -> None:
    with lone_mariadb(OLDER_MARIADB_VERSION) as one, lone_mariadb(OLDER_MARIADB_VERSION) as other:
        assert one.port != other.port
        assert one.instance.directory != other.instance.directory


def test_one_that_cannot_start_leaves_nothing_behind_either() -> None:
    before = set(ROOT.iterdir())

    with (
        pytest.raises(StackError, match="MariaDB ended before it was ready"),
        lone_mariadb(OLDER_MARIADB_VERSION, ("--no-such-option",)),
    ):
        pytest.fail("it started")

    assert {
        path for path in set(ROOT.iterdir()) - before if process.members(str(path), whole_instance=True)
    } == set()
