"""A study held open, and the five steps of an experiment: propose, train, score, decide, show.

A step writes what it did before it returns, so a step that was recorded is never done twice and a
study that was cut off continues from its files. It knows the steps and not their order: that is
`loop.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .judge.decide import NUM_BASELINE_RUNS, best, decide, mean, standard_error
from .judge.score import HeldOut, ScoringFailed, ScoringSettings, score
from .propose.agent import Agent
from .propose.edits import diff
from .record.experiment import Context, Evaluation, Experiment, Proposal, RunOutcome, Status
from .record.files import write_atomic
from .record.history import History, write_results
from .record.lineage import Lineage, LineageError, open_lineage
from .record.state import StudyState, replay
from .record.study import Study, StudyError, sha256
from .run.notebook import heading_markdown, set_verdict
from .run.slots import curve_points, run_experiment
from .show import report

SEEDS_PER_EXPERIMENT = 100  # so that no two runs of a study share a seed


@dataclass(frozen=True)
class Progress:
    """What is happening now, for people who watch."""

    phase: str  # "proposing", "starting", "training", "scoring", "note"
    experiment: int = 0
    run: int = 0
    hypothesis: str = ""
    fraction: float = 0.0  # of the phase, 0..1
    metrics: Mapping[str, Any] = field(default_factory=dict)  # the last point of the curve
    text: str = ""  # of a note


Watch = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """Nobody watches."""


@contextmanager
def open_session(study: Study, watch: Watch = ignore) -> Iterator[Session]:
    """Hold a study open for writing.

    Raises StudyInUse when another process runs it, HistoryDamaged when its record cannot be trusted,
    FileNotFoundError when its held-out rows are gone.
    """
    heldout = HeldOut.load(study.corpus_dir, study.heldout_dir, "val")
    with History.open(study.paths.history, lock=study.paths.lock) as history:
        recorded = replay(history.events).study
        if recorded and recorded != json.loads(json.dumps(study.facts)):
            raise StudyError(
                f"{study.paths.study} is not what {study.paths.history} says the study began with. Restore it: the "
                "first line of the history holds the original."
            )
        lineage, why_not = open_lineage(study.project, study.name, is_new=not history.events)
        if not history.events:
            history.append("study_started", study=study.facts)
        if lineage is None:
            watch(Progress("note", text=f"No git lineage: {why_not}. Every train.py is kept in {study.paths.folder}."))
        yield Session(study, history, lineage, heldout, watch)


@dataclass
class Session:
    """A study held open by this process."""

    study: Study
    history: History
    lineage: Lineage | None
    heldout: HeldOut
    watch: Watch = ignore

    @property
    def state(self) -> StudyState:
        return replay(self.history.events)

    def note(self, text: str) -> None:
        """Something a person should know, in the record and on the screen."""
        self.history.append("note", text=text)
        self.watch(Progress("note", text=text))

    # --- the five steps

    def propose(self, agent: Agent) -> Experiment:
        """Ask for the next idea and record it; without any experiment yet that is the baseline."""
        state = self.state
        number, incumbent = len(state.experiments), state.incumbent
        if incumbent is None:
            proposal, parent_source = baseline_proposal(self.study), self.study.train_source(0)
        else:
            self.watch(Progress("proposing", number))
            proposal, parent_source = agent.propose(self.context()), self.source(incumbent)
        words, source = _utf8(proposal.hypothesis), _utf8(proposal.train_source)
        proposal = replace(proposal, hypothesis=words, train_source=source)
        paths = self.study.experiment(number)
        write_atomic(paths.train, proposal.train_source)
        write_atomic(paths.diff, diff(parent_source, proposal.train_source))
        write_atomic(paths.proposal, json.dumps(asdict(proposal), indent=1, ensure_ascii=False) + "\n")
        self.history.append(
            "proposed",
            experiment=number,
            hypothesis=proposal.hypothesis,
            agent=proposal.agent,
            parent=incumbent.number if incumbent else None,
            changes=proposal.changes,
            details=proposal.details,
            train_sha256=sha256(proposal.train_source),
        )
        return self.state.experiments[number]

    def train(self, experiment: Experiment, run: int) -> RunOutcome:
        """Train once, in a notebook of its own, within the budget."""
        study, paths = self.study, self.study.experiment(experiment.number)
        seed = run_seed(study.seed, experiment.number, run)
        self.watch(Progress("starting", experiment.number, run, experiment.hypothesis))
        self.history.append("started", experiment=experiment.number, run=run, seed=seed)

        def watch_metrics(point: Mapping[str, Any]) -> None:
            progress = float(point.get("progress", 0.0))
            self.watch(Progress("training", experiment.number, run, experiment.hypothesis, progress, point))

        outcome = run_experiment(
            self.source(experiment),
            paths,
            run=run,
            seed=seed,
            title=report.title(experiment),
            hypothesis=experiment.hypothesis,
            diff=paths.diff.read_text(encoding="utf-8"),
            corpus_dir=study.corpus_dir,
            time_budget_seconds=study.time_budget_seconds,
            startup_allowance_seconds=study.facts["startup_allowance_seconds"],
            handover_allowance_seconds=study.facts["handover_allowance_seconds"],
            project=study.project,
            on_metrics=watch_metrics,
            on_wait=lambda text: self.watch(Progress("note", text=text)),
        )
        self.history.append(
            "trained",
            experiment=experiment.number,
            run=run,
            status=outcome.status,
            reason=outcome.reason,
            measured=outcome.measured,
        )
        return outcome

    def score(self, experiment: Experiment, run: int) -> Evaluation | None:
        """Score a run's artefact in a process of its own; None when it cannot be scored, which counts as a crash."""
        paths = self.study.experiment(experiment.number)

        def watch_rows(fraction: float) -> None:
            self.watch(Progress("scoring", experiment.number, run, experiment.hypothesis, fraction))

        watch_rows(0.0)
        try:
            evaluation = score(
                paths.artefact(run),
                self.heldout,
                ScoringSettings(**self.study.facts["scoring"]),
                project=self.study.project,
                nll_path=paths.nll(run),
                on_progress=watch_rows,
            )
        except ScoringFailed as failure:
            reason = f"scoring failed: {failure}"
            self.history.append("scored", experiment=experiment.number, run=run, status=Status.CRASH, reason=reason)
            return None
        facts = {name: value for name, value in asdict(evaluation).items() if name != "nll_path"}
        self.history.append("scored", experiment=experiment.number, run=run, **facts)
        return evaluation

    def decide(self, experiment: Experiment) -> Experiment | None:
        """Record what the rule says of the runs so far; None when it wants one more run."""
        state = self.state
        verdict = judge_runs(experiment, state)
        if verdict is None:
            return None
        status, reason = verdict
        mine = experiment.scores if status in (Status.KEEP, Status.DISCARD) else ()
        self.history.append(
            "decided",
            experiment=experiment.number,
            status=status,
            reason=reason,
            val_bpb=mean(mine) if mine else None,
            standard_error=standard_error(len(mine), state.sigma) if mine else None,
            incumbent_bpb=state.incumbent_bpb,
            sigma=state.sigma,
            commit=self._commit(experiment, status, reason, state),
        )
        return self.state.experiments[experiment.number]

    def show(self, experiment: Experiment) -> None:
        """Rebuild what people look at: results.tsv, progress.png, best/train.py, the experiment's notebooks.

        A view that cannot be drawn does not end the night: it is noted, and drawn again with the next one.
        """
        try:
            show_study(self.study, self.state)
            show_notebooks(self.study, self.state, experiment)
        except Exception as error:
            self.note(
                f"The views of experiment {experiment.number:04d} could not be drawn: {type(error).__name__}: {error}"
            )

    # --- what the steps need

    def source(self, experiment: Experiment) -> str:
        """The train.py of an experiment, as it was recorded. Raises StudyError when the file says something else."""
        path = self.study.experiment(experiment.number).train
        source = path.read_text(encoding="utf-8") if path.is_file() else ""
        if sha256(source) != experiment.train_sha256:
            commit = experiment.commit or f"refs/autoresearch/{self.study.name}/{experiment.number:04d}"
            raise StudyError(
                f"{path} is not the file that experiment {experiment.number:04d} was recorded with. Restore it: "
                f"git show {commit}:./train.py > {path}"
            )
        return source

    def context(self) -> Context:
        """All that an agent may read now."""
        state = self.state
        assert state.incumbent is not None, "an agent is asked only once the baseline is decided"
        return Context(
            program=(self.study.project / "program.md").read_text(encoding="utf-8"),
            train_source=self.source(state.incumbent),
            incumbent=state.incumbent,
            experiments=state.decided,
            sigma=state.sigma,
            study=self.study.facts,
            seed=self.study.seed,
        )

    def _commit(self, experiment: Experiment, status: Status, reason: str, state: StudyState) -> str | None:
        if self.lineage is None:
            return None
        try:
            commit = self.lineage.record(
                experiment.number,
                self.source(experiment),
                message=f"{report.title(experiment)}\n\n{status}: {reason}",
                time=experiment.proposed_at,
                parent=state.incumbent.commit if state.incumbent else None,
                keep=status is Status.KEEP,
            )
        except LineageError as error:  # the history and the study's folder hold the code as well
            self.note(f"Experiment {experiment.number:04d} has no commit: {error}")
            return None
        if self.lineage.branch_problem:
            self.note(f"Experiment {experiment.number:04d}: {self.lineage.branch_problem}.")
        return commit


def _utf8(text: str) -> str:
    """Text that can be written: half of a surrogate pair, as a model's reply may hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def run_seed(study_seed: int, experiment: int, run: int) -> int:
    """A seed of its own for every run of a study: a confirmation must not repeat the luck it checks."""
    return (study_seed * 1_000_003 + experiment * SEEDS_PER_EXPERIMENT + run) % 2**31


def baseline_proposal(study: Study) -> Proposal:
    """Experiment 0: train.py with the preset folded in, as the study began."""
    preset = study.facts["preset"]["name"]
    hypothesis = f"Baseline: train.py with the preset {preset}"
    return Proposal(hypothesis, study.train_source(0), agent="baseline", details={"preset": preset})


def judge_runs(experiment: Experiment, state: StudyState) -> tuple[Status, str] | None:
    """Status and reason from the runs so far; None when one more run is wanted. A pure function."""
    last = experiment.runs[-1]
    if last.status is not None:
        which = "the confirmation: " if last.index > 0 and experiment.number > 0 else ""
        return last.status, which + last.reason
    mine = experiment.scores
    if state.incumbent is None:
        if len(mine) < NUM_BASELINE_RUNS:
            return None
        return Status.KEEP, f"the baseline, {len(mine)} runs; run-to-run sd {state.sigma:.4f}"
    decision = decide(mine, state.incumbent_scores, state.sigma)
    return None if decision.verdict == "confirm" else (Status(decision.verdict), decision.reason)


# --- views: rebuilt from the record at any time


def show_study(study: Study, state: StudyState) -> None:
    """results.tsv, progress.png and best/train.py."""
    from .show.plots import draw_progress  # matplotlib takes half a second, and only the views need it

    write_results(study.paths.results, state.experiments)
    draw_progress(state.decided, study.paths.progress, title=study.name, sigma=state.sigma)
    champion = best(state.experiments)
    if champion is not None:
        write_atomic(study.paths.best_train, study.train_source(champion.number))


def show_notebooks(study: Study, state: StudyState, experiment: Experiment) -> None:
    """The heading, the curve and the verdict in every notebook of an experiment."""
    from .show.plots import curve_png

    paths = study.experiment(experiment.number)
    change = paths.diff.read_text(encoding="utf-8")
    parent = None if experiment.parent is None else read_curve(study.experiment(experiment.parent).metrics(0))
    for run in experiment.runs:
        notebook = paths.notebook(run.index)
        if not notebook.exists():
            continue
        curve = read_curve(paths.metrics(run.index))
        heading = heading_markdown(
            report.title(experiment),
            status_line=report.status_line(experiment, study.facts),
            hypothesis=experiment.hypothesis,
            diff=change,
        )
        picture = curve_png(curve, parent, incumbent_label=f"incumbent {experiment.parent:04d}" if parent else "")
        set_verdict(
            notebook,
            heading=heading,
            curve_png=picture,
            curve_text=report.curve_words(curve),
            verdict=report.verdict(experiment, run, study.facts),
        )


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Points of a run's curve; none when it left none."""
    return curve_points(path.read_bytes().splitlines()) if path.is_file() else []


def forget_artefacts(study: Study, state: StudyState) -> None:
    """Remove models and per-token scores that nothing needs any more: all but the baseline's and the best ones'.

    Notebooks, diffs, curves and code are kept for ever.
    """
    needed = {0} | {e.number for e in (state.incumbent, best(state.experiments)) if e is not None}
    for experiment in state.decided:
        if experiment.number not in needed:
            paths = study.experiment(experiment.number)
            for run in experiment.runs:
                paths.artefact(run.index).unlink(missing_ok=True)
                paths.nll(run.index).unlink(missing_ok=True)
