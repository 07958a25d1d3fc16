"""Record what lessons 1 to 3 show on a laptop that is too slow, into notebooks/lessons/data/.

    python scripts/record_trainings.py trained    # 1-trained.json: train.py for 20 seconds
    python scripts/record_trainings.py curves     # 2-curves.json: three learning rates, 20 seconds each
    python scripts/record_trainings.py contest    # 3-contest.json: experiments of the study in docs/example, at once

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

from autoresearch_kernel.core.format import bpb  # noqa: E402
from autoresearch_kernel.core.types import Status  # noqa: E402
from autoresearch_kernel.lab.lessons.contest import row_of  # noqa: E402
from autoresearch_kernel.lab.lessons.example_study import recorded_study  # noqa: E402
from autoresearch_kernel.lab.lessons.studies import parameters_of  # noqa: E402
from autoresearch_kernel.lab.lessons.training import curve_by_hand, train_by_hand  # noqa: E402
from autoresearch_kernel.show.words import idea  # noqa: E402

FOLDER = ROOT / "notebooks" / "lessons" / "data"
SECONDS = 20.0
RATES = {"A": 30.0, "B": 0.1, "C": 1.0}  # times the learning rates of train.py: too high, too low, fine
RATE_NAMES = ("MATRIX_LR", "EMBEDDING_LR", "NGRAM_LR", "HEAD_LR", "SCALAR_LR")
LIKE_GUESSES, FIRST = (9, 29, 65, 10, 1), (1, 2, 3, 4, 5)  # experiments of docs/example


def trained() -> dict[str, Any]:
    """What one training by hand gave."""
    found = train_by_hand(SECONDS)
    return {"1-trained": {name: value for name, value in vars(found).items() if name != "is_recorded"}}


def curves() -> dict[str, Any]:
    """The training loss over time, with three sets of learning rates."""
    return {"2-curves": {name: curve_by_hand(SECONDS, RATE_NAMES, factor) for name, factor in RATES.items()}}


def contest() -> dict[str, Any]:
    """Ten experiments of the recorded study: five like the guesses of the solution, and the optimiser's first five."""
    study = recorded_study()
    experiments = study.table().experiments
    baseline = experiments[0]
    mine, theirs = ([experiments[number] for number in numbers] for numbers in (LIKE_GUESSES, FIRST))
    kept = [e for e in theirs if e.status is Status.KEEP][-1]
    comparison = baseline.against(kept)
    assert comparison is not None and not any(e.status is Status.KEEP for e in mine)
    words = f"you: baseline {bpb(baseline.val_bpb)}, now {bpb(baseline.val_bpb)} after 5 experiments\n"
    words += f"the optimiser: baseline {bpb(baseline.val_bpb)}, now {bpb(kept.val_bpb)} after 5 experiments"
    facts = {
        "mine": [vars(row_of(idea(e), e)) for e in mine],
        "theirs": [vars(row_of(idea(e), e)) for e in theirs],
        "parameters": parameters_of(study),
        "sigma": baseline.sigma,
        "difference": [comparison.difference, comparison.error],
        "words": words,
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
