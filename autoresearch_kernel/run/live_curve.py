"""The curve under the cell that trains, in a notebook that a user runs: one SVG that is replaced during the training.

prepare.TrainingClock loads this module when it runs in a Jupyter kernel without a hand-over folder. In an experiment,
the room `show/` draws the curve from metrics.jsonl instead.
"""

from __future__ import annotations

import math
import time
from typing import Any, Protocol


class Curve(Protocol):
    """The training clock of prepare.py, as far as it is drawn."""

    seen: list[tuple[float, float]]  # seconds and train_loss of each point so far

    @property
    def seconds(self) -> float: ...  # of training so far


class LiveCurve:
    """Draws the curve at most once in `every_seconds`.

    The SVG is text, and writing it takes about 3 ms; matplotlib would take 70 ms of every second from the training.
    """

    def __init__(self, curve: Curve, every_seconds: float) -> None:
        self.curve, self.every_seconds = curve, every_seconds
        self.shown_at = -math.inf
        self.line = ""
        self.handle: Any = None  # of the output that is updated in place

    def show(self, line: str, progress: float) -> None:
        """Draw the curve below the line of progress when it is time; `progress` is the share of the budget."""
        self.line = line
        if time.monotonic() - self.shown_at >= self.every_seconds:
            self.shown_at = time.monotonic()
            self._display(self.curve.seconds / progress if progress else self.curve.seconds)

    def flush(self) -> None:
        """Draw the whole curve at the end of the training."""
        if self.line:
            self._display(self.curve.seconds)

    def _display(self, seconds: float) -> None:
        from IPython.display import display

        line = " ".join(self.line.split())
        bundle = {"image/svg+xml": curve_svg(self.curve.seen, seconds, line), "text/plain": line}
        if self.handle is None:
            self.handle = display(bundle, raw=True, display_id=True)
        else:
            self.handle.update(bundle, raw=True)


def curve_svg(points: list[tuple[float, float]], seconds: float, title: str) -> str:
    """train_loss over `seconds` of training, below `title`. Grey and green are legible on light and dark backgrounds.

    The axis fits the loss after a tenth of the time, so the steep descent before it is cut off at the top.
    """
    left, right, top, bottom = 48.0, 622.0, 30.0, 190.0
    losses, seconds = [loss for _, loss in points], max(seconds, 1e-3)
    settled = [loss for at, loss in points if at >= points[-1][0] / 10] or [0.0]
    pad = 0.06 * (max(settled) - min(settled)) or 0.5
    low, high = min(settled) - pad, max(settled) + pad
    xs = [left + (right - left) * at / seconds for at, _ in points]

    def y(loss: float) -> float:
        return bottom - (bottom - top) * (loss - low) / (high - low)

    def line(values: list[float], style: str) -> str:
        corners = " ".join(f"{x:.1f},{y(loss):.1f}" for x, loss in zip(xs, values, strict=True))
        return f'<polyline clip-path="url(#plot)" points="{corners}" fill="none" stroke="#0a9a70" {style}/>'

    def tick(x: float, y: float, side: str, anchor: str, dx: float, dy: float, value: float) -> str:
        label = f'<text x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}">{value:g}</text>'
        return f'<path d="M{x:.1f} {y:.1f}{side}" stroke="#808080" stroke-width="0.8"/>{label}'

    across = [left + (right - left) * at / seconds for at in _ticks(0.0, seconds)]
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="226" viewBox="0 0 640 226" role="img" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="#808080"><title>{title}</title>',
        f'<clipPath id="plot"><path d="M{left} {top}H{right}V{bottom}H{left}z"/></clipPath>',
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#808080" stroke-width="0.8"/>',
        *(tick(x, bottom, "v4", "middle", 0, 16, at) for x, at in zip(across, _ticks(0.0, seconds), strict=True)),
        *(tick(left, y(loss), "h-4", "end", -7, 4, loss) for loss in _ticks(low, high)),
        f'<text x="{left}" y="16" font-size="12">{title}</text>',
        f'<text x="{right}" y="{bottom + 31}" text-anchor="end">train_loss (nats a token) over seconds</text>',
        line(losses, 'stroke-width="0.7" stroke-opacity="0.45"'),
        line(_smoothed(losses), 'stroke-width="1.8"'),
        "</svg>",
    ]
    return "".join(parts)


def _smoothed(losses: list[float]) -> list[float]:
    """Mean over a twentieth of the curve around each point; over fewer points near its ends."""
    half = len(losses) // 40
    parts = [losses[max(0, i - half) : i + min(half, i) + 1] for i in range(len(losses))]
    return [sum(part) / len(part) for part in parts]


def _ticks(low: float, high: float) -> list[float]:
    """At most nine round numbers between `low` and `high`."""
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step + 0.01) + 1)]
