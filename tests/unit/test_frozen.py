from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, replace

import pytest

from consumer.frozen import quick_dataclass
from consumer.outbox.drain_store import Head


@quick_dataclass(frozen=True, slots=True)
class Quick:
    a: int
    b: str = ""


@dataclass(frozen=True, slots=True)
class Slow:
    a: int
    b: str = ""


def test_it_compares_hashes_and_is_copied_as_a_frozen_one() -> None:
    assert Quick(1, "x") == Quick(1, "x") != Quick(2, "x")
    assert hash(Quick(1, "x")) == hash(Slow(1, "x"))
    assert replace(Quick(1), b="y") == Quick(1, "y")
    assert repr(Quick(1)) == "Quick(a=1, b='')"


def test_what_it_saves_is_the_way_around_the_guard_for_each_field() -> None:
    """A frozen dataclass has a `__setattr__` that raises; a quick one has none, so its fields are simply set."""
    with pytest.raises(FrozenInstanceError):
        Slow(1).a = 2  # type: ignore[misc]
    assert "__setattr__" in vars(Slow)
    assert "__setattr__" not in vars(Quick)
    assert "__setattr__" not in vars(Head)
