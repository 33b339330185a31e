from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.outbox.lane import SHARDS, lane_id, shard_of


@pytest.mark.parametrize(
    ("realm", "username_key", "lane"),
    [
        ("shop", "alice", "6dc61f68bfc5be4d35b5eedffb2d3f4c"),
        ("shop", "bob", "498c14ee5edc7c63167f91ed567dbde2"),
        ("customers", "dörte", "7015f49a38c27624a88dd154af7e2a51"),
        ("a", "bc", "c038ae3bc0bc351d1a67b5446f000f21"),
        ("ab", "c", "962153e6574da2f1423e2b21a9f1fdea"),
        ("shop", "u" * 255, "8002614c2aacf509d609bb0008aa0c8b"),
    ],
)
def test_a_lanes_id_is_frozen_because_it_stands_in_the_tables(
    realm: str, username_key: str, lane: str
) -> None:
    assert lane_id(realm, username_key).hex() == lane


def test_a_lanes_shard_is_frozen_because_leases_are_taken_by_it() -> None:
    assert (SHARDS, shard_of(lane_id("shop", "alice"))) == (256, 0x6D)


@settings(deadline=None)
@given(st.text(max_size=255), st.text(max_size=255), st.text(max_size=255), st.text(max_size=255))
def test_only_the_same_realm_and_user_share_a_lane(
    realm: str, key: str, other_realm: str, other: str
) -> None:
    same = (realm, key) == (other_realm, other)

    assert (lane_id(realm, key) == lane_id(other_realm, other)) == same


@settings(deadline=None)
@given(st.text(min_size=1, max_size=20), st.integers(0, 20))
def test_where_the_realm_ends_and_the_username_begins_matters(text: str, at: int) -> None:
    cut = at % len(text)

    assert lane_id(text[:cut], text[cut:]) != lane_id(text, "")


def test_every_shard_gets_its_part_of_the_users() -> None:
    counts = [0] * SHARDS
    for number in range(256 * 100):
        counts[shard_of(lane_id("shop", f"user-{number}"))] += 1

    assert min(counts) > 50
    assert max(counts) < 150
