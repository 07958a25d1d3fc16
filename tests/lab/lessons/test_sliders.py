"""Sliders of the lessons: what they show, and that they need no Output widget."""

from __future__ import annotations

import io
import re
from base64 import b64decode

import nbformat
import pytest
from ipywidgets import HTML, FloatSlider, IntSlider
from PIL import Image

from autoresearch_kernel.lab.lessons.build import sources
from autoresearch_kernel.lab.lessons.noise_figures import winner_figure
from autoresearch_kernel.lab.lessons.sliders import sliders
from tests.conftest import PROJECT


def test_a_picture_follows_its_sliders_and_says_what_it_shows() -> None:
    count, sigma, shown = sliders(winner_figure, count=(1, 200), sigma=(0.0005, 0.04, 0.0005)).children
    assert isinstance(count, IntSlider) and isinstance(sigma, FloatSlider)
    before = shown.value
    assert f"The lowest of {count.value} scores" in before
    count.value = 7
    assert "The lowest of 7 scores" in shown.value != before
    png = re.search(r"base64,([^\"]+)", shown.value)
    assert png is not None and Image.open(io.BytesIO(b64decode(png[1]))).width > 500


@pytest.mark.parametrize(
    ("limits", "value"), [((1, 201), 101), ((0.0, 3.0, 0.25), 1.5), ((0.0, 1.0), 0.5), ((0.0001, 0.0015, 0.0001), 8e-4)]
)
def test_a_slider_begins_in_the_middle_at_a_step(limits: tuple[float, ...], value: float) -> None:
    first, shown = sliders(lambda x: f"{x} < 1", x=limits).children
    assert first.value == pytest.approx(value) and f">{first.value} &lt; 1<" in shown.value


def test_no_lesson_makes_an_output_widget() -> None:
    """nbclient can wait forever at one; see sliders.py."""
    for _, source in sources(PROJECT):
        built = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        assert not [c.source for c in built.cells if re.search(r"\binteract|\bOutput\(", c.source)], source
    slider, shown = sliders(lambda x: "words", x=(1, 2)).children
    assert isinstance(slider, IntSlider) and isinstance(shown, HTML)
