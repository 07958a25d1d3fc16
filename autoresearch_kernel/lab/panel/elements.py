"""The parts that the panel is built of: drawings (`panel.js`), buttons, the card of an experiment, the review."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
from traitlets import Int, Unicode

from ...core.types import Experiment
from ...record.archive import StudyArchive
from ...record.study import Study, StudyError, sha256
from ...show import html
from ...show.snapshot import Snapshot
from ...study.proposals import NOT_TAKEN
from . import pages
from .chart import curve_data

HERE = Path(__file__).parent
FOLLOW = -1  # nothing is selected: the card shows what runs


class Drawing(anywidget.AnyWidget):
    """One of the drawings of `panel.js`."""

    _esm = HERE / "panel.js"
    _css = HERE / "panel.css"
    kind = Unicode("history").tag(sync=True)  # "history", "curve", "table", or "spoken": a line of HTML
    data = Unicode("null").tag(sync=True)  # JSON: as a string it goes through a widget untouched, ten times as fast
    selected = Int(FOLLOW).tag(sync=True)  # number of an experiment
    beat = Int(0).tag(sync=True)  # counts up while the kernel lives: without it the browser says that it does not

    def draw(self, numbers: dict[str, Any]) -> None:
        self.numbers = numbers
        self.data = json.dumps(numbers, allow_nan=False)


def button(words: str, does: str, style: str = "") -> widgets.Button:
    return widgets.Button(
        description=words, tooltip=does, button_style=style, layout=widgets.Layout(width="auto", height="28px")
    )


def fold(words: str) -> widgets.ToggleButton:
    return widgets.ToggleButton(description=f"▸ {words}", layout=widgets.Layout(width="auto", height="28px"))


class Drawn(dict[str, Any]):
    """What each part of the panel was last made of."""

    def is_new(self, part: str, made_of: Any) -> bool:
        """Whether a part must be made again, because what it is made of has changed."""
        if part in self and self[part] == made_of:
            return False
        self[part] = made_of
        return True


class ExperimentCard:
    """Shows the experiment that was selected, else the one in work, else the incumbent."""

    def __init__(self) -> None:
        self.follow_button = button("Show what runs", "Close this experiment and follow the running one")
        self.head, self.body = widgets.HTML(), widgets.HTML()
        self.curve = Drawing(kind="curve")
        self.root = widgets.VBox([self.follow_button, self.head, self.curve, self.body])
        self.root.add_class("ar-side")
        self.drawn = Drawn()

    def show(self, now: Snapshot, selected: int) -> None:
        """Draw what is new; `selected` is the number of an experiment, or FOLLOW."""
        experiments = now.state.experiments
        is_selected = 0 <= selected < len(experiments)
        shown = experiments[selected] if is_selected else (now.experiment or now.state.incumbent)
        self.follow_button.layout.display = "" if is_selected and now.is_running else "none"
        in_work = shown is not None and now.experiment is not None and shown.number == now.experiment.number
        self._show_curve(now, shown, is_live=in_work and now.is_running)
        made_of = None if shown is None else (shown.number, shown.status, shown.scores, len(shown.runs), is_selected)
        if not self.drawn.is_new("experiment", made_of):
            return
        if shown is None:
            self.head.value, self.body.value = html.paragraph("Nothing has been tried yet.", is_faint=True), ""
            return
        self.head.value = pages.experiment_head(shown)
        self.body.value = pages.experiment_body(now.study, shown, StudyArchive(now.study.paths))

    def _show_curve(self, now: Snapshot, shown: Experiment | None, is_live: bool) -> None:
        """Draw the curve of the running training as far as it is, or the whole curve of another experiment."""
        if shown is not None and is_live:
            compared = now.incumbent
            label = (
                "" if compared is None else "first run" if compared.number == shown.number else f"{compared.number:04d}"
            )
            if self.drawn.is_new("curve", (shown.number, now.run and now.run.index, len(now.curve), label)):
                self._set_curve(now, now.curve, now.incumbent_curve, label)
        elif self.drawn.is_new("curve", shown and (shown.number, len(shown.runs), shown.status)):
            archive = StudyArchive(now.study.paths)
            parent = None if shown is None or shown.parent is None else now.state.experiments[shown.parent]
            mine = archive.curve(shown.number) if shown else []
            theirs = archive.curve(parent.number) if parent else []
            self._set_curve(now, mine, theirs, f"{parent.number:04d}" if parent else "")

    def _set_curve(self, now: Snapshot, mine: Sequence[Any], theirs: Sequence[Any], label: str) -> None:
        budget = now.study.time_budget_seconds
        self.curve.draw(curve_data(mine, theirs, theirs_label=label, budget_seconds=budget))


class ReviewForm:
    """The proposal in words, an editor with its train.py, and two buttons, which the panel connects."""

    def __init__(self) -> None:
        self.words = widgets.HTML()
        self.source = widgets.Textarea(description="train.py", layout=widgets.Layout(width="auto", height="320px"))
        self.source.add_class("ar-source")
        self.editor = widgets.Accordion([self.source], titles=("Edit train.py before it trains",))
        self.why = widgets.Text(
            description="Why",
            placeholder="why not (the agent reads it), or the idea of your edit",
            layout=widgets.Layout(flex="1 1 auto"),
        )
        self.why.style.description_width = "34px"
        self.approve_button = button("Approve", "Let it train as it stands below", "primary")
        self.reject_button = button("Refuse, because ...", "Give it back to the agent with your reason")
        row = widgets.HBox([self.approve_button, self.reject_button, self.why])
        self.root = widgets.VBox([self.words, row, self.editor], layout=widgets.Layout(display="none"))
        self.root.add_class("ar-review")
        self._filled: Any = None  # the proposal that the editor was filled with
        self._source = ""  # the text that the editor was filled with
        self.seen_sha256 = ""  # of the file under review as it is shown; "" while nothing waits
        self._told: tuple[str, int] | None = None  # the last note that was seen
        self.refused = ""  # why what was handed in does not train, once
        self.drawn = Drawn()

    def show(self, now: Snapshot, is_live: bool = True) -> None:
        """Show what waits for a person, or hide the form; in a replay nothing waits."""
        self.refused = self._why_not_taken(now) if is_live else ""
        review, file = now.state.review if now.phase == "reviewing" and is_live else None, now.study.paths.review
        written_at = file.stat().st_mtime_ns if review is not None and file.is_file() else 0
        if not self.drawn.is_new("review", (now.study.name, review, written_at)):
            return
        self.root.layout.display = "none" if review is None else ""
        if review is None:
            self.seen_sha256 = ""
            return
        self.seen_sha256 = sha256(file.read_bytes()) if file.is_file() else ""
        source = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        parent = now.study.train_source(now.state.incumbent.number) if now.state.incumbent else ""
        if self._filled != (now.study.name, review):  # what a person has typed since is kept
            self._filled, self.why.value = (now.study.name, review), ""
            self.editor.selected_index = 0 if review.is_draft else None
            self.source.value = self._source = source
        elif self.source.value in (self._source, source):  # edited in its file alone, or here and handed in
            self.source.value = self._source = source
        self.words.value = pages.review(now.study, review, parent, source)
        self.reject_button.layout.display = "none" if review.is_draft else ""

    def _why_not_taken(self, now: Snapshot) -> str:
        """Why what a person handed in just now does not train; "" where nothing new is known."""
        if now.phase != "reviewing" or not now.notes:
            return ""
        last = now.study.name, now.notes[-1]["seq"]
        is_new, self._told = last != self._told, last
        words = str(now.notes[-1]["text"])
        return words if is_new and words.startswith(NOT_TAKEN) else ""

    def edited_source(self, study: Study) -> str | None:
        """What a person typed into the editor, or None; raises StudyError when the file was edited as well."""
        in_file, here = study.paths.review.read_text(encoding="utf-8"), self.source.value
        if here not in (self._source, in_file) and in_file != self._source:
            raise StudyError("train.py was edited both in its file and here. Undo one of the two, then approve.")
        return here if here not in (self._source, in_file) else None
