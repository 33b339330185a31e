"""Seeds that must be green, and that a seed is all it takes to see a failure again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import Mode, simulate

SEEDS = 60
BLOCK = 20
LONG = 1500


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_all_invariants_hold(mode: Mode, first: int) -> None:
    for seed in range(first, first + BLOCK):
        result = simulate(seed, mode)

        assert not result.violations, result.report()


@pytest.mark.long
@pytest.mark.parametrize("mode", Mode)
def test_all_invariants_hold_for_many_more(mode: Mode) -> None:
    for seed in range(SEEDS, LONG):
        result = simulate(seed, mode)

        assert not result.violations, result.report()


@pytest.mark.parametrize("bias", dict.fromkeys(m.bias for m in MUTATIONS if m.bias))
def test_what_shows_a_mutation_shows_nothing_without_it(bias: object) -> None:
    for seed in range(BLOCK // 2):
        result = simulate(seed, Mode.SAFETY, bias=bias)  # type: ignore[arg-type]

        assert not result.violations, result.report()


def test_a_seed_is_the_same_in_every_process() -> None:
    show = (
        "from tests.simulation.run import Mode, simulate\n"
        "print([simulate(seed, mode).digest for seed in range(4) for mode in Mode])"
    )

    digests = {
        subprocess.run(
            [sys.executable, "-c", show],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }

    assert len(digests) == 1


def test_a_run_leaves_chance_as_it_was() -> None:
    first = simulate(1, Mode.SAFETY)
    simulate(2, Mode.LIVENESS)

    assert simulate(1, Mode.SAFETY).digest == first.digest


def test_a_failure_says_how_to_see_it_again() -> None:
    mutation = next(m for m in MUTATIONS if m.name == "the wait for the write-back's COMMIT")
    failed = next(
        result
        for seed in range(BLOCK)
        if (result := simulate(seed, Mode.SAFETY, parts=mutation.parts)).violations
    )

    assert failed.violations[0] in failed.report()
    assert f"python -m tests.simulation --seed {failed.seed} --mode safety" in failed.report()
