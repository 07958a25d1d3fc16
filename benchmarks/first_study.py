"""What a first study ends with: `make run && make finish` in fresh clones, one after the other.

    python benchmarks/first_study.py [--clones 10] [--out FILE] [--cpus 0,1]

Each clone makes its own environment first (`make setup`), which is not counted. Corpora and the machine's speed stay in
the cache of the user who runs this, as they would for the second study of a user. A result is true where the 95 %
interval of its difference on the sealed test split lies below zero. A line is appended to --out for each clone, so a
measurement that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoresearch_kernel.core.contrast import interval_on_test
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.record.history import read_events

PROJECT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 480.0  # of both commands together


def measure(cpus: str) -> dict[str, Any]:
    """One clone: seconds of both commands, and the result."""
    pinned = ["taskset", "-c", cpus] if cpus else []
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(PROJECT), str(clone)], check=True)

        def make(target: str) -> float:
            began = time.monotonic()
            done = subprocess.run([*pinned, "make", target], cwd=clone, capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
            return time.monotonic() - began

        set_up, run, finish = make("setup"), make("run"), make("finish")
        state = replay(read_events(clone / "studies" / "first" / "history.jsonl"))
        facts: dict[str, Any] = {"setup": set_up, "run": run, "finish": finish, "load": os.getloadavg()[0]}
        facts |= {"sigma": state.sigma, "kept": sum(e.status == "keep" for e in state.decided) - 1}
        if (result := state.result) is not None:
            low, high = interval_on_test(state) or (0.0, 0.0)
            facts |= {"difference": result.test_difference, "low": low, "high": high}
        return facts


def report(rows: list[dict[str, Any]]) -> None:
    """A line for each clone, and how many results are true."""
    for number, row in enumerate(rows, 1):
        result = f"{row['difference']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})" if "low" in row else "no result"
        print(f"{number:>3}  {row['run']:4.0f} s + {row['finish']:3.0f} s  {row['kept']} kept  {result}")
    true, false = (sum(sign * row[end] < 0 for row in rows if end in row) for sign, end in ((1, "high"), (-1, "low")))
    both = [row["run"] + row["finish"] for row in rows]
    print(
        f"{true} of {len(rows)} results are true, {false} point the other way; both commands took "
        f"{statistics.median(both):.0f} s (median), {sum(seconds > LIMIT_SECONDS for seconds in both)} of them more "
        f"than {LIMIT_SECONDS:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clones", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("first_study.jsonl"))
    parser.add_argument("--cpus", default="", help="as for taskset; all when left out")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    while len(rows) < arguments.clones:
        rows.append(measure(arguments.cpus))
        with arguments.out.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        report(rows)
    report(rows)


if __name__ == "__main__":
    main()
