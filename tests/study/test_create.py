"""A study is created from what a user asked for, or refused before anything is built."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.study import create, presets
from autoresearch_kernel.study.create import start_study
from autoresearch_kernel.study.options import StudyOptions
from tests.agents.test_options import no_server, study_of  # noqa: F401
from tests.conftest import counting_study


@pytest.fixture
def begin(project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Study]:
    """`start_study` on a machine that need not be measured, with a corpus that is there."""
    study_of(project, small_corpus, "search")  # for the table of prices
    heldout = small_corpus.parents[1] / "heldout" / small_corpus.name
    hardware = {"device": "cpu", "dtype": "float32", "device_name": "a test machine"}
    preset = presets.Preset("test", {}, "stdlib", 512, 64, "a test")
    monkeypatch.setattr(create, "choose_preset", lambda *_, **__: preset)

    def begin(name: str, measure: Callable[..., dict[str, Any]] = lambda *_: hardware, **asked: object) -> Study:
        options = StudyOptions(**asked)  # type: ignore[arg-type]
        built = small_corpus, heldout
        return start_study(name, project, options, lambda _: None, measure=measure, build=lambda *_: built)

    return begin


def test_a_study_without_a_key_or_a_price_is_refused_before_anything_is_built(
    begin: Callable[..., Study], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = partial(begin, measure=lambda *_: pytest.fail("the machine was measured"))
    with pytest.raises(StudyError, match="OPENAI_API_KEY"):
        begin("nov24", agent="llm", model="gpt-5")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(StudyError, match=r"price of 'mine', so the limit of \$2\.00 cannot be kept"):
        begin("nov24", agent="hybrid", model="mine", max_cost=2.0)
    with pytest.raises(StudyError, match="--preset is not for --agent replay"):
        begin("nov24", agent="replay", preset="laptop", recording="nov23")
    assert not (project / "studies" / "nov24").exists()


def test_a_study_with_a_model_keeps_its_server(begin: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://someone:secret-word@127.0.0.1:9/v1")
    study = begin("nov24", agent="llm", model="gpt-5", max_cost=2.0)
    assert study.facts["agent_options"]["server"] == "127.0.0.1:9"
    assert "secret-word" not in study.paths.study.read_text()


def test_a_replay_has_the_seed_of_its_recording(begin: Callable[..., Study], small_corpus: Path, project: Path) -> None:
    counting_study(project, small_corpus, "nov22", seed=7)
    assert begin("nov24", agent="replay", recording="nov22").seed == 7
    assert begin("nov25", agent="replay", seed=0, recording="nov22").seed == 0
    assert begin("nov26").seed == 0


@pytest.mark.parametrize("damage", ["{", "[]", '{"agent": "search"}', "without asked", "without a history"])
def test_a_damaged_study_with_the_same_best_train_py_is_named_and_left_out(
    begin: Callable[..., Study], project: Path, small_corpus: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = counting_study(project, small_corpus, "other")
    other.paths.best_train.parent.mkdir()
    other.paths.best_train.write_bytes((project / "train.py").read_bytes())
    if damage == "without asked":
        damage = json.dumps({key: value for key, value in other.facts.items() if key != "asked"})
    if damage == "without a history":
        other.paths.history.write_bytes(b"\xff not a history\n{}\n")
    else:
        other.paths.study.write_text(damage)
    said: list[str] = []
    study = start_study("nov24", project, StudyOptions(), say=said.append)
    assert study.paths.study.is_file()
    assert any(line.startswith("  Study other is left out: ") for line in said)
