"""Seconds of an experiment beyond its training: kernel start, imports, hand-over, scoring, record and views.

    python benchmarks/overhead.py [--experiments 4] [--budget 5]

Runs a short study of the project's own train.py in a temporary folder and prints medians. The goal is 8 s on 2 cores.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from autoresearch_kernel.record.history import read_events

PROJECT = Path(__file__).resolve().parents[1]
PHASES = (
    ("runner_start_seconds", "runner: Python and papermill"),
    ("kernel_start_seconds", "kernel start"),
    ("start_up_seconds", "kernel: from its start to the clock (imports, building the model)"),
    ("evaluation_seconds", "dev score and hand-over"),
    ("shutdown_seconds", "kernel and runner shutdown"),
    ("scoring_seconds", "scoring (process, torch, all validation rows)"),
)


def seconds_between(earlier: dict, later: dict) -> float:
    return (datetime.fromisoformat(later["time"]) - datetime.fromisoformat(earlier["time"])).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=4)
    parser.add_argument("--budget", type=float, default=5.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("prepare.py", "train.py", "program.md"):
            shutil.copy(PROJECT / name, folder)
        shutil.copytree(PROJECT / "presets", Path(folder) / "presets")
        command = [sys.executable, "-m", "autoresearch_kernel.cli", "run", "--name", "overhead"]
        command += ["--experiments", str(arguments.experiments), "--budget", str(arguments.budget)]
        subprocess.run(command, cwd=folder, check=True)
        events = read_events(Path(folder) / "studies" / "overhead" / "history.jsonl")
    report(events)


def report(events: list[dict]) -> None:
    """Medians over the runs, and the whole from one start to the next less the training."""
    starts = [event for event in events if event["event"] == "started"]
    trained = [event["measured"] for event in events if event["event"] == "trained" and event["status"] is None]
    scored = [event for event in events if event["event"] == "scored"]
    print(f"\n{'phase':<66} median s")
    for key, words in PHASES[:-1]:
        print(f"{words:<66} {statistics.median(run[key] for run in trained):8.2f}")
    print(f"{PHASES[-1][1]:<66} {statistics.median(event['evaluation_seconds'] for event in scored):8.2f}")
    whole = [
        seconds_between(a, b) - run["training_seconds"] for a, b, run in zip(starts, starts[1:], trained, strict=False)
    ]
    print(f"{'from one start to the next, less the training':<66} {statistics.median(whole):8.2f}")


if __name__ == "__main__":
    main()
