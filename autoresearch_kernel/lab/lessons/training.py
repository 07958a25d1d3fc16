"""Trains train.py as a user does by hand, for the lessons: no study, no notebook, no sandbox."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import Plain
from ...core.sanitize import one_line
from ...study.create import build_corpus
from ...system.locations import project_root
from .data import recorded

CORPUS = {"corpus": "stdlib", "vocab_size": 2048, "sequence_length": 256, "files_folder": None, "text_key": None}
SUMMARY = re.compile(r"^(val_bpb|num_steps|num_params_M):\s+([\d.]+)$", re.MULTILINE)
LOSS = re.compile(r"train_loss ([\d.]+)")


class TrainingFailed(Plain, RuntimeError):
    """train.py did not train; the message has its last words."""


@dataclass(frozen=True, repr=False)
class Trained:
    """What one training by hand gave."""

    val_bpb: float
    train_loss: float  # nats per token, near the end
    bytes_per_token: float  # mean over the held-out text
    num_steps: int
    seconds: float  # of training
    is_recorded: bool = False

    def __repr__(self) -> str:
        where = "Recorded earlier" if self.is_recorded else "Trained here"
        return (
            f"{where}: {self.num_steps} steps in {self.seconds:g} s, train_loss {self.train_loss:.3f} nats per token, "
            f"{self.bytes_per_token:.2f} bytes per token, val_bpb {self.val_bpb:.4f}"
        )


def train_by_hand(seconds: float) -> Trained:
    """Train the project's train.py for `seconds`, on Python's own library; with 0 seconds, the recorded result.

    >>> train_by_hand(20)  # doctest: +SKIP

    Raises TrainingFailed with the last words of train.py.
    """
    if seconds == 0:
        return Trained(**recorded("trained"), is_recorded=True)
    project = project_root()
    corpus, heldout = build_corpus(project, dict(CORPUS), _say_nothing)
    settings = {"CORPUS": corpus, "HELDOUT": heldout, "TIME_BUDGET": seconds, "PRESET": "auto"}
    environment = os.environ | {f"AUTORESEARCH_{name}": str(value) for name, value in settings.items()}
    command = [sys.executable, str(project / "train.py")]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    found = dict(SUMMARY.findall(done.stdout))
    losses = LOSS.findall(done.stdout)
    if done.returncode or "val_bpb" not in found or not losses:
        raise TrainingFailed(f"train.py did not train: {one_line(done.stderr[-400:] or done.stdout[-400:])}")
    size = bytes_per_token(corpus, heldout)
    return Trained(float(found["val_bpb"]), float(losses[-1]), size, int(found["num_steps"]), seconds)


def bytes_per_token(corpus: Path, heldout: Path) -> float:
    """Mean raw bytes of a scored token of val: special tokens are not scored, and have no bytes."""
    sizes: Any = np.load(corpus / "token_bytes.npy")[np.load(heldout / "val.npy")[:, 1:]]
    return float(sizes.sum() / (sizes > 0).sum())


def _say_nothing(line: str) -> None:
    """The lines of the corpus name folders of this machine, and a lesson prints none."""


def recording(seconds: float) -> str:
    """data/trained.json, made anew: `python -m autoresearch_kernel.lab.lessons.training 20 > FILE`."""
    found = train_by_hand(seconds)
    data = {name: value for name, value in vars(found).items() if name != "is_recorded"}
    made_by = f"python -m autoresearch_kernel.lab.lessons.training {seconds:g}, on two cores"
    return json.dumps({"made_by": made_by, "data": data}, indent=1)


if __name__ == "__main__":
    print(recording(float(sys.argv[1])))
