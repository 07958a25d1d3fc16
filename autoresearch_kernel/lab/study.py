"""One experiment step by step, in a notebook: propose, run, judge, record, with the functions of the loop.

A step opens the study, works, records and closes the study again. Nothing is held between two cells, so a user may run
cells again, restart the kernel or let the loop run in between. The order of the steps is in `core/next_step.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from ..agents.options import chat_of
from ..core.agent import Agent
from ..core.format import bpb, count
from ..core.next_step import Action, next_step, of_last_run, rule_says
from ..core.state import StudyState
from ..core.types import Context, Experiment, Limits, Objection, Progress, Proposal, Refusal, Result
from ..record.archive import StudyArchive
from ..record.study import check_unchanged, sha256
from ..show.study_words import sealed_words
from ..show.words import title
from ..study.execute import execute
from ..study.finish import finish
from ..study.loop import settle
from ..study.options import agent_of, limits_of
from ..study.proposal_files import open_proposal, read_proposal, save_proposal
from ..study.question import AgentFailed, objection
from ..study.recovery import resume
from ..study.steering import Enough
from ..study.steps import Steps, baseline_proposal, open_session, with_previous
from .errors import StepError, in_one_sentence
from .idea import Idea
from .live_display import LiveDisplay
from .results import Judgement, Outcome, Recorded
from .shown_study import ASK, BETWEEN, MEASURE, ShownStudy


class _Given:
    """An agent that proposes what it was given."""

    def __init__(self, proposal: Proposal) -> None:
        self.name, self.proposal = proposal.agent, proposal

    def propose(self, context: Context) -> Proposal:
        return self.proposal


@dataclass(frozen=True, repr=False)
class InteractiveStudy(ShownStudy):
    """A study in which a person takes each step. `research` and `open_session` accept it as any other study.

    >>> study = start_study("lesson", budget=20)  # doctest: +SKIP
    >>> study.baseline()  # doctest: +SKIP
    >>> idea = study.propose()  # doctest: +SKIP
    >>> study.run(idea)  # doctest: +SKIP
    >>> study.judge()  # doctest: +SKIP
    >>> study.record()  # doctest: +SKIP

    Each step may be run again: what is recorded is shown, not done twice.
    """

    def baseline(self) -> Recorded:
        """Measure train.py as it is, three runs, unless that is done: what all else is compared with.

        >>> study.baseline()  # doctest: +SKIP
        """
        is_shown = False
        if self._state().incumbent is None:
            with self._opened() as (session, live):
                if session.state.unfinished is None and session.state.incumbent is None:
                    session.propose(_Given(baseline_proposal(self)))
                if session.state.incumbent is None:
                    settle(session)
                baseline = session.state.experiments[0]
                live.done(f"{count(len(baseline.scores), 'run')}, σ {bpb(session.state.sigma)}", title(baseline))
                is_shown = live.has_curve
        return self._recorded(self._state(), 0, is_shown)

    def propose(self, agent: Agent | None = None, *, anew: bool = False) -> Idea:
        """Ask for the next idea. Asked again, it shows the same one until that is recorded.

        Args:
            agent: whom to ask; the study's own when left out.
            anew: give back what is proposed, and ask for another.

        >>> idea = study.propose()  # doctest: +SKIP
        >>> idea.diff  # doctest: +SKIP
        """
        state = self._measured()
        if state.unfinished is not None:
            if anew:
                raise StepError(f"{self._stands(state)} Another idea comes after its decision.")
            return self._recorded_idea(state, state.unfinished)
        with self._opened() as (session, live):
            refused = self._give_back(session) if anew else ()
            while (step := next_step(session.state)).action is not Action.PROPOSE:
                execute(session, step)
            session.limit(Limits(self.asked.max_tokens, self.asked.max_cost, self.asked.max_calls))
            asked = agent or self._agent
            if (chat := chat_of(asked)) is not None:
                live.say(f"asking {chat.who}")
            try:
                proposal = session.proposals.next(asked, refused)
            except AgentFailed as error:
                raise StepError(f"The agent {asked.name!r} failed: {error}. `study.propose()` asks again.") from error
            except Enough as error:
                raise StepError(f"{error.reason} `study.propose()` asks again.") from error
            incumbent = session.state.incumbent
            assert incumbent is not None
            source = session.source(incumbent)
            live.done(f"{len(session.state.experiments):04d} is proposed")
            return Idea(len(session.state.experiments), with_previous(proposal, source), incumbent.number, source)

    def run(self, idea: Idea | None = None) -> Outcome:
        """Train what is due, in a notebook of its own, within the budget; its curve is drawn while it trains.

        The first time that is the idea (what is proposed, when left out), then the confirmation, if the rule wants
        one. What is trained already is shown, not trained again.

        >>> outcome = study.run(idea)  # doctest: +SKIP
        >>> outcome.measured["tokens_per_second"]  # doctest: +SKIP
        """
        state = self._measured()
        known = self._decided(idea, state) or state.unfinished
        if known is not None and not self._is_training_due(state, known):
            return self._outcome(state, known)
        with self._opened() as (session, live):
            number = (session.state.unfinished or session.propose(_Given(self._take(session, idea)))).number
            if of_last_run(session.state.experiments[number]) is None:
                self._judge(session, number)  # a judge() that was cut off
            while (step := next_step(session.state)).action is Action.TRAIN and step.experiment == number:
                execute(session, step)
                ended = session.state.experiments[number].runs[step.run].status
                live.done(f"run {step.run + 1}: {'trained' if ended is None else ended}")
            return self._outcome(session.state, session.state.experiments[number], live.has_curve)

    def judge(self) -> Judgement:
        """Score the run on held-out text, audit the score if it may be kept, and ask the rule for a verdict.

        Scorer and audit are processes of their own: `verdict.nats()` and `verdict.cuts()` hold what they answered.

        >>> verdict = study.judge()  # doctest: +SKIP
        >>> verdict.val_bpb, verdict.verdict  # doctest: +SKIP
        >>> while verdict.verdict == "confirm":  # doctest: +SKIP
        ...     study.run()
        ...     verdict = study.judge()
        """
        state = self._measured()
        experiment = state.unfinished or self._last(state)
        is_decided = experiment is not None and experiment.status is not None
        lacking = None if experiment is None or is_decided else of_last_run(experiment)
        if experiment is None or (lacking is not None and lacking.action is Action.TRAIN):
            raise StepError(f"There is nothing to judge yet: {self._next(state)}.")
        is_judged = next_step(state).action is Action.DECIDE
        if is_decided or is_judged or (lacking is None and self._is_training_due(state, experiment)):
            return self._judgement(state, experiment)
        with self._opened() as (session, live):
            number, run = experiment.number, experiment.runs[-1].index
            self._judge(session, number)
            judgement = self._judgement(session.state, session.state.experiments[number])
            score = f"{bpb(judgement.val_bpb)} bits per byte" if judgement.evaluation else judgement.verdict
            live.done(f"run {run + 1}: {score}", title(experiment))
            return judgement

    def record(self) -> Recorded:
        """Write the decision down: history, git, the verdict in the experiment's notebook, results.tsv, progress.png.

        >>> experiment = study.record()  # doctest: +SKIP
        >>> experiment.status, experiment.reason  # doctest: +SKIP

        Raises StepError while the rule wants one more run.
        """
        state = self._measured()
        experiment = state.unfinished or self._last(state)
        if experiment is None or (experiment.status is None and of_last_run(experiment) is not None):
            raise StepError(f"There is nothing to record yet: {self._next(state)}.")
        if experiment.status is None:
            with self._opened() as (session, _):
                self._judge(session, experiment.number)
                step = next_step(session.state)
                if step.action is Action.DECIDE:
                    execute(session, step)
                else:
                    reason = rule_says(session.state.experiments[experiment.number], session.state)[1]
                    raise StepError(
                        f"The rule wants one more run of {experiment.number:04d} ({reason}): `study.run()` and "
                        "`study.judge()` once more, then `study.record()`."
                    )
        return self._recorded(self._state(), experiment.number)

    def finish(self) -> Result | None:
        """The study's result: the best and the baseline on fresh seeds, on the sealed test split. Minutes, once.

        >>> result = study.finish()  # doctest: +SKIP
        >>> result.test_difference, result.test_standard_error  # doctest: +SKIP
        """
        live = self._live_display()
        with in_one_sentence():
            result = finish(self, live.watch)
        if result is not None:
            live.done(sealed_words(self._state()).splitlines()[0], f"The result of {self.name}")
        return result

    @cached_property
    def _agent(self) -> Agent:
        return agent_of(self, self.asked, limits_of(self._state(), self.asked))

    def _measured(self) -> StudyState:
        """The study, once its baseline is measured."""
        state = self._state()
        if state.incumbent is None:
            raise StepError(f"There is nothing to compare with yet: {MEASURE}.")
        return state

    @contextmanager
    def _opened(self) -> Iterator[tuple[Steps, LiveDisplay]]:
        """Hold the study open for one step."""
        with in_one_sentence():
            check_unchanged(self)
            live, notes = self._live_display(), [""]
            waits: list[str] = []

            def watch(progress: Progress) -> None:
                live.watch(progress)
                if progress.phase == "note":
                    notes.append(progress.text)
                elif progress.phase == "paused":
                    waits.append(notes[-1])  # which says why

            with open_session(self, watch) as session:
                session.is_interactive = True
                session.enough = lambda: waits[-1] if waits else ""  # a cell does not wait for a server that is down
                try:
                    resume(session)
                    yield session, live
                finally:
                    session.history.append("stopped", reason=BETWEEN, is_between_steps=True)

    def _judge(self, session: Steps, number: int) -> None:
        """Take all steps that come before the rule: score, audit, runs of the incumbent where the machine was slow."""
        while (step := next_step(session.state)).action is not Action.DECIDE:
            if step.action is Action.PROPOSE or (step.action is Action.TRAIN and step.experiment == number):
                return
            execute(session, step)

    def _give_back(self, session: Steps) -> tuple[Refusal, ...]:
        """Put aside what is proposed, so that another idea is asked for; what is kept of it says so."""
        if (found := session.proposals.saved()) is None:
            return ()
        number = len(session.state.experiments)
        refusal = Refusal(number, Objection.PERSON, "another idea was asked for", found[0].hypothesis, found[0])
        session.proposals.refuse(refusal)
        return (refusal,)

    def _take(self, session: Steps, idea: Idea | None) -> Proposal:
        """The proposal that a person wants to run, checked if it is not as its agent made it.

        It is put where an agent's reply is kept, so that a kernel that dies now does not lose it.
        """
        found = session.proposals.saved()
        if idea is None:
            if found is None:
                raise StepError(f"Nothing is proposed yet: {ASK}.")
            return found[0]
        incumbent, number = session.state.incumbent, len(session.state.experiments)
        assert incumbent is not None
        if idea.parent != incumbent.number:
            raise StepError(
                f"{incumbent.number:04d} was kept since this idea was made for {idea.parent:04d}, and it would undo "
                "that. `study.propose()` makes one for what is the best now."
            )
        is_changed = found is None or found[0].train_source != idea.train_source
        if is_changed and (refusal := objection(idea.proposal, session.context())):
            repeat = (
                f"This was tried before: {refusal.why}. Change something else, or ask for `study.propose(anew=True)`."
            )
            wrong = f"This train.py cannot run as a notebook. {refusal.why} Mend the edit and run this cell again."
            raise StepError(repeat if refusal.objection is Objection.REPEAT else wrong)
        save_proposal(self.experiment(number), idea.proposal, idea.parent)
        return idea.proposal

    def _decided(self, idea: Idea | None, state: StudyState) -> Experiment | None:
        """The decided experiment that an idea has become; None when it is still to be run."""
        if idea is None:
            return None
        became = state.experiments[idea.number : idea.number + 1]
        if became and became[0].train_sha256 == sha256(idea.train_source):
            return became[0] if became[0].status is not None else None
        if state.unfinished is not None:
            raise StepError(f"{self._stands(state)} This idea can be run after its decision.")
        return None

    def _last(self, state: StudyState) -> Experiment | None:
        """The experiment that was decided last, while no other is proposed."""
        if open_proposal(self, state) is not None or len(state.decided) < 2:
            return None
        return state.decided[-1]

    def _is_training_due(self, state: StudyState, experiment: Experiment) -> bool:
        """Whether a run of the unfinished experiment is to be trained next."""
        step = next_step(state)
        is_its = step.action is Action.TRAIN and step.experiment == experiment.number
        return is_its and experiment.status is None

    def _stands(self, state: StudyState) -> str:
        """Where the unfinished experiment stands."""
        assert state.unfinished is not None
        return f"Experiment {state.unfinished.number:04d} is not finished: {self._next(state)}."

    def _recorded_idea(self, state: StudyState, experiment: Experiment) -> Idea:
        """The idea that became the unfinished experiment."""
        assert experiment.parent is not None
        found = read_proposal(self.experiment(experiment.number))
        proposal = found[0] if found else Proposal(experiment.hypothesis, "", experiment.agent)
        archive = StudyArchive(self.paths)
        proposal = replace(proposal, train_source=archive.source(experiment.number))
        next = f"it is being tried already: {self._next(state)}"
        return Idea(experiment.number, proposal, experiment.parent, archive.source(experiment.parent), next)
