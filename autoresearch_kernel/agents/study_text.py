"""A study as text for a language model: what is fixed, what train.py may import, what the incumbent measured. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from ..core.format import bpb, count, duration, percent, plain, value_text
from ..core.sanitize import is_number
from ..core.types import Context, Experiment, Run
from ..record.results import peak_memory_mb
from ..source.names import Signature, imported_names, signatures, unused_names
from . import history_text

MOST_UNUSED = 30  # names that train.py defines and never uses
SUMMARY_LIMIT = 120  # characters of what a name of prepare.py is for
MOST_REPORTED = 12  # numbers that a train.py reports of its own
CURVE_NAMES = {"step", "progress", "seconds", "train_loss", "num_tokens", "tokens_per_second"}  # prepare.py's own
PACE_EXPERIMENTS = 10  # the last ones, by which the hours left are told in experiments
# Public names of prepare.py that make a corpus, or score and store a model. A train.py has no use for them.
NOT_FOR_TRAINING = {
    "FORMAT", "SPECIAL_TOKENS", "DEV_TOKENS", "SPLIT_PATTERN", "EVAL_TOKENS", "PEAK_FLOPS", "PrepareError", "say",
    "home_dir", "corpus_dir", "heldout_dir", "read_meta", "read_split", "read_heldout", "cut_rows", "score_rows",
    "token_nll", "save_model", "prepare", "main",
}  # fmt: skip


def is_steady(study: Mapping[str, Any]) -> bool:
    """Whether the budget is counted in seconds of normal speed."""
    return study.get("clock") == "steady"


def facts(study: Mapping[str, Any]) -> Iterator[str]:
    """What holds for every experiment of a study, in sentences."""
    budget, hardware, corpus = study.get("time_budget_seconds"), study.get("hardware", {}), study.get("corpus", {})
    if budget:
        by = " of this machine's normal speed, 0.7 to 1.5 times as long by the wall clock" if is_steady(study) else ""
        yield f"Budget: {budget:g} s of training{by}."
        yield (
            "Start-up, compilation and hand-over are not charged while they take little longer than the baseline's. "
            "That is measured from outside: a run that works longer beyond its budget is refused."
        )
    memory = hardware.get("memory_mb")
    machine = [hardware.get("device_name"), hardware.get("dtype"), memory and f"{memory:,} MB of memory"]
    if cores := hardware.get("num_cores"):
        machine.append(f"{cores} CPU cores")
    yield "Machine: " + (plain(", ".join(str(part) for part in machine if part), 200) or "not known") + "."
    sizes = {
        "vocab_size": "token ids",
        "sequence_length": "tokens in a row at most",
        "num_train_tokens": "tokens to train on",
        "num_dev_tokens": "dev tokens",
        "num_val_rows": "validation rows, which you never see",
    }
    known = [f"{corpus[key]:,} {words}" for key, words in sizes.items() if corpus.get(key)]
    yield f"Corpus: {plain(', '.join([str(corpus.get('corpus', 'not known')), *known]), 300)}."
    versions = study.get("versions", {})
    if used := [f"{name} {versions[name]}" for name in ("python", "torch", "numpy") if versions.get(name)]:
        yield f"Versions: {plain(', '.join(used), 200)}."
    preset = study.get("preset", {})
    if parameters := preset.get("parameters"):
        values = ", ".join(f"{name}={value_text(value)}" for name, value in parameters.items())
        yield f"The baseline's configuration (preset {preset.get('name')}): {plain(values, 2000)}."
    if study.get("agent") == "hybrid":
        yield "An optimiser tunes the numbers of the parameters cell between your turns: propose what it cannot."


def interface(context: Context) -> tuple[str, str]:
    """The names of prepare.py that a train.py may import, a line each, short and in full; "" where it is not known.

    The short form has those that the incumbent imports, with their arguments; the full one has all, with types and the
    first line of each docstring.
    """
    imported = imported_names(context.train_source, "prepare")
    known = [s for s in signatures(context.prepare_source) if s.name not in NOT_FOR_TRAINING or s.name in imported]
    short = [_short_line(signature) for signature in known if signature.name in imported]
    if others := len(known) - len(short):
        short.append(f"({count(others, 'more name')} left out for lack of room.)")
    return "\n".join(short), "\n".join(line for signature in known for line in _lines_in_full(signature))


def _short_line(signature: Signature) -> str:
    methods = ", ".join(method.short for method in signature.methods)
    return f"{signature.short}: {methods}" if methods else signature.short


def _lines_in_full(signature: Signature) -> Iterator[str]:
    for start, part in (("", signature), *(("    .", method) for method in signature.methods)):
        summary = plain(part.summary.partition(". ")[0], SUMMARY_LIMIT)
        yield start + part.full + (f"  # {summary}" if summary else "")


def measured(context: Context) -> Iterator[str]:
    """The incumbent's figures, where its seconds go, and what it leaves on the table; a line each."""
    incumbent = context.incumbent
    run = next((run for run in reversed(incumbent.on(incumbent.machine).runs) if run.val_bpb is not None), None)
    baseline = next((e for e in context.experiments if e.number == 0), incumbent)
    was = f"; the baseline's {bpb(baseline.val_bpb)}" if incumbent.number and baseline.val_bpb else ""
    yield f"val_bpb {history_text.score(incumbent)}{was}"
    if run is None:
        return
    yield from _figures_of(run, context.study)
    curve = context.archive.curve(incumbent.number)
    yield from filter(None, (_step_words(run, curve), _reported_words(curve)))
    if words := history_text.curve_words(curve):
        yield f"train_loss: {words}"
    if unused := unused_names(context.train_source):
        more = f" and {len(unused) - MOST_UNUSED} more" if len(unused) > MOST_UNUSED else ""
        yield f"defined in train.py and never used: {plain(', '.join(unused[:MOST_UNUSED]), 1000)}{more}"


def _figures_of(run: Run, study: Mapping[str, Any]) -> Iterator[str]:
    m = {key: value for key, value in run.measured.items() if is_number(value)}
    size = study.get("corpus", {}).get("num_train_tokens")
    passes = f", {m['num_tokens'] / size:.2f} times the corpus" if "num_tokens" in m and size else ""
    if figures := history_text.figures(run):
        yield f"its last run: {figures}{passes}"
    budget, total = study.get("time_budget_seconds"), m.get("total_seconds")
    if "training_seconds" in m and budget:
        names = {"start_up_seconds": "start-up", "evaluation_seconds": "dev score and hand-over"}
        parts = {"training": m["training_seconds"]} | {name: m[key] for key, name in names.items() if key in m}
        words = [
            f"{name} {value:.1f}" + (f" ({percent(value / total)})" if total else "") for name, value in parts.items()
        ]
        words += [f"all {total:.1f}"] if total is not None else []
        left = max(0.0, budget - m.get("counted_seconds" if is_steady(study) else "", m["training_seconds"]))
        yield f"seconds: {', '.join(words)}; {left:.1f} of the budget's {budget:g} left"
    memory, peak = study.get("hardware", {}).get("memory_mb"), peak_memory_mb(run)
    if memory and peak is not None:
        yield f"memory: {max(0.0, memory - peak):,.0f} MB of {memory:,} left"


def _step_words(run: Run, curve: Sequence[Mapping[str, Any]]) -> str:
    """How long a step takes, and whether the first ones took longer; "" where it was not measured."""
    steps, tokens, seconds = (run.measured.get(key) for key in ("num_steps", "num_tokens", "training_seconds"))
    if not (is_number(steps) and is_number(seconds) and steps > 0 and seconds > 0):
        return ""
    words = f"a step: {1000 * seconds / steps:,.1f} ms on average"
    words += f", {tokens / steps:,.0f} tokens" if is_number(tokens) else ""
    points = [(p.get("step"), p.get("seconds")) for p in curve]
    known = [(step, at) for step, at in points if is_number(step) and is_number(at)]
    pairs = pairwise([(0, 0.0), *known])
    taken = [1000 * (at - before) / (step - was) for (was, before), (step, at) in pairs if step > was]
    if len(taken) > 2:
        usual, first, slowest = statistics.median(taken[1:]), taken[0], max(taken[1:])
        words += f"; median {usual:,.1f} ms, the first {first:,.1f} ms, the slowest stretch {slowest:,.1f} ms a step"
    return words


def _reported_words(curve: Sequence[Mapping[str, Any]]) -> str:
    """What train.py reported to the clock besides the loss: the mean and the last value of each; "" for nothing."""
    values: dict[str, list[float]] = {}
    for point in curve:
        for name, value in point.items():
            if name not in CURVE_NAMES and is_number(value):
                values.setdefault(plain(name, 40), []).append(value)
    words = [f"{name} {math.fsum(of) / len(of):.4g} (last {of[-1]:.4g})" for name, of in values.items()]
    return f"reported by train.py, means: {', '.join(words[:MOST_REPORTED])}" if words else ""


def what_counts(context: Context) -> Iterator[str]:
    """How large a difference must be, in sentences."""
    sigma, num_runs = context.sigma, max(1, len(context.incumbent.scores))
    if not sigma:
        yield "The noise between runs of the same code is not measured yet: take no small difference for real."
    else:
        error = sigma * math.sqrt(1 + 1 / num_runs)
        yield f"sigma, the standard deviation between runs of the same code, is {sigma:.5f} bits per byte."
        yield (
            f"One run against the incumbent's {num_runs}: standard error {error:.5f}. "
            "A smaller difference says nothing, in either direction."
        )
        yield (
            "A gain far beyond the noise is kept at once. A smaller one may be run again with another "
            "seed before the rule decides. What is no better than the incumbent is discarded, unless it has less code "
            "and ties twice."
        )
    if abs(context.machine_speed - 1) > 0.02:
        yield (
            f"The machine now trains {context.machine_speed:.2f} times as fast as at the start, which moves val_bpb. "
            "Compare differences to the incumbent, not scores of different hours."
        )


def remaining(context: Context) -> str:
    """What is left of the study's experiments, hours, tokens and dollars, in a sentence."""
    limits, spent = context.limits, context.spent
    parts = []
    if context.experiments_left is not None:
        parts.append(f"{count(context.experiments_left, 'experiment')}, this one included")
    if (seconds := context.seconds_left) is not None and math.isfinite(seconds):
        pace = _seconds_an_experiment(context.experiments)
        about = f", about {count(max(1, int(seconds / pace)), 'experiment')} at the pace so far" if pace else ""
        parts.append(f"{duration(seconds)}{about}")
    if limits.max_tokens is not None:
        parts.append(f"{max(0, limits.max_tokens - spent.tokens):,} tokens for your calls")
    if limits.max_calls is not None:
        parts.append(f"{max(0, limits.max_calls - spent.counted_calls)} of your calls")
    if limits.max_cost is not None:
        parts.append(f"${max(0.0, limits.max_cost - spent.cost):.2f} for your calls")
    if not parts:
        return "No end of the study is set, neither in experiments nor in hours."
    return f"Left in this study: {'; '.join(parts)}."


def _seconds_an_experiment(experiments: Sequence[Experiment]) -> float | None:
    """The median time between the last decisions; None while it is not known."""
    decided = []
    for experiment in sorted(experiments, key=lambda e: e.order)[-PACE_EXPERIMENTS - 1 :]:
        try:
            decided.append(datetime.fromisoformat(experiment.decided_at).timestamp())
        except ValueError:
            return None
    taken = [after - before for before, after in pairwise(decided) if after > before]
    return statistics.median(taken) if taken else None
