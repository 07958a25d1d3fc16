"""`doctor --cluster`: what it says where there is nothing to check; tests/run/test_cluster.py has real workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control.cluster_check import examine_cluster, smallest_corpus

NO_CLUSTER = "tcp://127.0.0.1:1"


def test_without_a_corpus_it_says_how_to_get_one(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "empty"))
    (check,) = examine_cluster(NO_CLUSTER, project)
    assert (check.name, check.verdict) == ("corpus", "fail") and "prepare" in check.remedy


def test_without_a_cluster_it_says_so_and_fails(
    project: Path, small_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--cluster", NO_CLUSTER]) == 1
    said = capsys.readouterr().out
    assert "✗" in said and ("No scheduler answers at" in said or "--cluster needs Dask" in said)


def test_the_smallest_corpus_is_taken(small_corpus: Path, tmp_path: Path) -> None:
    cache = small_corpus.parents[1]
    found = smallest_corpus(cache)
    assert found is not None and found[0].parent == cache / "corpora" and (found[1] / "val.npy").is_file()
    assert smallest_corpus(tmp_path) is None
