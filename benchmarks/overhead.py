"""Seconds of an experiment beyond its training: kernel start, imports, hand-over, scoring, record and views.

    python benchmarks/overhead.py [--experiments 4] [--budget 5] [--pairs 2] [--dask]

Runs short studies of the project's own train.py in temporary folders and prints medians, for runs that were audited and
for others. With `--pairs N` it runs N studies whose processes are forked from a template (`sandbox/template.py`) and N
whose processes are not, one after the other, so that both meet the same machine. The goal on 2 quiet cores is 3.5 s,
and 5 s with an audit. With `--dask` the pairs are studies here and studies that one Dask worker on this machine trains;
the goal is that a worker takes at most 1.5 s more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from autoresearch_kernel.record.history import read_events

PROJECT = Path(__file__).resolve().parents[1]
PHASES = {
    "runner_start_seconds": "runner: Python and papermill",
    "kernel_start_seconds": "kernel start",
    "start_up_seconds": "kernel: from its start to the clock (imports, building the model)",
    "evaluation_seconds": "dev score and hand-over",
    "shutdown_seconds": "kernel and runner shutdown",
    "scoring_seconds": "scoring (process, torch, all validation rows)",
    "audit_seconds": "audit",
    "whole": "from one start to the next, less the training",
    "whole_audited": "the same with an audit",
}
Found = dict[str, list[float]]


def seconds_between(earlier: dict, later: dict) -> float:
    return (datetime.fromisoformat(later["time"]) - datetime.fromisoformat(earlier["time"])).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=4)
    parser.add_argument("--budget", type=float, default=5.0)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--dask", action="store_true")
    arguments = parser.parse_args()
    alike = ["--experiments", str(arguments.experiments), "--budget", str(arguments.budget)]
    found: dict[str, Found] = {"as it is": defaultdict(list)}
    options: dict[str, list[str]] = {}
    if arguments.dask:
        alike += ["--clock", "wall", "--duel", "never"]  # as on a cluster, which has neither
        found = {"here": defaultdict(list), "one Dask worker": defaultdict(list)}
    elif arguments.pairs:
        found = {"forked": defaultdict(list), "not forked": defaultdict(list)}
    with ExitStack() as stack:
        if arguments.dask:
            options["one Dask worker"] = ["--cluster", stack.enter_context(dask_worker())]
        for _ in range(max(1, arguments.pairs)):
            for way, values in found.items():
                events = study([*alike, *options.get(way, [])], "none" if way == "not forked" else None)
                for name, value in measured(events):
                    values[name].append(value)
                report(found)


@contextmanager
def dask_worker() -> Iterator[str]:
    """Address of a scheduler with one worker on this machine, whose cache is a temporary folder."""
    dask = [sys.executable, "-m", "dask"]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        address_file = Path(folder) / "address"

        def start(*words: str) -> None:
            env = os.environ | {"AUTORESEARCH_HOME": str(Path(folder) / "home")}
            command = [*dask, *words, "--no-dashboard"]
            process = subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(address_file))
        while not address_file.is_file():
            time.sleep(0.1)
        start(
            *("worker", "--scheduler-file", str(address_file), "--nthreads", "1", "--resources", "slot=1"),
            *("--memory-limit", "0", "--local-directory", folder),
        )
        yield str(json.loads(address_file.read_text())["address"])


def study(options: list[str], template: str | None) -> list[dict]:
    """The events of a new study with these options and this value of AUTORESEARCH_TEMPLATE."""
    env = {name: value for name, value in os.environ.items() if name != "AUTORESEARCH_TEMPLATE"}
    if template is not None:
        env["AUTORESEARCH_TEMPLATE"] = template
    with tempfile.TemporaryDirectory() as folder:
        for name in ("prepare.py", "train.py", "program.md"):
            shutil.copy(PROJECT / name, folder)
        shutil.copytree(PROJECT / "presets", Path(folder) / "presets")
        command = [sys.executable, "-m", "autoresearch_kernel.cli", "run", "--name", "overhead", *options]
        subprocess.run(command, cwd=folder, check=True, env=env)
        return read_events(Path(folder) / "studies" / "overhead" / "history.jsonl")


def measured(events: list[dict]) -> list[tuple[str, float]]:
    """Each phase of each run that was trained, by its name in PHASES."""
    found: list[tuple[str, float]] = []
    starts = [place for place, event in enumerate(events) if event["event"] == "started"]
    for begin, end in zip(starts, [*starts[1:], None], strict=True):
        part = {event["event"]: event for event in events[begin:end]}
        if "trained" not in part or part["trained"]["status"] is not None:
            continue
        run = part["trained"]["measured"]
        found += [(name, run[name]) for name in PHASES if name in run]
        if "scored" in part:
            found.append(("scoring_seconds", part["scored"]["evaluation_seconds"]))
        if "audited" in part:
            found.append(("audit_seconds", part["audited"]["seconds"]))
        if end is not None:
            whole = seconds_between(events[begin], events[end]) - run["training_seconds"]
            found.append(("whole_audited" if "audited" in part else "whole", whole))
    return found


def report(found: dict[str, Found]) -> None:
    """The medians, with the number of values."""
    print(f"\n{'phase':<66} {'  '.join(f'{way:>16}' for way in found)}  (median seconds, number)")
    for name, words in PHASES.items():
        cells = [
            f"{statistics.median(values[name]):8.2f} {f'({len(values[name])})':>7}" if values[name] else " " * 16
            for values in found.values()
        ]
        print(f"{words:<66} {'  '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
