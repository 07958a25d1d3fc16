"""A project: `autoresearch new` makes one, commands ask for one, and another program's is not taken for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autoresearch_kernel import panel, start_study
from autoresearch_kernel.cli import main
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.system.locations import ForeignProject, NoProject, project_root
from tests.conftest import PROJECT

# The prepare.py of another program leaves a file when it is run or imported.
FOREIGN = "open('was-run', 'w').close()\n\ndef evaluate_bpb(model, tokenizer, batch_size): ...\n"


def test_new_makes_a_project_in_which_commands_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "deep/mine"]) == 0
    said = capsys.readouterr().out
    assert said.endswith("  cd deep/mine && autoresearch run --experiments 5 --budget 20\n")
    folder = tmp_path / "deep" / "mine"
    for name in ("prepare.py", "train.py", "program.md", "presets/prices.yaml", "notebooks/control.ipynb"):
        assert (folder / name).read_bytes() == (PROJECT / name).read_bytes()
    assert "autoresearch run" in (folder / "README.md").read_text()
    assert "studies/" in (folder / ".gitignore").read_text().splitlines()
    monkeypatch.chdir(folder / "notebooks")
    assert project_root() == folder
    assert main(["status"]) == 1 and str(folder / "studies") in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train.py", "README.md", "presets/gpu.yaml"])
def test_new_overwrites_nothing_and_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    assert main(["new", str(tmp_path)]) == 1
    assert f"{tmp_path / name} exists and would be overwritten" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_new_beside_files_of_other_names_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "thoughts.txt").write_text("mine")
    assert main(["new", str(tmp_path)]) == 0
    assert (tmp_path / "thoughts.txt").read_text() == "mine" and project_root(tmp_path) == tmp_path


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("")
    assert main(["new", str(tmp_path / "mine")]) == 1
    assert str(tmp_path / "mine") in capsys.readouterr().err


@pytest.mark.parametrize("words", [["status"], ["run"], ["prepare"], ["doctor"], ["lab"], ["hint", "try"]])
def test_a_command_outside_of_a_project_says_so_and_names_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    said = capsys.readouterr().err
    assert f"no prepare.py and train.py in {tmp_path} or above it" in said and "`autoresearch new DIR`" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["status"], ["run", "--experiments", "1"], ["prepare"], ["doctor"], ["lab"]])
def test_nothing_of_another_program_s_checkout_is_run(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "prepare.py").write_text(FOREIGN)
    (tmp_path / "train.py").write_text(FOREIGN)
    command = [sys.executable, "-m", "autoresearch_kernel.cli", *words]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 1 and said.stdout == ""
    assert f"{tmp_path / 'prepare.py'} is not this program's" in said.stderr and "`autoresearch new DIR`" in said.stderr
    assert len(said.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prepare.py", "train.py"]


def test_notebooks_say_the_same(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="autoresearch new DIR"):
        start_study("nov24", project=tmp_path)
    (tmp_path / "prepare.py").write_text(FOREIGN)
    (tmp_path / "train.py").write_text("")
    with pytest.raises(StudyError, match="is not this program's"):
        start_study("nov24", project=tmp_path)
    with pytest.raises(ForeignProject, match="is not this program's"):
        panel(project=tmp_path)
    for folder, kind in ((tmp_path, ForeignProject), (tmp_path / "nowhere", NoProject)):
        with pytest.raises(kind):
            project_root(folder)
