"""The form that starts a study: a field for each option that has a label, and beside it what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

from ...show import html
from ...study.options import OPTIONS, Option

SHOWN = {name: option for name, option in OPTIONS.items() if option.label}


class StudyForm:
    """Fields and their messages.

    Args:
        check: what is wrong with a name and fields, by field; called at every change.
        start: called when the user presses Start.
    """

    def __init__(self, check: Callable[[str, Mapping[str, Any]], Mapping[str, str]], start: Callable[[], None]) -> None:
        self._check = check
        self.fields: dict[str, Any] = {"name": widgets.Text(description="Name")}
        self.fields |= {name: _field(option) for name, option in SHOWN.items()}
        self.messages = {name: widgets.HTML() for name in self.fields}
        self.rows = {name: self._row(name) for name in self.fields}
        self.start_button = widgets.Button(
            description="Start", tooltip="Create the study and let it run in the background", button_style="primary"
        )
        self.cancel_button = widgets.Button(description="Cancel", tooltip="Close this form")
        self.start_button.on_click(lambda _: start())
        self.cancel_button.on_click(lambda _: self.close())
        columns = [
            ["name", *(name for name, option in SHOWN.items() if option.group == "who")],
            [name for name, option in SHOWN.items() if option.group == "how"],
        ]
        halves = [widgets.VBox([self.rows[name] for name in column]) for column in columns]
        title = widgets.HTML(f'<b style="{html.UI_FONT};color:{html.INK}">A new study</b>')
        buttons = widgets.HBox([self.start_button, self.cancel_button])
        body = widgets.Box(halves)  # one column or two, by its width: panel.css
        body.add_class("ar-fields")
        self.root = widgets.VBox([title, body, buttons], layout=widgets.Layout(display="none"))
        self.root.add_class("ar-form")
        self._refused: dict[str, tuple[Any, str]] = {}  # by field: the value that was refused, and why
        self.is_starting = False  # Start was pressed, and its answer is not there yet
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
        is_right = not any(message.value for message in self.messages.values())
        self.start_button.disabled = self.is_starting or not is_right
        return is_right

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
        for name, option in SHOWN.items():
            if option.goes_with:
                other, values = option.goes_with
                self.rows[name].layout.display = "" if self.fields[other].value in values else "none"

    def _values(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The values of the fields that are shown and filled in, and what is wrong with the others."""
        values, wrong = {}, {}
        for name, option in SHOWN.items():
            value = self.fields[name].value
            if self.rows[name].layout.display == "none" or value is False or not str(value).strip():
                continue
            try:
                values[name] = option.parse(value) if isinstance(value, str) else value
            except ValueError as error:
                wrong[name] = str(error)
        return values, wrong


def _field(option: Option) -> Any:
    if option.kind is bool:
        return widgets.Checkbox(description=option.label, indent=False)
    if not option.choices:
        return widgets.Text(option.in_form, description=option.label, placeholder=option.placeholder)
    choices = [(f"{c}: {words}" if words else c, c) for c, words in option.choices.items() if c != option.placeholder]
    empty = [(option.placeholder, "")] if option.placeholder else []
    return widgets.Dropdown(options=[*empty, *choices], description=option.label)
