"""What a person runs in Jupyter: train.py cell by cell, its curve, and an experiment's notebook once more."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class
from nbclient import NotebookClient

from autoresearch_kernel.lab.jupyter import CONTROL, lab_command
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run.interactive import configure_kernel, rerun_in
from autoresearch_kernel.run.kernelspec import KERNEL_NAME, install_kernelspec
from autoresearch_kernel.scoring.job import HeldOut, ScoringJob, ScoringSettings
from autoresearch_kernel.scoring.score import score
from autoresearch_kernel.system.files import take_lock
from tests.conftest import counting_study
from tests.trainings import train

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """
import time
from prepare import Tokenizer, TrainingClock
tokenizer = Tokenizer.from_directory()
clock = TrainingClock(1.5, report_every_seconds=0.5)
while clock.running():
    time.sleep(0.01)
    clock.report(train_loss=4 + 1 / (1 + clock.step))
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernelspec, installed where only this test sees it; and nothing of the shell that started the tests."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "prefix" / "share" / "jupyter"))
    install_kernelspec(tmp_path / "prefix")
    for name in [name for name in os.environ if name.startswith("AUTORESEARCH_") and name != "AUTORESEARCH_HOME"]:
        monkeypatch.delenv(name)


@contextmanager
def kernel(folder: Path, kernel_name: str = KERNEL_NAME, **environment: str) -> Iterator[Any]:
    manager, client = start_new_kernel(kernel_name=kernel_name, cwd=str(folder), env=os.environ | environment)
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def outputs(client: Any, code: str) -> list[tuple[str, dict[str, Any]]]:
    """Kind and content of each message that a cell sends."""
    seen: list[tuple[str, dict[str, Any]]] = []
    client.execute_interactive(
        code, timeout=300, output_hook=lambda message: seen.append((message["msg_type"], message["content"]))
    )
    return [(kind, content) for kind, content in seen if kind not in ("status", "execute_input")]


def text(messages: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(content["text"] for kind, content in messages if kind == "stream")


# --- train.py


def test_saving_train_py_from_jupyterlab_changes_the_edited_line_alone(tmp_path: Path) -> None:
    for name in ("train.py", "jupytext.toml"):
        shutil.copy(ROOT / name, tmp_path)
    contents = build_sync_jupytext_contents_manager_class(LargeFileManager)(root_dir=str(tmp_path))
    notebook = contents.get("train.py", type="notebook")["content"]
    (parameters,) = (cell for cell in notebook.cells if cell.metadata.get("tags") == ["parameters"])
    parameters.source = parameters.source.replace("DEPTH = 1 ", "DEPTH = 2 ")
    notebook.metadata["kernelspec"] = {"name": KERNEL_NAME, "display_name": KERNEL_NAME, "language": "python"}
    notebook.metadata["language_info"] = {"name": "python", "file_extension": ".py", "version": "3.11.2"}
    for cell in notebook.cells:
        cell.metadata |= {"trusted": True, "execution": {"iopub.status.busy": "2026-11-25T13:00:00Z"}}
    contents.save({"type": "notebook", "format": "json", "content": notebook}, "train.py")
    before = (ROOT / "train.py").read_text()
    assert (tmp_path / "train.py").read_text() == before.replace("DEPTH = 1 ", "DEPTH = 2 ") != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jupytext.toml", "prefix", "train.py"]


# The corpus of all its packages takes a minute; tests/test_main_job.py makes that one.
FEW_PACKAGES = """
from autoresearch_kernel.corpora import packages
few = {name: packages.KNOWN[name] for name in ("networkx", "fonttools", "matplotlib")}
packages.packages_source.__defaults__ = (few, None)
"""


def test_a_first_training_by_hand_makes_its_corpus_and_draws_one_picture(tmp_path: Path) -> None:
    with kernel(tmp_path, AUTORESEARCH_HOME=str(tmp_path / "home")) as client:
        seen = outputs(client, FEW_PACKAGES + TRAIN)
        said = text(seen)
        assert (
            "No corpus in" in said and "Corpus packages-v2048-t256: tokenizing" in said and "tokens to train on" in said
        )
        pictures = [content for kind, content in seen if kind in ("display_data", "update_display_data")]
        assert [kind for kind, _ in seen if kind.endswith("display_data")].count("display_data") == 1
        assert 3 <= len(pictures) <= 5  # every half second, and at the end
        assert len({picture["transient"]["display_id"] for picture in pictures}) == 1
        assert "train_loss" not in said  # no lines beside it
        last = pictures[-1]["data"]
        assert last["text/plain"].startswith("step ") and "100%" in last["text/plain"]
        assert ET.fromstring(last["image/svg+xml"]).tag.endswith("svg")
        assert text(outputs(client, "import prepare; print(prepare.TIME_BUDGET)")).strip() == "60.0"


def test_an_ordinary_kernel_draws_the_curve_too_and_without_the_package_prints_lines(
    tmp_path: Path, small_corpus: Path
) -> None:
    settings = {"AUTORESEARCH_CORPUS": str(small_corpus), "PYTHONPATH": str(ROOT)}
    with kernel(tmp_path, "python3", **settings) as client:
        without = outputs(client, "import sys\nsys.modules['autoresearch_kernel'] = None\n" + TRAIN)
        drawn = outputs(client, "del sys.modules['autoresearch_kernel']\n" + TRAIN)
    assert {kind for kind, _ in drawn} == {"display_data", "update_display_data"}
    assert "<svg" in drawn[-1][1]["data"]["image/svg+xml"]
    assert {kind for kind, _ in without} == {"stream"} and "train_loss" in text(without)


def test_in_an_experiment_and_in_a_terminal_there_are_lines_instead(tmp_path: Path, small_corpus: Path) -> None:
    handover = {"AUTORESEARCH_CORPUS": str(small_corpus), "AUTORESEARCH_HANDOVER": str(tmp_path / "h")}
    with kernel(tmp_path, AUTORESEARCH_TIME_BUDGET="7", **handover) as client:
        seen = outputs(client, TRAIN + "import prepare; print(prepare.TIME_BUDGET)")
    assert {kind for kind, _ in seen} == {"stream"} and "train_loss" in text(seen) and "7.0" in text(seen)


def test_lab_opens_with_our_kernel_on_the_control_panel_unless_another_place_is_named(tmp_path: Path) -> None:
    control = tmp_path / CONTROL
    assert not any("default_url" in word for word in lab_command(tmp_path, []))
    control.parent.mkdir()
    control.touch()
    command = lab_command(tmp_path, ["--port", "8765"])
    assert f"--MultiKernelManager.default_kernel_name={KERNEL_NAME}" in command and command[-2:] == ["--port", "8765"]
    assert "--LabApp.default_url=/lab/tree/my-notebooks/control.ipynb" in command
    for asked in ("--LabApp.default_url=/lab", str(control)):
        assert not any(CONTROL in word for word in lab_command(tmp_path, [asked])[:-1])


# --- an experiment once more


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run_baseline(study: Study) -> float:
    """The first run of a study as the supervisor has it run and scored; its val_bpb."""
    paths, allowances = study.experiment(0), ("startup_allowance_seconds", "handover_allowance_seconds")
    settings = {name: study.facts[name] for name in (*allowances, "time_budget_seconds")}
    outcome = train(study.train_source(0), paths, study.corpus_dir, study.project, seed=1234, **settings)
    assert outcome.artefact is not None, outcome.reason
    heldout = HeldOut.load(study.corpus_dir, study.heldout_dir, "val")
    settings = ScoringSettings(**study.facts["scoring"])
    return score(ScoringJob(outcome.artefact, heldout, settings, study.project)).val_bpb


def test_an_executed_experiment_runs_again_by_hand_to_the_recorded_score(
    project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = counting_study(project, small_corpus)
    val_bpb = run_baseline(study)
    folder = study.experiment(0).folder
    before = files_of(study.paths.folder)
    for name in ("HOME", "CORPUS"):  # the study alone says where its corpus is
        monkeypatch.delenv(f"AUTORESEARCH_{name}", raising=False)
    lock = take_lock(study.paths.lock)  # as a supervisor does
    notebook = nbformat.read(study.experiment(0).notebook(0), as_version=4)
    notebook.metadata.kernelspec = {"name": KERNEL_NAME, "display_name": KERNEL_NAME, "language": "python"}
    try:
        NotebookClient(notebook, kernel_name=KERNEL_NAME, timeout=60).execute(cwd=str(folder))
    finally:
        os.close(lock)
    said = "".join(o.text for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "stream")
    assert float(re.findall(r"val_bpb: +([0-9.]+)", said)[0]) == pytest.approx(val_bpb, abs=2e-4)
    assert "Experiment 0000 of study nov23, by hand: 2 s of training on stdlib-v512-t64, seed 1234." in said
    assert "Study nov23 is running on this machine" in said
    before.pop("lock"), (after := files_of(study.paths.folder)).pop("lock")
    assert after == before


def test_without_the_corpus_of_its_study_an_experiment_says_how_to_make_it(project: Path, small_corpus: Path) -> None:
    study = counting_study(project, small_corpus)
    facts = study.facts | {"corpus_dir": str(project / "gone")}
    study.paths.study.write_text(json.dumps(facts))
    with kernel(study.experiment(0).folder) as client:
        for _ in range(2):  # the second try says the same
            ((kind, content),) = outputs(client, "from prepare import Tokenizer")
            assert kind == "error" and content["ename"] == "StudyError"
            assert (
                "gone" in content["evalue"]
                and "autoresearch prepare --corpus stdlib --vocab-size 512" in content["evalue"]
            )


def test_what_a_shell_had_set_for_other_trainings_does_not_reach_an_experiment(
    project: Path, small_corpus: Path
) -> None:
    study = counting_study(project, small_corpus)
    environ = {"AUTORESEARCH_HANDOVER": "/h", "AUTORESEARCH_MAX_STEPS": "3", "AUTORESEARCH_TIME_BUDGET": "9"}
    environ |= {"AUTORESEARCH_DTYPE": "bfloat16"}
    configure_kernel(study.experiment(0).folder, environ)
    assert environ == {
        "AUTORESEARCH_CORPUS": str(small_corpus),
        "AUTORESEARCH_HELDOUT": str(study.heldout_dir),
        "AUTORESEARCH_TIME_BUDGET": "2.0",
        "AUTORESEARCH_PROJECT": str(project),
        "AUTORESEARCH_DEVICE": "cpu",
        "AUTORESEARCH_DTYPE": "float32",
    }
    assert rerun_in(project) is None and rerun_in(study.paths.folder) is None and rerun_in(Path("/")) is None


def test_a_notebook_of_a_study_on_another_disk_is_its_experiment(
    project: Path, small_corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (project / "studies").symlink_to(tmp_path / "disk")
    study = counting_study(project, small_corpus)
    study.experiment(0).folder.mkdir(parents=True, exist_ok=True)
    folder = project / "studies" / "nov23" / "experiments" / "0000"
    environ = {"JPY_SESSION_NAME": str(folder / "experiment.ipynb")}
    configure_kernel(folder.resolve(), environ)
    assert environ["AUTORESEARCH_PROJECT"] == str(project) and environ["AUTORESEARCH_CORPUS"] == str(small_corpus)
