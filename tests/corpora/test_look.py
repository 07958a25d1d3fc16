"""The look before a build, and the command line of prepare.py about a user's own files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

import prepare
from autoresearch_kernel.core.format import THIN_SPACE, count, thousands
from autoresearch_kernel.corpora import sources
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.study.create import build_corpus
from autoresearch_kernel.study.options import StudyOptions
from tests.stories import make_files_corpus, story, write_stories

ROOT = Path(__file__).parents[2]


def written(folder: Path, kind: str) -> Path:
    """Sixty stories as a folder, a file, JSON lines or Parquet."""
    folder.mkdir()
    rows = [{"text": story(number)} for number in range(60)]
    path = folder / f"stories.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind == "txt":
        path.write_text("".join(row["text"] for row in rows))
    else:
        path = write_stories(folder)
    return path


@pytest.mark.parametrize("kind", ["folder", "txt", "jsonl", "parquet"])
def test_a_look_says_the_sizes_that_the_build_has_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path, home = written(tmp_path / "mine", kind), tmp_path / "home"
    words = ["--files-folder", str(path), "--home", str(home), "--sequence-length", "32", "--look"]
    assert prepare.main(words) == 0
    said, errors = capsys.readouterr()
    assert errors == "" and not home.exists()
    found = re.findall(r"(\w+) +\d+ +(\d+) +[\d.]+%", said.replace(THIN_SPACE, ""))
    sizes = {split: int(size) for split, size in found}
    assert set(sizes) == {"train", "dev", "val", "test"}
    meta = prepare.read_meta(make_files_corpus(home, path))
    total = sum(sizes.values())
    assert total == meta["num_bytes"] == sum(len(story(number).encode()) for number in range(60))
    files = 60 if kind == "folder" else 1
    assert said.splitlines()[0] == f"{path}: {thousands(total)} bytes of text in {count(files, 'file')}"
    assert said.splitlines()[-1] == "Nothing was written. The same command without --look builds the corpus."


def test_a_look_names_what_is_left_out_and_which_split_is_too_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_stories(tmp_path, 60)
    (folder / "photo.txt").write_bytes(b"\xff\xd8\xff\xe0")
    (folder / "paper.pdf").touch()
    assert (
        prepare.main(["--corpus", "files", "--files-folder", str(folder), "--look", "--sequence-length", "2048"]) == 0
    )
    said = capsys.readouterr().out
    assert said.startswith("Left out: 1 file\n  photo.txt: a JPEG image\nKinds of files that are not read: 1 .pdf\n")
    assert "dev is too small: it needs 2\u2009048 tokens, and a token has about 3 bytes. Add" in said


def test_a_long_reading_says_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PROGRESS_SECONDS", 0.0)
    assert prepare.main(["--files-folder", str(write_stories(tmp_path)), "--look"]) == 0
    assert re.search(r"^  read \d+ million characters$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--look"], "--look belongs to --corpus files, not to --corpus packages."),
        (["--text-key", "body"], "--text-key belongs to --corpus files, not to --corpus packages."),
        (["--corpus", "tinystories", "--files-folder", "x"], "--files-folder belongs to --corpus files, not to"),
        (["--corpus", "files", "--look"], "The corpus 'files' needs a folder, or one file"),
        (["--files-folder", "typo", "--look"], "There is no folder or file"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert prepare.main([*words, "--home", str(tmp_path / "home")]) == 1
    said, errors = capsys.readouterr()
    assert said == "" and errors.startswith("prepare.py: ") and message in errors
    assert not (tmp_path / "home").exists()


def test_names_are_printed_in_any_encoding(tmp_path: Path) -> None:
    folder = write_stories(tmp_path, 60)
    (folder / "größe.txt").write_bytes(b"")
    process = subprocess.run(
        [sys.executable, "prepare.py", "--files-folder", str(folder), "--look"],
        cwd=ROOT, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert b"gr??e.txt: empty" in process.stdout


def test_a_study_whose_text_cannot_be_read_names_all_files(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"")
    (folder / "b.txt").write_bytes(b"GIF89a")
    wanted = {"corpus": "files", "vocab_size": 300, "sequence_length": 32, "files_folder": str(folder)}
    said: list[str] = []
    with pytest.raises(StudyError, match=r"(?s)was not prepared: prepare.py: No text .*a.txt: empty.*b.txt: a GIF"):
        build_corpus(project, wanted, said.append)
    assert not any("a.txt" in line for line in said)


def test_a_study_reads_another_key(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTORESEARCH_HOME", "home")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"body": story(number)}) for number in range(60)))
    asked = StudyOptions(corpus="files", files_folder=str(rows), text_key="body")
    wanted = {"corpus": "files", "vocab_size": 300, "sequence_length": 32}
    wanted |= {"files_folder": asked.files_folder, "text_key": asked.text_key}
    folder, _ = build_corpus(project, wanted, lambda line: None)
    assert prepare.read_meta(folder)["num_documents"] == 60
    assert folder.parents[1] == tmp_path / "home", "a relative home is the same for the process that builds"
