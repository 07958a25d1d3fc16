"""The form that starts a study: its fields, with defaults that do for a laptop, and what is wrong said at the field.

It reads what a person filled in and starts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets

from ...show import html

AGENT_WORDS = {
    "search": "search: built in, no key needed",
    "llm": "llm: a language model",
    "hybrid": "hybrid: both, in turns",
    "replay": "replay: another study once more",
    "human": "human: you",
}
CORPUS_WORDS = {
    "stdlib": "stdlib: built in, no download",
    "tinystories": "tinystories: a download",
    "climbmix": "climbmix: for a GPU, a download",
    "files": "files: a folder of yours",
}
AS_PRESET = "as the preset says"
DEFAULT_BUDGET, DEFAULT_HOURS = "60", "8"  # seconds a run, hours of a night
OF_AGENT = {"model": ("llm", "hybrid"), "max_cost": ("llm", "hybrid"), "recording": ("replay",)}  # shown with these


class StudyForm:
    """Fields and their messages.

    Args:
        agents, corpora, presets: what may be chosen.
        check: what is wrong with a name and fields, by field; it is asked at every change.
        start: called when Start is pressed.
    """

    def __init__(
        self,
        agents: Sequence[str],
        corpora: Sequence[str],
        presets: Sequence[str],
        check: Callable[[str, Mapping[str, Any]], Mapping[str, str]],
        start: Callable[[], None],
    ) -> None:
        self._check = check
        preset_choices = [(p, "" if p == "auto" else p) for p in presets]
        corpus_choices = [(AS_PRESET, ""), *((CORPUS_WORDS.get(c, c), c) for c in corpora)]
        self.fields: dict[str, Any] = {
            "name": widgets.Text(description="Name"),
            "agent": widgets.Dropdown(options=[(AGENT_WORDS.get(a, a), a) for a in agents], description="Agent"),
            "model": widgets.Text(description="Model", placeholder="its server's name for it"),
            "max_cost": widgets.Text(description="At most, $", placeholder="no limit"),
            "recording": widgets.Text(description="From study", placeholder="name of the study to repeat"),
            "budget": widgets.Text(DEFAULT_BUDGET, description="Seconds a run"),
            "hours": widgets.Text(DEFAULT_HOURS, description="Hours", placeholder="no end"),
            "experiments": widgets.Text(description="Experiments", placeholder="no limit"),
            "corpus": widgets.Dropdown(options=corpus_choices, description="Corpus"),
            "files_folder": widgets.Text(description="Folder", placeholder="with your texts"),
            "preset": widgets.Dropdown(options=preset_choices, description="Preset"),
            "approve": widgets.Checkbox(description="I approve each change before it trains", indent=False),
        }
        self.messages = {name: widgets.HTML() for name in self.fields}
        self.rows = {name: self._row(name) for name in self.fields}
        self.start_button = widgets.Button(
            description="Start", tooltip="Create the study and let it run in the background", button_style="primary"
        )
        self.cancel_button = widgets.Button(description="Cancel", tooltip="Close this form")
        self.start_button.on_click(lambda _: start())
        self.cancel_button.on_click(lambda _: self.close())
        columns = [
            ["name", "agent", "model", "max_cost", "recording", "approve"],
            ["budget", "hours", "experiments", "corpus", "files_folder", "preset"],
        ]
        halves = [widgets.VBox([self.rows[name] for name in column]) for column in columns]
        title = widgets.HTML(f'<b style="{html.UI_FONT};color:{html.INK}">A new study</b>')
        buttons = widgets.HBox([self.start_button, self.cancel_button])
        body = widgets.Box(halves)  # one column or two, by its width: panel.css
        body.add_class("ar-fields")
        self.root = widgets.VBox([title, body, buttons], layout=widgets.Layout(display="none"))
        self.root.add_class("ar-form")
        self._refused: dict[str, tuple[Any, str]] = {}  # by field: the value that was refused, and why
        for field in self.fields.values():
            field.observe(lambda _: self.check(), "value")
        self._show_fields()

    def _row(self, name: str) -> widgets.VBox:
        field = self.fields[name]
        if not isinstance(field, widgets.Checkbox):
            field.style.description_width = "96px"
        return widgets.VBox([field, self.messages[name]])

    @property
    def is_open(self) -> bool:
        return self.root.layout.display != "none"

    def open(self, name: str, can_cancel: bool) -> None:
        self.fields["name"].value = name
        self.cancel_button.layout.display = "" if can_cancel else "none"
        self.root.layout.display = ""
        self.check()

    def close(self) -> None:
        self.root.layout.display = "none"

    def check(self) -> bool:
        """Say at each field what is wrong with it; whether nothing is."""
        self._show_fields()
        values, wrong = self._values()
        refused = {name: why for name, (value, why) in self._refused.items() if self.fields[name].value == value}
        wrong = dict(self._check(self.fields["name"].value, values)) | refused | wrong
        for name, message in self.messages.items():
            words = wrong.pop(name, "")
            style = f"{html.UI_FONT};color:{html.RED};line-height:1.3;margin-left:100px;display:block"
            message.value = f'<span role="alert" style="{style}">{html.text(words)}</span>' if words else ""
        self.start_button.disabled = any(message.value for message in self.messages.values())
        return not self.start_button.disabled

    def refuse(self, problems: Mapping[str, str]) -> None:
        """Say at each field why its present value was refused, until it is changed; what was typed stays."""
        self._refused = {name: (self.fields[name].value, why) for name, why in problems.items() if name in self.fields}
        self.check()

    def read(self) -> tuple[str, dict[str, Any]] | None:
        """Name and fields as they are filled in, what is left empty left out; None while something is wrong."""
        if not self.check():
            return None
        values, _ = self._values()
        return self.fields["name"].value.strip(), values

    def _show_fields(self) -> None:
        agent = self.fields["agent"].value
        for name, agents in OF_AGENT.items():
            self.rows[name].layout.display = "" if agent in agents else "none"
        self.rows["files_folder"].layout.display = "" if self.fields["corpus"].value == "files" else "none"

    def _values(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Of the fields that are shown, and what is wrong with the numbers among them."""
        values: dict[str, Any] = {}
        wrong = {}
        for name, field in self.fields.items():
            if name == "name" or self.rows[name].layout.display == "none":
                continue
            value = field.value
            if name in ("budget", "hours", "experiments", "max_cost") and value.strip():
                try:
                    value = _positive(value, is_whole=name == "experiments")
                except ValueError as error:
                    wrong[name] = str(error)
                    continue
            if value is not None and value != "" and value is not False:
                values[name] = value.strip() if isinstance(value, str) else value
        return values, wrong


def _positive(words: str, is_whole: bool) -> float | int:
    try:
        number = int(words) if is_whole else float(words.replace(",", "."))
    except ValueError:
        raise ValueError(f"{words!r} is not a {'whole ' if is_whole else ''}number.") from None
    if not 0 < number < math.inf:
        raise ValueError("More than 0, or nothing.")
    return number
