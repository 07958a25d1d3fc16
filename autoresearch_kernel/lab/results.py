"""What a step of an experiment returns: the training, the verdict, the record, as values that show themselves.

A notebook shows HTML in the colours of its theme, a terminal text. Text of an agent or a training is escaped.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.format import bpb, plain, thousands
from ..core.types import Audit, Evaluation, Experiment, Run, Status, scores_of
from ..record.archive import failure_output
from ..record.study import Study, StudyError
from ..show import html
from ..show.words import argument, audit_words, comparison, grounds, score_and_difference, title
from .pictures import Picture, curve_of

if TYPE_CHECKING:
    import numpy as np

CURVE_WIDTH = "660px"
OUTPUT_LIMIT = 4_000  # characters of what a failed run printed


class Diff(str):
    """A unified diff; coloured in a notebook."""

    def _repr_html_(self) -> str:
        return html.diff_html(self)


@dataclass(frozen=True, repr=False)
class _OfLastRun:
    study: Study
    experiment: Experiment
    next: str  # what a person can do now

    @property
    def run(self) -> Run:
        """The experiment's last run."""
        return self.experiment.runs[-1]

    @property
    def _run_words(self) -> str:
        return f"run {self.run.index + 1}, seed {self.run.seed}"

    def _card(self, *parts: str) -> str:
        return html.card(title(self.experiment), "".join([*parts, next_html(self.next)]), state=self._run_words)

    def _text(self, state: str, rows: Sequence[tuple[str, str]], *lines: str) -> str:
        below = [*(f"  {name:<13} {words}" for name, words in rows if words), *lines]
        return "\n".join([f"{title(self.experiment)} · {self._run_words}{state}", *below, f"Next: {self.next}"])


@dataclass(frozen=True, repr=False)
class Outcome(_OfLastRun):
    """One training: how it ended, what was measured, its curve."""

    is_shown: bool = False  # its curve stands above already, where it was drawn while it trained

    @property
    def status(self) -> Status | None:
        """None when it trained; else crash, timeout, discard (ended early) ..."""
        return self.run.status

    @property
    def reason(self) -> str:
        """Why it ended otherwise; "" when it trained."""
        return self.run.reason

    @property
    def measured(self) -> dict[str, Any]:
        """What the supervisor measured: num_steps, num_params, tokens_per_second, training_seconds ..."""
        return self.run.measured

    @property
    def notebook(self) -> Path:
        """The executed notebook of this run."""
        return self.study.experiment(self.experiment.number).notebook(self.run.index)

    @property
    def curve(self) -> Picture:
        """The training loss, beside the incumbent's."""
        return curve_of(self.study, self.experiment, self.run.index)

    def _rows(self) -> list[tuple[str, str]]:
        rows = dict(grounds(self.experiment, self.run, self.study.facts))
        return [(name, rows[name]) for name in ("training", "machine", "seconds")]

    def _repr_html_(self) -> str:
        parts = [] if self.is_shown or not self.run.measured else [_curve_html(self.curve)]
        parts.append(html.facts(self._rows()))
        if self.run.status is not None:
            parts.append(html.paragraph(f"{self.run.status}: {self.run.reason}"))
            paths = self.study.experiment(self.experiment.number)
            if output := failure_output(paths, self.run.index)[-OUTPUT_LIMIT:]:
                parts.append(html.details("What it printed, and where it failed", html.printed(output)))
        return self._card(*parts, _links([self.notebook]))

    def __repr__(self) -> str:
        ended = [f"  {self.run.status}: {plain(self.run.reason)}"] if self.run.status is not None else []
        return self._text("", self._rows(), *ended)


@dataclass(frozen=True, repr=False)
class Judgement(_OfLastRun):
    """The score of an experiment's last run, and what the rule says of the experiment so far.

    The scores of `experiment`, of its incumbent and their errors are those that the rule compared.
    """

    verdict: str  # "keep", "discard", "confirm" (once more, with a fresh seed), "rejected", "crash", "timeout" ...

    @property
    def reason(self) -> str:
        """The rule's words."""
        return self.experiment.reason

    @property
    def evaluation(self) -> Evaluation | None:
        """The score of this run; None when there is nothing to score."""
        run = self.run
        if run.val_bpb is None or run.standard_error is None:
            return None
        scored, seconds = run.measured["scored"], run.measured.get("scoring_seconds") or 0.0
        return Evaluation(run.val_bpb, run.standard_error, scored["num_tokens"], scored["num_bytes"], seconds)

    @property
    def val_bpb(self) -> float | None:
        """The score of this run; `experiment.val_bpb` is the mean over all runs that are judged."""
        return self.run.val_bpb

    @property
    def standard_error(self) -> float | None:
        """The error of this run's score over the held-out rows; `experiment.sigma` is the error over seeds."""
        return self.run.standard_error

    @property
    def audit(self) -> Audit | None:
        """The audit of this run: accepted or refused, and the correction of the claim; None where none was due."""
        return self.run.audit

    @property
    def delta_bpb(self) -> float | None:
        """The difference to the incumbent, over all runs that are judged; negative is better."""
        return self.experiment.delta_bpb

    def nats(self) -> np.ndarray:
        """The negative log-likelihood of every held-out token, in nats, as the scorer answered: (rows, T).

        Their sum is the score: `verdict.nats().sum(dtype=float) / np.log(2) / verdict.evaluation.num_bytes`.
        """
        return _array_in(self.study.experiment(self.experiment.number).nll(self.run.index), "scored")

    def cuts(self) -> np.ndarray:
        """What the audit compared, a record for each place: row, place, probability, claimed, blind.

        `claimed` and `blind` are nats of the token after the place: the first from a scorer that saw the whole row, the
        second from one that saw its beginning alone. In an honest model they are the same.
        """
        return _array_in(self.study.experiment(self.experiment.number).cuts(self.run.index), "audited")

    def _score_words(self) -> str:
        if self.evaluation is None:
            return "not scored" if self.run.claimed_bpb is None else f"claimed {bpb(self.run.claimed_bpb)}, refused"
        e = self.evaluation
        return (
            f"val_bpb {bpb(e.val_bpb)} ± {e.standard_error:.4f} over {thousands(e.num_tokens)} tokens, "
            f"{thousands(e.num_bytes)} bytes"
        )

    def _rows(self) -> list[tuple[str, str]]:
        e = self.experiment
        scores = e.scores if e.status is None else scores_of(e.judged_runs)
        runs = ", ".join(map(bpb, scores)) + f": mean {bpb(e.val_bpb)}" if len(scores) > 1 else ""
        return [
            ("this run", self._score_words()),
            ("audit", audit_words(self.run)),
            ("each run", runs),
            ("compared", comparison(e) if e.number > 0 else ""),
            ("σ, run to run", f"{e.sigma:.4f}" if e.sigma else ""),
            ("the rule", plain(self.reason)),
        ]

    def _repr_html_(self) -> str:
        sign, colour = ("◐", html.BLUE) if self.verdict == "confirm" else html.MARKS[Status(self.verdict)]
        words = "once more, with a fresh seed" if self.verdict == "confirm" else self.verdict
        mark = f'<span style="color:{colour}" aria-hidden="true">{sign}</span>'
        head = f'<div style="font-size:115%">{mark} <b>{html.text(words)}</b></div>'
        return self._card(head, html.facts(self._rows()))

    def __repr__(self) -> str:
        return self._text(f" · {self.verdict}", self._rows())


@dataclass(frozen=True, repr=False)
class Recorded(Experiment):
    """An experiment that is decided and recorded; it shows the decision with its reasons."""

    study: Study | None = field(default=None, compare=False)
    next: str = field(default="", compare=False)
    is_shown: bool = field(default=False, compare=False)  # its curve stands above already

    @classmethod
    def of(cls, study: Study, experiment: Experiment, next: str, is_shown: bool = False) -> Recorded:
        known = {f.name: getattr(experiment, f.name) for f in fields(Experiment)}
        return cls(**known, study=study, next=next, is_shown=is_shown)

    def _repr_html_(self) -> str:
        study, last = self.study, self.runs[-1]
        assert study is not None
        paths = study.experiment(self.number)
        notebooks = [path for run in self.runs if (path := paths.notebook(run.index)).is_file()]
        said = "" if says_no_more(self.hypothesis, title(self)) else argument(self)
        line = html.text(score_and_difference(self))
        parts = [
            f"<div>{html.status_words(self)}{' · ' if line else ''}{line}</div>",
            html.paragraph(said) if said else "",
            html.paragraph(f"Why: {plain(self.reason)}"),
            "" if self.is_shown else _curve_html(curve_of(study, self, 0)),
            html.details("Figures: score, training, all seconds accounted for", html.facts(self._grounds(last))),
            _links([*notebooks, study.paths.results, study.paths.progress]),
            next_html(self.next),
        ]
        return html.card(title(self), "".join(parts))

    def _grounds(self, last: Run) -> list[tuple[str, str]]:
        assert self.study is not None
        ref = f"refs/autoresearch/{self.study.name}/{self.number:04d}" if self.commit else "no git here"
        return [*grounds(self, last, self.study.facts), ("git", ref)]

    def __repr__(self) -> str:
        lines = [title(self), f"  {self.status} · {score_and_difference(self)}".rstrip(" ·"), f"  {plain(self.reason)}"]
        lines += [f"Next: {self.next}"] if self.next else []
        return "\n".join(lines)


def _array_in(path: Path, what: str) -> np.ndarray:
    import numpy as np

    try:
        return np.asarray(np.load(path))
    except FileNotFoundError as error:
        raise StudyError(
            f"{path} is not there: the run was not {what}, or it made room for others, as the models and scores "
            "of old discarded experiments do."
        ) from error


def says_no_more(hypothesis: str, heading: str) -> bool:
    """Whether a hypothesis is what stands in the heading already."""
    words = plain(hypothesis).removesuffix(", by hand").rstrip(".")
    return words == heading.split(" · ", 1)[-1]


def next_html(words: str) -> str:
    """What a person can do now, with the calls in it as code."""
    if not words:
        return ""
    code = f'<code style="{html.CODE_FONT};font-size:inherit;color:{html.INK};background:{html.SHADE};padding:0 3px">'
    shown = "".join(
        f"{code}{html.text(part)}</code>" if place % 2 else html.text(part)
        for place, part in enumerate(words.split("`"))
    )
    return f'<div style="color:{html.FAINT};margin-top:6px">Next: {shown}</div>'


def _curve_html(picture: Picture) -> str:
    return f"<div>{html.picture(picture.png, picture.words, width=CURVE_WIDTH)}</div>"


def _links(paths: Sequence[Path]) -> str:
    """Files beside the notebook that shows this, as links; Lab opens them in a tab of its own."""
    colour = "color:var(--jp-content-link-color, #1976d2)"
    links = [
        f'<a href="{html.text(os.path.relpath(path))}" style="{colour}">{html.text(path.name)}</a>'
        for path in paths
        if path.is_file()
    ]
    return html.links(links)
