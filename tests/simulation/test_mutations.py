"""The simulation notices when one of the cares is missing: what it never finds fault with, it may not look at."""

from __future__ import annotations

from itertools import product

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.run import Mode, simulate

ENOUGH = 150


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_turns_some_seed_red(mutation: Mutation) -> None:
    seeds = sorted(range(ENOUGH), key=lambda seed: (seed < mutation.first, seed))
    runs = (
        simulate(seed, mode, parts=mutation.parts, bias=mutation.bias) for seed, mode in product(seeds, Mode)
    )

    seen = next((result.violations[0] for result in runs if result.violations), None)

    assert seen is not None, f"{ENOUGH} seeds do not notice that {mutation.name} is missing"
    assert seen.startswith(mutation.seen_as), seen
