"""Another user of the machine: a process that computes for a while, rests for a while, and so on.

    python benchmarks/busy_core.py [--seconds 600] [--busy 4] [--rest 4] [--seed 1]

Beside it, `clock.py` and `duel.py` measure what a neighbour does to scores. The times are drawn at random (exponential,
with the means --busy and --rest); while it computes, it takes one core whole.
"""

from __future__ import annotations

import argparse
import random
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="when it ends")
    parser.add_argument("--busy", type=float, default=4.0, help="mean seconds of computing")
    parser.add_argument("--rest", type=float, default=4.0, help="mean seconds of rest")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    draw, end = random.Random(asked.seed), time.monotonic() + asked.seconds
    while time.monotonic() < end:
        until = time.monotonic() + draw.expovariate(1 / asked.busy)
        while time.monotonic() < min(until, end):
            sum(range(10_000))
        time.sleep(min(draw.expovariate(1 / asked.rest), max(0.0, end - time.monotonic())))


if __name__ == "__main__":
    main()
