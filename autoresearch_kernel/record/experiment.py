"""The values that the rooms hand to each other: frozen, without I/O, importable everywhere.

A study is a series of experiments under one corpus, budget and rule. An experiment is one
proposal tried. A run is one training of it; a confirmation is a second run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Status(StrEnum):
    """How an experiment ended. From artefacts and exit codes, never from notebook metadata."""

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"
    TIMEOUT = "timeout"
    INVALID = "invalid"  # the source did not pass the gate; nothing ran
    REJECTED = "rejected"  # the audit refused the score
    INTERRUPTED = "interrupted"  # the harness went away while it ran; it runs once more


class Cause(StrEnum):
    """Why a training ended without saying anything about its code. It is made again under the same run index."""

    GONE = "gone"  # the harness went away; the only cause that the experiment itself may have brought about
    ASKED = "asked"  # a person stopped it
    SLEPT = "slept"  # the machine slept
    SLOW = "slow"  # the machine ran much slower than for the incumbent
    FULL_DISK = "full disk"
    KILLED = "killed"  # by somebody else, such as a system short of memory


@dataclass(frozen=True)
class Proposal:
    """One idea: what an agent submits. Its only act is the text of train.py."""

    hypothesis: str  # one sentence
    train_source: str  # the whole new train.py
    agent: str  # "search", "baseline", "llm", ...
    changes: dict[str, Any] = field(default_factory=dict)  # parameter -> new literal; empty for structural edits
    details: dict[str, Any] = field(default_factory=dict)  # JSON only the agent reads (trial number, prompt, tokens)


@dataclass(frozen=True)
class RunOutcome:
    """What one training left behind. `artefact` is None exactly when `status` is not None."""

    status: Status | None  # None: trained, ready to be scored; else crash, timeout or invalid
    reason: str  # one line for people; "" when it trained
    artefact: Path | None  # the pickled model
    notebook: Path | None  # executed, whatever happened; None when the gate refused the source
    measured: dict[str, Any] = field(default_factory=dict)  # see `run/engine.py`: what the harness measured


@dataclass(frozen=True)
class Evaluation:
    """A score on the fixed validation rows, computed outside the training process."""

    val_bpb: float  # bits per byte, lower is better
    standard_error: float  # bits per byte, over rows
    num_tokens: int  # scored targets
    num_bytes: int  # raw bytes of those targets
    evaluation_seconds: float
    nll_path: Path | None = None  # per-token negative log-likelihood in nats, float32 .npy (rows, T)


@dataclass(frozen=True)
class Run:
    """One training of an experiment, as the history remembers it."""

    index: int  # 0 is the first run, 1 a confirmation
    seed: int
    status: Status | None = None  # None: trained
    reason: str = ""
    val_bpb: float | None = None
    standard_error: float | None = None
    measured: dict[str, Any] = field(default_factory=dict)
    attempts: int = 1  # trainings begun under this index that nobody asked to stop: 2 after the harness went away
    interruptions: tuple[str, ...] = ()  # why earlier trainings under this index did not count, for people
    causes: tuple[Cause, ...] = ()  # and in one word each, the latest one's included
    num_decided: int = 0  # experiments decided when it began: for a re-run of the incumbent, its place in time

    @property
    def slow(self) -> bool:
        """A training under this index was voided because the machine ran much slower than before."""
        return Cause.SLOW in self.causes


def scores_of(runs: Iterable[Run]) -> tuple[float, ...]:
    """val_bpb of each run that has one, in their order."""
    return tuple(run.val_bpb for run in runs if run.val_bpb is not None)


@dataclass(frozen=True)
class Experiment:
    """One proposal tried, folded from the history. `status` is None until it is decided."""

    number: int  # 0 is the baseline
    hypothesis: str
    agent: str
    parent: int | None  # the incumbent it was derived from; None for the baseline
    changes: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    status: Status | None = None
    val_bpb: float | None = None  # mean over scored runs; None without a score, never 0
    standard_error: float | None = None  # of that mean
    reason: str = ""  # the rule's words, or the failure's
    incumbent_bpb: float | None = None  # the incumbent's pooled mean it was judged against
    sigma: float | None = None  # run-to-run sd believed at that time
    train_sha256: str = ""
    commit: str | None = None  # git commit of its train.py, None without git
    proposed_at: str = ""  # UTC ISO 8601
    decided_at: str = ""

    @property
    def scores(self) -> tuple[float, ...]:
        """val_bpb of each run that has one, oldest first; re-runs after the decision included."""
        return scores_of(self.runs)

    @property
    def delta_bpb(self) -> float | None:
        """Difference to the incumbent it was judged against; negative is better."""
        if self.val_bpb is None or self.incumbent_bpb is None:
            return None
        return self.val_bpb - self.incumbent_bpb


@dataclass(frozen=True)
class Context:
    """All that an agent may read before it proposes."""

    program: str  # program.md
    train_source: str  # the incumbent's train.py
    incumbent: Experiment
    experiments: tuple[Experiment, ...]  # decided ones, oldest first, the baseline included
    sigma: float | None
    study: dict[str, Any]  # study.json: corpus, budget, hardware, versions
    seed: int  # for the agent's own choices
    machine_speed: float = 1.0  # of the machine now, relative to the study's start; see `judge/drift.py`
    hints: tuple[str, ...] = ()  # what people said to the agent, oldest first


@dataclass(frozen=True)
class Progress:
    """What is happening now, for people who watch."""

    phase: str  # "proposing", "starting", "training", "scoring", "deciding", "paused", "note"
    experiment: int = 0
    run: int = 0
    hypothesis: str = ""
    fraction: float = 0.0  # of the phase, 0..1
    metrics: Mapping[str, Any] = field(default_factory=dict)  # the last point of the curve
    text: str = ""  # of a note or a pause
