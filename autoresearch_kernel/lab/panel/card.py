"""The card beside the history: one experiment in full, with the curve of its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from ...core.types import Experiment
from ...record.archive import StudyArchive
from ...show import html
from ...show.snapshot import Snapshot
from . import pages
from .chart import curve_data
from .elements import Drawing, button


class ExperimentCard:
    """Shows the experiment that was selected, else the one in work, else the incumbent."""

    def __init__(self) -> None:
        self.follow_button = button("Show what runs", "Close this experiment and follow the running one")
        self.head, self.body = widgets.HTML(), widgets.HTML()
        self.curve = Drawing(kind="curve")
        self.root = widgets.VBox([self.follow_button, self.head, self.curve, self.body])
        self.root.add_class("ar-side")
        self._drawn: dict[str, Any] = {}  # what each part was last made of

    def forget(self) -> None:
        """Draw everything anew at the next `show`: the study is another one."""
        self._drawn.clear()

    def show(self, now: Snapshot, selected: int) -> None:
        """Draw what is new; `selected` is the number of an experiment, or FOLLOW."""
        experiments = now.state.experiments
        is_selected = 0 <= selected < len(experiments)
        shown = experiments[selected] if is_selected else (now.experiment or now.state.incumbent)
        self.follow_button.layout.display = "" if is_selected and now.is_running else "none"
        in_work = shown is not None and now.experiment is not None and shown.number == now.experiment.number
        self._show_curve(now, shown, is_live=in_work and now.is_running)
        made_of = None if shown is None else (shown.number, shown.status, shown.scores, len(shown.runs), is_selected)
        if not self._is_new("experiment", made_of):
            return
        if shown is None:
            self.head.value, self.body.value = html.paragraph("Nothing has been tried yet.", is_faint=True), ""
            return
        self.head.value = pages.experiment_head(shown)
        self.body.value = pages.experiment_body(now.study, shown, StudyArchive(now.study.paths))

    def _is_new(self, part: str, made_of: Any) -> bool:
        if part in self._drawn and self._drawn[part] == made_of:
            return False
        self._drawn[part] = made_of
        return True

    def _show_curve(self, now: Snapshot, shown: Experiment | None, is_live: bool) -> None:
        """Of the run in work, growing; of any other experiment as it was."""
        if shown is not None and is_live:
            compared = now.incumbent
            label = "" if compared is None else "first run" if compared.number == shown.number else name_of(compared)
            if self._is_new("curve", (shown.number, now.run and now.run.index, len(now.curve), label)):
                self._set_curve(now, now.curve, now.incumbent_curve, label)
        elif self._is_new("curve", shown and (shown.number, len(shown.runs), shown.status)):
            archive = StudyArchive(now.study.paths)
            parent = None if shown is None or shown.parent is None else now.state.experiments[shown.parent]
            mine = archive.curve(shown.number) if shown else []
            theirs = archive.curve(parent.number) if parent else []
            self._set_curve(now, mine, theirs, name_of(parent) if parent else "")

    def _set_curve(self, now: Snapshot, mine: Sequence[Any], theirs: Sequence[Any], label: str) -> None:
        budget = now.study.time_budget_seconds
        self.curve.draw(curve_data(mine, theirs, theirs_label=label, budget_seconds=budget))


def name_of(experiment: Experiment) -> str:
    return f"{experiment.number:04d}"
