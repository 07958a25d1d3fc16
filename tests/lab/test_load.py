"""Looking back by name, by path, by table; the recorded example; the notebook from top to bottom."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from autoresearch_kernel import analyse, open_example
from autoresearch_kernel.lab.analysis.load import EXAMPLE_NOTE
from autoresearch_kernel.record.bundle import night_names, night_path
from autoresearch_kernel.record.history import History
from autoresearch_kernel.record.results import ResultsDamaged
from autoresearch_kernel.record.study import REQUIRED, StudyError
from autoresearch_kernel.show.follow import View

PROJECT = Path(__file__).parents[2]
NOTEBOOK = PROJECT / "notebooks" / "analysis.ipynb"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a study."""
    (tmp_path / "prepare.py").write_text("class TrainingClock: ...\n")
    (tmp_path / "train.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(project: Path, name: str) -> Path:
    """A study of a baseline and an edit whose agent did not say what it is about. Two supervisors, an hour apart."""
    folder = project / "studies" / name
    for number, source in enumerate(
        ("ALPHA = 1\n\n\ndef loss():\n    return 1\n", "ALPHA = 1\n\n\ndef loss():\n    return 2\n")
    ):
        (folder / "experiments" / f"{number:04d}").mkdir(parents=True)
        (folder / "experiments" / f"{number:04d}" / "train.py").write_text(source)
    (folder / "study.json").write_text(
        json.dumps({"name": name} | {key: kind() if isinstance(kind, type) else 0 for key, kind in REQUIRED.items()})
    )
    times = iter(
        f"2026-11-23T{hour}.000Z" for hour in ("01:00:00", "01:00:10", "01:01:00", "02:01:00", "02:01:30", "02:02:00")
    )
    with History.open(folder / "history.jsonl", clock=lambda: next(times)) as history:
        history.append("opened")
        history.append("proposed", experiment=0, hypothesis="Baseline.", agent="baseline", parent=None)
        history.append("decided", experiment=0, status="keep", val_bpb=1.5)
        history.append("opened")
        history.append("proposed", experiment=1, hypothesis="Try it.", agent="human", parent=0)
        history.append("decided", experiment=1, status="keep", val_bpb=1.4, incumbent_bpb=1.5)
    return folder


def test_a_study_is_found_by_its_name_its_folder_and_as_the_last_one(project: Path) -> None:
    folder = record(project, "nov23")
    for study in ("nov23", folder, str(folder), ""):
        assert analyse(study).attribution().rows[0]["gain"] == pytest.approx(0.1)


def test_what_a_persons_edit_is_about_is_read_from_the_code(project: Path) -> None:
    record(project, "nov23")
    assert [row["subject"] for row in analyse("nov23").themes().rows] == ["loss"]


def test_the_hours_between_two_supervisors_are_not_the_studys(project: Path) -> None:
    record(project, "nov23")
    assert analyse("nov23").seconds == 120.0


def test_a_study_without_a_history_has_found_nothing_yet(project: Path) -> None:
    (record(project, "nov23") / "history.jsonl").unlink()
    assert "No experiment is decided yet." in repr(analyse("nov23"))


def test_a_results_table_is_found_by_its_path(project: Path) -> None:
    (project / "results.tsv").write_text(
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription\na\t1.2\t4.0\tkeep\tbaseline\n"
    )
    assert "The baseline alone: val_bpb 1.2000." in repr(analyse("results.tsv"))
    assert "what depends on them is unknown" in repr(analyse(Path("results.tsv")))
    (project / "results.tsv").write_text("nonsense\n")
    with pytest.raises(ResultsDamaged, match=r"results\.tsv holds no table of results"):
        analyse("results.tsv")


def test_a_forks_table_is_analysed_in_its_own_metric_and_what_was_left_out_is_said(project: Path) -> None:
    checkout = project / "checkout"
    checkout.mkdir()
    (checkout / "results.tsv").write_text(
        "commit\tval_accuracy\tstatus\tdescription\na\t0.80\tkeep\tbaseline\n~~~\tlate at night\t~~~\t~~~\n"
        "b\t0.85\timproved\tdeeper\nc\t0.70\tno idea\twider\nd\t0\tdiscard\tno memory left\n"
    )
    night = analyse("checkout")
    assert "3 experiments took 1−val_accuracy from 0.2000 to 0.1500" in night.summary()
    assert "1 row left out: line 3 (no score with a status)." in night.note
    assert "1 row counted as not kept: line 5 (the status 'no idea' is not known)." in night.note
    assert "1−val_accuracy" in repr(night.attribution()) and "bits per byte" not in repr(night.findings())
    page = night.save(project / "night.html").read_text()
    assert "val_bpb" not in page.replace("not val_bpb", "")


def test_what_is_not_there_is_said_with_what_is(project: Path) -> None:
    with pytest.raises(StudyError, match=r"There is no study 'nov24'\. There is none yet: `autoresearch run` makes"):
        analyse("nov24")
    record(project, "nov23")
    with pytest.raises(StudyError, match=r"There is no study 'nov24'\. There are nov23\."):
        analyse("nov24")
    with pytest.raises(StudyError, match=r"There is no elsewhere/results\.tsv\. Give a study's name"):
        analyse("elsewhere/results.tsv")


def test_without_a_study_the_recorded_example_is_shown_and_says_so(project: Path) -> None:
    night = analyse()
    assert night.note == EXAMPLE_NOTE and EXAMPLE_NOTE in repr(night)
    assert night.proposals and night.sigma


# --- the recorded example


def test_the_example_opens_like_any_study() -> None:
    now = View(open_example()).look()
    assert now.phase in ("finished", "stopped")
    assert now.incumbent is not None and len(now.incumbent_curve) > 1
    for experiment in now.state.decided:
        assert open_example().experiment(experiment.number).diff.is_file()


def test_each_recorded_night_opens_by_its_name() -> None:
    assert "optimiser" in night_names()
    for name in night_names():
        assert open_example(name).name == name
    with pytest.raises(StudyError, match=r"There is no recorded night 'dec7'\. Those that come .*: optimiser"):
        open_example("dec7")


def test_a_bundle_is_analysed_like_its_study() -> None:
    found, same = analyse(night_path()), analyse(open_example())
    assert found.experiments == same.experiments and found.sigma == same.sigma


# --- the notebook


def test_the_notebook_is_committed_without_outputs_and_explains_each_cell() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert notebook.metadata.kernelspec.name == "autoresearch"
    cells = notebook.cells
    assert cells[0].source.startswith("# ")
    for before, cell in pairwise(cells):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown" and not cell.outputs and cell.execution_count is None
            assert len(cell.source.splitlines()) <= 10
    assert [cell.source.split(" =")[0] for cell in cells if "parameters" in cell.metadata.get("tags", [])] == ["STUDY"]


def test_the_notebook_runs_from_top_to_bottom(project: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(project)}}).execute()
    shown = [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "execute_result"]
    assert len(shown) == 8
    assert EXAMPLE_NOTE in shown[0].data["text/html"] and "<img " in shown[0].data["text/html"]
    assert all(o.output_type != "error" for cell in notebook.cells for o in cell.get("outputs", []))
