"""How a corpus is built: what a build that was cut short leaves, and how a corpus is built again as it was made."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import prepare
from autoresearch_kernel.control import doctor
from autoresearch_kernel.scoring.job import HeldOut
from autoresearch_kernel.system.corpus_command import corpus_command
from prepare import PrepareError
from tests.stories import folders_left, make_files_corpus, write_stories

ROOT = Path(__file__).parents[2]

# ---------------------------------------------------------------- cut short


def prepare_in_a_process(home: Path, folder: Path, before: str = "") -> subprocess.Popen[str]:
    code = (
        f"import sys; {before}\nimport prepare\nsys.exit(prepare.main(['--corpus', 'files', '--files-folder', "
        f"{str(folder)!r}, '--vocab-size', '300', '--sequence-length', '32', '--home', {str(home)!r}]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine", 400)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))"
    process = prepare_in_a_process(tmp_path / "home", folder, before=limit)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("prepare.py: No room to write under") and "--home" in errors
    assert folders_left(tmp_path / "home") == []


def test_a_builder_that_was_killed_leaves_no_corpus_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", write_stories(tmp_path / "mine", 3000)
    process = prepare_in_a_process(home, folder)
    deadline = time.monotonic() + 60
    while not list(home.glob("corpora/.files*/train.bin")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = folders_left(home)
    assert left and all(name.startswith(".") for name in left)
    corpus = make_files_corpus(home, folder)
    assert folders_left(home) == [corpus.name, corpus.name]
    assert prepare.read_meta(corpus)["num_documents"] == 3000


def test_a_training_side_without_its_held_out_rows_is_made_again(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine")
    corpus = make_files_corpus(tmp_path / "home", folder)
    heldout = prepare.heldout_dir(corpus)
    (heldout / "meta.json").unlink()
    make_files_corpus(tmp_path / "home", folder)
    assert prepare.read_meta(heldout) == prepare.read_meta(corpus)


def test_a_corpus_of_another_format_is_made_again(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine")
    corpus = make_files_corpus(tmp_path / "home", folder)
    for path in (corpus / "meta.json", prepare.heldout_dir(corpus) / "meta.json"):
        path.write_text(path.read_text().replace(f'"format": {prepare.FORMAT}', '"format": 1'))
    with pytest.raises(PrepareError, match="has format 1"):
        prepare.read_meta(corpus)
    make_files_corpus(tmp_path / "home", folder)
    assert prepare.read_meta(corpus)["format"] == prepare.FORMAT


def test_held_out_rows_of_another_making_are_refused(tmp_path: Path) -> None:
    corpus = make_files_corpus(tmp_path / "home", write_stories(tmp_path / "mine"))
    path = prepare.heldout_dir(corpus) / "meta.json"
    path.write_text(path.read_text().replace(prepare.read_meta(corpus)["content_sha256"], "0" * 64))
    with pytest.raises(PrepareError, match="belongs to another making"):
        prepare.read_heldout(corpus, "val")


def test_a_damaged_meta_is_named(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"format": ')
    with pytest.raises(PrepareError, match=r"meta.json is damaged"):
        prepare.read_meta(tmp_path)


# ---------------------------------------------------------------- again, as it was made


def messages_of(corpus: Path, home: Path) -> Iterator[str]:
    """What the program says of a corpus that cannot be used: each message names a command that makes it again."""
    meta = prepare.read_meta(corpus)
    yield corpus_command(corpus, meta)
    (corpus / "tokenizer.tiktoken").write_bytes(b"")
    yield str(next(doctor.corpora(home)).remedy)
    (prepare.heldout_dir(corpus) / "test.npy").unlink()
    with pytest.raises(FileNotFoundError) as gone:
        HeldOut.load(corpus, prepare.heldout_dir(corpus), "test")
    yield str(gone.value)
    (corpus / "train.bin").write_bytes(b"")
    with pytest.raises(PrepareError) as cut:
        prepare.read_split(corpus, "train")
    yield str(cut.value)
    for damage in ("", "[", json.dumps({"format": 2, "options": meta["options"]})):
        (corpus / "meta.json").write_text(damage)
        with pytest.raises(PrepareError) as damaged:
            prepare.read_meta(corpus)
        yield str(damaged.value)
    (corpus / "meta.json").write_text(json.dumps(meta | {"content_sha256": "0"}))
    with pytest.raises(PrepareError) as other:
        prepare.read_heldout(corpus, "val")
    yield str(other.value)


def test_each_message_names_the_command_that_builds_the_same_corpus_again(tmp_path: Path) -> None:
    folder, home = write_stories(tmp_path / "my stories"), tmp_path / "a home"
    corpus = make_files_corpus(home, folder, vocab_size=20_000, eval_tokens=160)
    made = prepare.read_meta(corpus)
    assert made["num_val_rows"] == 5 and made["vocab_size"] < 20_000  # the text has no more pairs to merge
    same = ("content_sha256", "heldout_sha256", "tokenizer_sha256", "key", "num_val_rows")
    for message in messages_of(corpus, home):
        (options,) = re.findall(r"prepare(?:\.py)? (--[^`]*)", message)
        assert prepare.main(shlex.split(options)) == 0
        again = prepare.read_meta(corpus)
        assert {name: again[name] for name in same} == {name: made[name] for name in same}, message
    assert len(folders_left(home)) == 2


def test_other_evaluation_tokens_are_pointed_out(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine")
    make_files_corpus(tmp_path / "home", folder, eval_tokens=160)
    lines: list[str] = []
    make_files_corpus(tmp_path / "home", folder, eval_tokens=320, log=lines.append)
    assert "It was made with eval_tokens 160, not 320. `" in lines[1] and lines[1].endswith("` makes it again.")
    assert f"--eval-tokens 320 --rebuild --home {tmp_path / 'home'}`" in lines[1]


@pytest.mark.parametrize("eval_tokens", [-1, 0, 127])
def test_fewer_evaluation_tokens_than_four_rows_are_refused(tmp_path: Path, eval_tokens: int) -> None:
    folder = write_stories(tmp_path / "mine")
    with pytest.raises(PrepareError, match=f"--eval-tokens {eval_tokens}: choose 128 or more, which is 4 rows of 32"):
        make_files_corpus(tmp_path / "home", folder, eval_tokens=eval_tokens)
    assert make_files_corpus(tmp_path / "home", folder, eval_tokens=128)


def test_a_home_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_stories(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make_files_corpus(Path("~/x"), folder).parents[1] == tmp_path / "x"


# ---------------------------------------------------------------- command line


def test_the_command_line_says_what_it_made_and_where(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine")
    process = prepare_in_a_process(tmp_path / "home", folder)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert str(tmp_path / "home" / "corpora") in output and str(tmp_path / "home" / "heldout") in output


def test_an_unknown_shard_count_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert prepare.main(["--corpus", "climbmix", "--num-shards", "9999", "--home", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "prepare.py: 9999 shards: choose 1 to 6542.\n"
    assert os.listdir(tmp_path) == []
