"""What each kept change is worth, as a part of a bundle's page: a table with the interval of each gain. Pure.

Each figure has its mark, whose names are those of `OF_CHANGE` in `figures.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..core.attribution import Attribution, Effect, Part, effects
from ..core.format import bpb, count, plain, signed
from ..core.types import Experiment
from ..show import svg
from ..show.attribution_words import ALONE, VERDICTS, progress_words
from ..show.html import text
from ..show.words import idea
from .layout import anchor, figure, mark_in, paragraph, target, wide
from .material import Material
from .story import marked

WIDTH, HEIGHT, EDGE = 180.0, 18.0, 6.0  # pixels of an interval's picture, and of what is free at its sides
SIGNS = {  # of each part: its mark, and the class that colours it
    Part.CARRIES: ("●", "keep"), Part.LUCK: ("○", "discard"), Part.COSTS: ("×", "failed"),
    Part.UNCLEAR: ("◐", "pending"), Part.TANGLED: ("▲", "rejected"), Part.REPLACED: ("○", "discard"),
    Part.OPEN: ("◐", "pending"),
}  # fmt: skip
HEADS = (
    ("#", "right"), ("what was kept", "idea"), ("gain", "right"), ("95 % interval", ""),
    ("on fresh seeds", "verdict"), ("without it", "right"), ("with it", "right minor"), ("seeds", "right minor"),
)  # fmt: skip
BESIDE = "".join(f'<td class="{style}">–</td>' for style in ("right", "right minor", "right minor"))  # not measured


def attribution_html(material: Material) -> Iterator[str]:
    """Which kept changes carry the gain, as runs without each of them say; nothing where that was not measured."""
    attribution = material.state.attribution
    if attribution is None or not attribution.variants:
        return
    found = effects(attribution, material.state.noise)
    yield paragraph(_words(attribution, found))
    yield wide("What carries the gain", _table(found, {e.number: e for e in material.state.experiments}))


def _words(attribution: Attribution, found: tuple[Effect, ...]) -> Iterator[str]:
    """What was done, as sentences of HTML."""
    seeds = count(attribution.num_seeds, "fresh seed")
    yield mark_in(
        f"Without one kept change at a time, {attribution.champion:04d} trained on up to {seeds}. The gain of a change "
        "is what val_bpb rises by without it.",
        ("champion", "", f"{attribution.champion:04d}"),
        ("attribution-seeds", "up to ", seeds.partition(" ")[0]),
    )
    yield text(ALONE)
    if not attribution.is_ended and any(effect.part is Part.OPEN for effect in found):
        yield text(f"It has not ended: {progress_words(attribution)}.")


def _table(found: tuple[Effect, ...], experiments: dict[int, Experiment]) -> str:
    heads = "".join(f'<th scope="col" class="{style}">{text(words)}</th>' for words, style in HEADS)
    ends = [0.0, *(end for effect in found for end in (effect.low, effect.high) if end is not None)]
    rows = "".join(_row(effect, experiments[effect.change], (min(ends), max(ends))) for effect in found)
    return (
        '<table class="study"><caption>Gains in bits per byte, each ± its standard error. '
        "The upright line in a picture is 0.</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(effect: Effect, experiment: Experiment, ends: tuple[float, float]) -> str:
    number, (sign, kind) = effect.change, SIGNS[effect.part]
    word = figure(f"part-{number}", VERDICTS[effect.part][0])
    start = f'<tr><td class="right">{anchor(target(number), f"{number:04d}")}</td>'
    start += f'<td class="idea">{text(idea(experiment))}</td>'
    verdict = f'<td class="verdict"><span class="mark-{kind}" aria-hidden="true">{sign}</span> {word}</td>'
    if effect.gain is None or effect.low is None or effect.high is None:
        return f'{start}<td colspan="2">{text(plain(effect.why)) or "not measured"}</td>{verdict}{BESIDE}</tr>'
    gain = marked(effect.gain, effect.error, f"gain-{number}", f"gain-error-{number}")
    low, high = figure(f"gain-low-{number}", signed(effect.low)), figure(f"gain-high-{number}", signed(effect.high))
    return (
        f'{start}<td class="right">{gain}</td>'
        f"<td>{_interval(effect.gain, effect.low, effect.high, ends, kind)}{low} to {high}</td>{verdict}"
        f'<td class="right">{figure(f"without-bpb-{number}", bpb(effect.without_bpb))}</td>'
        f'<td class="right minor">{figure(f"with-bpb-{number}", bpb(effect.with_bpb))}</td>'
        f'<td class="right minor">{figure(f"gain-seeds-{number}", str(effect.num_seeds))}</td></tr>'
    )


def _interval(gain: float, low: float, high: float, ends: tuple[float, float], kind: str) -> str:
    """One gain and its interval, on the scale of all of them; the columns beside it have its figures."""
    scale = (WIDTH - 2 * EDGE) / ((ends[1] - ends[0]) or 1.0)
    zero, here, left, right = (EDGE + (value - ends[0]) * scale for value in (0.0, gain, low, high))
    middle = HEIGHT / 2
    zero_line, reach = svg.line((zero, 0), (zero, HEIGHT), "zero"), f"reach mark-{kind}"
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" height="{HEIGHT:g}" aria-hidden="true">{zero_line}'
        f"{svg.line((left, middle), (right, middle), reach)}{svg.circle((here, middle), 3.5, f'at mark-{kind}')}</svg>"
    )
