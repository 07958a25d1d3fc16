"""`autoresearch adopt`: a new file and a report; nothing is overwritten and nothing of the other program is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel import analyse
from autoresearch_kernel.cli import main
from autoresearch_kernel.run.notebook import check_source
from tests.source import foreign

RESULTS = (
    "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
    "1a2b3c4\t1.204511\t9.8\tkeep\tbaseline\n"
    "5d6e7f8\t1.198020\t9.8\tkeep\twider\n"
    "9a8b7c6\t0.000000\t0.0\tcrash\ttoo wide\n"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Of a fork: its train.py, a prepare.py that must not be run, and its results."""
    folder = tmp_path / "fork"
    folder.mkdir()
    (folder / "train.py").write_text(foreign.ORIGINAL)
    (folder / "prepare.py").write_text("open('was-run', 'w').close()\n")
    (folder / "results.tsv").write_text(RESULTS)
    return folder


def test_a_checkout_is_adopted_into_the_project(
    project: Path, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = (project / "train.py").read_text()
    assert main(["adopt", str(checkout)]) == 0
    said = capsys.readouterr().out
    new = project / "train.adopted.py"
    check_source(new.read_text())
    assert (project / "train.py").read_text() == mine and (checkout / "train.py").read_text() == foreign.ORIGINAL
    assert said.startswith(f"{new} is the new file; {checkout / 'train.py'} stays as it is.")
    assert "moved into the parameters cell" in said and "while clock.running()" in said
    assert "To be done by hand" not in said and "passes the check" in said
    assert f"cp {new} {project / 'train.py'}" in said and "autoresearch run --experiments 5" in said
    assert not list(project.parent.rglob("was-run"))


def test_sizes_for_a_large_gpu_are_named_with_smaller_ones(
    project: Path, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = checkout / "train.py"
    train.write_text(train.read_text().replace("TOTAL_BATCH_SIZE = 2**9", "TOTAL_BATCH_SIZE = 2**19"))
    assert main(["adopt", str(checkout)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Sizes for a large GPU: TOTAL_BATCH_SIZE = 524288." in said
    assert "write TOTAL_BATCH_SIZE = 4096 and a small DEPTH" in said


def test_its_results_lie_beside_it_and_are_analysed(
    project: Path, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adopt", str(checkout)]) == 0
    table = project / "results.adopted.tsv"
    assert f"analyse({str(table)!r})" in capsys.readouterr().out
    assert [e.val_bpb for e in analyse(table).experiments] == [1.204511, 1.19802, None]


def test_outside_of_a_project_the_new_file_lies_in_the_working_folder(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(checkout)
    assert main(["adopt", "."]) == 0
    said = capsys.readouterr().out
    assert "autoresearch new my-research" in said and "cp " in said
    assert sorted(path.name for path in checkout.iterdir()) == [
        "prepare.py", "results.adopted.tsv", "results.tsv", "train.adopted.py", "train.py",
    ]  # fmt: skip


def test_what_is_left_to_do_is_named_by_line(project: Path, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "blocks.py").write_text("class Block: ...\n")
    text = "import rustbpe\nfrom blocks import Block\n" + foreign.MPS
    (checkout / "train.py").write_text(text)
    assert main(["adopt", str(checkout), "--out", "mine.py"]) == 0
    said = capsys.readouterr().out
    assert "To be done by hand in mine.py" in said and "  1: import rustbpe\n" in said
    assert "put the code of blocks.py in the place of this line" in said and (project / "mine.py").is_file()


@pytest.mark.parametrize("name", ["train.adopted.py", "mine.py", "train.py"])
def test_a_file_that_exists_is_not_overwritten(
    project: Path, checkout: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (project / name).write_text("mine")
    assert main(["adopt", str(checkout), *([] if "adopted" in name else ["--out", name])]) == 1
    assert f"{name} exists and would be overwritten" in capsys.readouterr().err
    assert (project / name).read_text() == "mine" and not (project / "results.adopted.tsv").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"def f(:\n", "cannot be adopted: it does not parse: invalid syntax in line 1"),
        (b"\xff\xfe\x00x", "is UTF-16, not Python text"),
        (b"x = '\xe4'\n", "is not UTF-8 text: byte 5 is 0xe4"),
        (b"# coding: klingon\n", "cannot be read: unknown encoding: klingon"),
        (b"x = 1\0", "cannot be adopted"),
        (b"#" * 1_000_001, "1,000,001 bytes"),
    ],
)
def test_a_file_that_is_no_train_py_is_refused_in_one_sentence(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    (tmp_path / "odd.py").write_bytes(content)
    assert main(["adopt", str(tmp_path / "odd.py")]) == 1
    said = capsys.readouterr().err
    assert words in said and len(said.splitlines()) == 1 and str(tmp_path / "odd.py") in said
    assert not (project / "train.adopted.py").exists()


def test_a_new_file_that_no_study_can_begin_with_is_not_praised(
    project: Path, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "train.py").write_text("DEPTH = 2\nfor step in range(DEPTH):\n    print(step)\n")
    assert main(["adopt", str(checkout)]) == 0
    assert "cannot run as a notebook yet: train.py does not ask prepare's clock" in capsys.readouterr().out


def test_places_that_hold_no_train_py_say_what_to_name(
    project: Path, checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "train.py").rename(checkout / "train_mps.py")
    for place, words in (
        (checkout, "There are prepare.py, train_mps.py: name one of them"),
        (tmp_path / "nowhere", "There is no"),
        ("https://example.org/fork.git", "Clone the repository first"),
        (project, "is one of this program's already"),
    ):
        if place == project:
            (project / "train.py").write_bytes((Path(__file__).parents[2] / "train.py").read_bytes())
        assert main(["adopt", str(place)]) == 1
        said = capsys.readouterr().err
        assert words in said and len(said.splitlines()) == 1
    assert main(["adopt", str(checkout / "train_mps.py"), "--out", "no/where.py"]) == 1
    assert "There is no folder no" in capsys.readouterr().err
    assert main(["adopt", str(checkout / "train_mps.py")]) == 0


def test_a_file_in_another_encoding_is_read_as_python_reads_it(project: Path, tmp_path: Path) -> None:
    text = "# -*- coding: latin-1 -*-\n# für alle\n" + foreign.MPS
    (tmp_path / "old.py").write_bytes(text.encode("latin-1"))
    assert main(["adopt", str(tmp_path / "old.py")]) == 0
    new = (project / "train.adopted.py").read_text(encoding="utf-8")
    assert "für alle" in new and "coding: utf-8" in new


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_notebook_is_adopted(project: Path, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "colab.ipynb").write_text(foreign.colab(), encoding=encoding)
    assert main(["adopt", str(tmp_path / "colab.ipynb")]) == 0
    check_source((project / "train.adopted.py").read_text())
