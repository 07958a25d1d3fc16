"""Trains train.py as a user does by hand, for the lessons: no study, no notebook, no sandbox."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import Plain
from ...core.sanitize import one_line
from ...source.parameters import read_parameters, set_parameters
from ...study.create import build_corpus
from ...system.locations import DEVICE, project_root
from ...system.temporary import own_folder
from .data import recorded

CORPUS = {"corpus": "stdlib", "vocab_size": 2048, "sequence_length": 256, "files_folder": None, "text_key": None}
SUMMARY = re.compile(r"^(val_bpb|num_steps):\s+([\d.]+)$", re.MULTILINE)
PROGRESS = re.compile(r"\|\s*(\d+)% \| train_loss ([\d.]+)")


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
        return Trained(**recorded("1-trained"), is_recorded=True)
    corpus, heldout = _corpus()
    said = _run(project_root() / "train.py", seconds, corpus, heldout)
    found, losses = dict(SUMMARY.findall(said)), PROGRESS.findall(said)
    size = bytes_per_token(corpus, heldout)
    return Trained(float(found["val_bpb"]), float(losses[-1][1]), size, int(found["num_steps"]), seconds)


def curve_by_hand(seconds: float, names: Sequence[str], factor: float) -> list[dict[str, float]]:
    """The training loss over time, with the parameters `names` of train.py multiplied by `factor`."""
    source = (project_root() / "train.py").read_text(encoding="utf-8")
    values = {name: parameter.value for name, parameter in read_parameters(source).items() if name in names}
    with own_folder() as folder:
        changed = folder / "train.py"
        changed.write_text(set_parameters(source, {name: value * factor for name, value in values.items()}))
        said = _run(changed, seconds, *_corpus())
    return [
        {"seconds": seconds * int(share) / 100, "train_loss": float(loss)} for share, loss in PROGRESS.findall(said)
    ]


def bytes_per_token(corpus: Path, heldout: Path) -> float:
    """Mean raw bytes of a scored token of val: special tokens are not scored, and have no bytes."""
    sizes: Any = np.load(corpus / "token_bytes.npy")[np.load(heldout / "val.npy")[:, 1:]]
    return float(sizes.sum() / (sizes > 0).sum())


def _corpus() -> tuple[Path, Path]:
    """Both sides of the corpus. What its building says names folders of this machine, and a lesson prints none."""
    return build_corpus(project_root(), dict(CORPUS), lambda line: None)


def _run(script: Path, seconds: float, corpus: Path, heldout: Path) -> str:
    """What a train.py prints. Raises TrainingFailed."""
    settings: Mapping[str, Any] = {
        "AUTORESEARCH_CORPUS": corpus, "AUTORESEARCH_HELDOUT": heldout, "AUTORESEARCH_TIME_BUDGET": seconds,
        "AUTORESEARCH_PRESET": "auto", DEVICE: "cpu",
        "PYTHONPATH": os.pathsep.join([str(project_root()), *_python_path()]),
    }  # fmt: skip
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=project_root(), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode or not PROGRESS.search(done.stdout) or "val_bpb" not in dict(SUMMARY.findall(done.stdout)):
        raise TrainingFailed(f"train.py did not train: {one_line(done.stderr[-400:] or done.stdout[-400:])}")
    return done.stdout


def _python_path() -> list[str]:
    return list(filter(None, [os.environ.get("PYTHONPATH", "")]))
