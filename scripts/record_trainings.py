"""Record what lessons 1 to 3 show on a laptop that is too slow, into notebooks/lessons/data/.

    python scripts/record_trainings.py trained    # 1-trained.json: train.py for 20 seconds
    python scripts/record_trainings.py curves     # 2-curves.json: three learning rates, 20 seconds each
    python scripts/record_trainings.py contest    # 3-contest.json: the five guesses of the solution, six minutes

The corpus is prepared in the cache. The studies of the contest are made in a temporary project.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

import nbformat  # noqa: E402

from autoresearch_kernel.control.new import new_project  # noqa: E402
from autoresearch_kernel.lab.lessons.build import built  # noqa: E402
from autoresearch_kernel.lab.lessons.course import lesson_of  # noqa: E402
from autoresearch_kernel.lab.lessons.form import Version  # noqa: E402
from autoresearch_kernel.lab.lessons.training import curve_by_hand, train_by_hand  # noqa: E402
from autoresearch_kernel.lab.lessons.trial import execute  # noqa: E402
from autoresearch_kernel.system.temporary import own_folder  # noqa: E402

FOLDER = ROOT / "notebooks" / "lessons" / "data"
SECONDS = 20.0
RATES = {"A": 30.0, "B": 0.03, "C": 1.0}  # times the learning rates of train.py: too high, too low, fine
RATE_NAMES = ("MATRIX_LR", "EMBEDDING_LR", "NGRAM_LR", "HEAD_LR", "SCALAR_LR")
MARK = "RECORDED "
FACTS = """
import json
facts = {"mine": [vars(row) for row in mine.rows], "theirs": [vars(row) for row in theirs.rows]}
facts |= {"parameters": now, "sigma": both.sigma, "difference": both.difference, "words": repr(both)}
print("RECORDED " + json.dumps(facts))
"""


def trained() -> dict[str, Any]:
    """What one training by hand gave."""
    found = train_by_hand(SECONDS)
    return {"1-trained": {name: value for name, value in vars(found).items() if name != "is_recorded"}}


def curves() -> dict[str, Any]:
    """The training loss over time, with three sets of learning rates."""
    return {"2-curves": {name: curve_by_hand(SECONDS, RATE_NAMES, factor) for name, factor in RATES.items()}}


def contest() -> dict[str, Any]:
    """Lesson 3 executed with its solutions, and what came of it."""
    lesson = lesson_of(3)
    notebook = built(ROOT / "notebooks" / "lessons" / f"{lesson.slug}.py", Version.INSTRUCTOR)
    notebook.cells.append(nbformat.v4.new_code_cell(FACTS))
    with own_folder() as folder:
        new_project(folder / "project")
        trial = execute(lesson, notebook, folder / "project")
    if trial.problem:
        raise SystemExit(str(trial))
    said = "".join(output.text for output in notebook.cells[-1].outputs)
    return {"3-contest": json.loads(said.removeprefix(MARK))}


RECORDINGS: dict[str, Callable[[], dict[str, Any]]] = {"trained": trained, "curves": curves, "contest": contest}


def main() -> None:
    for name in sys.argv[1:] or RECORDINGS:
        for file, data in RECORDINGS[name]().items():
            made_by = f"python scripts/record_trainings.py {name}, on two cores"
            (FOLDER / f"{file}.json").write_text(json.dumps({"made_by": made_by, "data": data}, indent=1) + "\n")
            print(f"{file}.json is written.")


if __name__ == "__main__":
    main()
