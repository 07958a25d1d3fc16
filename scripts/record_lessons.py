"""Record what lessons 4 to 6 show on a laptop that is too slow, into notebooks/lessons/data/.

    python scripts/record_lessons.py noise       # 4-same-code.json: one code 20 times, two minutes
    python scripts/record_lessons.py agents      # 5-scores.json: the sixteen proposals of 5-replies.yaml, two minutes
    python scripts/record_lessons.py attempts    # attempts.json: the train.py files of lesson 6, two minutes

The studies are kept in the folder lessons/ of the cache, and what they have already is not trained again: remove it for
new results.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from autoresearch_kernel.agents.edits import apply_edits  # noqa: E402
from autoresearch_kernel.agents.reply import read_submission  # noqa: E402
from autoresearch_kernel.lab.lessons import broken_trains, small_study  # noqa: E402
from autoresearch_kernel.lab.lessons.attempt import Attempt  # noqa: E402
from autoresearch_kernel.lab.lessons.recorded_server import recordings  # noqa: E402
from autoresearch_kernel.study.create import build_corpus  # noqa: E402

FOLDER = ROOT / "notebooks" / "lessons" / "data"
NUM_SAME_CODE = 20
NUM_BASELINE = 8
SECONDS = 0.5  # of processor time, for one training of `noise` and `agents`
SECONDS_OF_ATTEMPTS = 2.0
LOGITS = broken_trains.LOGITS
REPLY = "reply: "  # begins the names of attempts that come from replies


def noise() -> dict[str, Any]:
    """The scores of one code, each with another seed."""
    train = Trainer()
    scores = [train(small_study.small_train(), seed) for seed in range(1, NUM_SAME_CODE + 1)]
    return {"4-same-code": {"seconds": SECONDS, "scores": rounded(scores)}}


def agents() -> dict[str, Any]:
    """The score of each recorded proposal, and of the baseline, each with a seed of its own."""
    train, seeds = Trainer(), count(100)
    scores = {
        name: rounded([train(proposed(reply), next(seeds)) for reply in recording.replies])
        for name, recording in recordings().items()
    }
    baseline = rounded([train(small_study.small_train(), next(seeds)) for _ in range(NUM_BASELINE)])
    return {"5-scores": {"seconds": SECONDS, "baseline": baseline, "scores": scores}}


def proposed(reply: str) -> str:
    """The train.py that a reply proposes."""
    return apply_edits(small_study.small_train(), read_submission(reply))


class Trainer:
    """Trains on one thread for SECONDS of processor time, so that what other programs use of the machine plays no part.

    It runs the code in this process, without a sandbox: the replies were read before they came into the project.
    """

    def __init__(self) -> None:
        project = small_study.project_of_lessons()
        folders = build_corpus(project, small_study.CORPUS, lambda line: None)
        names = ("AUTORESEARCH_CORPUS", "AUTORESEARCH_HELDOUT")
        os.environ.update({name: str(folder) for name, folder in zip(names, folders, strict=True)})
        os.environ["AUTORESEARCH_DEVICE"] = "cpu"
        import torch

        import prepare

        torch.set_num_threads(1)
        prepare.TIME_BUDGET, prepare.monotonic = SECONDS, time.process_time

    def __call__(self, source: str, seed: int) -> float:
        """The score on the validation rows."""
        names: dict[str, Any] = {}
        with redirect_stdout(StringIO()):
            exec(compile(source.replace("SEED = 1 ", f"SEED = {seed} "), "train.py", "exec"), names)
        score = float(names["val_bpb"])
        print(f"seed {seed}: {score:.5f} after {names['clock'].num_steps} steps", flush=True)
        return score


def attempts() -> dict[str, Any]:
    """The train.py files of lesson 6, right and wrong, and the first replies of lesson 5 in a study of their own."""
    study = small_study.small_study("recorded-attempts", SECONDS_OF_ATTEMPTS)
    own_study = small_study.small_study("recorded-replies", SECONDS_OF_ATTEMPTS)
    found: dict[str, Attempt] = {}
    for name, (idea, source) in sources().items():
        found[name] = small_study.try_out(own_study if name.startswith(REPLY) else study, source, idea)
        print(f"{name}\n{found[name]!r}", flush=True)
    seen = broken_trains.seen_by_audit(study, found["leak"])
    return {
        "attempts": {
            "budget_seconds": SECONDS_OF_ATTEMPTS,
            "baseline_scores": rounded(small_study.baseline_scores(study)),
            "attempts": {name: tidy(asdict(attempt)) for name, attempt in found.items()},
            "seen": [[text, token, round(a, 4), round(b, 4)] for text, token, a, b in seen.rows],
        }
    }


def sources() -> dict[str, tuple[str, str]]:
    """What is tried, by name: the idea and the train.py."""
    small = small_study.small_train()

    def ahead(places: int, weight: float) -> str:
        lines = f"        follows = F.one_hot(idx.roll({places}, dims=1), vocab_size)\n"
        return small.replace(LOGITS, LOGITS + lines + f"        logits = logits + {weight} * follows\n")

    first = {name: recording.replies[0] for name, recording in recordings().items()}
    replies = {name: (read_submission(reply), reply) for name, reply in first.items()}
    return {
        "leak": ("It looks at the token that follows", ahead(-1, 4.0)),
        "looks back": ("It looks at the token before", ahead(1, 4.0)),
        "wrong sign": ("It looks at the token that follows, and makes it unlikely", ahead(-1, -4.0)),
        "crash": ("It has a wrong name in it", small.replace("self.head(hidden)  #", "self.heads(hidden)  #")),
        "late": ("Eight seconds of warm-up before the clock starts", broken_trains.before_the_clock(8)),
        "printed": ("It prints a score of its own", broken_trains.printed_score()),
        "memory": ("Running statistics", broken_trains.memory_across_rows()),
        "honest": ("A narrower model", small.replace("WIDTH = 64  #", "WIDTH = 32  #")),
        "escape": ("A warm-up within the slack", broken_trains.before_the_clock(1.2)),
        "unchanged": ("Only a comment is new", small + "# nothing is different\n"),
        **{f"{REPLY}{name}": (s.hypothesis, apply_edits(small, s)) for name, (s, _) in replies.items()},
    }


def rounded(scores: list[float]) -> list[float]:
    return [round(score, 5) for score in scores]


def tidy(facts: dict[str, Any]) -> dict[str, Any]:
    """Numbers with five decimals."""
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in facts.items()}


def write(name: str, command: str, data: Any) -> None:
    made_by = f"python scripts/record_lessons.py {command}, on two cores that other programs used as well"
    text = json.dumps({"made_by": made_by, "data": data}, indent=1, ensure_ascii=False)
    text = re.sub(r'/[^\s"\\]*/site-packages/', "", text)  # in tracebacks: no folder of this machine
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"notebooks/lessons/data/{name}.json is written.")


COMMANDS: dict[str, Callable[[], dict[str, Any]]] = {"noise": noise, "agents": agents, "attempts": attempts}


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        raise SystemExit(f"Name what to record: {', '.join(COMMANDS)}.")
    for name, data in COMMANDS[sys.argv[1]]().items():
        write(name, sys.argv[1], data)


if __name__ == "__main__":
    main()
