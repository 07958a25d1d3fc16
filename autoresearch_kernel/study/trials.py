"""One training of an attribution: the champion without one kept change, or as it is; its score; and their record.

A trial is no run of an experiment: it has events and files of its own, in the folder of the champion. The model is
removed once it is scored. The score is not audited: all of its code was, in the experiments that were kept.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from functools import partial
from typing import Any

from ..core.attribution import Attribution, Due, Trial
from ..core.drift import is_far, relative_machine_speed
from ..core.errors import MachineFailed
from ..core.format import duration
from ..core.sanitize import is_number
from ..core.types import OF_THE_MACHINE, Cause, Experiment, Progress, RunOutcome, Status
from ..record.paths import ExperimentPaths
from ..record.study import StudyError, check_prepare_py, sha256
from ..run.training import Listener, Training
from ..scoring.scorer_process import ScoringFailed
from ..show.words import idea
from ..system.disk import is_full
from ..system.machine import LONGEST_NAP_SECONDS
from ..system.shell import shell_command
from ..system.untrusted_files import remove_tree
from .evaluation import ask
from .steering import StopNow
from .steps import Steps
from .train import PREPARE_CHANGED, forgotten

FIRST_SEED = 2**30  # above the seeds of all experiments
CUT_OFF = "the supervisor went away while it trained"


def close_cut_off(session: Steps) -> None:
    """Record that a training was cut off: it has begun and never ended."""
    attribution = _present(session)
    for variant in attribution.variants:
        last = variant.trials[-1] if variant.trials else None
        if last is not None and last.status is Status.INTERRUPTED and not last.reason:
            _record(session, "interrupted", Due(variant.without, last.index), cause=Cause.GONE, reason=CUT_OFF)


def train_trial(session: Steps, champion: Experiment, due: Due) -> None:
    """Train one variant once, within the budget, and record what came of it."""
    about = Progress("training", champion.number, due.run, name_of(session, due.without))
    session.disk_space.make()
    session.quiet.wait(Progress("quiet", champion.number, due.run, about.hypothesis))
    check_prepare_py(session.study)
    training = _training(session, champion, due)
    made_again = forgotten(session, training.paths.of_run(due.run))
    _record(session, "started", due, seed=training.seed, sandbox=session.used_sandbox(is_next=True), **made_again)
    session.tell(about)
    session.slept_before = session.clock.slept_seconds()
    try:
        outcome = session.backend.train(training, _listener(session, training, about))
    except MachineFailed as failure:
        outcome = _not_started(session, due, failure)
    except (KeyboardInterrupt, StopNow, OSError) as stop:
        _stopped(session, due, stop)
        raise
    session.forget(training.token)
    if void := _void(session, due, outcome, session.clock.slept_seconds() - session.slept_before):
        _record(session, "interrupted", due, cause=void[0], reason=void[1], measured=outcome.measured)
        session.note(f"{about.hypothesis}: {void[1]}. It is trained again.")
        return
    try:
        check_prepare_py(session.study)
    except StudyError:
        _record(session, "interrupted", due, cause=Cause.ASKED, reason=PREPARE_CHANGED)
        raise
    files = session.hashes(training.paths.notebook(due.run), training.paths.metrics(due.run))
    facts = {"status": outcome.status, "reason": outcome.reason, "measured": outcome.measured}
    _record(session, "trained", due, **facts, files=files)


def score_trial(session: Steps, champion: Experiment, due: Due) -> None:
    """Score a trained variant and record it; it trains again when its model is gone."""
    paths, trial = _paths(session, champion, due), _trial(session, due)
    if not paths.artefact(due.run).exists():
        _record(session, "interrupted", due, cause=Cause.GONE, reason="its model was gone before it was scored")
        return
    about = Progress("scoring", champion.number, due.run, name_of(session, due.without))
    question = partial(session.backend.score, nll_path=paths.nll(due.run))
    try:
        model = paths.artefact(due.run)
        found = ask(session, question, about, session.heldout, artefact=model, measured=trial.measured)
        facts: dict[str, Any] = {name: getattr(found, name) for name in ("val_bpb", "standard_error", "num_tokens")}
        facts |= {"num_bytes": found.num_bytes, "evaluation_seconds": found.evaluation_seconds}
    except ScoringFailed as failure:
        facts = {"status": Status.CRASH, "reason": f"scoring failed: {failure}"}
    _record(session, "scored", due, **facts, sandbox=session.used_sandbox())
    _forget_model(paths, due.run)


def forget_models(session: Steps, champion: Experiment) -> None:
    """Remove the models that are still there, as when a supervisor was killed between a score and its removal."""
    for variant in _present(session).variants:
        for trial in variant.trials:
            _forget_model(session.study.experiment(champion.number).without(variant.without), trial.index)


def _forget_model(paths: ExperimentPaths, run: int) -> None:
    for path in (paths.artefact(run), paths.nll(run)):
        path.unlink(missing_ok=True)


def name_of(session: Steps, without: int | None) -> str:
    """`the champion without 0003 (EMBEDDING_LR 0.3 → 0.24)`."""
    if without is None:
        return "the champion as it is"
    return f"the champion without {without:04d} ({idea(session.state.experiments[without])})"


def trial_seed(study_seed: int, champion: int, due: Due) -> int:
    """A seed of its own for every trial, which no experiment of the study had."""
    return (study_seed * 1_000_003 + FIRST_SEED + 100_000 * champion + 100 * (due.without or 0) + due.run) % 2**31


def _training(session: Steps, champion: Experiment, due: Due) -> Training:
    paths, name = _paths(session, champion, due), name_of(session, due.without)
    return session.training(
        champion.number,
        source=_source(session, champion, due.without, paths),
        paths=paths,
        run=due.run,
        seed=trial_seed(session.study.seed, champion.number, due),
        title=f"{champion.number:04d} · {name}",
        hypothesis=f"An attribution trains {name}.",
        diff=paths.diff.read_text(encoding="utf-8") if paths.diff.is_file() else "",
    )


def _source(session: Steps, champion: Experiment, without: int | None, paths: ExperimentPaths) -> str:
    """The code of a variant, as it was recorded."""
    if without is None:
        return session.source(champion)
    source = paths.train.read_text(encoding="utf-8") if paths.train.is_file() else ""
    if sha256(source) != _present(session).variant(without).train_sha256:
        raise StudyError(
            f"{paths.train} is not the file that the attribution was begun with. Restore it from a copy; "
            f"`{shell_command(f'attribute {session.study.name}')}` then goes on."
        )
    return source


def _listener(session: Steps, training: Training, about: Progress) -> Listener:
    def at_point(point: Mapping[str, Any]) -> None:
        progress = point.get("progress")
        fraction = float(progress) if is_number(progress) else 0.0
        session.tell(Progress(about.phase, about.experiment, about.run, about.hypothesis, fraction, point))

    return session.listener(training.token, on_metrics=at_point, on_tick=lambda seconds: session.tick())


def _not_started(session: Steps, due: Due, failure: MachineFailed) -> RunOutcome:
    """The outcome of a training that ended for the second time because of its code, perhaps; else it raises."""
    cause = Cause.DIED if failure.may_be_the_code else Cause.NOT_STARTED
    if cause is Cause.DIED and cause in _trial(session, due).causes:
        return RunOutcome(Status.CRASH, str(failure), None, None)
    _record(session, "interrupted", due, cause=cause, reason=str(failure))
    raise failure


def _stopped(session: Steps, due: Due, stop: BaseException) -> None:
    """Record that a user or a full disk ended a training; what a full disk does not take, the next try writes."""
    cause, words = Cause.ASKED, f"stopped by {str(stop) or 'hand'} while it trained"
    if isinstance(stop, OSError):
        if not is_full(stop):
            return
        cause, words = Cause.FULL_DISK, "the disk was full"
        champion = session.state.experiments[_present(session).champion]
        remove_tree(_paths(session, champion, due).handover(due.run))  # which may be what filled it
    try:
        _record(session, "interrupted", due, cause=cause, reason=words)
    except OSError as error:
        if not is_full(error):
            raise


def _void(session: Steps, due: Due, outcome: RunOutcome, slept_seconds: float) -> tuple[Cause, str] | None:
    """Why a training says nothing about its code; None when it does. For the machine's sake it is repeated once."""
    causes = _trial(session, due).causes
    if slept_seconds > LONGEST_NAP_SECONDS:
        return Cause.SLEPT, f"the machine slept for {duration(slept_seconds)} while it trained"
    if outcome.status is Status.CRASH and Cause.FULL_DISK not in causes and (lack := session.disk_space.after_crash()):
        return Cause.FULL_DISK, f"it failed on a full disk: {lack}"
    if OF_THE_MACHINE & set(causes):
        return None
    if outcome.status is Status.CRASH and outcome.measured.get("exit_code") == -signal.SIGKILL:
        return Cause.KILLED, f"something killed it: {outcome.reason}"
    incumbent = session.state.incumbent
    speed = relative_machine_speed(outcome.measured, incumbent.on("").runs) if incumbent else None
    if speed is not None and is_far(speed):
        return Cause.SLOW if speed < 1 else Cause.FAST, f"the machine ran at {speed:.2f} times its speed of the study"
    return None


def _present(session: Steps) -> Attribution:
    attribution = session.state.attribution
    assert attribution is not None, "it has begun"
    return attribution


def _trial(session: Steps, due: Due) -> Trial:
    return _present(session).variant(due.without).trials[due.run]


def _paths(session: Steps, champion: Experiment, due: Due) -> ExperimentPaths:
    return session.study.experiment(champion.number).without(due.without)


def _record(session: Steps, what: str, due: Due, **facts: Any) -> None:
    champion = _present(session).champion
    session.history.append("attribution", what=what, champion=champion, without=due.without, run=due.run, **facts)
