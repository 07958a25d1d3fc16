"""What a busy neighbour costs a training, under our settings of OpenMP and under its defaults.

    python benchmarks/neighbour.py [--steps 150] [--repeats 5] [--home DIR] [--try GOMP_SPINCOUNT=0,OMP_NUM_THREADS=1]

Each measurement is the real train.py (preset laptop) for a fixed number of steps, in the environment of a study's
training, alone, beside a process that burns one core, one that burns all cores, and another training as started
by hand. Measurements are interleaved and the table has their medians: believe its ratios. It takes minutes.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prepare
from autoresearch_kernel.record.curves import read_curve
from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.run.training import Training, training_environment
from autoresearch_kernel.source.parameters import set_parameters
from autoresearch_kernel.study.presets import read_preset

PROJECT = Path(__file__).resolve().parents[1]
OPENMP = ("OMP_", "GOMP_", "KMP_")
LONGEST_SECONDS = 15.0  # of training in one measurement
OURS, DEFAULTS = "our settings", "OpenMP's defaults"
BURN = """
import multiprocessing, sys
def burn():
    while True:
        pass
for _ in range(int(sys.argv[1])):
    multiprocessing.get_context("fork").Process(target=burn).start()
"""
NEIGHBOURS = ("alone", "one busy core", "all cores busy", "a training by hand")


def openmp_settings(env: dict[str, str], variant: str) -> dict[str, str]:
    """`env` with the OpenMP variables of a variant: ours, none, or those that its name lists."""
    if variant == OURS:
        return env
    bare = {name: value for name, value in env.items() if not name.startswith(OPENMP)}
    return bare if variant == DEFAULTS else bare | dict(pair.split("=", 1) for pair in variant.split(","))


@contextmanager
def neighbour(kind: str, corpus: Path, script: Path) -> Iterator[None]:
    """Something that is busy while the block runs."""
    if kind == "alone":
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        env = {name: value for name, value in os.environ.items() if not name.startswith(OPENMP)}
        command = [sys.executable, "-c", BURN, str(1 if kind == "one busy core" else os.cpu_count() or 1)]
        if kind == "a training by hand":
            env |= {"AUTORESEARCH_CORPUS": str(corpus), "AUTORESEARCH_HANDOVER": folder, "PYTHONPATH": str(PROJECT)}
            env["AUTORESEARCH_TIME_BUDGET"] = "3600"
            command = [sys.executable, str(script)]
        with running(command, env, folder) as process:
            deadline = time.monotonic() + 60
            while kind == "a training by hand" and not (Path(folder) / "metrics.jsonl").exists():  # it still imports
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the neighbour's training did not begin")
                time.sleep(0.1)
            time.sleep(0.5)
            yield


def tokens_per_second(variant: str, steps: int, corpus: Path, script: Path) -> float:
    """One training of `steps` steps, of fewer when they take too long; its start is not counted, nor is a score."""
    with tempfile.TemporaryDirectory() as folder:
        training = Training("", ExperimentPaths(Path(folder)), 0, 1, "", "", "", corpus, PROJECT, 3600.0, 0.0, 0.0)
        env = training_environment(training, Path(folder)) | {"AUTORESEARCH_HANDOVER": folder}
        env = openmp_settings(env, variant) | {"AUTORESEARCH_MAX_STEPS": str(steps)}
        env["PYTHONPATH"] = os.pathsep.join([str(PROJECT), env["PYTHONPATH"]])
        with running([sys.executable, str(script)], env, folder) as process:
            last: dict[str, float] = {"step": 0, "seconds": 0.0}
            while last["step"] < steps and last["seconds"] < LONGEST_SECONDS:
                if process.poll() is not None:
                    raise RuntimeError(f"train.py ended at step {last['step']} of {steps}")
                time.sleep(0.2)
                points = read_curve(Path(folder) / "metrics.jsonl")
                last = points[-1] if points else last
        return last["num_tokens"] / last["seconds"]


@contextmanager
def running(command: list[str], env: dict[str, str], folder: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, as in a study or in another terminal; it is gone after the block."""
    process = subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def row(variant: str, measured: dict[tuple[str, str], list[float]], quiet: float) -> str:
    cells = []
    for kind in NEIGHBOURS:
        median = statistics.median(measured[variant, kind])
        cells.append(f"{median:,.0f} ({median / quiet:.0%})")
    return f"| {' | '.join([variant, *cells])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "autoresearch-neighbour")
    parser.add_argument("--try", dest="more", action="append", default=[], metavar="NAME=VALUE,...")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no neighbour is left
    preset = read_preset("laptop")
    sizes = {"vocab_size": preset.vocab_size, "sequence_length": preset.sequence_length}
    corpus = prepare.prepare(preset.corpus, home=arguments.home, **sizes)
    variants = [OURS, DEFAULTS, *arguments.more]
    measured: dict[tuple[str, str], list[float]] = {(v, k): [] for v in variants for k in NEIGHBOURS}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "train.py"
        script.write_text(set_parameters((PROJECT / "train.py").read_text(), preset.parameters))
        for repeat in range(arguments.repeats):
            for kind in NEIGHBOURS:
                with neighbour(kind, corpus, script):
                    for variant in variants:
                        measured[variant, kind].append(tokens_per_second(variant, arguments.steps, corpus, script))
            print(f"repeat {repeat + 1} of {arguments.repeats} done", file=sys.stderr, flush=True)
    quiet = statistics.median(measured[OURS, "alone"])
    print(f"| tokens/s (share of ours alone) | {' | '.join(NEIGHBOURS)} |\n|---|{'---|' * len(NEIGHBOURS)}")
    for variant in variants:
        print(row(variant, measured, quiet))


if __name__ == "__main__":
    main()
