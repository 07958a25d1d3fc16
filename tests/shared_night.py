"""A small night with all kinds of endings, whose agent and machine left what must not be shared."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

from autoresearch_kernel.core.types import Proposal
from autoresearch_kernel.record.study import Study, sha256
from autoresearch_kernel.run.notebook import build_notebook, heading_markdown, set_verdict, write_notebook
from autoresearch_kernel.show.plot_curve import curve_png
from autoresearch_kernel.source.diff import diff
from autoresearch_kernel.study.proposal_files import save_proposal
from tests.event_writer import Writer
from tests.hostile import HOSTILE, OUTPUTS

USER, HOST = "alice-q7x", "box-93-lab"
KEY = "sk-proj-" + "Qa7Zb8Xc9Wd0" * 3
TOKEN = "hf_" + "abCD12efGH34ijKL56mnOP78"
SECRET = "hunter2-of-alice"  # of a variable whose name says so
VALUE = "team7server99x"  # of a variable that is the user's own
WORDS = {"user name": USER, "host name": HOST, "key": KEY, "token": TOKEN, "secret": SECRET, "value": VALUE}
LEAK = " ".join((f"/home/{USER}/lm/train.py", f"{USER}@{HOST}", KEY, TOKEN, SECRET, VALUE, HOST))
ENVIRONMENT = {"USER": USER, "LOGNAME": USER, "MY_API_PASSWORD": SECRET, "TEAM_SERVER": VALUE}
HEAD = '# %% tags=["parameters"]\nSEED = 1\nALPHA = {alpha}\n\n# %%\nprint(ALPHA)\n'
FACTS = {
    "created_at": "2027-01-15T08:00:00.000Z", "seed": 0, "asked": {}, "corpus_dir": "~/corpora/x", "heldout_dir": "~/h",
    "versions": {"python": "3.12.1", "torch": "2.13.0"}, "sha256": {}, "agent_options": {},
}  # fmt: skip


@dataclass(frozen=True)
class Night:
    """A study on the disk."""

    writer: Writer
    leak: str = ""  # what stands in every text of it

    @property
    def study(self) -> Study:
        return self.writer.study

    def propose(self, number: int, alpha: float, words: str, parent: int | None = 0, code: str = "") -> str:
        """Its event and files; returns train.py."""
        source = HEAD.format(alpha=alpha) + code + (f"# {self.leak}\n" if self.leak else "")
        paths = self.study.experiment(number)
        paths.folder.mkdir(parents=True, exist_ok=True)
        paths.train.write_text(source, encoding="utf-8")
        before = "" if parent is None else self.study.train_source(parent)
        paths.diff.write_text("" if parent is None else diff(before, source), encoding="utf-8")
        transcript = ({"role": "user", "content": f"Propose. {self.leak}"}, {"role": "assistant", "content": words})
        save_proposal(paths, Proposal(words, source, "llm", transcript=transcript), parent)
        self.writer.append(
            "proposed", experiment=number, hypothesis=f"{words} {self.leak}".strip(), agent="llm", parent=parent,
            changes={}, details={"seeds": self.leak}, expected=self.leak, refutation=self.leak,
            train_sha256=sha256(source),
        )  # fmt: skip
        return source

    def train(self, number: int, source: str, run: int = 0, outputs: list[dict[str, Any]] | None = None) -> None:
        """A run with its executed notebook and its curve."""
        self.writer.start(number, run)
        self.writer.clock += 100
        self.writer.train(number, run)
        self.writer.curve(number, run=run)
        path = self.study.experiment(number).notebook(run)
        notebook = build_notebook(source, heading=heading_markdown("title"))
        notebook.metadata["papermill"] = {"input_path": f"/home/{USER}/x.ipynb", "environment_variables": self.leak}
        notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
        printed = {"output_type": "stream", "name": "stdout", "text": f"alpha\n{self.leak}\n"}
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        cells[-1].outputs = [nbformat.from_dict(output) for output in (printed, *(outputs or []))]
        cells[-1].metadata["papermill"] = {"status": "completed", "duration": 3.5, "start_time": self.leak}
        write_notebook(notebook, path)
        png = curve_png([{"seconds": i, "train_loss": 9 / (i + 1)} for i in range(20)])
        set_verdict(path, curve_png=png, curve_text=self.leak, verdict=f"## Verdict\n{self.leak}")

    def decide(self, number: int, status: str, val_bpb: float | None, reason: str = "the rule says so") -> None:
        self.writer.decide(number, status, val_bpb, f"{reason} {self.leak}".strip())

    def whole(self, number: int, status: str, val_bpb: float, words: str, parent: int = 0, **settings: Any) -> None:
        """One experiment from its proposal to its decision."""
        outputs = settings.pop("outputs", None)
        source = self.propose(number, 1 + number / 10, words, parent, **settings)
        self.train(number, source, outputs=outputs)
        self.writer.score(number, val_bpb)
        self.decide(number, status, val_bpb)


def commented(words: str) -> str:
    """As a comment of train.py, whatever the words are."""
    return "".join(f"# > {line}\n" for line in re.split("[\r\n]", words.replace("\0", "")))


def error_output(traceback: str) -> dict[str, Any]:
    return {"output_type": "error", "ename": "RuntimeError", "evalue": traceback, "traceback": [traceback]}


def make_night(folder: Path, leak: str = "", hostile: bool = False) -> Night:
    """Baseline, a keep, a discard, a crash, and one that is not decided; the writer still holds the study's lock."""
    writer = Writer(folder)
    writer.study.facts.update(FACTS)
    writer.says_what_it_does = False
    night = Night(writer.open(), leak)
    writer.study.paths.study.write_text(json.dumps(writer.study.facts))
    source = night.propose(0, 1.0, "Baseline: train.py as it is", None)
    for run, val_bpb in enumerate((1.498, 1.502, 1.5)):
        night.train(0, source, run)
        writer.score(0, val_bpb, run)
    night.decide(0, "keep", 1.5)
    words = "\n".join(HOSTILE) if hostile else "A second line helps"
    shown = [{"output_type": "display_data", "metadata": {}, "data": {kind: data}} for kind, data in OUTPUTS.items()]
    night.whole(1, "keep", 1.46, words, outputs=shown if hostile else None)
    night.whole(2, "discard", 1.49, words, parent=1, code=commented(words))
    crashed = night.propose(3, 4.0, words, parent=1)
    night.train(3, crashed, outputs=[error_output(f"{words} {leak}")])
    writer.append("trained", experiment=3, run=0, status="crash", reason=f"{words} {leak}", measured={})
    night.decide(3, "crash", None, "cell 2 raised")
    night.propose(4, 5.0, "An open end", parent=1)
    return night


@pytest.fixture
def alice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project of a user whose names and environment are those of WORDS."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    known = tuple(os.uname())
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((known[0], HOST, *known[2:])))
    return tmp_path
