"""A study as its files tell it, written step by step by this process: the same events as a session writes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.next_step import Action, next_step
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Audit
from autoresearch_kernel.record.activity import Activity, write_activity
from autoresearch_kernel.record.history import History
from autoresearch_kernel.record.paths import study_paths
from autoresearch_kernel.record.study import Study

BUDGET_SECONDS = 100.0
MEASURED = {"tokens_per_second": 28_000.0}
POINTS = 200
ACTIVITIES = {
    Action.PROPOSE: "proposing", Action.TRAIN: "training", Action.SCORE: "scoring", Action.AUDIT: "auditing",
    Action.DECIDE: "deciding",
}  # fmt: skip


class Writer:
    """Holds the lock and writes; `clock` is the Unix time of its next events."""

    def __init__(self, root: Path) -> None:
        facts = {
            "name": "nov23",
            "time_budget_seconds": BUDGET_SECONDS,
            "agent": "search",
            "corpus": {
                "corpus": "stdlib",
                "content_sha256": "c0ffee" * 10,
                "vocab_size": 512,
                "sequence_length": 64,
            },
            "hardware": {"device": "cpu", "device_name": "a test machine"},
            "scoring": {"device": "cpu", "dtype": "float32"},
        }
        self.study = Study("nov23", root, study_paths("nov23", root), facts)
        self.clock = 1_800_000_000.0
        self.purpose = "rerun"  # of trainings of decided experiments
        self.why = ""
        self.says_what_it_does = True  # in activity.json; each time it reads its whole history
        self.history: History

    def open(self) -> Writer:
        self.history = History.open(self.study.paths.history, lock=self.study.paths.lock, clock=self._now)
        if not self.history.events:
            self.append("study_started", study=self.study.facts)
        self.append("opened", pid=os.getpid(), host="here", boot_id="b")
        return self

    def _now(self) -> str:
        return datetime.fromtimestamp(self.clock, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def append(self, event: str, **fields: Any) -> None:
        self.history.append(event, **fields)
        if self.says_what_it_does:
            self.tell(event, fields)

    def tell(self, event: str, fields: dict[str, Any]) -> None:
        """What a supervisor would do now, as it says in activity.json."""
        state = replay(self.history.events)
        step = next_step(state)
        phase, number, run = ACTIVITIES[step.action], step.experiment, step.run
        if event == "started":
            phase, number, run = "training", fields["experiment"], fields["run"]
        elif state.waiting is not None:
            phase, number = "waiting", len(state.experiments) - 1
        elif state.quiet_wait is not None:
            phase, number = "quiet", len(state.experiments) - 1
        elif event == "dry_run" and fields["ended"] is None:
            phase = "dry run"
        elif state.paused:
            phase = "reviewing" if state.review is not None else "paused"
        self.say(phase, number, run)

    def say(self, phase: str, number: int, run: int = 0, writes: str = "") -> None:
        """Replace activity.json; `writes` are the last lines of what the agent writes."""
        experiments = replay(self.history.events).experiments
        is_decided = number < len(experiments) and experiments[number].status is not None
        purpose = self.purpose if is_decided or self.purpose != "rerun" else "experiment" if number else "baseline"
        why = self.why if is_decided else ""
        activity = Activity(phase, purpose, number, run, why, self._now(), os.getpid(), writes)
        write_activity(self.study.paths.activity, activity)

    def propose(self, number: int, words: str = "Set ALPHA to 0.5.", parent: int | None = 0) -> None:
        parent = None if number == 0 else parent
        self.append("proposed", experiment=number, hypothesis=words, agent="search", parent=parent)

    def start(self, number: int, run: int = 0) -> None:
        self.append("started", experiment=number, run=run, seed=100 * number + run)

    def train(self, number: int, run: int = 0, **measured: Any) -> None:
        self.append("trained", experiment=number, run=run, status=None, reason="", measured=MEASURED | measured)

    def score(self, number: int, val_bpb: float, run: int = 0) -> None:
        self.append(
            "scored", experiment=number, run=run, val_bpb=val_bpb, standard_error=0.001, num_tokens=1000,
            num_bytes=3000, evaluation_seconds=1.0,
        )  # fmt: skip

    def audit(self, number: int, run: int = 0) -> None:
        self.append("audited", experiment=number, run=run, **asdict(Audit(True, 0.0, 0.0, 256, 0, "", 1.0)))

    def run(self, number: int, val_bpb: float, run: int = 0, **measured: Any) -> None:
        self.start(number, run)
        self.clock += BUDGET_SECONDS
        self.train(number, run, **measured)
        self.score(number, val_bpb, run)

    def decide(self, number: int, status: str, val_bpb: float | None, reason: str = "the rule says so") -> None:
        self.append(
            "decided", experiment=number, status=status, reason=reason, val_bpb=val_bpb, standard_error=0.001,
            incumbent_bpb=1.5 if number else None, incumbent_standard_error=0.001 if number else None, sigma=0.002,
        )  # fmt: skip

    def baseline(self) -> Writer:
        self.propose(0, "Baseline: train.py with the preset none")
        for run, val_bpb in enumerate((1.498, 1.502, 1.5)):
            self.run(0, val_bpb, run)
        self.decide(0, "keep", 1.5)
        self.curve(0)
        return self

    def settle(self, number: int, status: str = "discard", val_bpb: float = 1.51) -> None:
        """One whole experiment."""
        self.propose(number)
        self.run(number, val_bpb)
        self.decide(number, status, val_bpb)

    def curve(self, number: int, upto: float = 1.0, run: int = 0, level: float = 3.0, wrong: str = "") -> Path:
        """The curve of a run up to a share of its budget, written at the present time of the clock."""
        path = self.study.experiment(number).metrics(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        shares = [(k + 1) / POINTS for k in range(round(POINTS * upto))]
        lines = [
            json.dumps(
                {
                    "progress": share,
                    "seconds": BUDGET_SECONDS * share,
                    "train_loss": level + 4 * math.exp(-9 * share),
                    "tokens_per_second": 28_000.0 + k,
                }
            )
            for k, share in enumerate(shares)
        ]
        path.write_text("".join(f"{line}\n" for line in lines) + wrong)
        os.utime(path, (self.clock, self.clock))
        return path


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A study of which nothing is recorded yet."""
    writer = Writer(tmp_path)
    yield writer
    if hasattr(writer, "history"):
        writer.history.close()
