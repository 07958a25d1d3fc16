"""A study held open, and the five steps of an experiment: propose, train, score, decide, show.

A step writes what it did before it returns, so a step that was recorded is never done twice and a
study that was cut off continues from its files. It knows the steps and not their order: that is
`study/loop.py`'s.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

from ..agents.reply import diff
from ..core import format
from ..core.agent import Agent
from ..core.decide import mean, standard_error
from ..core.drift import is_much_slower, present_speed
from ..core.next_step import judge_runs
from ..core.overtime import allowed_batch_seconds, works_overtime
from ..core.state import StudyState, replay
from ..core.types import (
    Cause,
    Context,
    Evaluation,
    Experiment,
    Limits,
    MachineHolder,
    Objection,
    Progress,
    Proposal,
    Run,
    RunOutcome,
    Status,
)
from ..record.archive import StudyArchive
from ..record.commands import Inbox
from ..record.git import Lineage, LineageError, open_lineage
from ..record.history import History
from ..record.provenance import bound, changed_versions
from ..record.study import Study, StudyError, sha256, study_versions
from ..run.training import run_experiment
from ..sandbox.kinds import SANDBOX, SandboxMissing, require_sandbox, scorer_options
from ..scoring.score import HeldOut, ScoringFailed, ScoringSettings, score
from ..show import study_words, words
from ..source.compare import code_size, fingerprint
from ..source.parameters import SourceError, read_parameters
from ..system.disk import is_full
from ..system.files import boot_id, remove_temporaries, write_atomic
from ..system.machine import LONGEST_NAP_SECONDS, slept_seconds
from ..system.processes import end_leftovers, remember
from ..system.untrusted_files import remove_tree
from .disk_space import Room, give_way
from .monitor import Lookout
from .proposals import Proposals, encodable, save_proposal
from .steering import People, StopNow
from .views import show_notebooks, show_study

SEEDS_PER_EXPERIMENT = 100  # so that no two runs of a study share a seed


Watch = Callable[[Progress], None]
T = TypeVar("T")


def ignore(progress: Progress) -> None:
    """Nobody watches."""


@contextmanager
def open_session(study: Study, watch: Watch = ignore) -> Iterator[Session]:
    """Hold a study open for writing.

    Example, one experiment in the order of `study/loop.py`:
        >>> with open_session(study) as session:  # doctest: +SKIP
        ...     experiment = session.propose(SearchAgent())
        ...     session.train(experiment, run=0)
        ...     session.score(experiment, run=0)
        ...     session.decide(session.state.unfinished)

    Raises StudyInUse when another process runs it, HistoryDamaged when its record cannot be trusted,
    FileNotFoundError when its held-out rows are gone, StudyError where there is no sandbox and none was renounced.
    """
    sandbox = _sandbox_name()
    heldout = HeldOut.load(study.corpus_dir, study.heldout_dir, "val")
    give_way(study)
    with History.open(study.paths.history, lock=study.paths.lock) as history:
        inbox = Inbox(study.paths.commands)
        old_commands = inbox.read()
        recorded = replay(history.events).study
        if recorded and recorded != json.loads(json.dumps(study.facts)):
            raise StudyError(
                f"{study.paths.study} is not what {study.paths.history} says the study began with. Restore it: the "
                "first line of the history holds the original."
            )
        lineage, why_not = open_lineage(study.project, study.name, is_new=not history.events)
        ended = end_leftovers(study.paths.running)
        remove_temporaries(study.paths.folder)
        if not history.events:
            history.append("study_started", study=study.facts)
        sandboxed = partial(scorer_options, study.project)
        session = Session(study, history, lineage, heldout, watch, inbox, sandboxed=sandboxed, sandbox=sandbox)
        before = _last_versions(study, history.events)
        who = {"pid": os.getpid(), "host": os.uname().nodename, "boot_id": boot_id()}
        history.append("opened", **who, sandbox=sandbox, versions=study_versions())
        session.people.answer_old(old_commands)
        if ended:
            session.note(f"{format.count(ended, 'process')} of a run that was cut off had to be ended.")
        if changed := changed_versions(before, study_versions()):
            changes = "; ".join(f"{name} {new}, before {old}" for name, old, new in changed)
            session.note(f"Scores from here on are made by other versions: {changes}. Compare them with that in mind.")
        if lineage is None:
            watch(Progress("note", text=f"No git lineage: {why_not}. Every train.py is kept in {study.paths.folder}."))
        try:
            yield session
        finally:
            session.proposals.give_up()


def _sandbox_name() -> str:
    try:
        return require_sandbox().name
    except SandboxMissing as missing:
        raise StudyError(f"{missing} In a notebook that is os.environ[{SANDBOX!r}] = 'none'.") from missing


def _last_versions(study: Study, events: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
    """Those that the last session ran with, or the study began with."""
    opened = (event["versions"] for event in reversed(events) if event["event"] == "opened" and event.get("versions"))
    return next(opened, study.facts.get("versions") or {})


@dataclass
class Session:
    """A study held open by this process, with the five steps as methods; made by `open_session`.

    Example:
        >>> with open_session(study) as session:  # doctest: +SKIP
        ...     print(session.state.incumbent.val_bpb, session.state.sigma)
    """

    study: Study
    history: History
    lineage: Lineage | None
    heldout: HeldOut
    watch: Watch
    inbox: Inbox
    enough: Callable[[], str] = lambda: ""  # why nothing more is to be proposed; "" while something is
    by_hand: bool = False  # a person takes each step, and approves a proposal by going on with it
    sandboxed: Callable[[], dict[str, Any]] = (
        dict  # what each scorer is started with: `wrap` and `guard` of judge.score
    )
    sandbox: str = ""  # that trainings and scorers of this session run in, "none" without one
    _last_program: str = ""
    _known: StudyState | None = None

    def __post_init__(self) -> None:
        self.people = People(self, self.inbox)
        self.proposals = Proposals(self)
        self.room = Room(self)

    @property
    def state(self) -> StudyState:
        events = self.history.events
        if self._known is None or self._known.num_events != len(events):
            self._known = replay(events)
        return self._known

    def note(self, text: str) -> None:
        """Something a person should know, in the record and on the screen."""
        self.history.append("note", text=text)
        self.watch(Progress("note", text=text))

    def limit(self, limits: Limits) -> None:
        """What the study may spend on language models from now on; a limit of None stays as it was."""
        given = {name: value for name, value in asdict(limits).items() if value is not None}
        if asdict(self.state.limits) | given != asdict(self.state.limits):
            self.history.append("limits", **asdict(self.state.limits) | given)

    def need_approval(self, is_needed: bool | None) -> None:
        """Whether a person approves each proposal before it trains; None leaves that as it was."""
        if is_needed is not None and is_needed != self.state.approve:
            self.history.append("approval", is_needed=is_needed)

    def tick(self) -> None:
        """Do what people asked, and record what an agent said, since the last call; long steps call it all the time.

        Raises StopNow when somebody wants the study to end at once.
        """
        self.proposals.tick()
        self.people.obey()

    def wait_for_machine(self, holder: MachineHolder) -> None:
        """Record whose training this one waits for, so that every view can say it."""
        self.history.append("waiting", **asdict(holder))
        self.watch(Progress("note", text=study_words.waiting_words(holder)))

    def begun(self, pid: int, token: str) -> None:
        """A training has the machine and runs as process `pid`."""
        remember(self.study.paths.running, pid, token)
        if self.state.waiting is not None:
            self.history.append("waited")

    # --- the five steps

    def propose(self, agent: Agent) -> Experiment:
        """Ask for the next idea and record it; without any experiment yet that is the baseline.

        Raises NothingToPropose, and AgentFailed for whatever else the agent raises; nothing is recorded then.
        """
        state = self.state
        number, incumbent = len(state.experiments), state.incumbent
        paths = self.study.experiment(number)
        if incumbent is None:
            proposal, parent_source = baseline_proposal(self.study), self.study.train_source(0)
        else:
            self.watch(Progress("proposing", number))
            parent_source = self.source(incumbent)
            proposal = self.proposals.next(agent)
        proposal = with_previous(encodable(proposal), parent_source)
        parent, spent = incumbent.number if incumbent else None, self.state.spent_on(number)
        save_proposal(paths, proposal, parent, spent=asdict(spent))
        self._take_notes(proposal)
        write_atomic(paths.train, proposal.train_source)
        write_atomic(paths.diff, diff(parent_source, proposal.train_source))
        self.history.append(
            "proposed",
            experiment=number,
            hypothesis=proposal.hypothesis,
            agent=proposal.agent,
            parent=parent,
            changes=proposal.changes,
            details=proposal.details,
            expected=proposal.expected,
            refutation=proposal.refutation,
            fingerprint=fingerprint(proposal.train_source),
            code_size=code_size(proposal.train_source),
            train_sha256=sha256(proposal.train_source),
        )
        return self.state.experiments[number]

    def _take_notes(self, proposal: Proposal) -> None:
        """The agent's notes, rewritten with this proposal: into the history, and into notes.md for people to edit."""
        if proposal.notes and proposal.notes != self.state.notes:
            write_atomic(self.study.paths.notes, proposal.notes.rstrip() + "\n")
            self.history.append("notes", text=proposal.notes, decided=max(0, len(self.state.decided) - 1))

    def train(self, experiment: Experiment, run: int) -> RunOutcome:
        """Train once, in a notebook of its own, within the budget.

        The status is `interrupted`, and the run is to be made again, when it says nothing about the code: the
        machine slept; once when its disk was full; and once when it ran much slower than for the incumbent, worked
        beyond its budget for longer than the baseline does, or was killed by somebody, such as a system short of
        memory.
        """
        study, paths = self.study, self.study.experiment(experiment.number)
        seed = run_seed(study.seed, experiment.number, run)
        self.watch(Progress("starting", experiment.number, run, experiment.hypothesis))
        self.history.append("started", experiment=experiment.number, run=run, seed=seed, sandbox=self.sandbox)
        looks = Lookout(self, experiment, run)
        slept = slept_seconds()
        token = secrets.token_hex(16)
        try:
            outcome = run_experiment(
                self.source(experiment),
                paths,
                run=run,
                seed=seed,
                title=words.title(experiment),
                hypothesis=words.argument(experiment),
                diff=paths.diff.read_text(encoding="utf-8"),
                corpus_dir=study.corpus_dir,
                time_budget_seconds=study.time_budget_seconds,
                startup_allowance_seconds=study.facts["startup_allowance_seconds"],
                handover_allowance_seconds=study.facts["handover_allowance_seconds"],
                project=study.project,
                token=token,
                dtype=study.facts["scoring"]["dtype"],
                on_metrics=looks.at_point,
                on_tick=looks.at_clock,
                on_spawn=lambda pid: self.begun(pid, token),
                on_wait=self.wait_for_machine,
                study=study.name,
            )
        except (KeyboardInterrupt, StopNow) as error:
            try:
                by = f"by {error}" if str(error) else "by hand"
                self.interrupted(experiment, run, Cause.ASKED, f"stopped {by} while it trained")
            except OSError as full:
                if not is_full(full):
                    raise
            raise error  # what a full disk did not take, `recover` writes
        study.paths.running.unlink(missing_ok=True)
        measured = looks.measured(outcome.measured)
        overtime = ""
        if outcome.status is None and experiment.number > 0:
            baseline = self.state.experiments[0].runs
            overtime = works_overtime(baseline, measured, study.time_budget_seconds)
        if overtime:
            outcome = replace(outcome, status=Status.TIMEOUT, reason=overtime, artefact=None)
        before = self.state.experiments[experiment.number].runs[run]
        if void := self._void(before, outcome, measured, slept, overtime):
            cause, why = void
            if cause is Cause.FULL_DISK:
                remove_tree(paths.handover(run))  # which may be what filled it
            self.interrupted(experiment, run, cause, why, measured)
            self.note(f"Experiment {experiment.number:04d}, run {run + 1}: {why}. It is trained again.")
            return replace(outcome, status=Status.INTERRUPTED, reason=why, artefact=None)
        self.history.append(
            "trained",
            experiment=experiment.number,
            run=run,
            status=outcome.status,
            reason=outcome.reason,
            measured=measured,
        )
        return replace(outcome, measured=measured)

    def _void(
        self, before: Run, outcome: RunOutcome, measured: Mapping[str, Any], slept_before: float, overtime: str
    ) -> tuple[Cause, str] | None:
        """Why a run that ended says nothing about its code; None when it does.

        But for sleep, a second time under the same run index is taken to be the experiment's own doing: it could be,
        and a run that is made again is a second draw.
        """
        slept = slept_seconds() - slept_before
        if slept > LONGEST_NAP_SECONDS:
            return Cause.SLEPT, f"the machine slept for {format.duration(slept)} while it trained"
        if outcome.status is Status.CRASH and Cause.FULL_DISK not in before.causes and (lack := self.room.lacks()):
            return Cause.FULL_DISK, f"it failed on a full disk: {lack}"
        if {Cause.KILLED, Cause.OVERTIME, Cause.SLOW} & set(before.causes):
            return None
        if outcome.status is Status.CRASH and outcome.measured.get("exit_code") == -signal.SIGKILL:
            return Cause.KILLED, f"something killed it: {outcome.reason}"
        if overtime:
            return Cause.OVERTIME, f"it {overtime}: the machine may have been busy"
        relative = measured.get("relative_speed")
        if outcome.status in (None, Status.DISCARD) and is_much_slower(relative):
            why = f"it ran at {relative:.0%} of the incumbent's speed: the machine may have been busy"
            return Cause.SLOW, why
        return None

    def interrupted(
        self, experiment: Experiment, run: int, cause: Cause, reason: str, measured: Mapping[str, Any] | None = None
    ) -> None:
        """Record that a training ended without saying anything about its code: it is made again."""
        self.history.append(
            "interrupted",
            experiment=experiment.number,
            run=run,
            cause=cause,
            reason=reason,
            measured=measured or {},
        )

    def score(self, experiment: Experiment, run: int) -> Evaluation | None:
        """Score a run's artefact in a process of its own; None when it cannot be scored, which counts as a crash."""
        progress = Progress("scoring", experiment.number, run, experiment.hypothesis)
        nll_path = self.study.experiment(experiment.number).nll(run)
        try:
            evaluation = self.ask(score, progress, self.heldout, nll_path=nll_path)
        except ScoringFailed as failure:
            reason = f"scoring failed: {failure}"
            self.history.append("scored", experiment=experiment.number, run=run, status=Status.CRASH, reason=reason)
            return None
        facts = {name: value for name, value in asdict(evaluation).items() if name != "nll_path"}
        facts |= {"sandbox": self.sandbox, "bound": self.bound(experiment)}
        self.history.append("scored", experiment=experiment.number, run=run, **facts)
        return evaluation

    def bound(self, experiment: Experiment) -> str:
        """Digest of all that a score of this experiment depends on."""
        return bound(self.study.facts, study_versions(), experiment.train_sha256)

    def ask(self, whom: Callable[..., T], about: Progress, heldout: HeldOut, *more: Any, **options: Any) -> T:
        """What `judge.score.score` or `judge.audit.audit` says of the model of the run that `about` names.

        Asked once more when somebody killed its process, as the model is on the disk, and when it was slow. Raises
        ScoringFailed.
        """
        study, token = self.study, secrets.token_hex(16)
        limit = None
        if about.experiment > 0:
            limit = allowed_batch_seconds(self.state.experiments[0].runs, study.time_budget_seconds)

        def once() -> T:
            return whom(
                study.experiment(about.experiment).artefact(about.run),
                heldout,
                ScoringSettings(**study.facts["scoring"]),
                *more,
                project=study.project,
                on_progress=lambda fraction: self.watch(replace(about, fraction=fraction)),
                token=token,
                on_tick=self.tick,
                on_spawn=lambda pid: remember(study.paths.running, pid, token),
                batch_limit_seconds=limit,
                **options,
                **self.sandboxed(),
            )

        self.watch(about)
        try:
            answer = once()
        except ScoringFailed as failure:
            if not failure.may_be_the_machine:
                raise
            self.note(f"{failure}; it is asked once more.")
            answer = once()
        study.paths.running.unlink(missing_ok=True)
        return answer

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
            incumbent_standard_error=state.incumbent_standard_error,
            sigma=state.sigma,
            commit=self._commit(experiment, status, reason, state.incumbent),
        )
        return self.state.experiments[experiment.number]

    def show(self, experiment: Experiment) -> None:
        """Rebuild what people look at: results.tsv, progress.png, best/train.py, the experiment's notebooks.

        A view that cannot be drawn does not end the night: that is recorded, and it is drawn with the next one.
        """
        for number in (*self.state.undrawn, experiment.number):
            try:
                show_study(self.study, self.state)
                show_notebooks(self.study, self.state, self.state.experiments[number])
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                if number not in self.state.undrawn:
                    self.history.append("undrawn", experiment=number, reason=why)
                    text = f"The views of experiment {number:04d} could not be drawn: {why}"
                    self.watch(Progress("note", text=text))
                continue
            if number in self.state.undrawn:
                self.history.append("drawn", experiment=number)

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
            program=self._program(),
            train_source=self.source(state.incumbent),
            incumbent=state.incumbent,
            experiments=state.decided,
            sigma=state.sigma,
            study=self.study.facts,
            seed=self.study.seed,
            machine_speed=present_speed(state.experiments),
            hints=state.hints,
            refusals=tuple(r for r in state.refusals if r.objection is Objection.PERSON),
            notes=self._notes(),
            notes_at=state.notes_at,
            archive=StudyArchive(self.study.paths),
            spent=state.spent,
            limits=state.limits,
        )

    def _program(self) -> str:
        """program.md, which a person may be saving at this moment: then as it was the last time."""
        with suppress(OSError):
            self._last_program = (self.study.project / "program.md").read_text(encoding="utf-8", errors="replace")
        return self._last_program

    def _notes(self) -> str:
        """notes.md as it stands; what the history says when somebody removed it."""
        try:
            return self.study.paths.notes.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return self.state.notes

    def reconcile(self) -> None:
        """Make git agree with the history, which is the truth: refs that are missing or moved, commits never made."""
        if self.lineage is not None:
            try:
                self._reconcile(self.lineage)
            except (LineageError, FileNotFoundError) as error:
                self.note(f"Git could not be brought to what the history says: {error}")

    def _reconcile(self, lineage: Lineage) -> None:
        state, commits, mended = self.state, lineage.commits(), []
        for experiment in state.decided:
            if experiment.commit is None or commits.get(experiment.number) != experiment.commit:
                assert experiment.status is not None
                parent = None if experiment.parent is None else self.state.experiments[experiment.parent]
                commit = self._commit(experiment, experiment.status, experiment.reason, parent, is_tip=False)
                if commit is not None and commit != experiment.commit:
                    self.history.append("committed", experiment=experiment.number, commit=commit)
                mended += [f"{experiment.number:04d}"] if commit else []
        last = self.state.incumbent
        if last is not None and last.commit:
            unfinished = state.unfinished
            ahead = commits.get(unfinished.number) if unfinished else None  # kept, and cut off before it was recorded
            lineage.follow(last.commit, but_not_from=ahead)
            if lineage.branch_problem:
                self.watch(Progress("note", text=f"{lineage.branch_problem}."))
        if mended:
            self.note(f"Commits that git had lost, or never had, were made again: {', '.join(mended)}.")

    def _commit(
        self, experiment: Experiment, status: Status, reason: str, parent: Experiment | None, is_tip: bool = True
    ) -> str | None:
        if self.lineage is None:
            return None
        try:
            commit = self.lineage.record(
                experiment.number,
                self.source(experiment),
                message=f"{words.title(experiment)}\n\n{status}: {reason}",
                time=experiment.proposed_at,
                parent=self._parent_commit(parent),
                keep=is_tip and status is Status.KEEP,
            )
        except (LineageError, OSError) as error:  # the history and the study's folder hold the code as well
            self.note(f"Experiment {experiment.number:04d} has no commit: {error}")
            return None
        if self.lineage.branch_problem:
            self.note(f"Experiment {experiment.number:04d}: {self.lineage.branch_problem}.")
        return commit

    def _parent_commit(self, parent: Experiment | None) -> str | None:
        """The commit to build on; it is made now when git could not be written while the parent was decided."""
        if parent is None or parent.commit is not None:
            return parent.commit if parent else None
        assert parent.status is not None
        before = None if parent.parent is None else self.state.experiments[parent.parent]
        commit = self._commit(parent, parent.status, parent.reason, before)
        if commit is not None:
            self.history.append("committed", experiment=parent.number, commit=commit)
        return commit


def with_previous(proposal: Proposal, parent_source: str) -> Proposal:
    """The proposal with the literals that it replaces, so that people read `ALPHA 1.0 → 0.5`."""
    if not proposal.changes or "previous" in proposal.details:
        return proposal
    try:
        known = read_parameters(parent_source)
        previous = {name: known[name].value for name in proposal.changes}
        json.dumps(previous)
    except (SourceError, KeyError, TypeError, ValueError):
        return proposal
    return replace(proposal, details=proposal.details | {"previous": previous})


def run_seed(study_seed: int, experiment: int, run: int) -> int:
    """A seed of its own for every run of a study: a confirmation must not repeat the luck it checks."""
    return (study_seed * 1_000_003 + experiment * SEEDS_PER_EXPERIMENT + run) % 2**31


def baseline_proposal(study: Study) -> Proposal:
    """Experiment 0: train.py with the preset folded in, as the study began."""
    preset = study.facts["preset"]["name"]
    hypothesis = f"Baseline: train.py with the preset {preset}"
    return Proposal(hypothesis, study.train_source(0), agent="baseline", details={"preset": preset})
