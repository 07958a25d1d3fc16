"""Colours, sizes and small helpers that all pictures of matplotlib share. They are imported without matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Okabe-Ito hues, darkened where thin; shapes say it too.
GREEN, GREY, RED, ORANGE, BLUE, INK, PALE = "#008A63", "#8C8C8C", "#C0392B", "#E69F00", "#56A0D3", "#303030", "#E4E4E4"

DPI = 144
FLOOR = 0.045  # height of the floor line, as a share of the axes
THIN_ABOVE = 20_000  # points of one kind; beyond, one per pixel is drawn


def array(values: Sequence[float]) -> np.ndarray:
    import numpy as np

    return np.array(values, dtype=float)


def thinned(axes: Axes, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All points, or one per pixel when there are far more than pixels: the picture is the same."""
    import numpy as np

    if len(x) <= THIN_ABOVE:
        return x, y
    pixels = np.floor(axes.transData.transform(np.column_stack([x, y]))).astype(np.int64)
    _, first = np.unique(pixels[:, 0] * 100_003 + pixels[:, 1], return_index=True)
    return x[np.sort(first)], y[np.sort(first)]


def plain_frame(axes: Axes) -> None:
    """Axes with a grey line at the left and below, and small marks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=8, length=3)


def png(figure: Figure) -> bytes:
    """The picture as bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
