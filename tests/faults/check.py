"""What must hold after a fault: read from the files and from git by a process that had no part in it.

`after_fault` holds at once, whatever happened; `after_resume` once the study was taken up again and is complete.
Both give sentences, one for each thing that does not hold.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import re
import shutil
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoresearch_kernel.control.verify import verify
from autoresearch_kernel.core.decide import best, mean
from autoresearch_kernel.core.state import StudyState, replay
from autoresearch_kernel.core.types import Experiment, Status, scores_of
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.paths import StudyPaths, study_paths
from autoresearch_kernel.record.study import Study, open_study, sha256
from autoresearch_kernel.study.finish import NUM_SEEDS
from autoresearch_kernel.study.views import show_study

from .operations import Log, Operation
from .stub import NAME, TEST_OFFSET, true_bpb

Problems = Iterator[str]


@dataclass(frozen=True)
class Outcome:
    """How the study without faults ends; a fault changes of it only what `Allowed` says."""

    statuses: tuple[Status, ...]
    scores: tuple[tuple[float, ...], ...]  # of each experiment, in the order of its runs
    champion: int
    test_difference: float  # the study's result


@dataclass(frozen=True)
class Allowed:
    """What else than the reference is a valid end, and nothing more.

    A trainer or scorer that answers with a failure costs its experiment the run: any but the baseline is a crash then
    (in a last run of the champion: the run alone), and the baseline has one run more. A test score that fails is made
    when the study is taken up. A git that fails costs nothing for good: its commit is made with the next one or when
    the study is resumed.
    An auditor that is killed is asked once more.
    """

    failed_run: tuple[int, int] | None = None  # experiment, run

    @staticmethod
    def by(operation: Operation, fault: str) -> Allowed:
        words = operation.what.split()
        if operation.kind != "reply" or fault != "failure" or words[0] in ("agent", "git", "auditor"):
            return Allowed()
        if not words[1].isdecimal():  # of an attribution, which trains once more
            return Allowed()
        if words[0] == "trainer":
            return Allowed(failed_run=(int(words[1]), int(words[3])))
        if words[3] == "test":
            return Allowed()
        return Allowed(failed_run=(int(words[1]), int(words[2].partition("-")[2] or 0)))


def outcome_of(project: Path) -> Outcome:
    state = replay(read_events(study_paths(NAME, project).history))
    finished = [event for event in read_events(study_paths(NAME, project).history) if event["event"] == "finished"]
    return Outcome(
        tuple(e.status or Status.INTERRUPTED for e in state.experiments),
        tuple(e.scores for e in state.experiments),
        finished[-1]["champion"],
        state.results[-1].test_difference,
    )


# --- at once


def after_fault(project: Path, logs: Sequence[Path]) -> list[str]:
    paths = study_paths(NAME, project)
    return [*_half_files(paths), *_history(paths, logs, torn_allowed=True), *_lock_is_free(paths)]


def _half_files(paths: StudyPaths) -> Problems:
    """Whatever a reader may open is whole."""
    for path in sorted(paths.folder.rglob("*")):
        if path.name in ("study.json", "proposal.json") or path.suffix == ".ipynb":
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                yield f"{path} is not whole: {error}"


def _proposals(paths: StudyPaths, records: Sequence[dict[str, Any]]) -> Problems:
    """Of every proposal that was recorded the files are there, and are the recorded ones."""
    for record in records:
        if record["event"] == "proposed":
            files = paths.experiment(record["experiment"])
            if not files.train.is_file() or not files.proposal.is_file():
                yield f"experiment {record['experiment']} was recorded and {files.folder} does not hold all of it"
            elif sha256(files.train.read_bytes()) != record["train_sha256"]:
                yield f"{files.train} is not the recorded one"
            elif json.loads(files.proposal.read_text(encoding="utf-8"))["train_source"] != files.train.read_text():
                yield f"{files.proposal} and train.py beside it are not the same proposal"


def _history(paths: StudyPaths, logs: Sequence[Path], *, torn_allowed: bool) -> Problems:
    """Every record checked without the project's own reader; acknowledged ones are there, in order, to the byte."""
    acknowledged = [entry for log in logs for entry in Log.read(log, "acknowledged")]
    data = paths.history.read_bytes() if paths.history.exists() else b""
    lines = data.split(b"\n")
    if lines.pop() != b"" and not torn_allowed:
        yield f"{paths.history} ends with a torn line"
    records = []
    for number, line in enumerate(lines, 1):
        body = re.sub(rb', "crc": "([0-9a-f]{8})"\}$', b"}", line)
        if not line.endswith(b'"crc": "%08x"}' % zlib.crc32(body)):
            yield f"{paths.history}, line {number}: its CRC does not fit"
            return
        records.append(json.loads(body))
    if [record["seq"] for record in records] != list(range(1, len(records) + 1)):
        yield f"{paths.history}: records are numbered {[record['seq'] for record in records]}"
    seqs = [entry["record"]["seq"] for entry in acknowledged]
    if lost := [seq for seq in seqs if seq > len(records)]:
        yield f"record {lost} was acknowledged and is not in the history"
    for entry, seq in zip(acknowledged, seqs, strict=True):
        if seq <= len(records) and records[seq - 1] != entry["record"]:
            was, is_now = _short(entry["record"]), _short(records[seq - 1])
            yield f"record {seq} is not the one that was acknowledged: {was} became {is_now}"
        elif seq <= len(records) and lines[seq - 1].decode() != entry["line"]:
            yield f"record {seq} was acknowledged before it was in the file, or it was written anew"
    yield from _proposals(paths, records)
    if seqs != sorted(set(seqs)):
        yield f"records were acknowledged as {seqs}: twice, or out of order"


def _short(record: dict[str, Any]) -> str:
    return json.dumps(record)[:120]


def _lock_is_free(paths: StudyPaths) -> Problems:
    if paths.lock.exists():
        with open(paths.lock) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield f"{paths.lock} is still taken though its process is gone"


# --- once it is complete


def after_resume(project: Path, logs: Sequence[Path], expected: Outcome, allowed: Allowed) -> list[str]:
    """All that `expected` says but for what is allowed, and a record whose every part agrees with every other."""
    study = open_study(NAME, project)
    problems = [entry["text"] for log in logs for entry in Log.read(log, "violation")]
    problems += consistent(study, logs)
    events = read_events(study.paths.history)
    state = replay(events)
    found = [*_numbers(study, state), *_as_expected(events, state, expected, allowed), *_attribution(study, state)]
    return [*problems, *found]


def consistent(study: Study, logs: Sequence[Path]) -> list[str]:
    """The record is whole and its parts agree with each other, whatever the study found."""
    paths = study.paths
    problems = [*_half_files(paths), *_history(paths, logs, torn_allowed=False), *_lock_is_free(paths)]
    if problems:
        return problems
    events = read_events(paths.history)
    state = replay(events)
    left = [f"{path} was left behind" for path in paths.folder.rglob(".*.tmp")]
    return [*left, *_events(events), *_git(study, state), *_views(study, state), *_hashes(study)]


def _events(events: Sequence[dict[str, Any]]) -> Problems:
    for kind, fields in (("study_started", ()), ("proposed", ("experiment",)), ("decided", ("experiment",))):
        yield from _once(events, kind, fields)
    yield from _once([e for e in events if e.get("val_bpb") is not None], "scored", ("experiment", "run"))
    yield from _once(events, "audited", ("experiment", "run"))
    yield from _once(events, "tested", ("experiment", "run"))
    yield from _once(events, "result", ("champion",))
    yield from _audits(events)
    open_runs: set[tuple[int, int]] = set()
    for event in events:
        where = event.get("experiment"), event.get("run")
        if event["event"] == "started":
            open_runs.add((event["experiment"], event["run"]))
        elif event["event"] == "trained" and where not in open_runs:
            yield f"experiment {where[0]}, run {where[1]} was trained and never started"
        elif event["event"] == "decided" and where[0] not in {number for number, _ in open_runs}:
            yield f"experiment {where[0]} was decided and never started"


def _audits(events: Sequence[dict[str, Any]]) -> Problems:
    """Nothing was kept that no audit had accepted, and nothing that one had refused."""
    accepted: dict[int, bool] = {}
    for event in events:
        number = event.get("experiment", -1)
        if event["event"] == "audited":
            accepted[number] = accepted.get(number, True) and event["accepted"]
        elif event["event"] == "decided" and event["status"] == Status.KEEP and not accepted.get(number, False):
            yield f"experiment {number} was kept, and its audit says {accepted.get(number, 'nothing')}"
        elif event["event"] == "decided" and event["status"] == Status.REJECTED and accepted.get(number, True):
            yield f"experiment {number} was rejected, and no audit had refused it"


def _once(events: Sequence[dict[str, Any]], kind: str, fields: Sequence[str]) -> Problems:
    counted = Counter(tuple(event[field] for field in fields) for event in events if event["event"] == kind)
    yield from (f"{count} records {kind!r} of {key}" for key, count in counted.items() if count > 1)


def _numbers(study: Study, state: StudyState) -> Problems:
    """Each score is the one of its own code and seed, each experiment's the mean of its scores, no seed comes twice."""
    seeds = [run.seed for experiment in state.experiments for run in experiment.runs]
    if len(seeds) != len(set(seeds)):
        yield f"two runs share a seed: {seeds}"
    for experiment in state.experiments:
        source = study.train_source(experiment.number)
        for run in experiment.runs:
            if run.val_bpb is not None and run.val_bpb != true_bpb(source, run.seed):
                yield f"experiment {experiment.number}, run {run.index}: {run.val_bpb} is not its own score"
        judged = scores_of(experiment.judged_runs)
        if experiment.val_bpb is not None and experiment.val_bpb != mean(judged):
            yield f"experiment {experiment.number}: {experiment.val_bpb} is not the mean of {judged}"


def _as_expected(events: Sequence[dict[str, Any]], state: StudyState, expected: Outcome, allowed: Allowed) -> Problems:
    statuses = list(expected.statuses)
    failed, run = allowed.failed_run or (None, 0)
    if failed and run < _runs_when_decided(events, failed):
        statuses[failed] = Status.CRASH
    found = [e.status for e in state.experiments]
    if found != statuses:
        yield f"the experiments ended {[str(s) for s in found]}, not {[str(s) for s in statuses]}"
        return
    for experiment in state.experiments:
        mine = experiment.scores
        theirs = expected.scores[experiment.number]
        if mine != theirs and failed is None:
            yield f"experiment {experiment.number} scored {mine}, not {theirs}"
        if experiment.number == 0 and len(mine) != len(theirs):
            yield f"the baseline has {len(mine)} scores, not {len(theirs)}"
    champion = best(state.experiments)
    finished = [event for event in events if event["event"] == "finished"]
    if champion is None or not finished:
        yield "the study has no champion or did not finish"
        return
    accepted = [e for e in state.experiments if e.status is Status.KEEP]
    if champion.val_bpb != min(mean(scores_of(e.judged_runs)) for e in accepted):
        yield f"the champion {champion.number} is not the best of {[(e.number, e.val_bpb) for e in accepted]}"
    if finished[-1]["champion"] != champion.number or finished[0]["champion_bpb"] != _when_it_finished(events):
        yield f"the study finished with {finished}, and its champion is {champion.number}: {champion.val_bpb}"
    yield from _result(state, champion, expected, allowed)


def _when_it_finished(events: Sequence[dict[str, Any]]) -> float | None:
    """The mean of the champion's runs then: a result brings it more runs."""
    at = next(n for n, event in enumerate(events) if event["event"] == "finished")
    champion = best(replay(events[:at]).experiments)
    return mean(champion.scores) if champion else None


def _runs_when_decided(events: Sequence[dict[str, Any]], number: int) -> int:
    (decided,) = [n for n, e in enumerate(events) if e["event"] == "decided" and e["experiment"] == number]
    return len({e["run"] for e in events[:decided] if e["event"] == "started" and e["experiment"] == number})


def _result(state: StudyState, champion: Experiment, expected: Outcome, allowed: Allowed) -> Problems:
    """One result, of the champion; each test score is that of its own model, and none is needless."""
    if [result.champion for result in state.results] != [champion.number]:
        yield f"the results are of {[result.champion for result in state.results]}, the champion is {champion.number}"
        return
    for tested in state.tested:
        run = state.experiments[tested.experiment].runs[tested.run]
        if run.val_bpb is None or tested.test_bpb != run.val_bpb + TEST_OFFSET:
            yield f"{tested} is not the score of {run}"
    if Counter(tested.experiment for tested in state.tested) != {0: NUM_SEEDS, champion.number: NUM_SEEDS}:
        yield f"these were scored on the test split: {state.tested}"
    if allowed.failed_run is None and state.results[0].test_difference != expected.test_difference:
        yield f"the result is {state.results[0].test_difference}, not {expected.test_difference}"


def _attribution(study: Study, state: StudyState) -> Problems:
    """It is ended, of the champion, and each score is that of its own code and seed; no model of it is left."""
    found = state.attribution
    if found is None or not found.is_ended:
        yield "the kept changes are not attributed"
        return
    for variant in found.variants:
        paths = study.experiment(found.champion).without(variant.without)
        source = paths.train.read_text() if variant.train_sha256 else ""
        if sha256(source) != (variant.train_sha256 or sha256("")):
            yield f"{paths.train} is not the recorded one"
        for trial in variant.trials:
            if trial.val_bpb is not None and trial.val_bpb != true_bpb(source, trial.seed):
                yield f"{paths.folder.name}, run {trial.index}: {trial.val_bpb} is not its own score"
        if left := list(paths.folder.glob("handover*/model.pkl")):
            yield f"{left} were left behind"


def _git(study: Study, state: StudyState) -> Problems:
    """Refs, commits, trees and the history agree; the person's own checkout is as it was."""
    project = study.project
    if not (project / ".git").exists():
        yield from (f"experiment {e.number} has a commit without git" for e in state.experiments if e.commit)
        return
    listed = _run_git(project, "for-each-ref", "--format=%(refname) %(objectname) %(parent)")
    refs = {name: (commit, parent) for name, commit, *rest in map(str.split, listed) for parent in [*rest, ""][:1]}
    head = refs["refs/heads/main"][0]
    commits = {e.number: e.commit for e in state.experiments if e.commit is not None}
    for experiment in state.experiments:
        number, ref = experiment.number, f"refs/autoresearch/{NAME}/{experiment.number:04d}"
        commit, parent = refs.get(ref, ("", ""))
        if commit != experiment.commit or not commit:
            yield f"{ref} is {commit or 'missing'} and the history says {experiment.commit}"
        if not commit:
            continue
        if _show(project, f"{commit}:train.py") != study.train_source(number):
            yield f"train.py in {commit} is not that of experiment {number}"
        wanted = commits.get(experiment.parent, head) if experiment.parent is not None else head
        if parent != wanted:
            yield f"the parent of experiment {number}'s commit is {parent}, not {wanted}"
    kept = [e.commit for e in state.experiments if e.status is Status.KEEP]
    tip = refs.get(f"refs/heads/autoresearch/{NAME}", (None, ""))[0]
    if [tip] != kept[-1:]:
        yield f"the branch is at {tip}, and the keeps are {kept}"
    if _run_git(project, "status", "--porcelain") or _run_git(project, "symbolic-ref", "HEAD") != ["refs/heads/main"]:
        yield "the person's own checkout was touched"
    if left := [path for path in (project / ".git").rglob("*.lock")]:
        yield f"git's {left} was left behind"


def _run_git(project: Path, *arguments: str) -> list[str]:
    return subprocess.run(
        ["git", *arguments], cwd=project, check=True, capture_output=True, text=True
    ).stdout.splitlines()


def _show(project: Path, what: str) -> str:
    return subprocess.run(["git", "show", what], cwd=project, check=True, capture_output=True, text=True).stdout


def _hashes(study: Study) -> Problems:
    """Every file is as the history last had it."""
    yield from (check.found for check in verify(study) if check.name in ("history", "files") and check.verdict != "ok")


def _views(study: Study, state: StudyState) -> Problems:
    """What people look at says what the history says: rebuilt from it, it is the same to the byte."""
    champion = best(state.experiments)
    assert champion is not None
    views = [study.paths.results, study.paths.progress, study.paths.best_train]
    if missing := [path for path in views if not path.is_file()]:
        yield f"{missing} are not there"
        return
    copy = study.paths.folder.with_name("rebuilt")
    shutil.copytree(study.paths.folder, copy, ignore=shutil.ignore_patterns("reserve"))
    for path in views:
        (copy / path.relative_to(study.paths.folder)).unlink()
    show_study(dataclasses.replace(study, paths=StudyPaths(copy)), state)
    for path in views:
        if path.read_bytes() != (copy / path.relative_to(study.paths.folder)).read_bytes():
            yield f"{path} is not what the history gives"
    if study.paths.best_train.read_text() != study.train_source(champion.number):
        yield f"{study.paths.best_train} is not the train.py of the champion, {champion.number}"
    for experiment in state.decided:
        for run in experiment.runs:
            yield from _notebook(study.experiment(experiment.number).notebook(run.index), experiment)


def _notebook(path: Path, experiment: Experiment) -> Problems:
    """A decided experiment's notebooks carry its heading, curve and verdict."""
    if not path.is_file():
        yield f"{path} is not there"
        return
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", [])]
    expected = tags[:1] == ["heading"] and tags[-2:] == ["curve", "verdict"] and len(tags) == len(set(tags))
    if not expected or f"**{experiment.status}**" not in "".join(cells[-1]["source"]):
        yield f"{path} has the cells {tags}: it does not carry the verdict {experiment.status}"
