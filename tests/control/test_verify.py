"""`verify` sees every change of a file of the record: a bit, a cut, an addition, a file that is gone."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from autoresearch_kernel.control.checks import Check
from autoresearch_kernel.control.verify import verify
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Objection, Proposal, Refusal
from autoresearch_kernel.record.history import History, read_events, read_state
from autoresearch_kernel.record.study import Study, StudyError, open_study
from autoresearch_kernel.study.disk_space import forget_artefacts
from autoresearch_kernel.study.recovery import recover
from autoresearch_kernel.study.steps import open_session

dice = random.Random(20_261_130)


def flipped(data: bytes) -> bytes:
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit": flipped,
    "another bit": flipped,
    "a third bit": flipped,
    "a cut": lambda data: data[: dice.randrange(len(data))],
    "an addition": lambda data: data + dice.randbytes(dice.randrange(1, 100)),
}


def check_of(study: Study, name: str) -> Check:
    return next(check for check in verify(study) if check.name == name)


def files_of(study: Study) -> list[Path]:
    return [study.paths.folder / path for path in read_state(study.paths.history).files]


def test_all_kinds_of_files_are_recorded_and_an_untouched_study_verifies(measured: Study) -> None:
    kinds = {re.sub(r"-\d+", "", path.name) for path in files_of(measured)}
    assert kinds == {
        "proposal.json", "change.diff", "experiment.ipynb", "metrics.jsonl", "model.pkl", "handover.json", "nll.npy",
        "audit.npy", "results.tsv", "progress.png", "train.py",
    }  # fmt: skip
    assert {check.verdict for check in verify(measured)} == {"ok"}
    found = check_of(measured, "files").found
    assert found == f"each of {len(files_of(measured))} is as recorded"


@pytest.mark.parametrize("change", CHANGES)
def test_every_changed_file_is_named(measured: Study, change: str) -> None:
    files = [path for path in files_of(measured) if path.stat().st_size]  # the baseline's diff is empty
    for path in files:
        path.write_bytes(CHANGES[change](path.read_bytes()))
    check = check_of(measured, "files")
    assert check.verdict == "fail" and "`autoresearch run --name nov23` draws results.tsv" in check.remedy
    named = {line.split(" ")[0] for line in check.facts["wrong"]}
    assert named == {path.relative_to(measured.paths.folder).as_posix() for path in files}


def test_a_notebook_that_was_saved_is_no_riddle(measured: Study) -> None:
    notebook = next(path for path in files_of(measured) if path.suffix == ".ipynb")
    notebook.write_text(json.dumps(json.loads(notebook.read_text()), indent=2))
    check = check_of(measured, "files")
    assert check.verdict == "fail" and check.remedy.startswith("Probably a user ran or saved a notebook")
    notebook.unlink()
    assert "probably" not in check_of(measured, "files").remedy


@pytest.mark.parametrize("change", CHANGES)
def test_so_is_the_history_and_what_it_began_with(measured: Study, change: str) -> None:
    whole = measured.paths.history.read_bytes()
    for _ in range(20):
        measured.paths.history.write_bytes(CHANGES[change](whole))
        history = check_of(measured, "history")
        files = [check for check in verify(measured) if check.verdict == "fail"]
        assert history.verdict == "fail" or (change == "a cut" and files)
        assert history.verdict == "ok" or str(measured.paths.history) in history.found + history.remedy
    measured.paths.history.write_bytes(whole)
    began = measured.paths.study.read_bytes()
    measured.paths.study.write_bytes(CHANGES[change](began))
    try:
        (check,) = [check for check in verify(open_study("nov23", measured.project)) if check.name == "study.json"]
        assert check.verdict == "fail"
    except (StudyError, UnicodeDecodeError) as error:
        assert "study.json" in str(error)


def test_what_was_removed_to_save_space_is_counted_and_what_nothing_removes_is_missed(measured: Study) -> None:
    state = read_state(measured.paths.history)
    paths = measured.experiment(0)
    paths.artefact(0).unlink()
    paths.nll(1).unlink()
    check = check_of(measured, "files")
    assert check.verdict == "ok" and check.facts["removed"] == 2
    assert check.found.endswith("is as recorded; 2 of models and scores removed")
    paths.notebook(1).unlink()
    assert check_of(measured, "files").facts["wrong"][0].startswith("experiments/0000/experiment-1.ipynb (gone")
    forget_artefacts(measured, state, limit_bytes=0)  # which keeps the baseline's
    assert check_of(measured, "files").facts["removed"] == 2


def test_a_study_of_an_older_version_is_counted_and_not_failed(measured: Study) -> None:
    events = read_events(measured.paths.history)
    num_files = len(files_of(measured))
    measured.paths.history.unlink()
    with History.open(measured.paths.history) as history:
        for event in events:
            history.append(
                event["event"], **{k: v for k, v in event.items() if k not in ("seq", "time", "crc", "event", "files")}
            )
    check = check_of(measured, "files")
    assert check.verdict == "ok" and replay(events).files and 0 < check.facts["unrecorded"] < num_files
    assert "not recorded by the version that wrote them" in check.found


def test_views_are_drawn_again_and_a_run_that_is_made_again_is_not_compared(measured: Study) -> None:
    measured.paths.results.write_text("commit\tval_bpb\n")
    measured.paths.best_train.unlink()
    assert check_of(measured, "files").verdict == "fail"
    with open_session(measured) as session:
        recover(session)
        assert check_of(measured, "files").verdict == "ok"
        num_events = len(session.history.events)
        recover(session)
        assert len(session.history.events) == num_events  # nothing has changed, so nothing is recorded
    assert check_of(measured, "files").verdict == "ok"
    state = read_state(measured.paths.history)
    again = {path.relative_to(measured.paths.folder).as_posix() for path in measured.experiment(0).of_run(2)}
    measured.experiment(0).artefact(2).write_bytes(b"half of a model")
    with History.open(measured.paths.history) as history:
        history.append("note", text="as a training begins", files={path: None for path in again if path in state.files})
    assert check_of(measured, "files").verdict == "ok"


def test_a_proposal_that_was_given_back_is_recorded_too(measured: Study) -> None:
    with open_session(measured) as session:
        proposal = Proposal("Halve it", "x = 1\n", "llm")
        session.proposals.refuse(Refusal(1, Objection.GATE, "no", proposal.hypothesis, proposal))
    refused = measured.experiment(1).refused(1)
    assert check_of(measured, "files").verdict == "ok" and json.loads(refused.read_text())["why"] == "no"
    refused.write_bytes(flipped(refused.read_bytes()))
    assert check_of(measured, "files").facts["wrong"][0].startswith("experiments/0001/refused-1.json")
