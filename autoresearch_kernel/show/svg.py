"""Pieces of a picture in SVG, which needs no library and takes its colours from the page's style sheet. Pure.

A picture is drawn in pixels of its own width. The classes of its marks are `keep`, `discard`, `rejected`, `failed`,
`pending`, `line`, `band`, `axis` and `faint`; a page gives them colours for a light and a dark screen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .html import text

Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """The inner part of a picture, in pixels from its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


def picture(width: float, height: float, words: str, parts: Iterable[str], name: str = "") -> str:
    """The whole picture; `words` say what it shows, for readers without pictures."""
    style = f' class="{name}"' if name else ""
    return (
        f'<svg{style} viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{text(words)}">{"".join(parts)}</svg>'
    )


def circle(at: Point, radius: float, kind: str, words: str = "") -> str:
    return _mark(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:g}" class="{kind}"', "circle", words)


def path(points: str, kind: str, words: str = "") -> str:
    """A path of SVG's own language."""
    return _mark(f'<path d="{points}" class="{kind}"', "path", words)


def polyline(points: Sequence[Point], kind: str) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{kind}"/>'


def line(start: Point, end: Point, kind: str) -> str:
    return f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" class="{kind}"/>'


def rectangle(frame: Frame, kind: str) -> str:
    size = f'width="{frame.right - frame.left:.1f}" height="{frame.bottom - frame.top:.1f}"'
    return f'<rect x="{frame.left:.1f}" y="{frame.top:.1f}" {size} class="{kind}"/>'


def label(at: Point, words: str, kind: str = "axis", anchor: str = "start") -> str:
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" class="{kind}" text-anchor="{anchor}">{text(words)}</text>'


def link(target: str, inner: str) -> str:
    """A mark that leads to a page; the page's table has the same links for the keyboard."""
    return f'<a href="{text(target)}" tabindex="-1">{inner}</a>' if target else inner


def diamond(at: Point, size: float) -> str:
    return _closed([(at[0], at[1] - size), (at[0] + size, at[1]), (at[0], at[1] + size), (at[0] - size, at[1])])


def triangle(at: Point, size: float) -> str:
    """It points up for a positive size, and down for a negative one."""
    x, y = at
    wide = abs(size)
    return _closed([(x - wide, y + 0.8 * size), (x + wide, y + 0.8 * size), (x, y - size)])


def cross(at: Point, size: float) -> str:
    x, y = at
    return f"M{x - size:.1f} {y - size:.1f}l{2 * size:g} {2 * size:g}m0 {-2 * size:g}l{-2 * size:g} {2 * size:g}"


def ticks(low: float, high: float, most: int = 6) -> Iterator[float]:
    """At most so many round numbers between two numbers."""
    if not high > low:
        return
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    for number in range(first, math.floor(high / step + 1e-9) + 1):
        yield number * step


def _closed(corners: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z"


def _mark(start: str, tag: str, words: str) -> str:
    return f"{start}><title>{text(words)}</title></{tag}>" if words else f"{start}/>"
