"""Studies of the lessons' small train.py, which trains in seconds, in a project folder of their own in the cache.

The runs, scores, audits and decisions are those of every study: the functions here only take the steps in their order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...control.gpu_check.bench import variables
from ...core.agent import Agent
from ...core.overtime import allowed_overtime, overtime
from ...core.state import StudyState
from ...core.types import Context, Experiment, Proposal, Status
from ...record.archive import StudyArchive
from ...record.history import read_state
from ...record.study import Study, StudyError, check_unchanged, create_study, open_study, sha256, study_exists
from ...source.compare import fingerprint
from ...study.create import build_corpus
from ...study.execute import execute, one_more_run
from ...study.loop import settle
from ...study.question import objection
from ...study.recovery import resume
from ...study.steps import Steps, baseline_proposal, open_session
from ...system.files import ensure_folder
from ...system.locations import DEVICE, cache_dir, originals
from ..errors import in_one_sentence
from ..shown_study import BETWEEN
from .attempt import REPEAT, Attempt
from .learned import GRADING, PROGRESS_FILE
from .recorded_small import RecordedSmall
from .status_line import StatusLine

SMALL_TRAIN = Path("notebooks") / "lessons" / "data" / "small_train.py"
CORPUS: dict[str, Any] = {
    "corpus": "stdlib",
    "vocab_size": 512,
    "sequence_length": 64,
    "files_folder": None,
    "text_key": None,
}
PRESET: dict[str, Any] = {"name": "none", "parameters": {}, "reason": "the small train.py of the lessons"}
LEARNER = "learner"  # who proposes
SmallStudy = Study | RecordedSmall
MOST_STEPS_A_RUN = 4  # for a run that counts: its training, its score, and both once more where the machine failed
START_SECONDS = 120.0  # for a training to start, on a busy machine
UNRECORDED_SECONDS = 1.0  # of training, for a train.py that was not recorded


class _Given:
    """An agent that proposes what it was given."""

    def __init__(self, proposal: Proposal) -> None:
        self.name, self.proposal = proposal.agent, proposal

    def propose(self, context: Context) -> Proposal:
        return self.proposal


def small_train() -> str:
    """The small train.py of lessons 4 to 6, as text."""
    return (originals() / SMALL_TRAIN).read_text(encoding="utf-8")


def small_study(name: str, seconds: float) -> SmallStudy:
    """The study of that name on the small train.py; it is begun where there is none.

    >>> study = small_study("noise", lesson_seconds(3))  # doctest: +SKIP

    Args:
        name: of the study.
        seconds: of training in each run. A study keeps its budget, so another number means another study. With 0, the
            other functions return what was recorded, and only a train.py that was not recorded trains.
    """
    if seconds == 0:
        return RecordedSmall(name)
    own_name = f"{name}-{round(1000 * seconds)}ms" + (f"-{os.getpid()}" if os.environ.get(GRADING) else "")
    with on_processors(), in_one_sentence():
        project = project_of_lessons()
        if study_exists(own_name, project):
            return open_study(own_name, project)
        line = StatusLine()
        line.say("The small corpus is being prepared, which takes a few seconds the first time.")
        study = _begin(own_name, project, seconds)
        line.say(f"A study with {seconds:g} s of training in each run is ready.")
        return study


def same_code(study: SmallStudy, runs: int) -> list[float]:
    """The scores of the first runs of the study's train.py, each with another seed; those that are missing train now.

    >>> same_code(study, 5)  # doctest: +SKIP
    """
    if isinstance(study, RecordedSmall):
        return study.same_code(runs)
    with _opened(study) as session:
        _measure(session)
        steps_left = MOST_STEPS_A_RUN * runs
        while len((baseline := session.state.experiments[0]).scores) < runs:
            if steps_left == 0:
                last = baseline.runs[-1]
                raise StudyError(
                    f"{study.name} has {len(baseline.scores)} of {runs} scores, and its runs fail now, the last one as "
                    f"{last.status}: {last.reason}. Run the cell again when the machine is less busy, or write 0 "
                    "seconds for recorded results."
                )
            execute(session, one_more_run(session, 0))
            steps_left -= 1
        return list(baseline.scores[:runs])


def baseline_scores(study: SmallStudy) -> list[float]:
    """The scores of the study's own train.py, which runs three times or more: now, unless that is done.

    >>> baseline_scores(study)  # doctest: +SKIP
    """
    if isinstance(study, RecordedSmall):
        return study.baseline_scores
    with _opened(study) as session:
        return list(_measure(session).scores)


def context_of(study: SmallStudy) -> Context:
    """All that an agent may read of the study after its baseline, which is measured unless that is done.

    It is the same when the lesson is opened again and something was kept: the recorded replies quote the first code.
    """
    if isinstance(study, RecordedSmall):
        return study.context(small_train())
    with _opened(study) as session:
        baseline = _measure(session)
        source = study.train_source(0)
        return replace(session.context(), train_source=source, incumbent=baseline, experiments=(baseline,))


def try_out(study: SmallStudy, source: str, idea: str) -> Attempt:
    """Train, score and audit a train.py as a study does, and show what came of it; known code is shown, not run again.

    >>> try_out(study, small_train().replace("WIDTH = 64", "WIDTH = 128"), "A wider model")  # doctest: +SKIP

    Args:
        source: the whole train.py.
        idea: what was changed, in a few words.
    """
    if isinstance(study, RecordedSmall):
        if found_before := study.attempt(source):
            return found_before
        print("No result was recorded for this train.py, so it trains now, for a second.")
        study = small_study(study.name, UNRECORDED_SECONDS)
        assert isinstance(study, Study), "with more than 0 seconds a study trains"
    if found := tried_as(study, source):
        return _attempt(study, found, source)
    with _opened(study) as session:
        _measure(session)
        proposal = Proposal(idea, source, LEARNER)
        if refusal := objection(proposal, session.context()):
            status = REPEAT if refusal.objection == "repeat" else "invalid"
            return _untried(session.state, proposal, status, refusal.why, study.time_budget_seconds)
        number = session.propose(_agent_of(proposal)).number
        settle(session)
    return _attempt(study, number, source)


def _agent_of(proposal: Proposal) -> Agent:
    return _Given(proposal)


# --- the project and the study


def project_of_lessons() -> Path:
    """A folder with prepare.py, program.md and the small train.py, named after what they hold.

    It is in the cache, so that a learner who opens a lesson again finds what was tried. Where a variable names another
    file for the progress, as when the lessons of others are graded or tried, it lies beside that file.
    """
    files = {name: (originals() / name).read_bytes() for name in ("prepare.py", "program.md")}
    files["train.py"] = small_train().encode()
    digest = hashlib.sha256(b"\0".join(files.values())).hexdigest()[:8]
    own = os.environ.get(PROGRESS_FILE)
    folder = (Path(own).resolve().parent if own else cache_dir()) / "lessons" / f"small-{digest}"
    if not (folder / "train.py").is_file():
        ensure_folder(folder)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    return folder


def _begin(name: str, project: Path, seconds: float) -> Study:
    from ...scoring.job import ScoringSettings  # numpy

    corpus_dir, heldout_dir = build_corpus(project, CORPUS, lambda line: None)
    sizes = CORPUS["sequence_length"], CORPUS["vocab_size"]
    return create_study(
        name,
        project=project,
        corpus_dir=corpus_dir,
        heldout_dir=heldout_dir,
        baseline_source=small_train(),
        preset=PRESET,
        agent="human",
        time_budget_seconds=seconds,
        startup_allowance_seconds=START_SECONDS,
        scoring=vars(ScoringSettings.for_corpus("cpu", "float32", *sizes)),
        hardware={"device": "cpu", "device_name": "this machine", "dtype": "float32", "num_cores": os.cpu_count()},
    )


# --- the steps


def on_processors() -> AbstractContextManager[None]:
    """Lessons train on the processors, also where there is a GPU: the model is too small for one."""
    return variables(**{DEVICE: "cpu"})


@contextmanager
def _opened(study: Study) -> Iterator[Steps]:
    """Hold the study open for some steps, with a line under the cell that says what goes on."""
    line = StatusLine()
    with on_processors(), in_one_sentence():
        check_unchanged(study)
        with open_session(study, line.watch) as session:
            session.is_interactive = True
            try:
                resume(session)
                if session.state.unfinished is not None and session.state.incumbent is not None:
                    settle(session)  # a cell that was interrupted
                yield session
            finally:
                session.history.append("stopped", reason=BETWEEN, is_between_steps=True)
    line.done()


def _measure(session: Steps) -> Experiment:
    """The baseline, decided: its runs are made where that is not done yet."""
    if not session.state.experiments:
        session.propose(_agent_of(baseline_proposal(session.study)))
    if session.state.incumbent is None:
        settle(session)
    return session.state.experiments[0]


# --- what came of it


def tried_as(study: Study, source: str) -> int | None:
    """The number of the decided experiment with this code, up to blanks and comments; None when it was never tried."""
    if not study.paths.history.is_file():
        return None
    decided = [e for e in read_state(study.paths.history).experiments if e.number and e.status is not None]
    mine = fingerprint(source)
    same = [e.number for e in decided if e.train_sha256 == sha256(source)]
    same += [e.number for e in decided if e.fingerprint == mine and e.status is not Status.INTERRUPTED]
    return same[0] if same else None


def _attempt(study: Study, number: int, source: str) -> Attempt:
    state = read_state(study.paths.history)
    experiment, baseline = state.experiments[number], state.experiments[0]
    if baseline.val_bpb is None:
        raise StudyError(f"The baseline of {study.name} has no score yet: run the cell that measures it first.")
    run = experiment.refusal or experiment.runs[-1]
    audit = run.audit or next((r.audit for r in experiment.runs if r.audit is not None), None)
    budget = study.time_budget_seconds
    known = [seconds for r in baseline.runs if (seconds := overtime(r.measured, budget)) is not None]
    return Attempt(
        experiment.hypothesis,
        source,
        str(experiment.status),
        experiment.reason,
        baseline.val_bpb,
        state.sigma or 0.0,
        budget,
        experiment.claimed_bpb,
        experiment.scores[0] if experiment.scores else None,
        experiment.val_bpb,
        len(experiment.judged_runs),
        audit.num_cuts if audit else 0,
        audit.num_mismatches if audit else 0,
        overtime(run.measured, budget),
        sorted(known)[len(known) // 2] if known else None,
        allowed_overtime(baseline.runs, run.measured, budget),
        StudyArchive(study.paths).output(number, run.index),
    )


def _untried(state: StudyState, proposal: Proposal, status: str, why: str, budget: float) -> Attempt:
    baseline = state.experiments[0].val_bpb or 0.0
    return Attempt(proposal.hypothesis, proposal.train_source, status, why, baseline, state.sigma or 0.0, budget)
