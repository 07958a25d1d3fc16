"""The main job as a person does it: the real train.py, a fresh cache, no key, the commands of the README."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.ready import PACKAGES, offer

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project without git, and an empty cache beside it."""
    folder = tmp_path_factory.mktemp("checkout") / "autoresearch"
    folder.mkdir()
    for name in ("prepare.py", "train.py", "program.md"):
        shutil.copy(PROJECT / name, folder)
    shutil.copytree(PROJECT / "presets", folder / "presets")
    return folder


def command(checkout: Path, *words: str, **settings: str) -> str:
    """Output of one command in the checkout; it must succeed."""
    env = {key: value for key, value in os.environ.items() if "KEY" not in key and "TOKEN" not in key}
    env |= {"AUTORESEARCH_HOME": str(checkout.parent / "home"), **settings}
    done = subprocess.run([sys.executable, *words], cwd=checkout, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_study_on_the_embedded_corpus_from_nothing_and_again(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = ("-m", "autoresearch_kernel.cli", "run", "--name", "first", "--budget", "2", "--experiments", "1")
    said = command(checkout, *run)
    offer(tmp_path_factory, checkout.parent / "home", PACKAGES)
    for words in (
        "Preset auto",
        "0000   training, run 3",
        "0000 ◆ baseline",
        "0001",
        "progress.png",
        "results.tsv",
        "best",
    ):
        assert words in said, said
    study = checkout / "studies" / "first"
    for name in ("study.json", "history.jsonl", "results.tsv", "progress.png", "best/train.py"):
        assert (study / name).is_file(), name
    notebook = nbformat.read(study / "experiments" / "0001" / "experiment.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells)
    assert "# 0001 · " in text and "## Verdict" in text and "num_steps" not in text.split("## Verdict")[1]
    assert "continuing after 1 experiment." in command(checkout, *run)
    assert (study / "experiments" / "0002" / "experiment.ipynb").is_file()


def test_train_py_by_hand_prints_the_summary_block(checkout: Path) -> None:
    command(checkout, "prepare.py")
    said = command(checkout, "train.py", AUTORESEARCH_TIME_BUDGET="3")
    names = re.findall(r"^(\w+): +([\d.]+|n/a)$", said.partition("---\n")[2], re.MULTILINE)
    assert [name for name, _ in names] == [
        "val_bpb",
        "training_seconds",
        "total_seconds",
        "peak_vram_mb",
        "mfu_percent",
        "total_tokens_M",
        "num_steps",
        "num_params_M",
        "depth",
    ]
    assert 1.0 < float(dict(names)["val_bpb"]) < 4.5


def test_papermill_runs_train_py_from_the_command_line(checkout: Path, small_corpus: Path) -> None:
    words = ("-m", "papermill", "train.py", "out.ipynb", "-p", "DEPTH", "3", "-p", "SEQUENCE_LENGTH", "64")
    settings = {"AUTORESEARCH_TIME_BUDGET": "2", "AUTORESEARCH_CORPUS": str(small_corpus)}
    command(checkout, *words, "--engine", "autoresearch", **settings, AUTORESEARCH_HOME=str(small_corpus.parents[1]))
    notebook = nbformat.read(checkout / "out.ipynb", as_version=4)
    printed = "\n".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))
    assert re.search(r"^depth: +3$", printed, re.MULTILINE)
