"""`python -m tests.simulation`: run many seeds, or one again with all that happened in it."""

from __future__ import annotations

import argparse
import sys
import time
from itertools import count, islice

from tests.simulation.run import Mode, simulate


def main() -> int:
    """Run seeds until one fails; 0 if none does."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run, in both modes")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="run this seed alone and show its diary")
    parser.add_argument("--mode", type=Mode, choices=list(Mode), help="only this mode")
    asked = parser.parse_args()
    modes = [asked.mode] if asked.mode else list(Mode)
    seeds = [asked.seed] if asked.seed is not None else list(islice(count(asked.first), asked.seeds))
    began, requests, simulated = time.monotonic(), 0, 0.0
    for seed in seeds:
        for mode in modes:
            result = simulate(seed, mode)
            requests += result.requests
            simulated += result.seconds
            if asked.seed is not None or result.violations:
                print(result.report())
            if result.violations:
                return 1
    took = time.monotonic() - began
    print(
        f"{len(seeds)} seeds in {len(modes)} modes: no violation; {requests} requests, "
        f"{simulated / 3600:.1f} h simulated in {took:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
