from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.drain.shares import Exchange, exchange
from consumer.outbox.lane import SHARDS

ALL = range(SHARDS)
groups = st.sets(st.integers(0, 400), min_size=1, max_size=40).map(lambda ids: sorted(f"i{n}" for n in ids))


def share_of(me: str, alive: list[str]) -> int:
    """How many shards an instance takes when all are free."""
    return len(exchange(me=me, owned=(), free=ALL, alive=alive, leaving=()).acquire)


class TestTheShare:
    @pytest.mark.parametrize(
        ("instances", "shares"),
        [(1, [256]), (2, [128, 128]), (3, [86, 85, 85]), (5, [52, 51, 51, 51, 51]), (256, [1] * 256)],
    )
    def test_is_equal_but_for_one(self, instances: int, shares: list[int]) -> None:
        alive = [f"i{n:03d}" for n in range(instances)]

        assert [share_of(me, alive) for me in alive] == shares

    @settings(deadline=None)
    @given(alive=groups)
    def test_of_all_adds_up_to_all_shards(self, alive: list[str]) -> None:
        assert sum(share_of(me, alive) for me in alive) == SHARDS

    def test_counts_us_though_nobody_has_seen_us_yet(self) -> None:
        assert share_of("new", ["old"]) == 128

    def test_with_more_instances_than_shards_some_have_none(self) -> None:
        alive = [f"i{n:03d}" for n in range(300)]

        assert sorted(share_of(me, alive) for me in alive) == [0] * 44 + [1] * 256


class TestTheExchange:
    def test_takes_no_more_than_is_free(self) -> None:
        assert exchange(me="a", owned=(), free=(3, 9), alive=["a"], leaving=()) == Exchange(acquire=(3, 9))

    def test_takes_nothing_beyond_the_share(self) -> None:
        assert (
            exchange(me="a", owned=range(128), free=range(128, 256), alive=["a", "b"], leaving=())
            == Exchange()
        )

    def test_gives_back_what_is_beyond_the_share(self) -> None:
        step = exchange(me="a", owned=ALL, free=(), alive=["a", "b"], leaving=())

        assert (len(step.leave), step.acquire) == (128, ())

    def test_goes_on_giving_back_what_it_began_with(self) -> None:
        step = exchange(me="a", owned=ALL, free=(), alive=["a", "b"], leaving=range(200, 256))

        assert set(step.leave) == {*range(72), *range(200, 256)}

    def test_keeps_what_it_was_giving_back_if_its_share_has_grown(self) -> None:
        step = exchange(me="a", owned=range(200), free=(), alive=["a"], leaving=range(128, 200))

        assert step.leave == ()

    @settings(deadline=None)
    @given(
        owned=st.sets(st.sampled_from(ALL)),
        leaving=st.sets(st.sampled_from(ALL)),
        alive=groups,
        me=st.sampled_from(["i5", "me"]),
    )
    def test_never_both_takes_and_gives_nor_changes_its_mind(
        self, owned: set[int], leaving: set[int], alive: list[str], me: str
    ) -> None:
        free = tuple(sorted(set(ALL) - owned))

        step = exchange(me=me, owned=owned, free=free, alive=alive, leaving=leaving & owned)

        assert set(step.leave) <= owned
        assert set(step.acquire) <= set(free)
        assert not (step.acquire and step.leave)
        assert set(step.leave) <= leaving or leaving & owned <= set(step.leave)


@settings(deadline=None, max_examples=40)
@given(alive=groups, owners=st.randoms(use_true_random=False), rounds=st.just(4))
def test_from_any_distribution_all_come_to_their_share_and_stay_there(
    alive: list[str], owners: object, rounds: int
) -> None:
    choice = getattr(owners, "choice")  # noqa: B009 - hypothesis gives a Random under another name
    owner: dict[int, str | None] = {shard: choice([*alive, None, "dead"]) for shard in ALL}

    def turn(me: str) -> Exchange:
        step = exchange(
            me=me,
            owned=[shard for shard in ALL if owner[shard] == me],
            free=[shard for shard in ALL if owner[shard] in {None, "dead"}],
            alive=alive,
            leaving=(),
        )
        owner.update(dict.fromkeys(step.leave))
        owner.update(dict.fromkeys(step.acquire, me))
        return step

    for _ in range(rounds):
        for me in alive:
            turn(me)

    held = [sum(owner[shard] == me for shard in ALL) for me in alive]
    assert (sum(held), max(held) - min(held) <= 1) == (SHARDS, True)
    assert all(turn(me) == Exchange() for me in alive)
