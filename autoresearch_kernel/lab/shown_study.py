"""What a notebook shows of a study: its picture, table and experiments, and what a person can do next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from ..core.decide import mean, standard_error
from ..core.next_step import Action, of_last_run, rule_says
from ..core.state import StudyState
from ..core.types import Experiment, Progress
from ..record.history import read_state
from ..record.study import Study
from ..share.command import refuse, report, share_study
from ..show import html
from ..show.follow import look
from ..show.snapshot import Snapshot
from ..show.status import doing, standing
from ..show.study_words import findings, sealed_words
from ..show.words import title
from ..study.options import StudyOptions
from ..study.proposal_files import open_proposal
from ..study.session import Watch
from .errors import StepError, in_one_sentence
from .live_display import Curve, LiveDisplay
from .pictures import Picture, Table, beside, figure_of
from .results import Judgement, Outcome, Recorded, next_html

BETWEEN = "by hand, between two steps"  # why a study whose steps a person takes is stopped
MEASURE = "`study.baseline()` measures the baseline, three runs"
ASK = "`study.propose()` asks for an idea"


@dataclass(frozen=True, repr=False)
class ShownStudy(Study):
    """A study that shows itself in a notebook."""

    asked: StudyOptions = field(default_factory=StudyOptions, compare=False)  # options of the agent

    def figure(self) -> Picture:
        """The whole study as a picture that stays in a saved notebook; `.save(path)` writes the PNG.

        >>> study.figure()  # doctest: +SKIP
        >>> study.figure().save("progress.png")  # doctest: +SKIP
        """
        return figure_of(self.name, self._state())

    def table(self, last: int | None = None) -> Table:
        """The experiments, the latest first; the last few with `last`.

        >>> study.table(last=20)  # doctest: +SKIP
        """
        state = self._state()
        return Table(state.experiments, last, sealed_words(state))

    def view(self, number: int) -> Recorded:
        """A decided experiment, as `record` shows it.

        >>> study.view(7)  # doctest: +SKIP
        """
        state = self._state()
        decided = [e.number for e in state.decided]
        if number not in decided:
            raise StepError(f"{number} is no decided experiment of {self.name}: there are {len(decided)}, from 0 on.")
        return self._recorded(state, number)

    def share(self, out: str | Path | None = None, *, prompts: bool = False, yes: bool = False) -> Path:
        """Make one zip of the study that others can open, read and check; the file. It says what it removed.

        Args:
            out: the file; NAME.zip in the working folder when left out.
            prompts: with the prompts and replies of its model.
            yes: remove all words that may be private. Without it, StudyError names them when there are any.

        >>> study.share()  # doctest: +SKIP
        """
        with in_one_sentence():
            path = None if out is None else Path(out)
            file, made = share_study(self, path, agree=lambda num: prompts, decide=list if yes else refuse)
        print(report(file, made, "share(prompts=True)"))
        return file

    def watch(self) -> Watch:
        """For `research`: the display that `run` has, kept up to date while the loop goes on by itself.

        >>> for experiment in research(study, SearchAgent(), experiments=5, watch=study.watch()):  # doctest: +SKIP
        ...     display(study.view(experiment.number))
        """
        return self._live_display().watch

    def _heading(self, now: Snapshot) -> tuple[str, str]:
        """How the study stands, in a word and in a sentence."""
        if now.phase == "stopped" and now.state.is_between_steps:
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
        lines = [f"{self.name} · {word}", sentence, findings(now.state, now.finished, name=self.name)]
        lines += [f"Next: {self._next(now.state)}"] if now.holder is None else []
        return "\n".join(line for line in lines if line)

    def _state(self) -> StudyState:
        with in_one_sentence():
            return read_state(self.paths.history)

    def _live_display(self) -> LiveDisplay:
        def beside_(progress: Progress) -> tuple[str, Curve | None, str]:
            experiment = self._state().experiments[progress.experiment]
            return title(experiment), *beside(self, experiment, progress.run)

        return LiveDisplay(self.time_budget_seconds, beside_)

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

    def _outcome(self, state: StudyState, experiment: Experiment, is_shown: bool = False) -> Outcome:
        decided = f"{experiment.number:04d} is decided: {experiment.status}; {ASK}"
        words = self._next(state) if experiment.status is None else decided
        return Outcome(self, experiment, words, is_shown)

    def _judgement(self, state: StudyState, experiment: Experiment) -> Judgement:
        """The verdict; of an experiment that is not decided, on what the rule knows now."""
        if experiment.status is not None:
            return Judgement(self, experiment, self._next(state), str(experiment.status))
        verdict, reason = rule_says(experiment, state)
        scores, (incumbent_bpb, incumbent_standard_error) = experiment.scores, state.judged_against(experiment)
        judged = replace(
            experiment,
            reason=reason,
            val_bpb=mean(scores) if scores else None,
            standard_error=standard_error(len(scores), state.sigma),
            incumbent_bpb=incumbent_bpb,
            incumbent_standard_error=incumbent_standard_error,
            sigma=state.sigma,
        )
        return Judgement(self, judged, self._next(state), str(verdict))

    def _recorded(self, state: StudyState, number: int, is_shown: bool = False) -> Recorded:
        return Recorded.of(self, state.experiments[number], self._next(state), is_shown)
