"""The part of the panel in which a person approves, edits or refuses a proposal that waits."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from ...record.study import Study, StudyError
from ...show.snapshot import Snapshot
from . import pages
from .elements import button


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
        self._drawn: Any = None

    def show(self, now: Snapshot) -> None:
        """Show what waits for a person, or hide the form."""
        review, file = now.state.review if now.phase == "reviewing" else None, now.study.paths.review
        written_at = file.stat().st_mtime_ns if review is not None and file.is_file() else 0
        if self._drawn == (now.study.name, review, written_at):
            return
        self._drawn = (now.study.name, review, written_at)
        self.root.layout.display = "none" if review is None else ""
        if review is None:
            return
        source = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        parent = now.study.train_source(now.state.incumbent.number) if now.state.incumbent else ""
        if self._filled != (now.study.name, review):  # what a person has typed since is kept
            self._filled, self.why.value = (now.study.name, review), ""
            self.editor.selected_index = 0 if review.is_draft else None
            self.source.value = self._source = source
        elif self.source.value == self._source:  # edited in its file, and not here
            self.source.value = self._source = source
        self.words.value = pages.review(now.study, review, parent, source)
        self.reject_button.layout.display = "none" if review.is_draft else ""

    def edited_source(self, study: Study) -> str | None:
        """What a person typed into the editor; None when the file is to be taken as it is.

        Raises StudyError when train.py was edited in both places.
        """
        in_file, here = study.paths.review.read_text(encoding="utf-8"), self.source.value
        if here not in (self._source, in_file) and in_file != self._source:
            raise StudyError("train.py was edited both in its file and here. Undo one of the two, then approve.")
        return here if here not in (self._source, in_file) else None
