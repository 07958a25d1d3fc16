"""What was tried in a study: by theme, what came close, what failed. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from ...core.decide import is_better
from ...core.format import bpb, count, plain, with_error
from ...core.sanitize import is_number
from ...core.types import FAILED, Experiment, Status
from ...show.plot_scale import score_of
from ...show.words import idea, is_ended_early, title
from .data import StudyData, judged_delta
from .finding import Column, Row, in_words, shortened

NEAR_SIGMAS = 2.0  # a discard this close to its incumbent may deserve another run
REFUSED = "refused by the audit"
NEAREST = 5  # discards that are shown where sigma is not known


def theme_rows(data: StudyData) -> list[Row]:
    groups: dict[tuple[str, str], list[Experiment]] = {}
    for experiment in data.proposals:
        for pair in subjects_of(experiment):
            groups.setdefault(pair, []).append(experiment)
    sizes = Counter(theme for (theme, _), members in groups.items() for _ in members)
    ranked = sorted(groups.items(), key=lambda g: (-sizes[g[0][0]], g[0][0], -len(g[1]), g[0][1]))
    return [_theme_row(*pair, members) for pair, members in ranked]


def _theme_row(theme: str, subject: str, members: Sequence[Experiment]) -> Row:
    judged = [e for e in members if e.delta_bpb is not None]
    first = min(judged, key=judged_delta, default=None)
    return {
        "theme": theme,
        "subject": subject,
        "tried": len(members),
        "kept": sum(e.status is Status.KEEP for e in members),
        "failed": sum(e.status in FAILED for e in members),
        "best_bpb": first and first.val_bpb,
        "best_against": first and first.incumbent_bpb,
        "best_delta": first and judged_delta(first),
        "best_error": first and first.delta_standard_error,
        "best_sigmas": _sigmas(first),
        "best_number": first and first.number,
        "values": [e.changes[subject] for e in members if subject in e.changes],
        "deltas": [(e.number, str(e.status), judged_delta(e)) for e in judged],
        "numbers": [e.number for e in members],
    }


def _sigmas(experiment: Experiment | None) -> float | None:
    """The difference that was judged, in sigma as it was known then."""
    return experiment.compared.sigmas if experiment is not None and experiment.compared else None


def _delta(difference: float | None, error: float | None) -> str:
    return "–" if difference is None else with_error(difference, error)


def _values(row: Row) -> str:
    values = row["values"]
    numbers = [v for v in values if is_number(v)]
    if numbers and len(numbers) == len(values):
        return f"{min(numbers):g} … {max(numbers):g}" if min(numbers) != max(numbers) else f"{numbers[0]:g}"
    return ", ".join(dict.fromkeys(plain(str(value)) for value in values))


THEME_COLUMNS = (
    Column("theme", lambda row: row["theme"], is_number=False),
    Column("what", lambda row: "" if row["subject"] == row["theme"] else row["subject"], is_number=False),
    Column("tried", lambda row: str(row["tried"])),
    Column("kept", lambda row: str(row["kept"])),
    Column("failed", lambda row: str(row["failed"])),
    Column("val_bpb", lambda row: bpb(row["best_bpb"])),
    Column("against", lambda row: bpb(row["best_against"])),
    Column("lowest Δ", lambda row: _delta(row["best_delta"], row["best_error"])),
    Column("σ", lambda row: in_words(row["best_sigmas"], 1)),
    Column("in", lambda row: "" if row["best_number"] is None else f"{row['best_number']:04d}"),
    Column("values", _values, is_number=False),
)


def theme_words(rows: Sequence[Row]) -> str:
    if not rows:
        return "Nothing but the baseline was tried."
    numbers = {number for row in rows for number in row["numbers"]}
    tried = sum(row["tried"] for row in rows)
    themes = {row["theme"] for row in rows}
    words = f"{count(len(rows), 'subject')} of {count(len(themes), 'theme')}."
    best_row = max(rows, key=lambda row: (row["kept"], -(row["best_delta"] or 0.0)))
    if best_row["kept"]:
        words += f" Most was kept on {best_row['subject']}: {best_row['kept']} of {best_row['tried']} tried."
    barren = [row for row in rows if row["tried"] >= 3 and not row["kept"]]
    if barren:
        most = sorted(barren, key=lambda row: -row["tried"])[:3]
        words += " Nothing came of " + ", ".join(f"{row['subject']} ({row['tried']} tried)" for row in most) + "."
    return words + (" One with two subjects is counted under both." if tried > len(numbers) else "")


def near_rows(data: StudyData) -> list[Row]:
    """Discards near their incumbents, the nearest (or the best) first."""
    discards = [e for e in data.proposals if e.status is Status.DISCARD and e.delta_bpb is not None]
    rows = [_near_row(e, data) for e in discards]
    rows.sort(key=lambda row: row["delta"])
    if data.sigma is None:
        return rows[:NEAREST]
    return [row for row in rows if row["delta"] <= NEAR_SIGMAS * data.sigma]


def _near_row(e: Experiment, data: StudyData) -> Row:
    champion = data.best
    return {
        "number": e.number,
        "idea": idea(e),
        "val_bpb": e.val_bpb,
        "against": e.incumbent_bpb,
        "delta": judged_delta(e),
        "standard_error": e.delta_standard_error,
        "sigmas": _sigmas(e),
        "runs": len(e.scores) or None,
        "to_best": score_of(e) - score_of(champion) if champion is not None else None,
        "reason": plain(e.reason),
    }


NEAR = (
    Column("#", lambda row: str(row["number"])),
    Column("what was discarded", lambda row: f"○ {shortened(row['idea'])}", is_number=False),
    Column("val_bpb", lambda row: bpb(row["val_bpb"])),
    Column("against", lambda row: bpb(row["against"])),
    Column("Δ", lambda row: _delta(row["delta"], row["standard_error"])),
    Column("σ", lambda row: in_words(row["sigmas"], 1)),
    Column("runs", lambda row: str(row["runs"] or "–")),
    Column("Δ to the incumbent now", lambda row: in_words(row["to_best"])),
)


def near_words(data: StudyData, rows: Sequence[Row]) -> str:
    early = sum(is_ended_early(e) and bool(e.runs) for e in data.proposals)
    tail = f" {count(early, 'run')} ended early and {'has' if early == 1 else 'have'} no score." if early else ""
    if data.sigma is None:
        if not rows:
            return f"No discard has a score to compare.{tail}"
        return f"How near is near is not known without sigma; these {len(rows)} came closest to their incumbents.{tail}"
    if not rows:
        return f"No discard came within {NEAR_SIGMAS:g} σ of its incumbent.{tail}"
    words = f"{count(len(rows), 'discard')} within {NEAR_SIGMAS:g} σ of the incumbent, which noise may hide."
    words += f" The incumbent now has {bpb(data.best.val_bpb)}, as it was decided." if data.best else ""
    once = [row for row in rows if row["runs"] == 1]
    below = sum(is_better(row["delta"], 0.0) for row in rows)
    words += f" {below} scored below it, not by enough." if below else ""
    if once:
        names = ", ".join(f"{row['number']:04d}" for row in once[:3])
        words += f" Run once only: {len(once)}; the first to run again: {names}."
    return words + tail


def _failure_row(cause: str, members: Sequence[Experiment]) -> Row:
    last = members[-1]
    return {
        "cause": cause,
        "failed": len(members),
        "numbers": [e.number for e in members],
        "example": f"{shortened(title(last))}" + (f" [{plain(last.reason, 120)}]" if last.reason else ""),
    }


FAILURES = (
    Column("cause", lambda row: f"{'▲' if row['cause'] == REFUSED else '×'} {row['cause']}", is_number=False),
    Column("failed", lambda row: str(row["failed"])),
    Column("the last of them", lambda row: row["example"], is_number=False),
)


def failure_rows(data: StudyData) -> list[Row]:
    """A row for each cause of failure, the most frequent first."""
    groups: dict[str, list[Experiment]] = {}
    for experiment in data.failed:
        groups.setdefault(cause_of(experiment), []).append(experiment)
    if data.refused:
        groups[REFUSED] = data.refused
    return [_failure_row(cause, members) for cause, members in sorted(groups.items(), key=lambda g: -len(g[1]))]


# Words of a change -> its theme; the first that matches counts. `_` ends a word: MATRIX_LR is about "lr".
THEMES = (
    ("weight decay", r"weight decay|wd"),
    ("schedule", r"warm ?(up|down)|cool ?down|schedul|cosine|decay to|final lr|anneal|lr frac"),
    ("learning rate", r"lr|lrs|learning rates?"),
    ("batch", r"batch|batches|accumulat\w*|tokens? (per|a) step"),
    ("context", r"seq|sequences?|context|seq len"),
    ("optimizer", r"adam\w*|muon|adagrad|sgd|lion|optimi[sz]ers?|betas?\d?|momentum|eps|epsilon|newton\w*|ns steps"),
    ("attention", r"attention|attn|heads?|gqa|mqa|kv|qk|rope|rotary|windows?|positions?|positional"),
    ("size", r"depth|layers?|width|wider|deeper|dim|dims|model dim|aspect|n layer|n embd|params|bigger|smaller"),
    ("MLP", r"mlp|ffn|swiglu|geglu|relu\w*|gelu|silu|activations?|experts?|moe"),
    ("embedding", r"embed\w*|tied?|tying|untie\w*|vocab|ngram|bigram|value embeddings?|wte|unembed\w*"),
    ("norm and residual", r"norm\w*|rms\w*|residuals?|skips?|gates?|gating|lambdas?"),
    ("initialisation", r"init\w*"),
    ("regularisation", r"dropout|label smoothing|regulari[sz]\w*|z loss|ema|clip\w*"),
    ("head and loss", r"soft ?caps?|logits?|loss\w*|lm head"),
    ("speed", r"compile\w*|fp8|bf16|precision|kernels?|fused?|flash|speed\w*|throughput"),
)

OTHER = "other"

GIST_CHARACTERS = 80  # of a description that say what was done; what follows says why

_BESIDE = re.compile(r"\(|;| after | because | instead of | — ")  # ends what was done as well

_THEMES = [(name, re.compile(rf"\b(?:{words})\b")) for name, words in THEMES]


# Words of a failure -> its cause; the first that matches counts.
CAUSES = (
    ("out of memory", r"out ?of ?memory|oom\b|cannot allocate|MemoryError"),
    ("not a number", r"\bnan\b|not a finite|diverge|\binf\b|infinite"),
    ("shapes do not fit", r"shape|size mismatch|dimension|divisible"),
    ("too slow", r"hard limit|time ?out|timed out|too slow"),
)

_CAUSES = [(name, re.compile(words, re.IGNORECASE)) for name, words in CAUSES]

_EXCEPTION = re.compile(r"\b([A-Z]\w*(?:Error|Exception|Exit|Interrupt))\b")


def theme_of(words: str) -> str:
    """The theme of a change by its words: `MATRIX_LR` and "lower the learning rate" have the same one."""
    text = re.sub(r"[_\W]+", " ", words.lower())
    return next((name for name, pattern in _THEMES if pattern.search(text)), OTHER)


def subjects_of(experiment: Experiment) -> list[tuple[str, str]]:
    """(theme, subject) of an experiment: its parameters, else what its agent says, else a theme from its words."""
    told = experiment.details.get("subjects")
    named = list(experiment.changes) or ([str(s) for s in told] if isinstance(told, list | tuple) else [])
    from_words = theme_of(_BESIDE.split(experiment.hypothesis)[0][:GIST_CHARACTERS])
    if not named:
        return [(from_words, from_words)]
    split = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in named}  # CausalSelfAttention as words
    pairs = [(theme_of(words), plain(name)) for name, words in split.items()]
    return [(from_words if theme == OTHER else theme, name) for theme, name in pairs]


def cause_of(experiment: Experiment) -> str:
    """Why it failed, in a few words that failures of the same kind share."""
    texts = [experiment.reason, *(run.reason for run in experiment.runs)]
    text = " ".join(filter(None, texts)) or experiment.hypothesis
    known = next((name for name, pattern in _CAUSES if pattern.search(text)), "")
    if known:
        return known
    if found := _EXCEPTION.search(text):
        return found[1]
    return {Status.TIMEOUT: "too slow", Status.INVALID: "not a valid train.py"}.get(
        experiment.status or Status.CRASH, "interrupted" if experiment.status is Status.INTERRUPTED else "not known"
    )
