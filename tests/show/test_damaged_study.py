"""A study with damaged files: what can be trusted is shown everywhere, the rest is named, and nothing continues it."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autoresearch_kernel import analyse
from autoresearch_kernel.cli import main
from autoresearch_kernel.control.studies import studies
from autoresearch_kernel.core.state import HistoryDamaged, replay
from autoresearch_kernel.core.types import Proposal
from autoresearch_kernel.record.archive import failure_output
from autoresearch_kernel.record.curves import curve_points, read_curve
from autoresearch_kernel.record.history import History, read_events
from autoresearch_kernel.record.history_reader import HistoryReader, readable_events, views_of
from autoresearch_kernel.record.paths import study_paths
from autoresearch_kernel.record.study import REQUIRED, Study, StudyError, open_study, study_names
from autoresearch_kernel.run.notebook import read_notebook
from autoresearch_kernel.show.follow import look
from autoresearch_kernel.show.status import next_step, status_json, status_table
from autoresearch_kernel.study.proposal_files import read_proposal
from tests.event_writer import Writer
from tests.fuzzing import EXAMPLES


def recorded(writer: Writer, experiments: int = 4) -> Path:
    """A stopped study whose experiment 2 was kept, with its study.json; its history."""
    study = writer.open().baseline().study
    for number in range(1, experiments + 1):
        writer.settle(number, "keep" if number == 2 else "discard", 1.45 if number == 2 else 1.51)
    writer.append("stopped", reason="asked")
    writer.history.close()
    facts = {key: kind() if isinstance(kind, type) else 1.0 for key, kind in REQUIRED.items()} | study.facts
    study.paths.study.write_text(json.dumps(facts))
    return study.paths.history


def lines_of(history: Path) -> list[bytes]:
    return history.read_bytes().splitlines(keepends=True)


def place(lines: list[bytes], what: bytes) -> int:
    return next(i for i, line in enumerate(lines) if what in line)


def without(lines: list[bytes], what: bytes) -> list[bytes]:
    found = place(lines, what)
    return [*lines[:found], *lines[found + 1 :]]


PROPOSAL = b'"proposed", "experiment": 3'
DAMAGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "a line overwritten": (
        lambda lines: [*lines[:20], b"?" * 40 + b"\n", *lines[21:]],
        "line 21 of 34 cannot be trusted",
    ),
    "a merge conflict": (
        lambda lines: [*lines[:20], b"<<<<<<< HEAD\n", *lines[20:]],
        "line 21 of 35 cannot be trusted",
    ),
    "a foreign record": (
        lambda lines: [*lines[:9], b'{"event": "x"}\n', *lines[9:]],
        "line 10 of 35 cannot be trusted",
    ),
    "a blank line": (lambda lines: [*lines[:9], b"\n", *lines[9:]], "line 10 of 35 cannot be trusted"),
    "NUL bytes": (lambda lines: [*lines[:9], bytes(64) + b"\n", *lines[9:]], "line 10 of 35 cannot be trusted"),
    "two lines lost": (lambda lines: [*lines[:9], *lines[11:]], "2 records of 34 are missing"),
    "a proposal lost": (lambda lines: without(lines, PROPOSAL), "1 record of 34 is missing"),
    "a proposal overwritten": (
        lambda lines: [b"x\n" if PROPOSAL in line else line for line in lines],
        "line 24 of 34 cannot be trusted",
    ),
    "a line doubled": (lambda lines: [*lines[:9], *lines[8:]], "line 10 of 35 cannot be trusted"),
    "two lines swapped": (
        lambda lines: [*lines[:9], lines[10], lines[9], *lines[11:]],
        "line 11 of 34 cannot be trusted",
    ),
    "the beginning lost": (lambda lines: lines[5:], "5 records of 34 are missing"),
    "line ends of Windows": (
        lambda lines: [line.replace(b"\n", b"\r\n") for line in lines],
        "has the line ends of Windows (CRLF), which an editor or git gave it. Turn them back to LF: sed -i",
    ),
    "another encoding": (lambda lines: [b"".join(lines).decode().encode("utf-16")], "cannot be trusted"),
    "something else": (lambda lines: [b"\x89PNG\r\n", bytes(range(256)) * 4], "cannot be trusted"),
}


@pytest.fixture
def project(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the writer's study, as a project."""
    folder = writer.study.project
    (folder / "prepare.py").write_text("class TrainingClock: ...\n")
    (folder / "train.py").write_text("")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_can_be_trusted_is_shown_and_what_cannot_is_named(writer: Writer, damage: str) -> None:
    history = recorded(writer)
    change, said = DAMAGES[damage]
    history.write_bytes(b"".join(change(lines_of(history))))
    before = history.read_bytes()
    now = look(writer.study)
    assert said in now.damage and now.damage.startswith(str(history)) and next_step(now) == now.damage
    assert said in re.sub(r"\s+", " ", status_table(now)) and status_json(now)["damage"] == now.damage
    shown = [e.number for e in now.state.decided]
    expected = {"a proposal lost": [0, 1, 2, 4], "a proposal overwritten": [0, 1, 2, 4], "another encoding": []}
    assert shown == expected.get(damage, [] if damage == "something else" else shown) and len(shown) in (0, 4, 5)
    if shown and damage != "the beginning lost":
        assert now.incumbent is not None and now.incumbent.number == 2
    with pytest.raises(HistoryDamaged, match=r"history\.jsonl"):
        History.open(history)
    assert history.read_bytes() == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_commands_and_analysis_name_the_damage(
    writer: Writer, project: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    history = recorded(writer)
    change, said = DAMAGES[damage]
    history.write_bytes(b"".join(change(lines_of(history))))
    assert main(["status"]) == 0 and main(["cost"]) == 0
    shown = capsys.readouterr()
    assert said in re.sub(r"\s+", " ", shown.out) and said in shown.err
    assert main(["verify"]) == 1
    night = analyse("nov23")
    assert said in night.note and said in night.summary()
    assert "nov23" in night._repr_html_() and all(repr(finding) for finding in night.findings())


def test_a_history_that_was_restored_is_shown_whole_again(writer: Writer) -> None:
    history = recorded(writer)
    whole = history.read_bytes()
    reader = HistoryReader(history)
    history.write_bytes(whole.replace(b"keep", b"kept", 1))
    os.utime(history, (1, 1))
    assert reader.read() and reader.damage and len(reader.events) == 33
    history.write_bytes(whole)
    assert reader.read() and not reader.damage and len(reader.events) == 34
    assert not reader.read()


def test_a_record_that_does_not_fit_the_others_is_left_out_of_views_alone(writer: Writer) -> None:
    history = recorded(writer)
    with History.open(history) as opened:
        opened.append("decided", experiment=77, status="keep")
        opened.append("scored", experiment=1, run=None)
        opened.append("proposed", experiment=10**9, parent=0, hypothesis="", agent="")
    now = look(writer.study)
    assert "lines 35, 36 and 37 do not fit what comes before" in now.damage and len(now.state.decided) == 5
    with pytest.raises(HistoryDamaged, match="Record 35"):
        replay(read_events(history))


# --- a broken study among good ones


def broken_study(project: Path, name: str, text: bytes | None) -> None:
    """A study touched later than the others, with that study.json; without one for None."""
    folder = project / "studies" / name
    folder.mkdir()
    (folder / "history.jsonl").write_bytes(b"")
    if text is not None:
        (folder / "study.json").write_bytes(text)
    os.utime(folder / "history.jsonl", (2_000_000_000, 2_000_000_000))


@pytest.mark.parametrize("text", [b"{", b"", b"[1]", b"{}", b"\xff\xfe\x00", b"[" * 100_000, b'{"seed": NaN}'])
def test_the_others_are_shown_and_the_broken_one_is_named(
    writer: Writer, project: Path, text: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(writer)
    broken_study(project, "torn", text)
    assert main(["status"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("nov23") and "Study torn is left out: " in shown.err and "torn/study.json" in shown.err
    night = analyse()
    assert night.name == "nov23" and "Study torn is left out: " in night.note
    (check,) = studies(project)
    assert check.verdict == "warn" and check.found.startswith("1 of 2 can be read. torn: ")
    assert main(["status", "--name", "torn"]) == 1
    assert "torn/study.json" in capsys.readouterr().err


def test_doctor_names_a_damaged_history_and_a_study_without_study_json(writer: Writer, project: Path) -> None:
    assert not list(studies(project))
    history = recorded(writer)
    assert [(check.verdict, check.found) for check in studies(project)] == [("ok", "1 of 1 can be read")]
    broken_study(project, "lost", None)
    history.write_bytes(b"".join([*lines_of(history)[:9], b"?\n", *lines_of(history)[9:]]))
    (check,) = studies(project)
    assert check.found.startswith("0 of 2 can be read. lost: ") and "lost/study.json is missing" in check.found
    assert "line 10 of 35 cannot be trusted" in check.found and check.facts["broken"].keys() == {"lost", "nov23"}


# --- whatever the files hold

junk = st.one_of(st.binary(max_size=60), st.text(max_size=30).map(str.encode), st.just(b'{"a": 1}'))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(junk, max_size=6))
def test_any_history_is_shown_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("any") / "history.jsonl"
    path.write_bytes(b"\n".join(lines))
    found = readable_events(path)
    assert views_of(found)[0].num_events == len(found.events)
    try:
        assert read_events(path) == found.events and not found.damage
    except HistoryDamaged as damage:
        assert str(path) in str(damage) and str(path) in found.damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[bytes]]:
    writer = Writer(tmp_path_factory.mktemp("whole"))
    return writer.study, lines_of(recorded(writer))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 2**32), foreign=st.lists(junk.map(lambda data: data.replace(b"\n", b"") + b"\n"), max_size=3)
)
def test_lines_lost_moved_or_foreign_never_stop_a_view(
    whole: tuple[Study, list[bytes]], seed: int, foreign: list[bytes]
) -> None:
    study, lines = whole
    numbers, mixed = random.Random(seed), list(lines)
    for _ in range(numbers.randrange(4)):
        del mixed[numbers.randrange(len(mixed))]
    for line in foreign:
        mixed.insert(numbers.randrange(len(mixed)), line)
    if numbers.random() < 0.3:
        numbers.shuffle(mixed)
    study.paths.history.write_bytes(b"".join(mixed))
    now = look(study)
    assert status_table(now) and json.dumps(status_json(now))
    if mixed[:-1] != lines[: len(mixed) - 1]:
        assert now.damage
    elif mixed == lines[: len(mixed)]:
        assert not now.damage


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.one_of(junk, st.just(b'{"progress": 0.5, "train_loss": 3.0}'), st.just(b"[" * 9_000)), max_size=8))
def test_any_curve_gives_the_points_that_are_whole(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("any") / "metrics.jsonl"
    path.write_bytes(b"\n".join(lines))
    points = read_curve(path)
    assert all(isinstance(value, int | float) for point in points for value in point.values())
    clean = [line for line in lines if b"\n" not in line and b"\r" not in line]
    assert len(points) >= sum(line.startswith(b'{"progress"') for line in clean)
    assert curve_points(lines) is not None


WHOLE = asdict(Proposal("Half the rate.", "ALPHA = 1\n", "llm", transcript=({"role": "user", "content": "?"},)))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.dictionaries(st.sampled_from([*WHOLE, "parent", "spent", "other"]), values, max_size=3), values)
@example({"parent": float("inf")}, None)
@example({}, "text")
def test_any_proposal_json_is_a_proposal_or_none(
    tmp_path_factory: pytest.TempPathFactory, changed: dict[str, object], instead: object
) -> None:
    paths = study_paths("any", tmp_path_factory.getbasetemp() / "files").experiment(1)
    paths.proposal.parent.mkdir(parents=True, exist_ok=True)
    paths.proposal.write_text(json.dumps(WHOLE | {"parent": 0}))
    assert read_proposal(paths) is not None
    paths.proposal.write_text(json.dumps(WHOLE | {"parent": 0} | changed))
    found = read_proposal(paths)
    assert found is None or all(isinstance(text, str) for text in (found[0].hypothesis, found[0].train_source))
    paths.proposal.write_text(json.dumps(instead))
    assert read_proposal(paths) is None


notebooks = st.one_of(
    junk,
    values.map(lambda value: json.dumps({"cells": value, "nbformat": 4}).encode()),
    values.map(lambda value: json.dumps({"cells": [{"cell_type": "code", "outputs": value}]}).encode()),
    values.map(lambda v: json.dumps({"cells": [{"cell_type": "code", "outputs": [{"output_type": v}]}]}).encode()),
    values.map(lambda v: json.dumps({"cells": [{"cell_type": "code", "outputs": [{"traceback": v}]}]}).encode()),
    values.map(lambda value: json.dumps(value).encode()),
    st.just(b"[" * 20_000),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(notebooks)
def test_a_notebook_that_does_not_open_is_named_and_has_no_output(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    paths = study_paths("any", tmp_path_factory.getbasetemp() / "files").experiment(2)
    paths.notebook(0).parent.mkdir(parents=True, exist_ok=True)
    paths.notebook(0).write_bytes(data)
    assert isinstance(failure_output(paths), str)
    try:
        read_notebook(paths.notebook(0))
    except ValueError as error:
        assert str(paths.notebook(0)) in str(error)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.one_of(
        st.text(max_size=40),
        st.just("x" * 300),
        st.text("ab./-_~ \0\n", max_size=12),
        st.sampled_from(["..", ".", "con", "a/../b"]),
    )
)
def test_any_name_of_a_study_is_a_folder_below_studies_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    project = tmp_path_factory.getbasetemp()
    try:
        folder = study_paths(name, project).folder
    except ValueError as error:
        assert str(error)
        return
    assert folder.parent == project / "studies" and folder.name == name
    with pytest.raises(StudyError, match="There is no study"):
        open_study(name, project)
    assert study_names(project) == []
