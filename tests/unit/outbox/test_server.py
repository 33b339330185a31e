from __future__ import annotations

import pytest

from consumer.outbox.server import refusal


@pytest.mark.parametrize(
    "version",
    [
        "10.11.5-MariaDB",
        "10.11.19-MariaDB-0+deb12u1",
        "11.4.5-MariaDB-log",
        "11.8.2-MariaDB-ubu2404",
        "12.0.1-MariaDB",
        "5.5.5-10.11.5-MariaDB",  # as some proxies write it
    ],
)
def test_supported_versions_are_taken(version: str) -> None:
    assert refusal(version, galera=False) is None


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("10.6.21-MariaDB", "is MariaDB 10.6, which is too old; use MariaDB 10.11 or newer"),
        ("5.5.68-MariaDB", "is MariaDB 5.5, which is too old; use MariaDB 10.11 or newer"),
        ("8.0.36", "is not MariaDB (its version is 8.0.36); use MariaDB 10.11 or newer"),
        ("8.0.36-0ubuntu0.22.04.1", "is not MariaDB"),
    ],
)
def test_others_are_refused_with_what_would_be_right(version: str, reason: str) -> None:
    assert (refusal(version, galera=False) or "").startswith(reason)


def test_galera_is_refused_in_any_version() -> None:
    assert "one writing primary" in (refusal("11.4.5-MariaDB", galera=True) or "")
