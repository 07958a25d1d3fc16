"""One experiment step by step, in a notebook: propose, run, judge, record, with the very functions of the night.

A step opens the study, does its work, writes it down and closes the study again. Nothing is held between two cells, so
cells may be run again, kernels restarted, and a night may pass in between: what was recorded is not done twice. The
order of the steps is `study/loop.py`'s; here a person is told which comes next.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..agents.options import chat_of
from ..core.agent import Agent, NothingToPropose
from ..core.decide import mean, standard_error
from ..core.errors import Plain, with_arguments
from ..core.format import bpb, count
from ..core.next_step import Action, next_step, of_last_run, rule_says
from ..core.state import HistoryDamaged, StudyState
from ..core.types import (
    Context,
    Evaluation,
    Experiment,
    Limits,
    Objection,
    Progress,
    Proposal,
    Refusal,
    Result,
    Run,
    error_of_difference,
)
from ..record import study as records
from ..record.archive import StudyArchive
from ..record.git import LineageError
from ..record.history import read_state
from ..record.study import Study, StudyError, check_unchanged, sha256, study_exists, study_names
from ..show import html
from ..show.follow import look
from ..show.snapshot import Snapshot
from ..show.status import doing, standing
from ..show.study_words import findings, result_words, sealed_words
from ..show.words import title
from ..study.execute import execute
from ..study.finish import finish
from ..study.loop import resume, settle
from ..study.options import (
    OF_A_NEW_STUDY,
    SettingsRefused,
    StudyOptions,
    agent_of,
    limits_of,
    options_of,
    refuse_other_settings,
    wrong_values,
)
from ..study.proposal_files import open_proposal, read_proposal, save_proposal
from ..study.question import AgentFailed, objection
from ..study.session import Watch
from ..study.steering import Enough, StopNow
from ..study.steps import Steps, baseline_proposal, open_session, with_previous
from ..system.files import StudyInUse
from ..system.locations import project_root
from .idea import Idea, StepError
from .live_display import Curve, LiveDisplay
from .pictures import Picture, Table, beside, figure_of
from .results import Judgement, Outcome, Recorded, next_html

BETWEEN = "by hand, between two steps"  # why a study that is walked through stands still
MEASURE = "`study.baseline()` measures the baseline, three runs"
ASK = "`study.propose()` asks for an idea"


def open_study(name: str | None = None, project: str | Path | None = None) -> InteractiveStudy:
    """A study that exists, to look at, to walk through by hand, or to hand to `research`.

    Args:
        name: of the study; the one touched last when left out.
        project: folder of train.py and prepare.py; found from the working folder when left out.

    Example:
        >>> from autoresearch_kernel import open_study
        >>> study = open_study("nov23")  # doctest: +SKIP
        >>> study.figure()  # doctest: +SKIP

    Raises StudyError when there is none.
    """
    root = _root(project)
    names = study_names(root) if name is None else [name]
    if not names:
        raise StudyError(
            f'There is no study in {root / "studies"} yet. Start one: `study = start_study("lesson", budget=20)`.'
        )
    return InteractiveStudy(**vars(records.open_study(names[0], root)))


def start_study(
    name: str,
    *,
    budget: float | None = None,
    agent: str | None = None,
    corpus: str | None = None,
    preset: str | None = None,
    seed: int | None = None,
    model: str | None = None,
    files_folder: str | Path | None = None,
    project: str | Path | None = None,
    **of_agent: Any,
) -> InteractiveStudy:
    """A new study, or the one of that name when it began with these settings: so the cell may be run again.

    Args:
        name: of the study and of its folder in `studies`.
        budget: training seconds a run; 300 when left out.
        agent: "search", "llm", "hybrid", "replay" or "human".
        corpus: "stdlib", "tinystories", "climbmix" or "files" with `files_folder`; the preset's when left out.
        preset: sizes of the baseline, "laptop", "gpu", "h100"; measured when left out.
        seed: of the study; 0 when left out.
        model: of an agent that asks one.
        of_agent: share, prompt_tokens, recording, max_tokens, max_cost, as on the command line.

    Example:
        >>> from autoresearch_kernel import start_study
        >>> study = start_study("lesson", budget=20)  # doctest: +SKIP
        >>> study.baseline()  # doctest: +SKIP

    Raises StudyError for settings that do not go together, or are not those the study began with.
    """
    from ..study.create import start_study as create

    folder = None if files_folder is None else str(Path(files_folder).expanduser().resolve())
    given = {"budget": budget, "agent": agent, "corpus": corpus, "preset": preset, "seed": seed, "model": model}
    given |= {"files_folder": folder, **of_agent}
    asked = options_of(given, OF_A_NEW_STUDY)
    if wrong := wrong_values(given):
        raise SettingsRefused(wrong)
    root = _root(project)
    with _in_one_sentence(), _in_python():
        if study_exists(name, root):
            study = records.open_study(name, root)
            refuse_other_settings(study, asked)
        else:
            study = create(name, root, asked)
    return InteractiveStudy(**vars(study), asked=asked)


def _root(project: str | Path | None) -> Path:
    with _in_one_sentence():
        return project_root(project)


class Interrupted(Plain, KeyboardInterrupt):
    """Somebody interrupted the kernel during a step."""


class _Given:
    """An agent that proposes what a person holds in hand."""

    def __init__(self, proposal: Proposal) -> None:
        self.name, self.proposal = proposal.agent, proposal

    def propose(self, context: Context) -> Proposal:
        return self.proposal


@dataclass(frozen=True, repr=False)
class InteractiveStudy(Study):
    """A study whose experiments a person takes step by step. `research` and `open_session` take it as any other.

    Example:
        >>> study = start_study("lesson", budget=20)  # doctest: +SKIP
        >>> study.baseline()  # doctest: +SKIP
        >>> idea = study.propose()  # doctest: +SKIP
        >>> study.run(idea)  # doctest: +SKIP
        >>> study.judge()  # doctest: +SKIP
        >>> study.record()  # doctest: +SKIP

    Each step may be run again: what is recorded is shown, not done twice.
    """

    asked: StudyOptions = field(default_factory=StudyOptions, compare=False)  # what a person said of the agent

    # --- the steps

    def baseline(self) -> Recorded:
        """Measure train.py as it is, three runs, unless that is done: what all else is compared with.

        Example:
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

        Example:
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
            session.limit(Limits(self.asked.max_tokens, self.asked.max_cost))
            asked = agent or self._agent
            if (chat := chat_of(asked)) is not None:
                live.say(f"asking {chat.model} at {chat.host}")
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

        Example:
            >>> outcome = study.run(idea)  # doctest: +SKIP
            >>> outcome.measured["tokens_per_second"]  # doctest: +SKIP
        """
        state = self._measured()
        if (known := self._known(idea, state)) is not None:
            return self._outcome(state, known)
        if state.unfinished is not None and not self._is_training_due(state, state.unfinished):
            return self._outcome(state, state.unfinished)
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
        """Score the run on held-out text, audit the score if it may be kept, and hear what the rule says.

        Scorer and audit are processes of their own: `verdict.nats()` and `verdict.cuts()` hold what they answered.

        Example:
            >>> verdict = study.judge()  # doctest: +SKIP
            >>> verdict.val_bpb, verdict.verdict  # doctest: +SKIP
            >>> while verdict.verdict == "confirm":  # doctest: +SKIP
            ...     study.run()
            ...     verdict = study.judge()
        """
        state = self._measured()
        experiment = state.unfinished or self._last(state)
        if experiment is None:
            raise StepError(f"There is nothing to judge yet: {self._next(state)}.")
        if experiment.status is not None or next_step(state).action is Action.DECIDE:
            return self._judgement(state, experiment)
        lacking = of_last_run(experiment)
        if lacking is not None and lacking.action is Action.TRAIN:
            raise StepError(f"There is nothing to judge yet: {self._next(state)}.")
        if lacking is None and self._is_training_due(state, experiment):
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

        Example:
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

        Example:
            >>> result = study.finish()  # doctest: +SKIP
            >>> result.test_difference, result.test_standard_error  # doctest: +SKIP
        """
        live = self._live_display()
        with _in_one_sentence():
            result = finish(self, live.watch)
        if result is not None:
            live.done(result_words(result).splitlines()[0], f"The result of {self.name}")
        return result

    # --- looking

    def figure(self) -> Picture:
        """The whole study as a picture that stays in a saved notebook; `.save(path)` writes the PNG.

        Example:
            >>> study.figure()  # doctest: +SKIP
            >>> study.figure().save("progress.png")  # doctest: +SKIP
        """
        return figure_of(self.name, self._state())

    def table(self, last: int | None = None) -> Table:
        """The experiments, the latest first; the last few with `last`.

        Example:
            >>> study.table(last=20)  # doctest: +SKIP
        """
        state = self._state()
        return Table(state.experiments, last, sealed_words(state))

    def view(self, number: int) -> Recorded:
        """A decided experiment, as `record` shows it.

        Example:
            >>> study.view(7)  # doctest: +SKIP
        """
        state = self._state()
        decided = [e.number for e in state.decided]
        if number not in decided:
            raise StepError(f"{number} is no decided experiment of {self.name}: there are {len(decided)}, from 0 on.")
        return self._recorded(state, number)

    def watch(self) -> Watch:
        """For `research`: the display that `run` has, kept up to date while the loop goes on by itself.

        Example:
            >>> for experiment in research(study, SearchAgent(), experiments=5, watch=study.watch()):  # doctest: +SKIP
            ...     display(study.view(experiment.number))
        """
        return self._live_display().watch

    def _heading(self, now: Snapshot) -> tuple[str, str]:
        """How the study stands, in a word and in a sentence."""
        if now.phase == "stopped" and now.state.stopped == BETWEEN:
            return "between two steps", ""
        return doing(now), standing(now)

    def _repr_html_(self) -> str:
        now = look(self)
        picture = self.figure()
        word, sentence = self._heading(now)
        body = [
            html.paragraph(sentence) if sentence else "",
            html.picture(picture.png, picture.words, width="880px") if now.state.decided else "",
            next_html(self._next(now.state)) if now.holder is None else "",
        ]
        return html.card(self.name, "".join(body), state=word)

    def __repr__(self) -> str:
        now = look(self)
        word, sentence = self._heading(now)
        lines = [f"{self.name} · {word}", sentence, findings(now.state, now.finished)]
        lines += [f"Next: {self._next(now.state)}"] if now.holder is None else []
        return "\n".join(line for line in lines if line)

    # --- what the steps need

    @cached_property
    def _agent(self) -> Agent:
        return agent_of(self, self.asked, limits_of(self._state(), self.asked))

    def _state(self) -> StudyState:
        with _in_one_sentence():
            return read_state(self.paths.history)

    def _measured(self) -> StudyState:
        """The study, once its baseline is measured."""
        state = self._state()
        if state.incumbent is None:
            raise StepError(f"There is nothing to compare with yet: {MEASURE}.")
        return state

    def _live_display(self) -> LiveDisplay:
        def beside_(progress: Progress) -> tuple[str, Curve | None, str]:
            experiment = self._state().experiments[progress.experiment]
            return title(experiment), *beside(self, experiment, progress.run)

        return LiveDisplay(self.time_budget_seconds, beside_)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Steps, LiveDisplay]]:
        """The study held open for one step; what goes wrong is said in one sentence."""
        with _in_one_sentence():
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
                    session.history.append("stopped", reason=BETWEEN)

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
            raise StepError(_why_not(refusal))
        save_proposal(self.experiment(number), idea.proposal, idea.parent)
        return idea.proposal

    def _known(self, idea: Idea | None, state: StudyState) -> Experiment | None:
        """The experiment that an idea has become, when there is no training due; None when it is still to be run."""
        if idea is None:
            return None
        digest = sha256(idea.train_source)
        is_known = idea.number < len(state.experiments) and state.experiments[idea.number].train_sha256 == digest
        if is_known:
            experiment = state.experiments[idea.number]
            return experiment if experiment.status is not None else None
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
        return step.action is Action.TRAIN and step.experiment == experiment.number

    def _next(self, state: StudyState) -> str:
        """What a person can do now."""
        if state.incumbent is None:
            return MEASURE
        experiment = state.unfinished
        if experiment is None:
            return "`study.run(idea)` trains what is proposed" if open_proposal(self, state) else ASK
        name = f"{experiment.number:04d}"
        if (step := of_last_run(experiment)) is not None:
            if step.action is Action.SCORE:
                return f"`study.judge()` scores run {step.run + 1} of {name} on held-out text"
            return f"`study.run()` trains run {step.run + 1} of {name}"
        if rule_says(experiment, state)[0] == "confirm":
            return f"`study.run()` trains {name} once more with a fresh seed, then `study.judge()`"
        return f"`study.record()` writes the decision on {name} down"

    def _stands(self, state: StudyState) -> str:
        """Where the unfinished experiment stands."""
        assert state.unfinished is not None
        return f"Experiment {state.unfinished.number:04d} is not finished: {self._next(state)}."

    def _recorded_idea(self, state: StudyState, experiment: Experiment) -> Idea:
        """What became an experiment that is not finished yet."""
        assert experiment.parent is not None
        found = read_proposal(self.experiment(experiment.number))
        proposal = found[0] if found else Proposal(experiment.hypothesis, "", experiment.agent)
        source = StudyArchive(self.paths).source(experiment.number)
        parent_source = StudyArchive(self.paths).source(experiment.parent)
        return Idea(
            experiment.number,
            Proposal(**vars(proposal) | {"train_source": source}),
            experiment.parent,
            parent_source,
            f"it is being tried already: {self._next(state)}",
        )

    def _outcome(self, state: StudyState, experiment: Experiment, is_shown: bool = False) -> Outcome:
        decided = f"{experiment.number:04d} is decided: {experiment.status}; {ASK}"
        words = self._next(state) if experiment.status is None else decided
        return Outcome(self, experiment, experiment.runs[-1], words, is_shown)

    def _judgement(self, state: StudyState, experiment: Experiment) -> Judgement:
        run, scores = experiment.runs[-1], experiment.scores
        judged = mean(scores) if scores else None
        if experiment.status is None:
            verdict, reason = rule_says(experiment, state)
            error = error_of_difference(standard_error(len(scores), state.sigma), state.incumbent_standard_error)
            against = judged, state.incumbent_bpb, state.sigma, error
        else:
            verdict, reason = str(experiment.status), experiment.reason
            frozen = experiment.val_bpb, experiment.incumbent_bpb, experiment.sigma
            against = (*frozen, experiment.delta_standard_error)
        return Judgement(self, experiment, run, _evaluation(run), str(verdict), reason, *against, self._next(state))

    def _recorded(self, state: StudyState, number: int, is_shown: bool = False) -> Recorded:
        return Recorded.of(self, state.experiments[number], self._next(state), is_shown)


def _evaluation(run: Run) -> Evaluation | None:
    if run.val_bpb is None or run.standard_error is None:
        return None
    scored = run.measured["scored"]
    seconds = run.measured.get("scoring_seconds") or 0.0
    return Evaluation(run.val_bpb, run.standard_error, scored["num_tokens"], scored["num_bytes"], seconds)


def _why_not(refusal: Refusal) -> str:
    if refusal.objection is Objection.REPEAT:
        return f"This was tried before: {refusal.why}. Change something else, or ask for `study.propose(anew=True)`."
    return f"This train.py cannot run as a notebook. {refusal.why} Mend the edit and run this cell again."


@contextmanager
def _in_python() -> Iterator[None]:
    """Errors that speak of the command line's options name arguments instead."""
    try:
        yield
    except StudyError as error:
        raise StudyError(with_arguments(str(error))) from error


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """What goes wrong in a step, as an error whose message says what to do."""
    try:
        yield
    except StudyError:
        raise
    except KeyboardInterrupt as error:
        raise Interrupted("Stopped by hand. Nothing that was recorded is lost; this cell goes on.") from error
    except StopNow as stop:
        raise StepError(f"Stopped, as {stop} asked. Nothing that was recorded is lost; this cell goes on.") from stop
    except StudyInUse as error:
        if error.pid == os.getpid():
            raise StepError(
                "This kernel holds the study itself: a loop over research() was left in the middle. Let it end, or "
                "restart the kernel; nothing that was recorded is lost."
            ) from error
        raise StepError(f"{error} This cell can be run again after that.") from error
    except (NothingToPropose, HistoryDamaged, LineageError, FileNotFoundError, ValueError) as error:
        raise StepError(str(error)) from error
