"""study.json: what is missing in it is named, and nothing is read from one that is not whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from autoresearch_kernel.record.study import REQUIRED, StudyError, latest_study, open_study
from tests.conftest import counting_study


def test_what_is_missing_or_of_another_type_is_named(project: Path, small_corpus: Path) -> None:
    study = counting_study(project, small_corpus)
    assert open_study("nov23", project) == study
    for key in REQUIRED:
        for damaged in ({k: v for k, v in study.facts.items() if k != key}, study.facts | {key: None}):
            study.paths.study.write_text(json.dumps(damaged))
            with pytest.raises(StudyError, match=rf"study\.json lacks {key}\. Restore it, or start a new study"):
                open_study("nov23", project)


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[1]", b""])
def test_what_is_no_study_json_is_an_error_in_words(project: Path, small_corpus: Path, text: bytes) -> None:
    counting_study(project, small_corpus).paths.study.write_bytes(text)
    with pytest.raises(StudyError, match=r"study\.json (is not readable|lacks)"):
        open_study("nov23", project)


def test_a_command_without_a_name_takes_the_newest_study_that_can_be_read(project: Path, small_corpus: Path) -> None:
    good = counting_study(project, small_corpus)
    damaged = project / "studies" / "other" / "study.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    os.utime(damaged, (2_000_000_000, 2_000_000_000))
    found = latest_study(project)
    assert found is not None and found.name == good.name
    good.paths.study.unlink()
    with pytest.raises(StudyError, match="other"):
        latest_study(project)


def test_a_study_does_not_record_the_home_of_its_user(
    project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = small_corpus.parents[2]
    monkeypatch.setenv("HOME", str(home))
    meta = json.loads((small_corpus / "meta.json").read_text())
    meta["options"] |= {"folder": str(home / "texts"), "parts": [str(home / "more")]}
    monkeypatch.setattr("autoresearch_kernel.record.study.json.loads", lambda _: meta)
    study = counting_study(project, small_corpus, asked={"files_folder": None})
    assert str(home) not in study.paths.study.read_text(encoding="utf-8")
    assert study.corpus_dir == small_corpus and study.heldout_dir.is_dir()
    monkeypatch.setenv("HOME", "/nonexistent")  # and AUTORESEARCH_HOME names the cache
    assert study.corpus_dir == small_corpus and study.heldout_dir.is_dir()
