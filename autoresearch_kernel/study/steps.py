"""The five steps of an experiment: propose, train, score, audit, decide; and the session that has them.

A step records what it did before it returns, so no recorded step is done twice, and a study that was cut off continues
from its files. The order of the steps is in `core/next_step.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from ..core.agent import Agent
from ..core.decide import mean, standard_error
from ..core.format import count
from ..core.grounds import recorded
from ..core.next_step import Step, duel_decision, grounds_of_rule, rule_says
from ..core.sanitize import readable
from ..core.state import replay
from ..core.types import Evaluation, Experiment, Progress, Proposal, RunOutcome, Status, ignore
from ..record.commands import Inbox
from ..record.git import open_lineage
from ..record.history import History
from ..record.provenance import changed_versions, last_versions
from ..record.study import Study, StudyError, sha256, study_versions
from ..run.backend import Backend, chosen_backend, for_slots
from ..sandbox.kinds import SANDBOX, SandboxMissing, require_sandbox, scorer_options
from ..scoring.job import HeldOut
from ..source.cell import SourceError
from ..source.compare import code_size, fingerprint
from ..source.diff import diff
from ..source.parameters import read_parameters
from ..source.seeds import seeds_itself
from ..system.files import boot_id, remove_temporaries, write_atomic
from ..system.privacy import private_to
from ..system.processes import end_leftovers
from ..system.temporary import remove_abandoned
from .commits import Commits
from .disk_space import DiskSpace, release_reserve_if_full
from .evaluation import score_run
from .notices import Notices
from .proposal_files import encodable, save_proposal
from .proposals import Proposals
from .quiet import Quiet
from .server_start import take_asked
from .session import Session, Watch
from .steering import Steering
from .train import train, train_duel
from .views import show_notebooks, show_study

RECORDED = ("hypothesis", "agent", "changes", "details", "expected", "refutation")  # of a proposal, in the history


@dataclass
class Steps(Session):
    """A study held open by this process, with the steps as methods; made by `open_session`.

    Example:
        >>> with open_session(study) as session:  # doctest: +SKIP
        ...     print(session.state.incumbent.val_bpb, session.state.sigma)
    """

    def __post_init__(self) -> None:
        self.steering = Steering(self, self.inbox)
        self.disk_space = DiskSpace(self, self.steering)
        self.quiet = Quiet(self, self.steering)
        self.proposals = Proposals(self, self.steering, self.disk_space)
        self.commits = Commits(self)
        self.hooks = [self.history.look, self.proposals.tick, self.steering.obey]

    def propose(self, agent: Agent) -> Experiment:
        """Ask for the next idea and record it; without any experiment yet that is the baseline.

        Raises NothingToPropose, and AgentFailed for whatever else the agent raises; nothing is recorded then.
        """
        number, incumbent = len(self.state.experiments), self.state.incumbent
        paths = self.study.experiment(number)
        if incumbent is None and number > 0:
            raise StudyError(
                "The baseline of this study was refused by the audit, so nothing can be compared with it. Begin a new "
                f"study with another --name; {self.study.experiment(0).folder} has the notebook and the reason."
            )
        if incumbent is None:
            proposal, parent_source = baseline_proposal(self.study), self.study.train_source(0)
        else:
            self.tell(Progress("proposing", number))
            proposal = self.proposals.next(agent)
            while (now := self.state.incumbent) is not None and now.number != incumbent.number:
                incumbent = now  # an audit on another slot has refused the old one meanwhile
                proposal = self.proposals.next(agent)
            parent_source = self.source(incumbent)
        proposal = self._with_seeds(with_previous(encodable(proposal), parent_source), number)
        parent, spent = incumbent.number if incumbent else None, self.state.spent_on(number)
        save_proposal(paths, proposal, parent, spent=asdict(spent))
        self._take_notes(proposal)
        write_atomic(paths.train, proposal.train_source)
        write_atomic(paths.diff, diff(parent_source, proposal.train_source))
        self.history.append(
            "proposed",
            experiment=number,
            parent=parent,
            **{name: getattr(proposal, name) for name in RECORDED},
            fingerprint=fingerprint(proposal.train_source),
            code_size=code_size(proposal.train_source),
            train_sha256=sha256(proposal.train_source),
            files=self.hashes(paths.proposal, paths.diff),
        )
        return self.state.experiments[number]

    def _with_seeds(self, proposal: Proposal, number: int) -> Proposal:
        """The proposal with a note of fixed seeds in its code, which the verdict shows."""
        own = seeds_itself(proposal.train_source)
        if not own:
            return proposal
        if self.state.incumbent is None or "seeds" not in self.state.incumbent.details:  # else it was said before
            self.note(f"Experiment {number:04d}: {own}.")
        return replace(proposal, details=proposal.details | {"seeds": own})

    def _take_notes(self, proposal: Proposal) -> None:
        """The agent's notes, rewritten with this proposal: into the history, and into notes.md for users to edit."""
        notes = readable(proposal.notes)
        if notes and notes != self.state.notes:
            write_atomic(self.study.paths.notes, notes.rstrip() + "\n")
            self.history.append("notes", text=notes, decided=max(0, len(self.state.decided) - 1))

    def train(self, experiment: Experiment, run: int) -> RunOutcome:
        """Train once, in a notebook of its own, within the budget.

        It waits until there is disk space for it, and for a quieter machine where that was asked for.

        The status is `interrupted`, and the run is to be made again, when it says nothing about the code.
        """
        self.disk_space.make()
        self.quiet.wait(Progress("quiet", experiment.number, run, experiment.hypothesis))
        return train(self, self.disk_space, experiment, run)

    def duel(self, challenger: Experiment, run: int, incumbent: Experiment) -> list[RunOutcome]:
        """Train a confirmation and a run of the incumbent in turns; the challenger's outcome is the first.

        Otherwise as `train`.
        """
        self.disk_space.make()
        self.quiet.wait(Progress("quiet", challenger.number, run, challenger.hypothesis))
        return train_duel(self, self.disk_space, challenger, run, incumbent)

    def score(self, experiment: Experiment, run: int) -> Evaluation | None:
        """Score a run's model in a process of its own; None when it cannot be scored, which counts as a crash."""
        return score_run(self, experiment, run)

    def decide(self, step: Step) -> Experiment:
        """Record the decision that `next_step` has come to."""
        state = self.state
        experiment, status, reason = state.experiments[step.experiment], step.status, step.why
        parent = None if experiment.parent is None else state.experiments[experiment.parent]
        assert status is not None, "only a step of Action.DECIDE has a decision"
        self.tell(Progress("deciding", experiment.number))
        mine = experiment.scores if status in (Status.KEEP, Status.DISCARD) else ()
        incumbent_bpb, incumbent_standard_error = state.judged_against(experiment)
        compared: dict[str, Any] = {"val_bpb": mean(mine) if mine else None, "incumbent_bpb": incumbent_bpb}
        if mine and (duel := duel_decision(experiment, state)):
            compared = {"val_bpb": duel.val_bpb, "incumbent_bpb": duel.incumbent_bpb}
            compared["difference_error"] = duel.difference_error
        grounds = grounds_of_rule(experiment, state)
        if grounds is not None and rule_says(experiment, state)[0] == status:  # a rerun decides by no rule
            compared["rule"] = recorded(grounds)
        elif step.wave:
            compared["wave"] = step.wave
        self.history.append(
            "decided",
            experiment=experiment.number,
            status=status,
            reason=reason,
            **compared,
            standard_error=standard_error(len(mine), state.sigma) if mine else None,
            incumbent_standard_error=incumbent_standard_error,
            sigma=state.sigma,
            degrees_of_freedom=state.noise.degrees_of_freedom,
            commit=self.commits.make(experiment, status, reason, parent),
        )
        return self.state.experiments[experiment.number]

    def show(self, experiment: Experiment) -> None:
        """Rebuild what users look at: results.tsv, progress.png, best/train.py, the experiment's notebooks.

        Their hashes are recorded where they have changed. A view that cannot be drawn does not end the study: that is
        recorded, and it is drawn with the next one.
        """
        for number in (*self.state.undrawn, experiment.number):
            try:
                show_study(self.study, self.state)
                show_notebooks(self.study, self.state, self.state.experiments[number])
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                if number not in self.state.undrawn:
                    self.history.append("undrawn", experiment=number, reason=why)
                    self.watch(Progress("note", text=f"The views of experiment {number:04d} could not be drawn: {why}"))
                continue
            runs, paths = self.state.experiments[number].runs, self.study.experiment(number)
            files = self.hashes(*self.study.paths.views, *(paths.notebook(run.index) for run in runs))
            if number in self.state.undrawn or not files.items() <= self.state.files.items():
                self.history.append("drawn", experiment=number, files=files)


def with_previous(proposal: Proposal, parent_source: str) -> Proposal:
    """The proposal with the literals that it replaces, so that users read `ALPHA 1.0 → 0.5`."""
    if not proposal.changes or "previous" in proposal.details:
        return proposal
    try:
        known = read_parameters(parent_source)
        previous = {name: known[name].value for name in proposal.changes}
        json.dumps(previous)
    except (SourceError, KeyError, TypeError, ValueError):
        return proposal
    return replace(proposal, details=proposal.details | {"previous": previous})


def baseline_proposal(study: Study) -> Proposal:
    """Experiment 0: train.py with the preset folded in, as the study began."""
    preset = study.facts["preset"]["name"]
    hypothesis = f"Baseline: train.py with the preset {preset}"
    return Proposal(hypothesis, study.train_source(0), agent="baseline", details={"preset": preset})


@contextmanager
def open_session(study: Study, watch: Watch = ignore, backend: Backend | None = None) -> Iterator[Steps]:
    """Hold a study open for writing.

    Args:
        watch: called with what is happening now.
        backend: what trains, scores and audits, and the clock; this machine when left out.

    Example, one experiment in the order of `next_step`:
        >>> with open_session(study) as session:  # doctest: +SKIP
        ...     experiment = session.propose(SearchAgent())
        ...     session.train(experiment, run=0)
        ...     session.score(experiment, run=0)
        ...     session.decide(next_step(session.state))

    Raises StudyInUse when another process runs it, HistoryDamaged when its record cannot be trusted,
    FileNotFoundError when its held-out rows are gone, StudyError where there is no sandbox and none was renounced.
    """
    backend = for_slots(backend or chosen_backend(), study.num_slots)
    sandbox = _sandbox_name()
    heldout = HeldOut.load(study.corpus_dir, study.heldout_dir, "val")
    release_reserve_if_full(study, backend.free_bytes)
    clean = private_to(study.project).clean
    opened = partial(History.open, lock=study.paths.lock, clock=backend.clock.utc_now, clean=clean)
    notices = Notices(study, watch)
    with notices.told_at_the_end(), opened(study.paths.history) as history:
        inbox = Inbox(study.paths.commands)
        old_commands = inbox.read()
        _refuse_another_beginning(study, history)
        lineage, why_not = open_lineage(study.project, study.name, is_new=not history.events)
        ended = end_leftovers(study.paths.running)
        remove_temporaries(study.paths.folder)
        remove_abandoned()
        if not history.events:
            history.append("study_started", study=study.facts)
        before, versions = last_versions(study.facts, history.events), _versions(backend)
        is_first = not any(event["event"] == "opened" for event in history.events)
        sandboxed = partial(scorer_options, study.project)
        session = Steps(study, history, lineage, heldout, inbox, watch, backend, sandbox, versions, sandboxed)
        session.hooks.append(partial(notices.tick, session))
        who: dict[str, Any] = {"pid": os.getpid(), "boot_id": boot_id()}
        who["sandbox"] = session.used_sandbox(is_next=True)
        history.append("opened", **who, versions=versions, can_duel=backend.duel is not None)
        for call in take_asked(study.name):
            history.append("called", experiment=len(session.state.decided), **asdict(call))
        session.steering.answer_old(old_commands)
        if ended:
            session.note(f"{count(ended, 'process')} of a run that was cut off had to be ended.")
        # Nothing is scored yet in a study that begins on workers, whose versions may always have been other ones.
        if not (is_first and backend.worker) and (changed := changed_versions(before, versions)):
            changes = "; ".join(f"{name} {new}, before {old}" for name, old, new in changed)
            session.note(f"Scores from here on are made by other versions: {changes}. Compare them with that in mind.")
        if lineage is None:
            kept = f"Every train.py is kept in {study.paths.folder}."
            watch(Progress("note", text=clean(f"No git lineage: {why_not}. {kept}")))
        try:
            yield session
        finally:
            _close(session, notices)


def _close(session: Steps, notices: Notices) -> None:
    """Give up what is asked and tell the last news; of a study that was removed, leave alone what is there now."""
    try:
        session.proposals.give_up()
    finally:
        session.history.check_in_place()
        notices.tick(session)
        session.study.paths.activity.unlink(missing_ok=True)


def _sandbox_name() -> str:
    try:
        return require_sandbox().name
    except SandboxMissing as missing:
        raise StudyError(f"{missing} In a notebook that is os.environ[{SANDBOX!r}] = 'none'.") from missing


def _refuse_another_beginning(study: Study, history: History) -> None:
    recorded = replay(history.events).study
    if recorded and recorded != json.loads(json.dumps(study.facts)):
        raise StudyError(
            f"{study.paths.study} is not what {study.paths.history} says the study began with. Restore it: the "
            "first line of the history holds the original."
        )


def _versions(backend: Backend) -> dict[str, str]:
    """Those that make the scores of a session: of the workers of the study's own kind, where it has workers."""
    return study_versions() if backend.worker is None else dict(backend.worker(True)["packages"])
