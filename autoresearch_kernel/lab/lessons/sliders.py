"""Sliders above a picture or a sentence, for the lessons.

`interact` of ipywidgets would show the same in an Output widget. Programs that execute a notebook without a browser, as
nbconvert, nbgrader and `lessons --check` do through nbclient, sometimes wait forever at such a widget: for each output
they send the kernel a message through the socket on which they wait for the end of the cell, and can then miss it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipywidgets import HTML, FloatSlider, IntSlider, VBox

from ...show import html
from ..pictures import Picture

WIDTH = "500px"


def sliders(draw: Callable[..., Picture | str], **ranges: tuple[float, ...]) -> VBox:
    """A slider for each argument of `draw`, and below them what it returns for their values; they begin in the middle.

    >>> "5 runs" in sliders(lambda count: f"{count} runs", count=(1, 9)).children[-1].value
    True

    Args:
        draw: takes the values by name.
        ranges: lowest and highest value of each argument, and the step (1 for whole numbers when it is left out).
    """
    handles = [_slider(name, *limits) for name, limits in ranges.items()]
    shown = HTML()

    def update(_: Any = None) -> None:
        shown.value = _html(draw(**{handle.description: handle.value for handle in handles}))

    for handle in handles:
        handle.observe(update, "value")
    update()
    return VBox([*handles, shown])


def _slider(name: str, lowest: float, highest: float, step: float | None = None) -> IntSlider | FloatSlider:
    kind = IntSlider if all(isinstance(number, int) for number in (lowest, highest, step or 1)) else FloatSlider
    step = step if step is not None else 1 if kind is IntSlider else (highest - lowest) / 20
    middle = lowest + step * round((highest - lowest) / 2 / step)
    form = {} if kind is IntSlider else {"readout_format": ".4f"}
    return kind(
        min=lowest, max=highest, step=step, value=middle, description=name, continuous_update=False,
        layout={"width": WIDTH}, **form,
    )  # fmt: skip


def _html(found: Picture | str) -> str:
    return html.paragraph(found) if isinstance(found, str) else html.picture(found.small(), found.words)
