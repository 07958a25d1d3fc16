"""How fast the history is: appending with fsync, reading 100,000 records with their CRCs, folding them.

    python benchmarks/history.py [number of records]

Goal: 100,000 records read and folded in under 3 s.
"""

from __future__ import annotations

import itertools
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autoresearch_kernel.core.state import replay
from autoresearch_kernel.record.history import History, _encode, read_events
from autoresearch_kernel.record.results import write_results

NUM_DURABLE = 200  # appends with fsync, for their median


def study_events(count: int) -> Iterator[dict[str, Any]]:
    """Records as a real study writes them, five an experiment, about 430 bytes each."""
    measured = {
        "training_seconds": 60.012345,
        "start_up_seconds": 3.218765,
        "num_steps": 1843,
        "num_tokens": 7_549_000,
        "tokens_per_second": 125_816.4,
        "num_params": 11_530_000,
        "peak_memory_mb": 2481.5,
        "dev_bpb": 1.4434567,
        "device_name": "2 cores",
        "dtype": "bfloat16",
        "total_seconds": 71.2468,
    }
    yield {"event": "study_started", "study": {"name": "benchmark"}}
    for n in range(count):
        number, step = divmod(n, 5)
        yield [
            {
                "event": "proposed",
                "experiment": number,
                "hypothesis": "Halve the batch: 4096 → 2048 tokens a step, for twice the updates.",
                "agent": "search",
                "parent": 0 if number else None,
                "changes": {"TOTAL_BATCH_SIZE": 2048},
                "details": {"trial": number},
                "train_sha256": "f" * 64,
            },
            {"event": "started", "experiment": number, "run": 0, "seed": number},
            {"event": "trained", "experiment": number, "run": 0, "status": None, "reason": "", "measured": measured},
            {
                "event": "scored",
                "experiment": number,
                "run": 0,
                "val_bpb": 1.4512345,
                "standard_error": 0.0021,
                "num_tokens": 131072,
                "num_bytes": 421337,
                "evaluation_seconds": 2.1,
            },
            {
                "event": "decided",
                "experiment": number,
                "status": "discard" if number else "keep",
                "val_bpb": 1.4512345,
                "standard_error": 0.0021,
                "reason": "1.4512 is not below the incumbent's 1.4436 (2.1 sigma above): discarded",
                "incumbent_bpb": 1.4436,
                "sigma": 0.0036,
                "commit": "a" * 40,
            },
        ][step]


def write_fast(path: Path, count: int) -> None:
    """The same bytes that `append` writes, without an fsync for each."""
    stamp = "2026-11-23T02:14:07.251Z"
    with path.open("wb") as file:
        for seq, event in zip(range(1, count + 1), study_events(count), strict=False):
            file.write(_encode({"seq": seq, "time": stamp, **event})[0])


def milliseconds_per_append(path: Path) -> float:
    taken = []
    with History.open(path) as history:
        for fields in study_events(NUM_DURABLE):
            event = fields.pop("event")
            start = time.perf_counter()
            history.append(event, **fields)
            taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        append = milliseconds_per_append(Path(folder) / "durable" / "history.jsonl")
        path = Path(folder) / "history.jsonl"
        write_fast(path, count)
        times = [time.perf_counter()]
        events = read_events(path)
        times.append(time.perf_counter())
        state = replay(events)
        times.append(time.perf_counter())
        write_results(Path(folder) / "results.tsv", state.experiments)
        times.append(time.perf_counter())
        size = path.stat().st_size / 1e6
    read, fold, table = (b - a for a, b in itertools.pairwise(times))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count:,} records, {size:.0f} MB, {len(state.experiments):,} experiments")
    print(f"append, durable   {append:8.2f} ms each (median of {NUM_DURABLE})")
    print(f"read with CRCs    {read:8.2f} s")
    print(f"fold              {fold:8.2f} s")
    print(f"read and fold     {read + fold:8.2f} s   (goal: under 3 s)")
    print(f"results.tsv       {table:8.2f} s")
    print(f"peak memory       {peak:8.0f} MB")


if __name__ == "__main__":
    main()
