"""Does the record still stand: which result belongs to which code, rows, settings and versions. It changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.format import count
from ..core.state import Event, HistoryDamaged, StudyState, replay
from ..record.file_hashes import file_hash
from ..record.history import parse
from ..record.paths import ARTEFACT, HANDOVER
from ..record.provenance import changed_versions, provenance
from ..record.study import (
    CORPUS_FILES,
    SHORT,
    Study,
    StudyError,
    changed_contents,
    check_corpus,
    prepare_command,
    sha256,
    study_versions,
)
from ..system.files import lock_holder
from ..system.shell import shell_command
from .checks import Check

REMOVABLE = re.compile(rf".*/({ARTEFACT}|{HANDOVER}|(nll|audit)(-\d+)?\.npy)")  # to save disk space
MOST_NAMED = 5  # files or scores that are named one by one
_NOTEBOOKS = (
    "Probably a user ran or saved a notebook in place, as JupyterLab does; no score depends on it, but this check "
    "fails until it is restored. To try things, work in a copy of the notebook."
)

Change = tuple[str, str, str]  # what of the corpus is not what it was, hash then and hash now


def verify(study: Study) -> list[Check]:
    """Recompute the hashes of all that the study's scores depend on and compare them with its record."""
    data = study.paths.history.read_bytes() if study.paths.history.is_file() else b""
    is_running = lock_holder(study.paths.lock) is not None
    try:
        events, num_whole = parse(study.paths.history, data)
        state = replay(events)
    except HistoryDamaged as damage:
        return [Check("history", "fail", str(damage))]
    settings = _settings(study, state)
    if settings.verdict == "fail":  # what study.json says is not to be relied on; the history holds it too
        study = replace(study, facts=state.study)
    changed = list(changed_contents(study, CORPUS_FILES))
    return [
        _history(study, state, 0 if is_running else len(data) - num_whole),
        settings,
        _prepare(study),
        *_corpus(study, changed),
        _sources(study, state),
        _files(study, state, is_running),
        _scores(study, state, events, changed),
        _versions(study),
    ]


def _history(study: Study, state: StudyState, num_left: int) -> Check:
    """Whether the history ends with a whole record, and has all experiments that have a folder."""
    folders = study.experiment(0).folder.parent.glob("[0-9]*")
    last = max((int(folder.name) for folder in folders if folder.name.isdigit()), default=0)
    remedy = f"Unless the study was interrupted, restore {study.paths.history} from a copy. The next session goes on."
    if num_left:
        found = f"its last {count(num_left, 'byte')} are no whole record: a write was interrupted, or the file was cut"
        return Check("history", "fail", found, remedy)
    if last > len(state.experiments):  # the folder of a proposal is there before its record
        found = f"it ends before experiment {len(state.experiments):04d}, and there is a folder of {last:04d}"
        return Check("history", "fail", found, remedy)
    found = f"{state.num_events} records, each with the checksum that it was written with"
    return Check("history", "ok", found)


def _settings(study: Study, state: StudyState) -> Check:
    if not state.study:
        return Check("study.json", "ok", "the study has not begun, so no score belongs to it yet")
    if state.study != json.loads(json.dumps(study.facts)):
        remedy = f"Restore {study.paths.study}: the first line of {study.paths.history} holds it."
        return Check("study.json", "fail", "it is not what the history says the study began with", remedy)
    return Check("study.json", "ok", f"as the study began: {study.time_budget_seconds:g} s a run, seed {study.seed}")


def _prepare(study: Study) -> Check:
    known, now = study.facts["sha256"]["prepare.py"], _hash_of(study.project / "prepare.py")
    facts = {"recorded": known, "found": now}
    if known == now:
        return Check("prepare.py", "ok", f"{known[:SHORT]}, as recorded", facts=facts)
    found = f"{now[:SHORT]} now, {known[:SHORT]} recorded: its scores belong to another prepare.py"
    return Check("prepare.py", "fail", found, "Restore it (git checkout prepare.py) or begin a new study.", facts)


def _corpus(study: Study, changed: Sequence[Change]) -> Iterator[Check]:
    corpus = study.facts["corpus"]
    try:
        check_corpus(study)
    except StudyError as error:
        yield Check("corpus", "fail", str(error))
        return
    for what, then, now in changed:
        remedy = f"Build it again: {prepare_command(study)}."
        yield Check("corpus", "fail", f"{what}: {now[:SHORT]} now, {then[:SHORT]} recorded", remedy)
    if not changed:
        hashes = {key: corpus[f"{key}_sha256"] for key in ("content", "tokenizer", "heldout")}
        words = " · ".join(f"{name} {digest[:SHORT]}" for name, digest in hashes.items())
        yield Check("corpus", "ok", f"{corpus['corpus']}: {words}", facts=hashes)


def _sources(study: Study, state: StudyState) -> Check:
    wrong = []
    for experiment in state.experiments:
        now = _hash_of(study.experiment(experiment.number).train)
        if now != experiment.train_sha256:
            wrong.append(f"{experiment.number:04d} ({now[:SHORT]}, {experiment.train_sha256[:SHORT]} recorded)")
    return _counted("train.py", "is as recorded", len(state.experiments), wrong, "`git show COMMIT:./train.py` has it.")


def _files(study: Study, state: StudyState, is_running: bool) -> Check:
    """Whether the files of the record, and what is drawn from it, are as the history last had them."""
    folder = study.paths.folder
    views = [path.relative_to(folder).as_posix() for path in study.paths.views]
    total = num_removed = 0
    wrong = []
    for path, known in state.files.items():
        now = file_hash(folder / path)
        if now is None and REMOVABLE.fullmatch(path):
            num_removed += 1
        elif not (is_running and (path in views or path.endswith(".ipynb"))):  # which may be drawn at this moment
            total += 1
            wrong += [f"{path} ({(now or 'gone')[:SHORT]}, {known[:SHORT]} recorded)"] if now != known else []
    again = f"`{shell_command(f'run --name {study.name}')}` draws {', '.join(views)} again"
    remedy = f"{again}; restore other files from a copy: nothing makes them again."
    if any(".ipynb (" in words and "(gone" not in words for words in wrong):
        remedy = f"{_NOTEBOOKS} {remedy}"
    check = _counted("files", "is as recorded", total, wrong, remedy)
    notes = [f"{num_removed} of models and scores removed"] if num_removed else []
    if num_unknown := _num_unrecorded(study, state):
        notes.append(f"{num_unknown} not recorded by the version that wrote them")
    facts = check.facts | {"removed": num_removed, "unrecorded": num_unknown}
    return replace(check, found="; ".join([check.found, *notes]), facts=facts)


def _num_unrecorded(study: Study, state: StudyState) -> int:
    """Files of decided experiments whose hash is not in the history."""
    runs = [(study.experiment(e.number), run.index) for e in state.decided for run in e.runs]
    files = [path for paths, run in runs for path in paths.of_run(run) if path.is_file()]
    return sum(path.relative_to(study.paths.folder).as_posix() not in state.files for path in files)


def _hash_of(path: Path) -> str:
    return sha256(path.read_bytes()) if path.is_file() else "gone"


def _scores(study: Study, state: StudyState, events: Sequence[Event], changed: Sequence[Change]) -> Check:
    """Whether each score belongs to the code, rows and settings that lie here and the versions that made it."""
    versions: Mapping[str, str] = study.facts.get("versions") or {}
    total, wrong = 0, []
    facts = study.facts | {"sha256": study.facts["sha256"] | {"prepare.py": _hash_of(study.project / "prepare.py")}}
    if changed:
        facts |= {"corpus_files": {what: now for what, _, now in changed}}
    sources = [_hash_of(study.experiment(e.number).train) for e in state.experiments]
    for event in events:
        if event["event"] == "opened":
            versions = event.get("versions") or versions
        elif event["event"] in ("scored", "tested"):
            total += 1
            own = event.get("versions") or versions  # a worker's may be others than its session's
            has_score = event["event"] == "tested" or event.get("val_bpb") is not None
            if has_score and event.get("provenance") != provenance(facts, own, sources[event["experiment"]]):
                wrong.append(f"{event['experiment']:04d}, run {event['run'] + 1}")
    return _counted("scores", "belongs to what stands here", total, wrong, "")


def _versions(study: Study) -> Check:
    began, now = study.facts.get("versions") or {}, study_versions()
    changed = [f"{name} {new} (began with {old})" for name, old, new in changed_versions(began, now)]
    facts: dict[str, Any] = {"began": began, "now": now}
    if changed:
        remedy = "Scores of different versions are compared with care; the record says which made which."
        return Check("versions", "warn", ", ".join(changed), remedy, facts)
    mine = now.get("autoresearch-kernel", "not installed")
    return Check("versions", "ok", f"autoresearch-kernel {mine} and all others are those it began with", facts=facts)


def _counted(name: str, is_so: str, total: int, wrong: Sequence[str], remedy: str) -> Check:
    if not wrong:
        return Check(name, "ok", f"each of {total} {is_so}", facts={"total": total})
    more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
    found = f"{len(wrong)} of {total} not: {'; '.join(wrong[:MOST_NAMED])}{more}"
    return Check(name, "fail", found, remedy, {"total": total, "wrong": list(wrong)})
