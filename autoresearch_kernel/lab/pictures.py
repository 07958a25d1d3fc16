"""A study and a training as pictures and as a table: values that show themselves in a notebook and stay in it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.drift import machine_speeds
from ..core.format import bpb, signed
from ..core.state import StudyState
from ..core.types import Experiment
from ..record.curves import read_curve
from ..record.study import Study
from ..show import html
from ..show.study_words import findings
from ..show.words import curve_words, outcome_line
from ..system.files import write_atomic

NUM_COLOURS = 64  # of a small picture: six marks, and their edges against white


@dataclass(frozen=True, repr=False)
class Picture:
    """A PNG: a notebook shows it, `save` writes it."""

    png: bytes
    words: str  # what it shows, for readers without pictures

    def save(self, path: str | Path) -> Path:
        """Write the picture as PNG, whole or not at all."""
        write_atomic(path, self.png)
        return Path(path)

    def small(self) -> bytes:
        """The picture in few colours, a third of the size: for a notebook that is to stay small."""
        from PIL import Image

        buffer = io.BytesIO()
        Image.open(io.BytesIO(self.png)).convert("RGB").quantize(NUM_COLOURS).save(buffer, "PNG")
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png

    def __repr__(self) -> str:
        return self.words


@dataclass(frozen=True, repr=False)
class Table:
    """Experiments, the latest first."""

    experiments: tuple[Experiment, ...]
    last: int | None = None  # so many of them; None for all
    above: str = ""  # the study's result, which comes first

    def _repr_html_(self) -> str:
        if not self.experiments:
            return html.paragraph(repr(self), is_faint=True)
        above = html.paragraph(self.above) if self.above else ""
        return above + html.experiments_table(self.experiments, self.last)

    def __repr__(self) -> str:
        shown = self.experiments if self.last is None else self.experiments[-self.last :]
        lines = [*self.above.splitlines(), *map(outcome_line, reversed(shown))]
        return "\n".join(lines) or "No experiment yet."


def curve_of(study: Study, experiment: Experiment, run: int) -> Picture:
    """A run's training loss, beside the first run of what it is compared with."""
    from ..show.plot_curve import curve_png

    curve = read_curve(study.experiment(experiment.number).metrics(run))
    other, label = beside(study, experiment, run)
    return Picture(curve_png(curve, other, label=f"{experiment.number:04d}", incumbent_label=label), curve_words(curve))


def beside(study: Study, experiment: Experiment, run: int) -> tuple[list[dict[str, Any]] | None, str]:
    """The curve to compare a run with, and its name: the parent's; of a baseline and a re-run, its own first."""
    if experiment.parent is not None:
        return read_curve(study.experiment(experiment.parent).metrics(0)) or None, f"incumbent {experiment.parent:04d}"
    return (read_curve(study.experiment(experiment.number).metrics(0)) or None, "its first run") if run else (None, "")


def figure_of(name: str, state: StudyState) -> Picture:
    """All experiments of the study of that name and the line of the incumbent."""
    from ..show.plot_progress import progress_figure
    from ..show.plot_style import png

    speeds = machine_speeds(state.experiments)
    figure = progress_figure(state.decided, title=with_result(name, state), sigma=state.sigma, speeds=speeds)
    return Picture(png(figure), f"{name}: {findings(state, None)}")


def with_result(name: str, state: StudyState) -> str:
    """`nov23 · result: test bpb 1.5021 → 1.4830, −0.0191 ± 0.0021`; the name alone before there is one."""
    result = state.result
    if result is None:
        return name
    scores = f"{bpb(result.baseline_test_bpb)} → {bpb(result.champion_test_bpb)}"
    return f"{name} · result: test bpb {scores}, {signed(result.test_difference)} ± {result.test_standard_error:.4f}"
