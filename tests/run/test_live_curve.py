"""The curve that is drawn under a cell in a user's notebook."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from autoresearch_kernel.run.live_curve import curve_svg


def test_the_picture_of_a_curve_shows_its_end_and_round_numbers() -> None:
    points = [(0.3 * i, 3 + 4 / (1 + i)) for i in range(1, 201)]
    drawn = ET.fromstring(curve_svg(points, 60.0, "step 7"))
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert {"step 7", "0", "30", "60"} <= set(texts)
    lines = [element.get("points", "") for element in drawn.iter() if element.tag.endswith("polyline")]
    assert len(lines) == 2 and all(line.split()[-1].startswith("622.0,") and "nan" not in line for line in lines)
    heights = [float(corner.partition(",")[2]) for corner in lines[1].split()]
    assert min(heights[20:]) >= 30 and max(heights) <= 190  # what comes after a tenth of the time is all in view


@pytest.mark.parametrize("points", [[], [(0.0, 7.6)], [(0.1, 7.6), (0.2, 7.6)]])
def test_a_curve_that_has_hardly_begun_is_drawn_too(points: list[tuple[float, float]]) -> None:
    assert "nan" not in curve_svg(points, points[-1][0] if points else 0.0, "step 0")
