"""Downloads of corpora from a hub on loopback: resumed, retried, refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import prepare
from autoresearch_kernel.corpora.build import build_corpus
from autoresearch_kernel.corpora.downloads import CLIMBMIX, TINYSTORIES, fetch
from prepare import PrepareError
from tests.stories import SENTENCES, folders_left, read_back, story


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
    return fetch(CLIMBMIX, "shard_00000.parquet", home, log.append, attempts=3, wait=0.01)


SHARD = f"{CLIMBMIX}/shard_00000.parquet"


def test_climbmix_takes_its_shards_and_the_pinned_one_is_held_out(hub: Hub, tmp_path: Path) -> None:
    for shard, first in ((0, 0), (1, 1000), (6542, 5000)):
        texts = [story(first + i) for i in range(200)]
        hub.files[f"{CLIMBMIX}/shard_{shard:05d}.parquet"] = parquet_of([*texts, None], tmp_path)
    corpus = build_corpus(
        "climbmix", num_shards=2, vocab_size=300, sequence_length=32, home=tmp_path / "home", log=lambda line: None
    )
    texts_of = read_back(corpus)
    assert prepare.read_meta(corpus)["num_documents"] == 600
    assert prepare.read_meta(corpus)["options"] == {"num_shards": 2}
    options = "--corpus climbmix --vocab-size 300 --sequence-length 32 --num-shards 2"
    assert prepare.read_meta(corpus)["prepared_with"] == options
    assert "Story 1199." in texts_of["train"] and "Story 5000." not in texts_of["train"]
    assert "Story 0." in texts_of["dev"] and "Story 1000." in texts_of["dev"]
    assert "Story 5000." in texts_of["val"] and "Story 5004." in texts_of["test"]
    requests = len(hub.requests)
    build_corpus(
        "climbmix", vocab_size=280, num_shards=1, sequence_length=32, home=tmp_path / "home", log=lambda line: None
    )
    assert len(hub.requests) == requests  # what is here is not asked for again


def test_tinystories_is_split_by_row(hub: Hub, tmp_path: Path) -> None:
    texts: list[str | None] = [f"Story {i}. " + SENTENCES[i % len(SENTENCES)] for i in range(22_000)]
    hub.files[f"{TINYSTORIES}/tinystories_gpt4_clean.parquet"] = parquet_of(texts, tmp_path)
    corpus = build_corpus(
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
        build_corpus("climbmix", num_shards=1, vocab_size=300, sequence_length=32, home=tmp_path / "home")
    assert folders_left(tmp_path / "home") == []


def test_a_failed_transfer_of_data_is_tried_again(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.files[SHARD] = parquet_of(["text"], tmp_path)
    download, failures, log = huggingface_hub.hf_hub_download, ["Data processing error: CAS service error"], list[str]()

    def transfer(*words: str, **options: object) -> str:
        if failures:
            raise RuntimeError(failures.pop())
        return str(download(*words, **options))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", transfer)
    assert fetch_shard(tmp_path / "downloads", log).read_bytes() == hub.files[SHARD]
    assert any("attempt 1 of 3 failed (Data processing error" in line for line in log)


def test_a_disk_that_a_transfer_fills_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def transfer(*_: str, **__: object) -> str:
        raise RuntimeError("IO Error: No space left on device (os error 28)")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", transfer)
    with pytest.raises(PrepareError, match=r"No room to write under .*No space left on device"):
        build_corpus("climbmix", num_shards=1, vocab_size=300, sequence_length=32, home=tmp_path, log=lambda line: None)
