"""A study is created from what a user asked for, or refused before anything is built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.source.parameters import read_parameters
from autoresearch_kernel.study import create, presets
from autoresearch_kernel.study.create import start_study
from autoresearch_kernel.study.options import StudyOptions, refuse_other_settings, wrong_values
from autoresearch_kernel.study.server_start import take_asked
from autoresearch_kernel.system import machine_speed
from tests.agents.test_options import no_server, study_of  # noqa: F401
from tests.conftest import COUNTING_TRAIN, counting_study
from tests.llm_server import ScriptedServer, failing, reply


@pytest.fixture
def begin(project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Study]:
    """`start_study` on a machine that need not be measured, with a corpus that is there."""
    study_of(project, small_corpus, "search")  # for the table of prices
    heldout = small_corpus.parents[1] / "heldout" / small_corpus.name
    hardware = {"device": "cpu", "dtype": "float32", "device_name": "a test machine"}
    preset = presets.Preset("test", {}, "stdlib", 512, 64, "a test")
    monkeypatch.setattr(create, "choose_preset", lambda *_, **__: preset)

    def begin(
        name: str,
        measure: Callable[..., dict[str, Any]] = lambda *_: hardware,
        build: Callable[..., tuple[Path, Path]] = lambda *_: (small_corpus, heldout),
        **asked: object,
    ) -> Study:
        options = StudyOptions(**asked)  # type: ignore[arg-type]
        return start_study(name, project, options, lambda _: None, measure=measure, build=build)

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
    with ScriptedServer([reply("OK")]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://someone:secret-word@127.0.0.1:{server.port}/v1")
        study = begin("nov24", agent="llm", model="gpt-5", max_cost=2.0)
    assert study.facts["agent_options"]["server"] == f"127.0.0.1:{server.port}"
    assert len(take_asked("nov24")) == 1
    assert "secret-word" not in study.paths.study.read_text()


def test_a_server_that_refuses_is_said_before_anything_is_measured(
    begin: Callable[..., Study], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = partial(begin, measure=lambda *_: pytest.fail("the machine was measured"))
    with ScriptedServer([failing(401, "Incorrect API key provided")]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        with pytest.raises(StudyError, match=r"does not accept the key.*Nothing was started"):
            begin("nov24", agent="hybrid", model="tiny")
    assert not (project / "studies" / "nov24").exists()


def test_a_replay_has_the_seed_of_its_recording(begin: Callable[..., Study], small_corpus: Path, project: Path) -> None:
    counting_study(project, small_corpus, "nov22", seed=7)
    assert begin("nov24", agent="replay", recording="nov22").seed == 7
    assert begin("nov25", agent="replay", seed=0, recording="nov22").seed == 0
    assert begin("nov26").seed == 0


def test_the_clock_is_steady_where_the_speed_of_the_machine_can_be_measured_and_wall_where_a_user_asks_for_it(
    begin: Callable[..., Study], small_corpus: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = partial(begin, build=lambda *_: pytest.fail("a corpus was built"))
    with pytest.raises(StudyError, match="--clock steady is not possible here: it needs Linux"):
        nothing("dec23", clock="steady")
    assert begin("dec23").clock == "wall" and "clock" not in begin("dec24").facts
    monkeypatch.setattr(machine_speed, "can_measure", lambda: True)
    assert begin("dec30").clock == "steady" and begin("jan03", duel="never").clock == "steady"
    assert begin("jan01", duel="always").clock == "wall" and begin("jan04", duel="auto").clock == "wall"
    steady = begin("dec25", clock="steady")
    assert steady.clock == "steady" and steady.longest_budget_seconds == 1.5 * steady.time_budget_seconds
    assert begin("dec26", clock="wall").clock == "wall"
    gpu = {"device": "cuda", "dtype": "bfloat16", "device_name": "a test machine"}
    with pytest.raises(StudyError, match="--clock steady is not possible here"):
        begin("dec27", clock="steady", measure=lambda *_: gpu)
    assert begin("jan02", measure=lambda *_: gpu).clock == "wall"
    with pytest.raises(StudyError, match="--duel always is for studies with --clock wall"):
        nothing("dec31", clock="steady", duel="always")
    assert begin("dec28", agent="replay", recording="dec25").clock == "steady"
    monkeypatch.setattr(create, "on_first_slot", lambda _: nullcontext())
    two_cores = {"device": "cpu", "dtype": "float32", "device_name": "a test machine", "num_cores": 2}
    for name, other in (("jan05", {"slots": 2}), ("jan06", {"duel": "always"})):
        again = begin(name, agent="replay", recording="dec25", measure=lambda *_: two_cores, **other)
        assert again.clock == "wall", "two at a time need the wall clock"
    assert begin("dec29", agent="replay", recording="dec26").clock == "wall", "a replay repeats its recording"
    with pytest.raises(StudyError, match=r"'dec25' began with --clock steady, not wall"):
        refuse_other_settings(steady, StudyOptions(clock="wall"))


def test_a_folder_of_texts_alone_chooses_the_corpus_files(
    begin: Callable[..., Study], project: Path, small_corpus: Path
) -> None:
    wanted: list[dict[str, Any]] = []

    def build(_: Path, asked: dict[str, Any], __: object) -> tuple[Path, Path]:
        wanted.append(asked)
        return small_corpus, small_corpus.parents[1] / "heldout" / small_corpus.name

    hardware = {"device": "cpu", "dtype": "float32", "device_name": "a test machine"}
    asked = StudyOptions(files_folder="/texts", text_key="body")
    study = start_study("nov24", project, asked, print, measure=lambda *_: hardware, build=build)
    assert [(w["corpus"], w["files_folder"], w["text_key"]) for w in wanted] == [("files", "/texts", "body")]
    assert (study.facts["asked"]["files_folder"], study.facts["asked"]["text_key"]) == ("/texts", "body")
    with pytest.raises(StudyError, match="--text-key is for --corpus files, not for stdlib"):
        begin("nov25", text_key="body")


def test_a_promoted_study_of_own_text_gives_its_folder_to_no_other_corpus(
    begin: Callable[..., Study], project: Path, small_corpus: Path
) -> None:
    other = counting_study(project, small_corpus, "other", asked={"files_folder": "/texts", "text_key": "body"})
    preset = presets.Preset("test", {}, "files", 512, 64, "a test")
    for corpus, folder in (("stdlib", None), (None, "/texts")):
        assert create._wanted_corpus(StudyOptions(corpus=corpus), preset, other)["files_folder"] == folder


@pytest.mark.parametrize(("start", "is_promoted"), [(None, True), ("tuned", True), ("plain", False)])
def test_the_start_tuned_begins_with_a_promoted_train_py_as_no_start_does(
    begin: Callable[..., Study], project: Path, small_corpus: Path, start: str | None, is_promoted: bool
) -> None:
    """`make run` names the start of every study but the first."""
    other = counting_study(project, small_corpus, "other")
    other.paths.best_train.parent.mkdir()
    other.paths.best_train.write_bytes((project / "train.py").read_bytes())
    folders = small_corpus, small_corpus.parents[1] / "heldout" / small_corpus.name
    hardware = {"device": "cpu", "dtype": "float32", "device_name": "a test machine"}
    asked, said = StudyOptions(start=start), list[str]()
    with suppress(StudyError):  # this train.py lacks what a plain start sets
        start_study("nov24", project, asked, said.append, measure=lambda *_: hardware, build=lambda *_: folders)
    assert any(line.startswith("Preset promoted from other") for line in said) is is_promoted


@pytest.mark.parametrize("damage", ["{", "[]", '{"agent": "search"}', "without asked", "without a history"])
def test_a_damaged_study_with_the_same_best_train_py_is_named_and_left_out(
    begin: Callable[..., Study], project: Path, small_corpus: Path, damage: str
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
    said, folders = list[str](), (small_corpus, small_corpus.parents[1] / "heldout" / small_corpus.name)
    hardware = {"device": "cpu", "dtype": "float32", "device_name": "a test machine"}
    study = start_study(
        "nov24", project, StudyOptions(), said.append, measure=lambda *_: hardware, build=lambda *_: folders
    )
    assert study.paths.study.is_file()
    assert any(line.startswith("  Study other is left out: ") for line in said)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (COUNTING_TRAIN.replace("tags=", "labels=").encode(), '0 code cells tagged "parameters"'),
        (COUNTING_TRAIN.replace("clock.running()", "time.time() < TIME_BUDGET").encode(), "counts its own time"),
        (COUNTING_TRAIN.encode("utf-16"), "is UTF-16, not Python text"),
        (COUNTING_TRAIN.encode() + b"# caf\xe9\n", "is not UTF-8 text: byte"),
    ],
)
def test_a_train_py_that_cannot_train_is_refused_before_anything_is_measured(
    begin: Callable[..., Study], project: Path, content: bytes, words: str
) -> None:
    (project / "train.py").write_bytes(content)
    with pytest.raises(StudyError, match=rf"No study can begin with .*train\.py: .*{words}"):
        begin("nov24", lambda *_: pytest.fail("the machine was measured"))
    assert not (project / "studies" / "nov24").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + COUNTING_TRAIN.encode(),
        COUNTING_TRAIN.replace("\n", "\r\n").encode(),
        f"# coding: latin-1\n{COUNTING_TRAIN}# caf\u00e9\n".encode("latin-1"),
        COUNTING_TRAIN.replace("# A model", "# A\u2028model").encode(),
    ],
    ids=["mark", "CRLF", "latin-1", "separator"],
)
def test_a_study_begins_with_any_file_that_python_runs(
    begin: Callable[..., Study], project: Path, content: bytes
) -> None:
    (project / "train.py").write_bytes(content)
    source = begin("nov24").train_source(0)
    assert "\r" not in source and "\ufeff" not in source and "ALPHA = 1.0" in source
    compile(source.encode(), "train.py", "exec")


@pytest.fixture
def real_train(project: Path) -> Path:
    """A project with the train.py and the presets that the program comes with."""
    root = Path(__file__).parents[2]
    (project / "train.py").write_bytes((root / "train.py").read_bytes())
    shutil.copytree(root / "presets", project / "presets", dirs_exist_ok=True)
    return project / "train.py"


@pytest.mark.usefixtures("real_train")
def test_the_start_of_a_study_is_recorded_and_kept(begin: Callable[..., Study]) -> None:
    study = begin("nov24", start="plain")
    values = {name: p.value for name, p in read_parameters(study.train_source(0)).items()}
    plain = {name: value for name, value in presets.read_parameters_file("plain").items() if name.isupper()}
    assert {name: values[name] for name in plain} == plain
    assert not values["MUON"] and values["NGRAM_ROWS"] == 0 and values["PRESET"] == "none"
    assert study.facts["asked"]["start"] == "plain"
    assert study.facts["preset"]["parameters"]["TOKEN_SHIFT"] is False
    refuse_other_settings(study, StudyOptions())
    refuse_other_settings(study, StudyOptions(start="plain"))
    with pytest.raises(StudyError, match="began with --start plain, not tuned"):
        refuse_other_settings(study, StudyOptions(start="tuned"))


@pytest.mark.usefixtures("real_train")
def test_without_a_word_a_study_starts_tuned(begin: Callable[..., Study]) -> None:
    study = begin("nov24")
    values = {name: p.value for name, p in read_parameters(study.train_source(0)).items()}
    assert values["MUON"] and values["NGRAM_ROWS"] > 0 and values["PRESET"] == "none"
    with pytest.raises(StudyError, match="began with --start tuned, not plain"):
        refuse_other_settings(study, StudyOptions(start="plain"))


def test_a_start_that_there_is_not_and_one_that_does_not_suit_are_refused(begin: Callable[..., Study]) -> None:
    assert "There is no 'fancy'. Choose one of tuned, plain." in wrong_values({"start": "fancy"})["start"]
    with pytest.raises(StudyError, match=r"--start plain does not suit this train\.py: .*no parameter .*MUON"):
        begin("nov24", start="plain")  # a train.py that counts


def test_a_preset_that_train_py_names_wrongly_is_refused(begin: Callable[..., Study], real_train: Path) -> None:
    real_train.write_text(real_train.read_text().replace('PRESET = "auto"', 'PRESET = "large"'))
    with pytest.raises(StudyError, match=r'PRESET = "large": choose one of auto, laptop'):
        begin("nov24")
