"""An attribution in words: which kept changes carry the gain, which were luck, which cannot be taken out. Pure text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.attribution import Attribution, Effect, Part, effects
from ..core.format import bpb, count, plain, signed
from ..core.state import StudyState
from ..core.types import Experiment
from .words import idea

VERDICTS = {  # for one change and for several
    Part.CARRIES: ("carries gain", "carry gain"),
    Part.LUCK: ("was luck", "were luck"),
    Part.COSTS: ("costs more than it brings", "cost more than they bring"),
    Part.UNCLEAR: ("is unclear after all seeds", "are unclear after all seeds"),
    Part.TANGLED: ("cannot be taken out alone", "cannot be taken out alone"),
    Part.REPLACED: ("was replaced by a later change", "were replaced by later changes"),
    Part.OPEN: ("is not settled yet", "are not settled yet"),
}
ALONE = "Each change was taken out alone, so what two changes bring together only is counted for both."


def attribution_words(attribution: Attribution, found: Sequence[Effect]) -> str:
    """`Without one change at a time, 0012 trained on up to 8 fresh seeds: 0003 and 0007 carry gain; 0005 was luck.`"""
    groups = {part: [effect.change for effect in found if effect.part is part] for part in VERDICTS}
    verdicts = [f"{_numbers(group)} {VERDICTS[part][len(group) > 1]}" for part, group in groups.items() if group]
    seeds = count(attribution.num_seeds, "fresh seed")
    going_on = "" if attribution.is_ended or not groups[Part.OPEN] else f" so far ({progress_words(attribution)})"
    start = f"Without one kept change at a time, {attribution.champion:04d} trained on up to {seeds}"
    return f"{start}{going_on}: {'; '.join(verdicts)}."


def progress_words(attribution: Attribution) -> str:
    """`training 13 of at most 48`."""
    number = min(attribution.num_trained + 1, max(1, attribution.most_trainings))
    return f"training {number} of at most {attribution.most_trainings}"


def effect_words(effect: Effect) -> str:
    """`val_bpb 1.4435 without it, 1.4312 with it: +0.0123 ± 0.0020 (95 %: +0.0080 to +0.0166, 3 seeds)`."""
    if effect.gain is None or effect.error is None or effect.low is None or effect.high is None:
        return plain(effect.why)
    scores = f"val_bpb {bpb(effect.without_bpb)} without it, {bpb(effect.with_bpb)} with it"
    interval = f"95 %: {signed(effect.low)} to {signed(effect.high)}, {count(effect.num_seeds, 'seed')}"
    return f"{scores}: {signed(effect.gain)} ± {effect.error:.4f} ({interval})"


def attribution_lines(state: StudyState) -> list[str]:
    """The attribution of the present champion, a line for each kept change; empty where there is none."""
    attribution = state.attribution
    if attribution is None or not attribution.variants:
        return []
    found = effects(attribution, state.noise)
    by_number: Mapping[int, Experiment] = {e.number: e for e in state.experiments}
    lines = [attribution_words(attribution, found)]
    for effect in found:
        words = effect_words(effect)
        what = f"  {effect.change:04d} {VERDICTS[effect.part][0]}" + (f": {words}" if words else "")
        lines.append(f"{what} · {idea(by_number[effect.change])}")
    return lines


def _numbers(group: Sequence[int]) -> str:
    named = [f"{number:04d}" for number in group]
    return " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
