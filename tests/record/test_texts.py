"""No text of an agent, a training or a user brings a control character to a reader, recorded long ago or now."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_kernel.cli import main
from autoresearch_kernel.core.types import Experiment, Progress, Run, Status
from autoresearch_kernel.record.history import History, read_events
from autoresearch_kernel.record.results import read_results, write_results
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run.notebook import heading_markdown
from autoresearch_kernel.show import words
from autoresearch_kernel.show.terminal import Screen
from autoresearch_kernel.study.loop import research
from tests.conftest import counting_study
from tests.hostile import FACTS
from tests.pretended import Machine
from tests.study.test_loop import Scripted

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NASTY = "=1+1\x1b]0;owned\x07\x1b[2J\x9b31m\r\x00\u202eevil\u2066\ud800\x85\u2028 done"

texts = st.text(alphabet=st.characters(codec=None) | st.sampled_from("\x1b\x07\x9b\r\n\t\x00\u202e\u2067\ud83d[];m="))
values = st.recursive(texts | st.integers() | st.none(), lambda part: st.lists(part) | st.dictionaries(texts, part))


@settings(deadline=None, max_examples=40)
@given(fields=st.fixed_dictionaries({name: values for name in ("hypothesis", "reason", "changes", "details", "why")}))
def test_no_field_of_an_event_has_any(fields: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, History.open(Path(folder) / "history.jsonl") as history:
        event = history.append("note", **fields)
        assert read_events(history.path) == [event]
    assert not CONTROLS.search(repr_of(event))


def repr_of(value: Any) -> str:
    """All texts in a value of JSON."""
    if isinstance(value, dict):
        return " ".join(map(repr_of, [*value, *value.values()]))
    return " ".join(map(repr_of, value)) if isinstance(value, list) else str(value)


@settings(deadline=None)
@given(texts, texts, texts, st.dictionaries(texts, texts, max_size=2))
def test_nor_has_what_is_shown_of_a_history_that_has(
    text: str, other: str, third: str, changes: dict[str, str]
) -> None:
    run = Run(0, 1, Status.CRASH, third, interruptions=(other,))
    experiment = Experiment(
        1, text, other, 0, changes, {"seeds": text}, other, third, runs=(run,), status=Status.CRASH, reason=third,
        train_sha256="0" * 64,
    )  # fmt: skip
    title = words.title(experiment)
    heading = heading_markdown(title, hypothesis=words.argument(experiment), diff=f"+{text}\n-{other}")
    for shown in (title, words.outcome_line(experiment), words.verdict(experiment, run, FACTS), heading):
        assert not CONTROLS.search(shown)
    assert "\n" not in title + words.outcome_line(experiment)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.tsv"
        write_results(path, [experiment, experiment])
        table = path.read_text(encoding="utf-8")
        assert not CONTROLS.search(table)
        rows = list(csv.reader(path.open(encoding="utf-8", newline=""), delimiter="\t"))
        assert [len(row) for row in rows] == [5, 5, 5]  # no cell swallows the next line
        assert not rows[1][4].startswith(("=", "+", "-", "@"))
        assert len(read_results(path).experiments) == 2


def test_a_spreadsheet_gets_text_and_the_table_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    ideas = ['=HYPERLINK("http://x.example","y")', "-0.1 weight decay", "@SUM(1)", "+1 layer", "Karpathy's 'trick'"]
    write_results(path, [Experiment(1, idea, "llm", 0, status=Status.DISCARD, val_bpb=1.5) for idea in ideas])
    cells = [line.split("\t")[4] for line in path.read_text().splitlines()[1:]]
    assert cells == [f"'{idea}" for idea in ideas[:4]] + ideas[4:]
    assert [e.hypothesis for e in read_results(path).experiments] == ideas


def test_a_study_of_a_nasty_agent_leaves_clean_files_commits_and_screens(
    project: Path, small_corpus: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    class Nasty(Scripted):
        def propose(self, context: Any) -> Any:
            plain = super().propose(context)
            return replace(plain, hypothesis=NASTY, expected=NASTY, refutation=NASTY, notes=NASTY, agent=NASTY)

    study: Study = counting_study(project, small_corpus)
    screen = Screen()
    for experiment in research(study, Nasty({"ALPHA": 0.5}), experiments=1, watch=screen.watch):
        screen.line(words.outcome_line(experiment))
    assert main(["status"]) == 0 and main(["verify"]) == 0
    command = ["git", "log", "--all", "--format=%an%n%B%n%D", "--name-only"]
    git = subprocess.run(command, cwd=project, capture_output=True, check=True).stdout.decode()
    assert "0001 · ALPHA 1 → 0.5" in git
    screen.watch(Progress("note", text=NASTY))
    screen.watch(Progress("paused", text=NASTY))
    said = capsys.readouterr()
    for shown in (git, said.out, said.err, study.paths.results.read_text(), study.paths.history.read_text()):
        assert shown == "" or ("done" in shown or "0001" in shown)
        assert not CONTROLS.search(shown)
    proposal = study.experiment(1).proposal.read_text()
    assert not CONTROLS.search(proposal + study.paths.notes.read_text())
    assert "\\u001b" not in study.paths.history.read_text()
    assert json.loads(proposal)["hypothesis"] == NASTY.replace("\ud800", "?")  # as the agent said it
