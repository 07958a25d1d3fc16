"""What people look at, rebuilt from the record at any time: results.tsv, progress.png, best/train.py, the notebooks.

Nothing depends on it. The history has the hash of each file as it was drawn last.
"""

from __future__ import annotations

from typing import Any

from ..core.decide import best
from ..core.drift import machine_speeds
from ..core.state import StudyState
from ..core.types import Experiment, Run
from ..record.curves import read_curve
from ..record.results import write_results
from ..record.study import Study
from ..run.notebook import heading_markdown, set_verdict
from ..show import words
from ..system.files import write_atomic


def show_study(study: Study, state: StudyState) -> None:
    """results.tsv, progress.png and best/train.py."""
    from ..show.plot_progress import draw_progress  # matplotlib takes half a second, and only the views need it

    write_results(study.paths.results, state.experiments)
    champion = best(state.experiments)
    if champion is not None:  # before the picture, which may fail
        write_atomic(study.paths.best_train, study.train_source(champion.number))
    speeds = machine_speeds(state.experiments)
    draw_progress(state.decided, study.paths.progress, title=study.name, sigma=state.sigma, speeds=speeds)


def show_notebooks(study: Study, state: StudyState, experiment: Experiment) -> None:
    """The heading, the curve and the verdict in every notebook of an experiment."""
    paths = study.experiment(experiment.number)
    change = paths.diff.read_text(encoding="utf-8")
    for run in experiment.runs:
        notebook = paths.notebook(run.index)
        if not notebook.exists():
            continue
        curve = read_curve(paths.metrics(run.index))
        heading = heading_markdown(
            words.title(experiment),
            status_line=words.status_line(experiment, study.facts),
            hypothesis=words.argument(experiment),
            diff=change,
        )
        picture = _picture(study, experiment, run, curve)
        set_verdict(
            notebook,
            heading=heading,
            curve_png=picture,
            curve_text=words.curve_words(curve),
            verdict=words.verdict(experiment, run, study.facts),
        )


def _picture(study: Study, experiment: Experiment, run: Run, curve: list[dict[str, Any]]) -> bytes:
    """The curve of a run beside the incumbent's first run; in a duel beside the run that it took turns with."""
    from ..show.plot_curve import curve_png

    if run.duel is not None:
        number, index = run.duel
        theirs = read_curve(study.experiment(number).metrics(index))
        return curve_png(curve, theirs, incumbent_label=f"duel, {number:04d}")
    if experiment.parent is None:
        return curve_png(curve, None, incumbent_label="")
    parent = read_curve(study.experiment(experiment.parent).metrics(0))
    return curve_png(curve, parent, incumbent_label=f"incumbent {experiment.parent:04d}" if parent else "")
