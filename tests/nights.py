"""Made-up nights of a study, for the tests of the prompt: experiments, a context with them, and an archive."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoresearch_kernel.core.types import Context, Experiment, Objection, Refusal, Run, Status

PROJECT = Path(__file__).parents[1]
PROGRAM = (PROJECT / "program.md").read_text(encoding="utf-8")
TRAIN = (PROJECT / "train.py").read_text(encoding="utf-8")
PREPARE = (PROJECT / "prepare.py").read_text(encoding="utf-8")
SIGMA = 0.0021
BUDGET = 24_000
STUDY = {
    "time_budget_seconds": 300.0,
    "startup_allowance_seconds": 120.0,
    "handover_allowance_seconds": 60.0,
    "agent": "hybrid",
    "hardware": {"device": "cuda", "device_name": "A Test GPU", "dtype": "bf16", "num_cores": 16, "memory_mb": 81559},
    "corpus": {
        "corpus": "stdlib",
        "vocab_size": 2048,
        "sequence_length": 256,
        "num_train_tokens": 2_298_053,
        "num_dev_tokens": 39_516,
        "num_val_rows": 1024,
    },
    "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6", "tiktoken": "0.14.0"},
    "preset": {"name": "laptop", "parameters": {"DEPTH": 1, "MODEL_DIM": 128, "MATRIX_LR": 0.015}, "reason": "asked"},
}
MEASURED = {
    "training_seconds": 298.4,
    "start_up_seconds": 21.3,
    "evaluation_seconds": 1.8,
    "total_seconds": 325.1,
    "num_steps": 7312,
    "num_tokens": 7_487_488,
    "tokens_per_second": 25_092.1,
    "num_params": 9_830_272,
    "peak_memory_mb": 6120.4,
    "mfu_percent": 31.25,
    "train_loss": 3.4117,
    "dev_bpb": 1.4402,
    "device": "cuda:0",
}
PARAMETERS = {"MATRIX_LR": 0.015, "HEAD_LR": 0.01, "NGRAM_LR": 0.8, "WARMDOWN": 0.6, "ADAM_BETA2": 0.95, "DEPTH": 1}
IDEAS = (
    (("Attention.forward",), "Normalising queries and keys before the product stabilises early training"),
    (("GPT.embed",), "A second hash for the triples lowers collisions, and with them the loss on rare words"),
    (("Muon.step",), "Skipping Nesterov's look-ahead makes a step cheaper without costing quality"),
    (("learning_rate",), "A cosine fall keeps the rate higher in the middle, where most is learned"),
    (("MLP.forward", "MLP.__init__"), "Gating the hidden layer is worth more than its cost in width"),
)
TRACEBACK = "\x1b[0;31mRuntimeError\x1b[0m: mat1 and mat2 shapes cannot be multiplied (2048x128 and 256x512)"
DIFF = """--- a/train.py
+++ b/train.py
@@ -175,3 +175,3 @@
-        return softcap(self.head(self.hidden(idx)).float())
+        return softcap(self.head(norm(self.hidden(idx))).float())
"""


class CountingArchive:
    """Remembers which experiments were read."""

    def __init__(self, diff: str = DIFF, output: str = TRACEBACK) -> None:
        self.text, self.printed, self.read = diff, output, set[int]()

    def source(self, number: int) -> str:
        self.read.add(number)
        return TRAIN

    def diff(self, number: int) -> str:
        self.read.add(number)
        return self.text

    def curve(self, number: int) -> list[dict[str, Any]]:
        self.read.add(number)
        return [
            {"progress": i / 200, "train_loss": 3.4 + 4.2 / (1 + i / 10), "seconds": 1.5 * i} for i in range(1, 201)
        ]

    def output(self, number: int, run: int) -> str:
        self.read.add(number)
        return self.printed


def count_tokens(text: str) -> int:
    return -(-len(text.encode()) // 3)


BASELINE = Experiment(
    0,
    "The baseline.",
    "baseline",
    None,
    runs=tuple(Run(i, i, val_bpb=1.5 + 0.002 * (i - 1), measured=MEASURED) for i in range(3)),
    status=Status.KEEP,
    val_bpb=1.5,
    standard_error=SIGMA / 3**0.5,
    reason="The baseline, the mean of 3 runs.",
    sigma=SIGMA,
)


def tried(number: int, status: Status, delta: float | None, **others: Any) -> Experiment:
    """An experiment against an incumbent of 1.5 bits per byte."""
    defaults: dict[str, Any] = {
        "hypothesis": f"Idea {number} lowers the loss.",
        "agent": "llm",
        "parent": 0,
        "details": {"subjects": [f"thing {number}"]},
        "reason": f"{status} for a reason",
        "incumbent_bpb": 1.5,
        "sigma": SIGMA,
        "runs": (Run(0, number, status=None if status is Status.DISCARD else status),),
    }
    if delta is not None:
        runs = (Run(0, number, val_bpb=1.5 + delta, measured=MEASURED),)
        error = SIGMA / 3**0.5  # of the incumbent's mean: with SIGMA it makes 0.0024
        defaults |= {"val_bpb": 1.5 + delta, "standard_error": SIGMA, "incumbent_standard_error": error, "runs": runs}
    return Experiment(number=number, status=status, **(defaults | others))


def night(length: int) -> tuple[tuple[Experiment, ...], Experiment]:
    """`length` experiments after the baseline and the incumbent: a third of them an optimiser's, a few crashes."""
    rng, experiments, incumbent = random.Random(1), [BASELINE], BASELINE
    for number in range(1, length + 1):
        assert incumbent.val_bpb is not None
        delta: float | None = rng.gauss(0.002, 0.004)
        status = Status.KEEP if delta < -0.003 else Status.DISCARD
        others: dict[str, Any] = {}
        if rng.random() < 0.06:
            status, delta = Status.CRASH, None
            others["reason"] = "cell 9 (training): RuntimeError: mat1 and mat2 shapes cannot be multiplied"
        if rng.random() < 0.35:
            name = rng.choice(list(PARAMETERS))
            value = round(PARAMETERS[name] * rng.uniform(0.5, 2), 4)
            others |= {"agent": "search", "changes": {name: value}, "details": {"previous": {name: PARAMETERS[name]}}}
            others["hypothesis"] = f"{name} {PARAMETERS[name]} to {value} should gain 0.0012 bits per byte."
        else:
            subjects, hypothesis = rng.choice(IDEAS)
            others |= {"details": {"subjects": list(subjects)}, "hypothesis": f"{hypothesis}; variant {number}."}
            others |= {"expected": "0.002 to 0.004 lower", "refutation": "a score within 0.002 of the incumbent"}
        if delta is not None:
            score = incumbent.val_bpb + delta
            others |= {"val_bpb": score, "runs": (Run(0, number, val_bpb=score, measured=MEASURED),)}
            others["reason"] = f"{score:.4f} is {abs(delta) / SIGMA:.1f} sigma off the incumbent's: {status}"
        others |= {"parent": incumbent.number, "incumbent_bpb": incumbent.val_bpb}
        others["incumbent_standard_error"] = SIGMA / 3**0.5
        experiments.append(tried(number, status, None, standard_error=SIGMA if delta else None, **others))
        incumbent = experiments[-1] if status is Status.KEEP else incumbent
    return tuple(experiments), incumbent


def context(length: int = 0, **others: Any) -> Context:
    experiments, incumbent = night(length)
    facts: dict[str, Any] = {"experiments": experiments, "incumbent": incumbent, "archive": CountingArchive()} | others
    return Context(**({"program": PROGRAM, "train_source": TRAIN, "sigma": SIGMA, "study": STUDY, "seed": 0} | facts))


def full_night(length: int) -> Context:
    """With everything that a context may hold."""
    running = replace(tried(length + 1, Status.DISCARD, None), status=None, hypothesis="Value residuals help.")
    refusal = Refusal(4, Objection.PERSON, "No dropout, please: the corpus is seen twice at most.", "Dropout of 0.1.")
    return context(
        length,
        hints=("Try to share the embedding with the head.", "The second half of the night:\nthink about speed."),
        refusals=(refusal,),
        in_work=(running,),
        notes="# Notes\n- 0003: warm-up does not matter.\n- MATRIX_LR is exhausted between 0.01 and 0.02.",
        machine_speed=0.93,
    )


def parts(prompt: str) -> dict[str, str]:
    """The text under each heading of the first level."""
    found, heading, mark = {"": ""}, "", ""
    for line in prompt.splitlines():
        if line.startswith("```"):
            run = line[: len(line) - len(line.lstrip("`"))]
            mark = "" if run == mark and line == run else mark or run
        elif line.startswith("# ") and not mark:
            heading = line[2:]
            found[heading] = ""
            continue
        found[heading] += line + "\n"
    assert mark == "", "a fence is left open"
    return found
