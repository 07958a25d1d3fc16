"""Record what lessons 1 to 3 show on a laptop that is too slow, into notebooks/lessons/data/.

    python scripts/record_trainings.py trained    # 1-trained.json: train.py for 20 seconds
    python scripts/record_trainings.py curves     # 2-curves.json: three learning rates, 20 seconds each
    python scripts/record_trainings.py contest    # 3-contest.json: sixteen runs and more of 20 seconds, in a study each

The corpus is prepared in the cache.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from autoresearch_kernel.lab.lessons.contest import Contest  # noqa: E402
from autoresearch_kernel.lab.lessons.contest import contest as begin  # noqa: E402
from autoresearch_kernel.lab.lessons.me import Guess  # noqa: E402
from autoresearch_kernel.lab.lessons.training import curve_by_hand, train_by_hand  # noqa: E402

FOLDER = ROOT / "notebooks" / "lessons" / "data"
SECONDS = 20.0
RATES = {"A": 30.0, "B": 0.1, "C": 1.0}  # times the learning rates of train.py: too high, too low, fine
RATE_NAMES = ("MATRIX_LR", "EMBEDDING_LR", "NGRAM_LR", "HEAD_LR", "SCALAR_LR")
GUESSED = {"TOTAL_BATCH_SIZE": 0.5, "MATRIX_LR": 1.5, "WARMDOWN": 1.3, "HEAD_LR": 1.5, "EMBEDDING_LR": 1.5}  # factors


def trained() -> dict[str, Any]:
    """What one training by hand gave."""
    found = train_by_hand(SECONDS)
    return {"1-trained": {name: value for name, value in vars(found).items() if name != "is_recorded"}}


def curves() -> dict[str, Any]:
    """The training loss over time, with three sets of learning rates."""
    return {"2-curves": {name: curve_by_hand(SECONDS, RATE_NAMES, factor) for name, factor in RATES.items()}}


def contest() -> dict[str, Any]:
    """The contest of the lesson: five guesses like those of its solution, and five experiments of the optimiser."""
    both = begin(SECONDS)
    assert isinstance(both, Contest), "with more than 0 seconds it trains"
    both.measure()
    now = both.parameters
    changed = {name: now[name] * factor for name, factor in GUESSED.items()}
    mine = both.try_guesses([Guess(f"Another {name}.", {name: type(now[name])(value)}, -0.01, -0.05, 0.05)
                             for name, value in changed.items()])  # fmt: skip
    theirs = both.run_optimiser()
    facts = {
        "mine": [vars(row) for row in mine.rows],
        "theirs": [vars(row) for row in theirs.rows],
        "parameters": now,
        "sigma": both.sigma,
        "difference": list(both.difference),
        "words": repr(both),
    }
    return {"3-contest": facts}


RECORDINGS: dict[str, Callable[[], dict[str, Any]]] = {"trained": trained, "curves": curves, "contest": contest}


def main() -> None:
    for name in sys.argv[1:] or RECORDINGS:
        for file, data in RECORDINGS[name]().items():
            made_by = f"python scripts/record_trainings.py {name}, on two cores"
            (FOLDER / f"{file}.json").write_text(json.dumps({"made_by": made_by, "data": data}, indent=1) + "\n")
            print(f"{file}.json is written.")


if __name__ == "__main__":
    main()
