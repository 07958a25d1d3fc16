"""The experiments of a study as text for a language model: a line each, a line for each subject, or one in full.

Pure. How much is said depends on a `Detail`; `agents/prompt.py` chooses the one that fits. What a file or a run wrote
is cleaned of control characters, cut and fenced.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from ..core.format import bpb, count, plain, value_text
from ..core.sanitize import is_number
from ..core.types import Archive, Experiment, Run, Status
from ..record.results import peak_memory_mb
from .untrusted_text import clean_output, fence

NUM_BEST, NUM_NEAR, NUM_FAILED, NUM_LAST = 4, 4, 3, 4  # experiments shown in full, at most
NEAR_MISS_SIGMAS = 1.5  # a discard this close to its incumbent may be worth combining
TOLD_SPEED = 0.1  # a run is told to be faster or slower than the incumbent's beyond this share
DIFF_LIMIT, OUTPUT_LIMIT, FIELD_LIMIT = 4000, 2500, 600  # characters of one diff, output, sentence


@dataclass(frozen=True)
class Detail:
    """How much of the record is shown. What it leaves out is counted by subject."""

    width: int  # characters of what a line says an experiment was about
    recent: int | None  # experiments at the end with a line of their own; None for all
    num_subjects: int
    notes_limit: int  # characters
    num_refusals: int


def experiment_lines(experiments: Sequence[Experiment], detail: Detail) -> Iterator[str]:
    """Lines for all experiments, those that the detail has no room for counted by subject."""
    if detail.recent is None:
        alone = {e.number for e in experiments}
    else:
        kept = [e for e in experiments if e.status is Status.KEEP][-2 * detail.recent :]
        notable = [*_best(experiments), *_near_misses(experiments), *kept, *experiments[-detail.recent :]]
        alone = {e.number for e in notable if e.number > 0} | {0}
    if others := [e for e in experiments if e.number not in alone]:
        yield f"{count(len(others), 'older experiment')} by subject; one with two subjects is counted under both:"
        yield from _by_subject(others, detail)
        yield "line by line:"
    yield from (_line(e, detail.width) for e in experiments if e.number in alone)


def _by_subject(experiments: Iterable[Experiment], detail: Detail) -> Iterator[str]:
    groups: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        for subject in subjects(experiment) or ("other",):
            groups.setdefault(subject, []).append(experiment)
    ranked = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    for subject, members in ranked[: detail.num_subjects]:
        yield f"{plain(subject, 60)}: {_group_words(subject, members, detail.width)}"
    if rest := ranked[detail.num_subjects :]:
        names = ", ".join(subject for subject, _ in rest)
        yield f"{count(len(rest), 'more subject')}, each tried {len(rest[0][1])} times or less: {plain(names, 400)}"


def _group_words(subject: str, members: Sequence[Experiment], width: int) -> str:
    """`14 tried: 1 keep, 12 discard, 1 crash; values 0.01..0.2; best -0.0004±0.0003 (-1.2σ) in 0412 ...`"""
    statuses = [str(e.status) for e in members]
    words = f"{len(members)} tried: " + ", ".join(
        f"{statuses.count(status)} {status}" for status in map(str, Status) if status in statuses
    )
    values: list[Any] = [value for e in members if is_number(value := e.changes.get(subject))]
    if values:
        words += f"; values {value_text(min(values))}..{value_text(max(values))}"
    best = min((e for e in members if e.delta_bpb is not None), key=_delta, default=None)
    if best is None:
        return words
    what = ", ".join(changes(best)) or best.hypothesis
    return f"{words}; best {difference(best)} in {best.number:04d}: {plain(what, width * 2 // 3)}"


def _line(experiment: Experiment, width: int) -> str:
    start = f"{experiment.number:04d} {experiment.status}"
    if experiment.val_bpb is None:
        return f"{start} no score: {description(experiment, width)} [{plain(experiment.reason, max(60, width // 2))}]"
    speed = experiment.runs[0].measured.get("relative_speed") if experiment.runs else None
    cost = f"[speed ×{speed:.2f}]" if is_number(speed) and abs(speed - 1) > TOLD_SPEED else ""
    parts = (start, bpb(experiment.val_bpb), difference(experiment), cost, description(experiment, width))
    return " ".join(filter(None, parts))


def description(experiment: Experiment, width: int) -> str:
    """What was changed and, where a change of numbers does not say it all, why."""
    what = ", ".join(changes(experiment) or subjects(experiment))
    if experiment.agent != "search" or not what:
        what = f"{what}: {experiment.hypothesis}" if what else experiment.hypothesis
    who = "" if experiment.agent == "llm" else f"[{experiment.agent}] "
    return plain(who + what, width)


def changes(experiment: Experiment) -> list[str]:
    """`MATRIX_LR 0.04→0.055` for each parameter that was changed."""
    previous = experiment.details.get("previous")
    before = previous if isinstance(previous, Mapping) else {}
    return [
        (f"{name} {value_text(before[name])}→" if name in before else f"{name}=") + value_text(value)
        for name, value in experiment.changes.items()
    ]


def subjects(experiment: Experiment) -> tuple[str, ...]:
    """What an experiment was about: what its agent wrote down, else the parameters that it changed."""
    told = experiment.details.get("subjects")
    named = [str(subject) for subject in told] if isinstance(told, list | tuple) else []
    return tuple(dict.fromkeys(named or experiment.changes))


def most_informative(experiments: Sequence[Experiment]) -> Iterator[tuple[Experiment, str]]:
    """Those that teach most, the most important first, each with the reason."""
    tried = [e for e in experiments if e.number > 0]
    failed = [e for e in tried if e.status not in (Status.KEEP, Status.DISCARD)]
    thought = [e for e in tried if e.agent != "search"]  # of an optimiser's numbers a line says it all
    rows = (
        [(e, "one of the last") for e in tried[: -NUM_LAST - 1 : -1]],
        [(e, "failed") for e in failed[: -NUM_FAILED - 1 : -1]],
        [(e, "one of the largest gains") for e in _best(thought)],
        [(e, "near miss") for e in _near_misses(thought)],
    )
    seen: set[int] = set()
    for column in zip_longest(*rows):
        for item in filter(None, column):
            if item[0].number not in seen:
                seen.add(item[0].number)
                yield item


def _best(experiments: Iterable[Experiment]) -> list[Experiment]:
    kept = [e for e in experiments if e.status is Status.KEEP and e.delta_bpb is not None]
    return sorted(kept, key=_delta)[:NUM_BEST]


def _near_misses(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Discards near their incumbent, the closest first; the closest of all when none is near."""
    discards = [e for e in experiments if e.status is Status.DISCARD and e.delta_bpb is not None]
    ranked = sorted(discards, key=lambda e: (_delta(e), -e.number))
    return [e for e in ranked if e.sigma and _delta(e) <= NEAR_MISS_SIGMAS * e.sigma][:NUM_NEAR] or ranked[:1]


def in_full(experiment: Experiment, why: str, archive: Archive) -> str:
    """All that is known of an experiment, fenced; the archive is read for its curve, its diff and its failure."""
    number = experiment.number
    failed = experiment.failed_run
    fields = {
        "changed": ", ".join(changes(experiment)),
        "hypothesis": experiment.hypothesis,
        "expected": experiment.expected,
        "refuted by": experiment.refutation,
        "each run": _each_run(experiment),
        "decision": experiment.reason,
        "first run": figures(experiment.runs[0]) if experiment.runs else "",
        "train_loss": curve_words(archive.curve(number)),
    }
    start = f"{number:04d} {experiment.status} ({why})"
    scored = "" if experiment.val_bpb is None else bpb(experiment.val_bpb)
    lines = [" ".join(filter(None, (start, scored, difference(experiment))))]
    lines += [f"{name}: {plain(text, FIELD_LIMIT)}" for name, text in fields.items() if text]
    if diff := diff_of(experiment, archive, DIFF_LIMIT):
        lines += [f"diff against {experiment.parent or 0:04d}:", diff]
    if failed is not None and (output := clean_output(archive.output(number, failed), OUTPUT_LIMIT)):
        lines += ["what it printed last:", output]
    return fence("\n".join(lines))


def _each_run(experiment: Experiment) -> str:
    """The scores that the decision was made on, then those of later runs; "" where there is only one."""
    judged, scores = [run.val_bpb for run in experiment.judged_runs], experiment.scores
    if len(scores) < 2:
        return ""
    words = ", ".join(map(bpb, judged))
    return words if len(judged) == len(scores) else f"{words}; later {', '.join(map(bpb, scores[len(judged) :]))}"


def diff_of(experiment: Experiment, archive: Archive, limit: int) -> str:
    """Without the two lines that name its file; "" where the changes of parameters say it all."""
    if experiment.changes:
        return ""
    return clean_output(re.sub(r"\A--- .*\n\+\+\+ .*\n", "", archive.diff(experiment.number)), limit)


def curve_words(curve: Sequence[Mapping[str, Any]]) -> str:
    """`train_loss 7.61 at 1 %, 4.40 at 25 %, ... 3.41 at 100 %`, each the mean of a few points; "" without a curve."""
    known = [(point.get("progress"), point.get("train_loss")) for point in curve]
    points = [(progress, loss) for progress, loss in known if is_number(progress) and is_number(loss)]
    if not points:
        return ""
    words, half = [], max(1, len(points) // 40)
    for share in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0):
        i = min(range(len(points)), key=lambda i: abs(points[i][0] - share))
        near = [loss for _, loss in points[max(0, i - half) : i + half + 1]] if share else [points[i][1]]
        words.append(f"{math.fsum(near) / len(near):.3f} at {100 * points[i][0]:.0f} %")
    return ", ".join(dict.fromkeys(words))


FIGURES = {
    "num_steps": "{:,.0f} steps",
    "num_tokens": "{:,.0f} tokens",
    "tokens_per_second": "{:,.0f} tokens/s",
    "relative_speed": "{:.2f} × the speed of its incumbent",
    "num_params": "{:,.0f} parameters",
    "mfu_percent": "MFU {:.1f} %",
    "train_loss": "last train_loss {:.4f}",
    "dev_bpb": "dev_bpb {:.4f}",
}


def figures(run: Run) -> str:
    """What was measured of a training: `7,312 steps, 7,487,488 tokens, 25,092 tokens/s, ...`."""
    known = [form.format(run.measured[key]) for key, form in FIGURES.items() if is_number(run.measured.get(key))]
    peak = peak_memory_mb(run)
    return ", ".join(known + ([f"{peak:,.0f} MB at most"] if peak is not None else []))


def _delta(experiment: Experiment) -> float:
    return math.inf if experiment.delta_bpb is None else experiment.delta_bpb


def score(experiment: Experiment) -> str:
    """`1.4312 ±0.0014, 2 runs`, and the mean of all runs where some were made after the decision."""
    error, num_runs = experiment.standard_error, len(experiment.judged_runs)
    words = bpb(experiment.val_bpb) + (f" ±{error:.4f}" if error else "") + f", {count(num_runs, 'run')}"
    if num_runs == len(experiment.scores):
        return words
    return f"{words}; mean of its {len(experiment.scores)} runs so far {bpb(experiment.mean_bpb)}"


def difference(experiment: Experiment) -> str:
    """`-0.0124±0.0021 (-5.8σ)`; "" without a score to compare with."""
    if (delta := experiment.delta_bpb) is None:
        return ""
    error, sigma = experiment.delta_standard_error, experiment.sigma
    return f"{delta:+.4f}" + (f"±{error:.4f}" if error else "") + (f" ({delta / sigma:+.1f}σ)" if sigma else "")
