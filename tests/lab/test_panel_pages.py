"""The pages and the data of the drawings in the panel: plain functions of the record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Audit, Experiment, Run
from autoresearch_kernel.lab.panel import pages
from autoresearch_kernel.lab.panel.chart import curve_data, history_data, is_near_miss, table_data
from autoresearch_kernel.lab.panel.panel import Panel
from autoresearch_kernel.show import html
from autoresearch_kernel.show.words import head_and_rest
from autoresearch_kernel.system.files import write_atomic
from tests.event_writer import Writer


def test_a_line_that_looks_like_the_head_of_a_diff_is_shown_and_counted() -> None:
    diff = "--- a\n+++ b\n@@ -1,2 +1,2 @@\n---x\n+++__import__('os').getpid()\n"
    assert "__import__" in html.diff_html(diff) and "--x" in html.diff_html(diff)
    assert html.num_changed_lines(diff) == (1, 1)
    assert "+++ b" not in html.diff_html(diff)


def test_near_misses_are_discards_that_noise_could_explain(writer: Writer) -> None:
    writer.open().baseline().settle(1, "discard", 1.5039)  # sigma is 0.002
    writer.settle(2, "discard", 1.5041)
    experiments = replay(writer.history.events).experiments
    assert [is_near_miss(e) for e in experiments] == [False, True, False]


def test_files_are_links_that_lab_opens_beside_the_notebook(tmp_path: Path) -> None:
    link = pages.file_link(tmp_path / "studies" / "a" / "experiment.ipynb", tmp_path)
    assert 'data-commandlinker-command="docmanager:open"' in link
    assert "studies/a/experiment.ipynb" in link
    assert pages.file_link(Path("/elsewhere/x.py"), tmp_path) == "/elsewhere/x.py"


@pytest.mark.parametrize(
    ("audit", "words"),
    [
        (Audit(True, 0.0, 0.0, 256, 0, "", 1.0), "audit accepted: 256 places say the same"),
        (
            Audit(True, 0.00272, 0.00012, 256, 0, "", 1.0),
            "audit accepted: claimed 1.4000, corrected by +0.00272 ± 0.00012",
        ),
        (
            Audit(False, 0.0, 0.0, 256, 250, "it saw what follows", 1.0),
            "audit refused (claimed 1.4000): 250 of 256 places",
        ),
        (None, ""),
    ],
)
def test_an_experiments_card_says_what_the_audit_found(audit: Audit | None, words: str) -> None:
    run = Run(0, 1, val_bpb=1.4, claimed_bpb=1.4, audit=audit)
    head = pages.experiment_head(Experiment(3, "An idea", "search", 0, runs=(run,)))
    assert words in head and ("audit" in head) == (audit is not None)


SENTENCE = "The value residual helps every head and was measured twice. "


@pytest.mark.parametrize("hypothesis", [SENTENCE * 10, "word " * 120, SENTENCE.rstrip(". ") + " and so on" * 54])
def test_a_hypothesis_of_600_characters_is_folded_once_and_nothing_of_it_is_lost(
    writer: Writer, panel: Callable[[], Panel], hypothesis: str
) -> None:
    assert 590 < len(hypothesis) < 610
    writer.open().baseline().propose(1, hypothesis)
    writer.run(1, 1.51)
    writer.decide(1, "discard", 1.51)
    write_atomic(writer.study.experiment(0).train, "A = 1\n")
    writer.append("review", experiment=2, hypothesis=hypothesis, train_sha256="x", is_draft=False)
    writer.append("paused", reason="experiment 0002 waits for your approval")
    made = panel()
    made.select(1)
    for shown in (made.card.head.value, made.review.words.value):
        before, folded = shown.split("<details", 1)
        assert 60 < len(words_of(before)) < 260 and "more" in folded
        assert sum(words_of(shown).count(word) for word in ("value", "word")) == len(
            [word for word in hypothesis.split() if word in ("value", "word")]
        ), "each word once"
    static = made.table()._repr_html_()
    assert "<details" in static and words_of(static).count(hypothesis.split()[-1].rstrip(".")) > 0
    row = made.experiments.numbers["rows"][1]
    assert row["is_long"] and len(row["idea"]) <= 141 and row["hypothesis"] == hypothesis.strip()


def words_of(page: str) -> str:
    """The text of a page, the style of its tags left out."""
    return re.sub(r"<[^>]*>", " ", page)


def test_a_short_hypothesis_stands_whole_and_what_it_expects_is_not_lost() -> None:
    short = Experiment(3, "Halve the batch.", "llm", 0, expected="-0.003", refutation="no gain")
    card = pages.experiment_head(short)
    assert card.count("Halve the batch") == 1 and "Expected: -0.003" in card and "<details" not in card


@pytest.mark.parametrize(
    ("words", "head", "rest"),
    [
        ("Short.", "Short.", ""),
        ("One. Two. Three.", "One. Two.", "Three."),
        ("no sentence ends here", "no sentence…", "… ends here"),
        ("x" * 20, "x" * 11 + "…", "… " + "x" * 9),
    ],
)
def test_a_text_is_cut_after_a_sentence_else_after_a_word(words: str, head: str, rest: str) -> None:
    assert head_and_rest(words, most=12) == (head, rest)


def test_the_front_end_ships_with_the_package() -> None:
    folder = Path(pages.__file__).parent
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name in ("panel.js", "player.js", "panel.css"):
        assert (folder / name).is_file() and f"lab/panel/{name}" in declared


def test_data_of_the_drawings_is_json_without_nan(writer: Writer) -> None:
    writer.open().baseline().settle(1)
    experiments = replay(writer.history.events).experiments
    wild = [{"seconds": 1.0, "train_loss": loss} for loss in (float("nan"), float("inf"), "x", None, 3.5)]
    curve = curve_data(wild, [], theirs_label="", budget_seconds=100)
    assert curve["mine"] == [(1.0, 3.5)]
    for data in (history_data(experiments, 0.002), history_data((), None), table_data(experiments), curve):
        assert json.dumps(data, allow_nan=False)
