"""What tests of all rooms share: the real servers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from compose.native.errors import StackError
from compose.native.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Real Kafka, MariaDB, Keycloak and Zipkin: the stack named `test`, or by KCSYNC_TEST_STACK, up for the whole session.

    Only tests that ask for it start it. It is taken down at the end, also after Ctrl-C, unless another session uses it
    at the same time. For a fast edit-test cycle set KCSYNC_TEST_KEEP_STACK=1: it stays up, and the next session finds
    it ready; end with `python -m compose.native down --name test`.

    Its data outlives a session: a test makes itself a database (`stack.mariadb.new_database`), a topic
    (`stack.kafka.create_topic`) and users of its own.
    """
    keep = os.environ.get("KCSYNC_TEST_KEEP_STACK") == "1"
    try:
        with Stack(os.environ.get("KCSYNC_TEST_STACK", "test")).session(print, keep=keep) as running:
            yield running
    except StackError as error:
        pytest.fail(str(error), pytrace=False)
