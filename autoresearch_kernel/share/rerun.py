"""Trains an experiment of a bundle and its parent again on this machine, in turns and with fresh seeds.

The trainings are those of a study of its own, in a folder of the cache: the parent's code is its baseline, and the
experiment's code is experiment 0001. So they have a study's sandbox, scorers and audits; every score of both is
audited, as an agent may have written either code. That study decides nothing by the rule: `core/rerun.py` has the
answer.

    StudyError
      CannotRerun    nothing can be compared; the message says why and what to do
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..agents.replay import ReplayAgent
from ..core.format import count, plain
from ..core.next_step import Action, Step
from ..core.rerun import FIRST_SEEDS, MOST_SEEDS, Claim, Difference, Rerun, rerun_says
from ..core.sanitize import is_number
from ..core.state import StudyState, replay
from ..core.types import Experiment, Proposal, Run, Status, ignore
from ..record.study import Study, StudyError, create_study, open_study, sha256, study_exists
from ..run.backend import Backend
from ..study.create import build_corpus
from ..study.execute import execute, one_more_run
from ..study.loop import ended_on_record
from ..study.presets import measure_machine
from ..study.recovery import despite_full_disk, resume
from ..study.session import Watch
from ..study.steps import Steps, open_session
from ..system.files import ensure_folder, write_atomic
from ..system.locations import cache_dir, originals
from ..system.shell import shell_command
from ..system.steady_clock import is_possible
from .bundle import Bundle
from .check import check_bundle, events_of
from .manifest import MANIFEST

NAME = "rerun"  # of the study in its folder
PARENT, EXPERIMENT = 0, 1  # their numbers there
MOST_FAILURES = 2  # trainings of one code that may fail before nothing can be compared
SAME_CORPUS = {"content_sha256": "text", "tokenizer_sha256": "tokenizer", "heldout_sha256": "held-out rows"}
MOST_NAME, MOST_SAID = 60, 300  # characters of a hostile bundle: its name, and what is wrong with it
Say = Callable[[str], None]


class CannotRerun(StudyError):
    """Nothing can be compared; the message says why and what to do."""


@dataclass(frozen=True)
class Question:
    """What a bundle claims of an experiment, and what is needed to train it again."""

    study: str
    number: int
    parent: int  # what it was compared with
    hypothesis: str  # an agent's words
    claim: Claim
    facts: dict[str, Any]  # study.json, as the history has it
    source: str
    parent_source: str
    key: str  # of the bundle, for the name of the folder
    num_steps: float | None = None  # of a run of the parent there; None where that was not recorded


def question_of(bundle: Bundle, number: int) -> Question:
    """Raises CannotRerun for a bundle that does not verify, and for an experiment without a score to compare."""
    problems = [finding for row in check_bundle(bundle) for finding in row.findings]
    if problems:
        raise CannotRerun(
            f"This bundle does not verify, so nothing of it is trained. {plain(str(problems[0]), MOST_SAID)}. "
            f"`{shell_command('verify FILE')}` lists all problems; ask for the bundle again."
        )
    events = list(events_of(bundle))
    state = replay(events)
    if not 0 < number < len(state.experiments):
        last = len(state.experiments) - 1
        raise CannotRerun(f"The bundle has no experiment {number}. Choose one from 1 to {last} with --experiment.")
    experiment = state.experiments[number]
    decided = [event for event in events if event["event"] == "decided" and event["experiment"] == number]
    rule = decided[-1].get("rule") if decided else None
    parent = rule["incumbent"] if rule else experiment.parent  # another one where the parent was refused meanwhile
    assert parent is not None, "only the baseline has no parent"
    sources = [bundle.text(f"experiments/{n:04d}/train.py") for n in (number, parent)]
    if sources[0] is None or sources[1] is None:
        raise CannotRerun(f"The bundle holds no train.py of experiment {number:04d} or of its parent {parent:04d}.")
    manifest = json.loads(bundle.files[MANIFEST])
    about = plain(str(state.study["name"]), MOST_NAME), number, parent, experiment.hypothesis
    code = sources[0], sources[1], manifest["seal"][:8]
    steps = steps_of_a_run(state.experiments[parent])
    return Question(*about, claim_of(experiment, rule), state.study, *code, steps)


def steps_of_a_run(experiment: Experiment) -> float | None:
    """How many steps the runs that have a score made, their median; None where that was not recorded."""
    steps = [run.measured.get("num_steps") for run in experiment.runs if run.val_bpb is not None]
    known = [float(number) for number in steps if is_number(number)]
    return statistics.median(known) if known else None


def claim_of(experiment: Experiment, rule: Mapping[str, Any] | None = None) -> Claim:
    """The difference that an experiment was decided by, with the numbers of its decision.

    Raises CannotRerun where there is none with an error.
    """
    compared = experiment.compared
    if compared is None or compared.error is None or not experiment.sigma:
        raise CannotRerun(
            f"Experiment {experiment.number:04d} ended as {experiment.status}, without a difference to its parent "
            "whose error is known. Choose one that was kept or discarded by its score."
        )
    is_duel = rule is not None and rule["kind"] == "duel"  # whose error is not that of single runs
    degrees = rule["degrees_of_freedom"] if is_duel and rule else experiment.degrees_of_freedom
    difference = Difference(compared.difference, compared.error, degrees)
    return Claim(difference, experiment.sigma)


# --- the study


def open_or_start(
    question: Question,
    *,
    files_folder: str | None = None,
    seed: int,
    say: Say,
    measure: Callable[[Path, str], dict[str, Any]] = measure_machine,
    build: Callable[[Path, dict[str, Any], Say], tuple[Path, Path]] = build_corpus,
) -> Study:
    """The study of this rerun; the runs that it has already count. Raises CannotRerun for another corpus.

    Args:
        files_folder: where the texts of a corpus of own files lie on this machine.
        seed: of a new study. Its runs must have other seeds than those of the bundle.
        measure, build: what measures this machine and builds the corpus.
    """
    from ..scoring.job import ScoringSettings  # numpy

    folder = cache_dir() / "reruns" / f"{_file_name(question.study)}-{question.number:04d}-{question.key}"
    if study_exists(NAME, folder):
        return open_study(NAME, folder)
    _make_project(folder, question.parent_source)
    facts = question.facts
    if facts["sha256"].get("prepare.py") != sha256((folder / "prepare.py").read_bytes()):
        say("The bundle was recorded with another prepare.py, so scores here may mean something else.")
    say("Measuring this machine ...")
    hardware = measure(folder, sys.executable)
    corpus = facts["corpus"]
    wanted = _wanted_corpus(facts, files_folder)
    corpus_dir, heldout_dir = build(folder, wanted, say)
    _require_same(corpus, json.loads((corpus_dir / "meta.json").read_text(encoding="utf-8")))
    is_steady = facts.get("clock") == "steady" and hardware["device"] == "cpu" and is_possible()
    settings = hardware["device"], hardware["dtype"], corpus["sequence_length"], corpus["vocab_size"]
    return create_study(
        NAME,
        project=folder,
        corpus_dir=corpus_dir,
        heldout_dir=heldout_dir,
        baseline_source=question.parent_source,
        preset={"name": "none", "parameters": {}, "reason": "as the bundle has it"},
        agent="rerun",
        time_budget_seconds=facts["time_budget_seconds"],
        scoring=vars(ScoringSettings.for_corpus(*settings)),
        hardware=hardware,
        clock="steady" if is_steady else "wall",
        seed=seed,
        startup_allowance_seconds=facts["startup_allowance_seconds"],
        handover_allowance_seconds=facts["handover_allowance_seconds"],
    )


def _wanted_corpus(facts: dict[str, Any], files_folder: str | None) -> dict[str, Any]:
    """The arguments of `prepare.prepare` for the bundle's corpus."""
    corpus = facts["corpus"]
    if corpus["corpus"] == "files" and files_folder is None:
        raise CannotRerun("The corpus is a folder of texts, which no bundle holds. Name yours with --files-folder DIR.")
    wanted = {name: corpus[name] for name in ("corpus", "vocab_size", "sequence_length")}
    return wanted | {"files_folder": files_folder, "text_key": (facts.get("asked") or {}).get("text_key")}


def _file_name(name: str) -> str:
    """The name of a study that another machine chose, fit for a folder."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:60]


def _make_project(folder: Path, source: str) -> None:
    """What a study needs: this program's prepare.py, and the parent's code. Git ignores it."""
    ensure_folder(folder)
    for name in ("prepare.py", "program.md"):
        shutil.copyfile(originals() / name, folder / name)
    write_atomic(folder / "train.py", source)
    write_atomic(folder / ".gitignore", "*\n")


def _require_same(there: dict[str, Any], here: dict[str, Any]) -> None:
    other = [what for key, what in SAME_CORPUS.items() if there.get(key) != here.get(key)]
    if other:
        raise CannotRerun(
            f"The corpus {there['corpus']} that was built here has another {' and another '.join(other)} than the "
            f"bundle's, and differences on different corpora are not compared. {_made_of(there)}"
        )


def _made_of(corpus: dict[str, Any]) -> str:
    """What the text of a corpus depends on, and what to install so that it is the same."""
    if corpus["corpus"] == "packages":
        return (
            "The corpus packages is made of the sources of installed packages, whatever the Python: install the "
            "versions that study.json in the bundle lists."
        )
    if corpus["corpus"] == "stdlib":
        python = (corpus.get("versions") or {}).get("python")
        return f"The corpus stdlib is made of Python's own files: it was built there with Python {python}."
    return "Its texts, or the packages that read them, were others there: study.json in the bundle has the versions."


# --- the runs


def rerun(
    question: Question,
    study: Study,
    *,
    seeds: int = FIRST_SEEDS,
    most_seeds: int = MOST_SEEDS,
    watch: Watch = ignore,
    on_pair: Callable[[int, float, float], None] = lambda number, mine, theirs: None,
    backend: Backend | None = None,
) -> Rerun | None:
    """Train both codes in turns until there is an answer; None when a user stopped it, and the same call goes on.

    An answer that was found stays, also where more pairs are allowed later; *cannot tell* is none.

    Args:
        seeds: pairs of trainings before the first answer.
        most_seeds: pairs at most, while it cannot tell.
        on_pair: gets each pair's number from 1, and the scores of the experiment and of its parent.

    Raises CannotRerun where one of both does not train or is refused by the audit again and again.
    """
    with open_session(study, watch, backend) as session, ended_on_record(session):
        session.ends_hopeless = False  # a run that is ended early has no score
        despite_full_disk(session, partial(resume, session))
        if (found := _found_before(session, question)) is not None:
            return found
        while True:
            answer = _answer(session, question, seeds, most_seeds)
            if answer is not None:
                return _recorded(session, answer)
            pairs = min(map(len, scores_here(session.state)))
            despite_full_disk(session, partial(_train_pair, session, question, pairs + 1))
            theirs, mine = scores_here(session.state)
            on_pair(pairs + 1, mine[pairs], theirs[pairs])
    return None


def scores_here(state: StudyState) -> tuple[list[float], list[float]]:
    """The audited scores of the parent and of the experiment, oldest first."""
    of = [state.experiments[number].runs if number < len(state.experiments) else () for number in (PARENT, EXPERIMENT)]
    parent, mine = ([r.val_bpb for r in runs if r.val_bpb is not None and r.audit is not None] for runs in of)
    return parent, mine


def _answer(session: Steps, question: Question, seeds: int, most_seeds: int) -> Rerun | None:
    """None while more runs are wanted."""
    theirs, mine = scores_here(session.state)
    pairs = min(len(theirs), len(mine))
    if pairs < max(2, seeds):
        return None
    is_last = pairs >= most_seeds
    answer = rerun_says(question.claim, mine[:pairs], theirs[:pairs], is_last)
    return answer if is_last or answer.answer != "cannot tell" else None


def _found_before(session: Steps, question: Question) -> Rerun | None:
    """The first answer to this claim that the record has; None where it has none that tells."""
    claim = asdict(question.claim)
    events = (e for e in session.history.events if e["event"] == "reran" and e["answer"] != "cannot tell")
    event = next((e for e in events if e["claim"] == claim), None)
    if event is None:
        return None
    here, shortfall = (Difference(**event[name]) for name in ("here", "shortfall"))
    return Rerun(event["answer"], question.claim, here, shortfall, event["num_seeds"])


def _train_pair(session: Steps, question: Question, target: int) -> None:
    """One more score of the parent, then one of the experiment."""
    for number in (PARENT, EXPERIMENT):
        while len(scores_here(session.state)[number]) < target:
            session.steering.check()
            _one_step(session, question, number)
        if number == PARENT and session.state.incumbent is None:
            why = f"the code of experiment {question.parent:04d}, with which {question.number:04d} takes turns"
            session.decide(Step(Action.DECIDE, number, why=why, status=Status.KEEP))


def _one_step(session: Steps, question: Question, number: int) -> None:
    """The next step towards one more audited score."""
    state = session.state
    if number == len(state.experiments):
        source, words = question.source, f"experiment {question.number:04d} of {question.study}: {question.hypothesis}"
        session.propose(ReplayAgent([Proposal(plain(words), source, "rerun")], question.study))
        return
    experiment = state.experiments[number]
    unaudited = next((run.index for run in experiment.runs if run.val_bpb is not None and run.audit is None), None)
    if unaudited is not None:
        execute(session, Step(Action.AUDIT, number, unaudited))
    else:
        _train(session, number)
    _refuse_failures(session.state.experiments[number], question, number)


def _train(session: Steps, number: int) -> None:
    """What the last run lacks, or one more run."""
    try:
        execute(session, one_more_run(session, number))
    except StudyError:  # raised for the first run of a baseline that fails, in words that are not true here
        runs = session.state.experiments[number].runs
        if number != PARENT or not runs or not _failed(runs):
            raise


def _failed(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.status not in (None, Status.INTERRUPTED)]


def _refuse_failures(experiment: Experiment, question: Question, number: int) -> None:
    failed = _failed(experiment.runs)
    if len(failed) >= MOST_FAILURES or experiment.refusal is not None:
        who = f"{question.number if number == EXPERIMENT else question.parent:04d}"
        raise CannotRerun(
            f"The code of experiment {who} has no score here: {count(len(failed), 'training')} ended as "
            f"{failed[-1].status}, the last with {plain(failed[-1].reason)}. So there is no difference to compare."
        )


def _recorded(session: Steps, answer: Rerun) -> Rerun:
    """Close the study of this rerun: its record says what was found."""
    experiment = session.state.experiments[EXPERIMENT]
    if experiment.status is None:
        status = Status.KEEP if answer.here.bpb < 0 else Status.DISCARD
        why = f"a rerun of {answer.num_seeds} pairs, which decides nothing: {answer.answer}"
        session.decide(Step(Action.DECIDE, EXPERIMENT, why=why, status=status))
    found = asdict(answer)
    if not any(event["event"] == "reran" and event["here"] == found["here"] for event in session.history.events):
        session.history.append("reran", **found)
        session.show(session.state.experiments[EXPERIMENT])
    return answer
