from __future__ import annotations

import pytest

from consumer.ingest.stamp import is_ours, stamp


def test_the_text_of_a_stamp_is_frozen_because_kafka_keeps_it_over_upgrades() -> None:
    assert stamp("kRaft-1", 7, 4711) == "kcsync1;kRaft-1;7;4711"


def test_our_own_stamp_is_recognised() -> None:
    assert is_ours(stamp("c", 7, 42), "c", 7, 42)


@pytest.mark.parametrize(
    ("metadata", "cluster", "partition", "offset"),
    [
        pytest.param(None, "c", 7, 42, id="no metadata"),
        pytest.param("", "c", 7, 42, id="what the console tools write"),
        pytest.param(stamp("c", 7, 42), "other", 7, 42, id="copied from another cluster"),
        pytest.param(stamp("c", 7, 42), "c", 8, 42, id="copied from another partition"),
        pytest.param(stamp("c", 7, 42), "c", 7, 41, id="copied to another offset"),
        pytest.param(stamp("c", 7, 42) + " ", "c", 7, 42, id="something appended"),
        pytest.param("kcsync2;c;7;42", "c", 7, 42, id="a stamp of another form"),
    ],
)
def test_anything_else_is_not_ours(metadata: str | None, cluster: str, partition: int, offset: int) -> None:
    assert not is_ours(metadata, cluster, partition, offset)


def test_a_stamp_fits_into_kafkas_metadata() -> None:
    assert len(stamp("x" * 64, 2**31, 2**63)) < 4096
