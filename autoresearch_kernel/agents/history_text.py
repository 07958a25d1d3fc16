"""The experiments of a study as text for a language model: a line each, a line for each subject, or one in full.

Pure. How much is said depends on a `Detail` and on the form of an experiment in full; `agents/prompt.py` chooses those
that fit. What a file or a run wrote is cleaned of control characters, cut and fenced.
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

NUM_NOTABLE = 4  # gains, near misses and refutations that keep lines of their own
NEAR_MISS_SIGMAS = 1.5  # a discard this close to its incumbent may be worth combining
REFUTED = "clearly refuted"  # why an experiment is shown in full
REFUTED_ERRORS = 2.0  # a loss beyond this many standard errors refutes its hypothesis
TOLD_SPEED = 0.1  # a run is told to be faster or slower than the incumbent's beyond this share
DIFF_LIMIT, OUTPUT_LIMIT, FIELD_LIMIT = 4000, 2500, 600  # characters of one diff, output, sentence
# The same for the forms of an experiment in full, the fullest first.
FORMS = ((20_000, 6000, 1200), (DIFF_LIMIT, OUTPUT_LIMIT, FIELD_LIMIT), (1500, 1000, 400), (0, 300, 250))

_END_OF_CLAUSE = re.compile(r"[.;,:)](?=\s|$)|\s\(|\b(?:because|since)\b")


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
        kinds = (_gains(experiments), _near_misses(experiments), _refutations(experiments))
        notable = [
            *kept,
            *experiments[-detail.recent :],
            *(e for kind in kinds for e in kind[: detail.recent][:NUM_NOTABLE]),
        ]
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
        names = plain(", ".join(subject for subject, _ in rest), 4 * detail.width)
        yield f"{count(len(rest), 'more subject')}, each tried {len(rest[0][1])} times or less: {names}"


def _group_words(subject: str, members: Sequence[Experiment], width: int) -> str:
    """`14 tried: 1 keep, 13 discard; values 0.01..0.2; best 1.4996 vs 1.5000: -0.0004±0.0003 in 0412 ...`"""
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
    return f"{words}; best {comparison(best)} in {best.number:04d}: {plain(what, width * 2 // 3)}"


def _line(experiment: Experiment, width: int) -> str:
    start = f"{experiment.number:04d} {experiment.status}"
    if experiment.val_bpb is None:
        return f"{start} no score: {description(experiment, width)} [{plain(experiment.reason, max(60, width // 2))}]"
    speed = experiment.runs[0].measured.get("relative_speed") if experiment.runs else None
    cost = f"[speed ×{speed:.2f}]" if is_number(speed) and abs(speed - 1) > TOLD_SPEED else ""
    said = prediction(experiment, max(24, width // 3))
    expected = f"[expected {said}]" if said else ""
    parts = (start, comparison(experiment), expected, cost, description(experiment, width))
    return " ".join(filter(None, parts))


def prediction(experiment: Experiment, width: int) -> str:
    """The effect that the proposal expected, in its words: the first clause with a number, else the first."""
    clauses = [clause.strip() for clause in _END_OF_CLAUSE.split(plain(experiment.expected, 400)) if clause.strip()]
    return plain(next((clause for clause in clauses if re.search(r"\d", clause)), "".join(clauses[:1])), width)


def description(experiment: Experiment, width: int) -> str:
    """What was changed and, where a change of numbers does not say it all, why."""
    what = ", ".join(changes(experiment) or subjects(experiment))
    if experiment.agent != "search" or not what:
        what = f"{what}: {experiment.hypothesis}" if what else experiment.hypothesis
    who = "" if experiment.agent in ("llm", "command") else f"[{experiment.agent}] "
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


def by_worth(experiments: Sequence[Experiment]) -> Iterator[tuple[Experiment, str]]:
    """All but the baseline, each with the reason to read it in full, the most instructive first.

    In turn the clearest refutation, the largest gain, the last failure, the nearest miss and the last experiment; then
    the next of each; then the rest, the newest first. Of an optimiser's numbers a line says nearly all: they come last.
    """
    tried = [e for e in reversed(experiments) if e.number > 0]
    failed = [e for e in tried if e.status not in (Status.KEEP, Status.DISCARD)]
    thought = [e for e in tried if e.agent != "search"]
    columns = zip_longest(
        ((e, REFUTED) for e in _refutations(thought)),
        ((e, "gain") for e in _gains(thought)),
        ((e, "failed") for e in failed),
        ((e, "near miss") for e in _near_misses(thought)),
        ((e, "one of the last") for e in tried[:NUM_NOTABLE]),
    )
    rest = ((e, "") for e in (*thought, *tried))
    seen: set[int] = set()
    for item in (*(item for column in columns for item in column), *rest):
        if item is not None and item[0].number not in seen:
            seen.add(item[0].number)
            yield item


def _gains(experiments: Iterable[Experiment]) -> list[Experiment]:
    """The kept ones, the largest gain first."""
    return sorted((e for e in experiments if e.status is Status.KEEP and e.delta_bpb is not None), key=_delta)


def _refutations(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Discards that lost more than noise explains, the largest loss first."""
    scored = [e for e in experiments if e.status is Status.DISCARD and e.delta_bpb is not None]
    lost = [e for e in scored if (error := _error(e)) and _delta(e) > REFUTED_ERRORS * error]
    return sorted(lost, key=lambda e: (-_delta(e), e.number))


def _error(experiment: Experiment) -> float | None:
    """Standard error of the difference to the incumbent; that of two single runs where it was not recorded."""
    known = experiment.delta_standard_error
    return known or (math.sqrt(2) * experiment.sigma if experiment.sigma else None)


def _near_misses(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Discards near their incumbent, the closest first; the closest of all when none is near."""
    discards = [e for e in experiments if e.status is Status.DISCARD and e.delta_bpb is not None]
    ranked = sorted(discards, key=lambda e: (_delta(e), -e.number))
    return [e for e in ranked if e.sigma and _delta(e) <= NEAR_MISS_SIGMAS * e.sigma] or ranked[:1]


def in_full(experiment: Experiment, why: str, archive: Archive) -> str:
    """All that is known of an experiment, fenced: the fullest of its forms."""
    return next(forms_in_full(experiment, why, archive))


def forms_in_full(experiment: Experiment, why: str, archive: Archive) -> Iterator[str]:
    """An experiment in full, fenced, from the fullest form to the shortest; a form that says the same is left out.

    The archive is read once: for the curve, the diff and the output of a failure.
    """
    number, failed = experiment.number, experiment.failed_run
    diff = diff_of(experiment, archive, FORMS[0][0])
    output = "" if failed is None else clean_output(archive.output(number, failed), FORMS[0][1])
    curve = curve_words(archive.curve(number))
    forms = (_form(experiment, why, curve, diff, output, limits) for limits in FORMS)
    yield from dict.fromkeys(forms)


def _form(experiment: Experiment, why: str, curve: str, diff: str, output: str, limits: tuple[int, int, int]) -> str:
    """`limits`: characters of the diff, of the output and of each sentence."""
    diff_limit, output_limit, field_limit = limits
    fields = {
        "changed": ", ".join(changes(experiment)),
        "hypothesis": experiment.hypothesis,
        "expected": experiment.expected,
        "refuted by": experiment.refutation,
        "each run": _each_run(experiment),
        "decision": experiment.reason,
        "first run": figures(experiment.runs[0]) if experiment.runs and diff_limit else "",
        "train_loss": curve if diff_limit else "",
    }
    start = f"{experiment.number:04d} {experiment.status}" + (f" ({why})" if why else "")
    lines = [" ".join(filter(None, (start, comparison(experiment))))]
    lines += [f"{name}: {plain(text, field_limit)}" for name, text in fields.items() if text]
    if diff and diff_limit:
        lines += [f"diff against {experiment.parent or 0:04d}:", clean_output(diff, diff_limit)]
    elif diff:
        lines.append(f"diff: {count(len(diff.splitlines()), 'line')}, left out for lack of room")
    if output:
        lines += ["what it printed last:", clean_output(output, output_limit)]
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
    return math.inf if (delta := experiment.delta_bpb) is None else delta


def score(experiment: Experiment) -> str:
    """`1.4312 ±0.0014, 2 runs`, and the mean of all runs where some were made after the decision."""
    error, num_runs = experiment.standard_error, len(experiment.judged_runs)
    words = bpb(experiment.val_bpb) + (f" ±{error:.4f}" if error else "") + f", {count(num_runs, 'run')}"
    if num_runs == len(experiment.scores):
        return words
    return f"{words}; mean of its {len(experiment.scores)} runs so far {bpb(experiment.mean_bpb)}"


def comparison(experiment: Experiment) -> str:
    """`1.4312 vs 1.4436: -0.0124±0.0021`; the score alone where there is nothing to compare with.

    The difference is in sigma where its error is not known: a prompt has no room for both.
    """
    if (compared := experiment.compared) is None:
        return "" if experiment.val_bpb is None else bpb(experiment.val_bpb)
    error = f"±{compared.error:.4f}" if compared.error else ""
    if not error and compared.sigmas is not None:
        error = f" ({compared.sigmas:+.1f}σ)"
    return f"{compared.mine:.4f} vs {compared.theirs:.4f}: {compared.difference:+.4f}{error}"
