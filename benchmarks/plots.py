"""How long progress.png takes for nights of 100 to 100,000 experiments, and how large it is.

python benchmarks/plots.py [--folder DIR]      keeps the pictures when a folder is given
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoresearch_kernel.core.types import Experiment, Run, Status
from autoresearch_kernel.show.plot_progress import draw_progress

NAMES = ("MATRIX_LR", "EMBEDDING_LR", "WARMDOWN", "DEPTH", "BATCH_TOKENS", "WEIGHT_DECAY")


def made_up_study(num_experiments: int, sigma: float = 0.003, seed: int = 0) -> list[Experiment]:
    """A night that settles: ever smaller gains, a tail of bad ideas, a tenth of crashes, confirmations, an audit."""
    rng = np.random.default_rng(seed)
    best = truth = 1.5512
    floor, parent = 1.43, 0
    three = tuple(Run(i, i, val_bpb=best + rng.normal(0, sigma)) for i in range(3))
    study = [Experiment(0, "The baseline.", "baseline", None, runs=three, status=Status.KEEP, val_bpb=best)]
    for number in range(1, num_experiments):
        name, old = NAMES[rng.integers(len(NAMES))], round(float(rng.uniform(0.02, 0.9)), 2)
        new = round(old * float(rng.choice([0.7, 1.4])), 2)
        effect = rng.exponential(0.02) if rng.random() < 0.8 else -rng.exponential(0.15) * (truth - floor)
        true = max(floor, truth + effect)
        scores = [true + rng.normal(0, sigma)]
        if best - 3 * sigma <= scores[0] < best:
            scores.append(true + rng.normal(0, sigma))
        score, chance = float(np.mean(scores)), rng.random()
        status = Status.KEEP if score < best else Status.DISCARD
        if chance < 0.1:
            status, score, scores = (Status.CRASH if chance < 0.08 else Status.TIMEOUT), None, []
        elif chance > 0.99:
            status, score = Status.REJECTED, best - 0.02
        study.append(
            Experiment(
                number=number,
                hypothesis=f"Move {name} from {old} to {new}: it may help.",
                agent="search",
                parent=parent,
                changes={name: new},
                details={"previous": {name: old}},
                runs=tuple(Run(i, i, val_bpb=value) for i, value in enumerate(scores)),
                status=status,
                val_bpb=score,
                incumbent_bpb=best,
                sigma=sigma,
            )
        )
        if status is Status.KEEP and score is not None:
            best, truth, parent = score, true, number
    return study


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", type=Path)
    folder = arguments.parse_args().folder
    start = time.monotonic()
    import matplotlib.figure  # noqa: F401

    print(f"import of matplotlib {time.monotonic() - start:.2f} s")
    print(f"{'experiments':>12}{'seconds':>10}{'kB':>8}")
    with tempfile.TemporaryDirectory() as temporary:
        for count in (1, 10, 100, 1_000, 10_000, 100_000):
            study = made_up_study(count)
            start = time.monotonic()
            path = (folder or Path(temporary)) / f"progress-{count}.png"
            draw_progress(study, path, title="nov23", sigma=0.003)
            seconds = time.monotonic() - start
            print(f"{count:>12,}{seconds:>10.2f}{path.stat().st_size / 1000:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
