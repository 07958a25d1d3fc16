"""How prepare.py makes a corpus: sources, splits, downloads, and what it does when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import prepare
from prepare import PrepareError

ROOT = Path(__file__).parent.parent
SENTENCES = [f"{name} has {number} apples.\n" for number in range(40) for name in ("Ann", "Bo", "Cy", "Dee")]


def story(number: int, sentences: int = 30) -> str:
    order = np.random.default_rng(number).permutation(len(SENTENCES))[:sentences]
    return f"Story {number}.\n" + "".join(SENTENCES[i] for i in order)


def write_stories(folder: Path, count: int = 60) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"story{number}.txt").write_text(story(number))
    return folder


def make_files_corpus(home: Path, folder: Path, **options: object) -> Path:
    sizes = {"vocab_size": 300, "sequence_length": 32} | options
    return prepare.prepare("files", files_folder=folder, home=home, log=lambda line: None, **sizes)  # type: ignore[arg-type]


def read_back(corpus: Path) -> dict[str, str]:
    """The text of every split; of val and test, of the rows alone."""
    tokenizer = prepare.Tokenizer.from_directory(corpus)
    texts = {split: tokenizer.decode(prepare.read_split(corpus, split)) for split in ("train", "dev")}
    return texts | {
        split: tokenizer.decode(prepare.read_heldout(corpus, split)[:, 1:].flatten()) for split in ("val", "test")
    }


def folders_left(home: Path) -> list[str]:
    return sorted(path.name for side in ("corpora", "heldout") for path in home.glob(f"{side}/*"))


# ---------------------------------------------------------------- the standard library


@pytest.fixture(scope="module")
def stdlib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    return prepare.prepare("stdlib", home=home, log=lambda line: None)


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
    texts = [text for split, text in prepare.stdlib_source().documents() if split == "train"]
    assert len(starts) == len(texts)
    for i in (0, len(texts) // 2, len(texts) - 1):
        end = starts[i + 1] if i + 1 < len(starts) else len(stream)
        assert tokenizer.decode(stream[starts[i] + 1 : end]) == texts[i]


def test_stdlib_holds_no_document_twice() -> None:
    texts = [text for _, text in prepare.stdlib_source().documents()]
    assert len(set(texts)) == len(texts)
    assert not any("unittest.main()" in text and "class Test" in text[:200] for text in texts)


def test_a_finished_corpus_is_left_alone(stdlib: Path) -> None:
    before = (stdlib / "meta.json").stat().st_mtime_ns
    lines: list[str] = []
    assert prepare.prepare("stdlib", home=stdlib.parent.parent, log=lines.append) == stdlib
    assert (stdlib / "meta.json").stat().st_mtime_ns == before
    assert "already there" in lines[0]


# ---------------------------------------------------------------- a person's own files


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
    prepare.prepare("files", files_folder=first, home=tmp_path / "home", log=lines.append, **sizes)  # type: ignore[arg-type]
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
        list(prepare.parquet_texts(tmp_path / "a.parquet"))
    (tmp_path / "b.parquet").write_text("nothing of the kind")
    with pytest.raises(PrepareError, match=r"b.parquet is not a whole parquet file"):
        list(prepare.parquet_texts(tmp_path / "b.parquet"))


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


# ---------------------------------------------------------------- the hub, on loopback


class Hub(ThreadingHTTPServer):
    """As much of the Hugging Face hub as a download needs, with failures to order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files: dict[str, bytes] = {}  # "owner/name/file" -> content
        self.failures: list[str] = []  # what the next GETs do: "500", "cut" or "garbage"
        self.requests: list[str] = []  # "GET bytes=100-"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        name = self.path.removeprefix("/datasets/").replace("/resolve/main/", "/")
        content = self.server.files.get(name)
        if content is None:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        failure = self.server.failures.pop(0) if with_body and self.server.failures else ""
        if with_body:
            self.server.requests.append(f"GET {start}")
        if failure == "500":
            return self.send(500, b"", {}, with_body)
        if failure == "garbage":
            content = b"x" * len(content)
        headers = {"ETag": '"0123456789abcdef"', "X-Repo-Commit": "a" * 40, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send(206 if start else 200, content[start:], headers, with_body, cut=failure == "cut")

    def send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def parquet_of(texts: list[str | None], folder: Path) -> bytes:
    path = folder / "made.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path)
    return path.read_bytes()


def fetch_shard(home: Path, log: list[str] | None = None) -> Path:
    log = [] if log is None else log
    return prepare.fetch(prepare.CLIMBMIX, "shard_00000.parquet", home, log.append, attempts=3, wait=0.01)


SHARD = f"{prepare.CLIMBMIX}/shard_00000.parquet"


def test_climbmix_takes_its_shards_and_the_pinned_one_is_held_out(hub: Hub, tmp_path: Path) -> None:
    for shard, first in ((0, 0), (1, 1000), (6542, 5000)):
        texts = [story(first + i) for i in range(200)]
        hub.files[f"{prepare.CLIMBMIX}/shard_{shard:05d}.parquet"] = parquet_of([*texts, None], tmp_path)
    corpus = prepare.prepare(
        "climbmix", num_shards=2, vocab_size=300, sequence_length=32, home=tmp_path / "home", log=lambda line: None
    )
    texts_of = read_back(corpus)
    assert prepare.read_meta(corpus)["num_documents"] == 600
    assert prepare.read_meta(corpus)["options"] == {"num_shards": 2}
    assert "Story 1199." in texts_of["train"] and "Story 5000." not in texts_of["train"]
    assert "Story 0." in texts_of["dev"] and "Story 1000." in texts_of["dev"]
    assert "Story 5000." in texts_of["val"] and "Story 5004." in texts_of["test"]
    requests = len(hub.requests)
    prepare.prepare(
        "climbmix", vocab_size=280, num_shards=1, sequence_length=32, home=tmp_path / "home", log=lambda line: None
    )
    assert len(hub.requests) == requests  # what is here is not asked for again


def test_tinystories_is_split_by_row(hub: Hub, tmp_path: Path) -> None:
    texts: list[str | None] = [f"Story {i}. " + SENTENCES[i % len(SENTENCES)] for i in range(22_000)]
    hub.files[f"{prepare.TINYSTORIES}/tinystories_gpt4_clean.parquet"] = parquet_of(texts, tmp_path)
    corpus = prepare.prepare(
        "tinystories", vocab_size=300, sequence_length=16, home=tmp_path / "home", log=lambda line: None
    )
    texts_of = read_back(corpus)
    assert texts_of["test"].count("Story 0.") == 1 and "Story 10000." in texts_of["val"]
    assert "Story 20000." in texts_of["dev"] and "Story 21999." in texts_of["train"]
    assert "Story 19999." not in texts_of["train"]


def test_a_download_that_breaks_off_is_resumed_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(32, 127, 30_000_000, dtype=np.uint8).tobytes().decode()
    hub.files[SHARD] = parquet_of([noise], tmp_path)
    hub.failures = ["cut"]
    assert fetch_shard(tmp_path / "downloads").read_bytes() == hub.files[SHARD]
    assert hub.requests[0] == "GET 0"
    assert int(hub.requests[1].split()[1]) > 0


def test_a_server_error_is_tried_again(hub: Hub, tmp_path: Path) -> None:
    hub.files[SHARD] = parquet_of(["text"], tmp_path)
    hub.failures = ["500"]
    log: list[str] = []
    assert fetch_shard(tmp_path / "downloads", log).read_bytes() == hub.files[SHARD]
    assert any("attempt 1 of 3 failed" in line for line in log)


def test_garbage_is_thrown_away_and_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    hub.files[SHARD] = parquet_of(["text"], tmp_path)
    hub.failures = ["garbage"]
    log: list[str] = []
    assert fetch_shard(tmp_path / "downloads", log).read_bytes() == hub.files[SHARD]
    assert any("arrived broken" in line for line in log)


def test_a_server_that_stays_broken_is_one_clear_error(hub: Hub, tmp_path: Path) -> None:
    hub.files[SHARD] = parquet_of(["text"], tmp_path)
    hub.failures = ["garbage"] * 9
    with pytest.raises(PrepareError, match=r"Could not download shard_00000.parquet .* in 3 attempts"):
        fetch_shard(tmp_path / "downloads")
    assert not list((tmp_path / "downloads").rglob("*.parquet"))


def test_a_file_that_is_not_there_is_not_asked_for_twice(hub: Hub, tmp_path: Path) -> None:
    log: list[str] = []
    with pytest.raises(PrepareError, match=f"{hub.url} has no shard_00000.parquet"):
        fetch_shard(tmp_path / "downloads", log)
    assert not any("attempt" in line for line in log)


def test_a_broken_download_leaves_no_corpus(hub: Hub, tmp_path: Path) -> None:
    hub.files[SHARD] = parquet_of([story(i) for i in range(50)], tmp_path)
    with pytest.raises(PrepareError, match=r"has no shard_06542.parquet"):
        prepare.prepare("climbmix", num_shards=1, vocab_size=300, sequence_length=32, home=tmp_path / "home")
    assert folders_left(tmp_path / "home") == []


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
