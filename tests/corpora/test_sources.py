"""Which documents a corpus has, and in which split each is: the standard library, and a user's folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import prepare
from autoresearch_kernel.corpora.build import build_corpus
from autoresearch_kernel.corpora.readers import parquet_texts
from autoresearch_kernel.corpora.sources import stdlib_source
from prepare import PrepareError
from tests.stories import folders_left, make_files_corpus, read_back, story, write_stories

# ---------------------------------------------------------------- the standard library


@pytest.fixture(scope="module")
def stdlib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    return build_corpus("stdlib", home=home, log=lambda line: None)


def test_stdlib_makes_four_splits_of_a_size_worth_training_on(stdlib: Path) -> None:
    meta = prepare.read_meta(stdlib)
    assert meta["key"] == stdlib.name == "stdlib-v2048-t256"
    assert meta["vocab_size"] == 2048
    assert 250 < meta["num_documents"] < 600
    assert meta["num_train_tokens"] > 1_500_000
    assert meta["num_val_rows"] == 512  # 2**17 targets
    # Python 3.13 dropped a dozen of the modules that are held out, and its test split is a tenth smaller.
    assert meta["num_test_rows"] == 512 or (sys.version_info >= (3, 13) and meta["num_test_rows"] > 448)
    assert 2.9 < meta["num_val_bytes"] / 2**17 < 3.5  # bytes a token on held-out code
    assert meta["num_dev_tokens"] >= prepare.DEV_TOKENS
    assert len(meta["content_sha256"]) == len(meta["tokenizer_sha256"]) == 64


def test_held_out_rows_lie_apart_and_the_training_side_has_none(stdlib: Path) -> None:
    heldout = prepare.heldout_dir(stdlib)
    assert heldout == stdlib.parent.parent / "heldout" / stdlib.name
    training_side = ["dev.bin", "meta.json", "token_bytes.npy", "tokenizer.tiktoken", "train.bin"]
    assert sorted(path.name for path in stdlib.iterdir()) == training_side
    assert sorted(path.name for path in heldout.iterdir()) == ["meta.json", "test.npy", "val.npy"]
    rows = np.load(heldout / "val.npy")
    assert rows.dtype == np.uint16 and rows.shape == (512, 257)
    assert (rows[:, 0] == prepare.read_meta(stdlib)["bos_token_id"]).all()


def test_no_document_of_stdlib_is_cut_or_lost(stdlib: Path) -> None:
    tokenizer = prepare.Tokenizer.from_directory(stdlib)
    stream = prepare.read_split(stdlib, "train")
    starts = np.flatnonzero(stream == tokenizer.get_bos_token_id())
    texts = [text for split, text in stdlib_source().documents() if split == "train"]
    assert len(starts) == len(texts)
    for i in (0, len(texts) // 2, len(texts) - 1):
        end = starts[i + 1] if i + 1 < len(starts) else len(stream)
        assert tokenizer.decode(stream[starts[i] + 1 : end]) == texts[i]


def test_stdlib_holds_no_document_twice() -> None:
    texts = [text for _, text in stdlib_source().documents()]
    assert len(set(texts)) == len(texts)
    assert not any("unittest.main()" in text and "class Test" in text[:200] for text in texts)


def test_a_finished_corpus_is_left_alone(stdlib: Path) -> None:
    before = (stdlib / "meta.json").stat().st_mtime_ns
    lines: list[str] = []
    assert build_corpus("stdlib", home=stdlib.parent.parent, log=lines.append) == stdlib
    assert (stdlib / "meta.json").stat().st_mtime_ns == before
    assert "already there" in lines[0]


# ---------------------------------------------------------------- a user's own files


def test_every_kind_of_file_becomes_documents(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine", 40)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "notes.md").write_text("# Markdown marker\n" + story(900))
    (folder / "code.py").write_text("# Python marker\n" + story(901))
    lines = [json.dumps({"text": "Object marker\n" + story(902)}), "", json.dumps("String marker\n" + story(903))]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    table = pyarrow.table({"text": ["Parquet marker\n" + story(904), None], "id": [1, 2]})
    pyarrow.parquet.write_table(table, folder / "table.parquet")
    (folder / ".hidden.txt").write_text("Hidden marker\n" + story(905))
    (folder / "picture.png").write_bytes(b"\x89PNG")
    corpus = make_files_corpus(tmp_path / "home", folder)
    text = "".join(read_back(corpus).values())
    assert prepare.read_meta(corpus)["num_documents"] == 45
    for kind in ("Markdown", "Python", "Object", "String", "Parquet"):
        assert f"{kind} marker" in text
    assert "Hidden marker" not in text


def test_documents_are_in_one_split_each_and_duplicates_are_gone(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine", 60)
    (folder / "copy.txt").write_text(story(3))
    corpus = make_files_corpus(tmp_path / "home", folder)
    found = [split for split, text in read_back(corpus).items() for n in range(60) if f"Story {n}.\n" in text]
    assert prepare.read_meta(corpus)["num_documents"] == 60
    assert found.count("train") >= 40 and found.count("dev") >= 1
    assert len(found) in range(56, 61)  # the head of a document may lie in the tail that fills no row


def test_two_folders_are_two_corpora_and_a_changed_one_is_pointed_out(tmp_path: Path) -> None:
    first, second = write_stories(tmp_path / "one"), write_stories(tmp_path / "two")
    corpus = make_files_corpus(tmp_path / "home", first)
    assert corpus != make_files_corpus(tmp_path / "home", second)
    content = prepare.read_meta(corpus)["content_sha256"]
    (first / "new.txt").write_text(story(999))
    lines: list[str] = []
    sizes = {"vocab_size": 300, "sequence_length": 32}
    build_corpus("files", files_folder=first, home=tmp_path / "home", log=lines.append, **sizes)  # type: ignore[arg-type]
    assert any("--rebuild makes it again" in line for line in lines)
    assert prepare.read_meta(corpus)["content_sha256"] == content
    make_files_corpus(tmp_path / "home", first, rebuild=True)
    assert prepare.read_meta(corpus)["content_sha256"] != content
    assert len(folders_left(tmp_path / "home")) == 4


def test_the_same_documents_make_the_same_corpus(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine")
    metas = [prepare.read_meta(make_files_corpus(tmp_path / home, folder)) for home in ("a", "b")]
    for same in ("content_sha256", "tokenizer_sha256", "num_train_tokens", "num_val_bytes", "key"):
        assert metas[0][same] == metas[1][same]


def test_an_empty_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=r"holds no \.jsonl \.md \.parquet \.py \.txt file"):
        make_files_corpus(tmp_path / "home", tmp_path)
    assert folders_left(tmp_path / "home") == []


def test_a_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match="There is no folder"):
        make_files_corpus(tmp_path / "home", tmp_path / "typo")


def test_a_file_that_is_not_utf8_is_named_with_its_byte(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine")
    (folder / "latin.txt").write_bytes("voilà".encode("latin-1"))
    with pytest.raises(PrepareError, match=r"latin.txt is not UTF-8: byte 0xe0 at position 4"):
        make_files_corpus(tmp_path / "home", folder)
    assert folders_left(tmp_path / "home") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2, is not JSON"),
        ('{"body": 1}', "line 2, has no string under 'text'"),
        (r'"\ud800"', "is not Unicode"),
    ],
)
def test_a_bad_line_of_jsonl_is_named(tmp_path: Path, line: str, message: str) -> None:
    folder = write_stories(tmp_path / "mine")
    (folder / "rows.jsonl").write_text('"fine"\n' + line)
    with pytest.raises(PrepareError, match=message):
        make_files_corpus(tmp_path / "home", folder)


def test_parquet_without_text_and_parquet_that_is_none_are_named(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(PrepareError, match=r"a.parquet has no column 'text', only body"):
        list(parquet_texts(tmp_path / "a.parquet"))
    (tmp_path / "b.parquet").write_text("nothing of the kind")
    with pytest.raises(PrepareError, match=r"b.parquet is not a whole parquet file"):
        list(parquet_texts(tmp_path / "b.parquet"))


def test_too_few_documents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match="Too little text"):
        make_files_corpus(tmp_path / "home", write_stories(tmp_path / "mine", 3))


def test_too_little_text_for_a_row_of_each_split_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number}.txt").write_text(f"Note {number}.")
    with pytest.raises(PrepareError, match=r"its four splits: train .* Each needs a row of 32"):
        make_files_corpus(tmp_path / "home", folder)
    assert folders_left(tmp_path / "home") == []


def test_blank_documents_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text("\n  \n")
    with pytest.raises(PrepareError, match="Too little text"):
        make_files_corpus(tmp_path / "home", tmp_path)


@pytest.mark.parametrize("options", [{"vocab_size": 100}, {"sequence_length": 0}])
def test_sizes_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(PrepareError, match="choose"):
        make_files_corpus(tmp_path / "home", write_stories(tmp_path / "mine"), **options)
