"""An experiment in words: its title, its score and difference, the grounds of its decision. Pure text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.drift import STEADY
from ..core.format import bpb, clock, count, number, plain, signed, thousands, value_text
from ..core.markdown import inert
from ..core.types import Experiment, Objection, Run, Status, is_trusted
from ..record.results import peak_memory_mb

HEAD_CHARACTERS = 140  # of a hypothesis that are shown before the rest is unfolded
SENTENCE_END = re.compile(r"[.!?](?=\s)")
_FIRST_SENTENCE = re.compile(r"""(?:(?<!\w)(['"`])(?:\\.|(?!\1).)*\1|(?![.!?] +[A-Z]).)+""")  # code is quoted in it
REASON_CHARACTERS = 300  # of why a proposal was given back


def idea(experiment: Experiment) -> str:
    """What was tried, in a few words: `MATRIX_LR 0.04 → 0.055`, else the first line of the hypothesis."""
    previous, changes = experiment.details.get("previous"), experiment.changes
    if changes and isinstance(previous, Mapping) and set(changes) <= set(previous):
        pairs = (f"{name} {value_text(previous[name])} → {value_text(new)}" for name, new in changes.items())
        return plain(", ".join(pairs))
    if changes:
        return plain(", ".join(f"{name} = {value_text(new)}" for name, new in changes.items()))
    lines = experiment.hypothesis.strip().splitlines()
    return (plain(lines[0]).rstrip(".") if lines else "") or "no hypothesis given"


def title(experiment: Experiment) -> str:
    """`0010 · Halve the batch: 4096 → 2048 tokens a step`."""
    return f"{experiment.number:04d} · {idea(experiment)}"


def head_and_rest(words: str, most: int = HEAD_CHARACTERS) -> tuple[str, str]:
    """What of a text is shown at once, and what is folded: whole sentences of `most` characters, else whole words."""
    words = words.strip()
    if len(words) <= most:
        return words, ""
    ends = [match.end() for match in SENTENCE_END.finditer(words, 0, most + 1)]
    if ends:
        return words[: ends[-1]].rstrip(), words[ends[-1] :].strip()
    cut = words.rfind(" ", most // 2, most)
    cut = most - 1 if cut < 0 else cut
    return words[:cut].rstrip(" ,;:(") + "…", "… " + words[cut:].strip()


def argument(experiment: Experiment) -> str:
    """The hypothesis, the effect that it should have and what would refute it, a paragraph each, as the agent said."""
    expected = f"Expected: {experiment.expected}" if experiment.expected else ""
    refuted = f"Refuted by: {experiment.refutation}" if experiment.refutation else ""
    return "\n\n".join(filter(None, (experiment.hypothesis, expected, refuted)))


def given_back_words(objection: str, why: str) -> str:
    """`Given back (unusable): The reply was empty`."""
    return f"Given back ({objection}): {in_short(objection, why)}"


def in_short(objection: str, why: str) -> str:
    """What happened, for users: the first sentence of what the agent was told, without what it should do."""
    first = why.strip().split("\n")[0].strip()
    if objection == Objection.UNUSABLE and (sentence := _FIRST_SENTENCE.match(first)):
        first = sentence[0]
    return plain(first, REASON_CHARACTERS).rstrip(". :") or "no reason given"


def difference(experiment: Experiment) -> str:
    """`−0.0124 ± 0.0030 (−5.8 σ)`, for a table that has the two scores in columns; "" without a comparison."""
    return experiment.compared.words if experiment.compared else ""


def comparison(experiment: Experiment) -> str:
    """`1.4312 against the incumbent's 1.4436: −0.0124 ± 0.0030 (−5.8 σ)`, as they were at the decision."""
    compared = experiment.compared
    return f"{bpb(compared.mine)} against the incumbent's {bpb(compared.theirs)}: {compared.words}" if compared else ""


def score_and_difference(experiment: Experiment) -> str:
    """`val_bpb 1.4312 against the incumbent's 1.4436: −0.0124 ± 0.0030 (−5.8 σ) · mean of 2 runs`."""
    compared = comparison(experiment)
    if not compared:
        return score_line(experiment)
    return with_mistrust(" · ".join(filter(None, (f"val_bpb {compared}", *_means(experiment)))), [experiment])


def speed_words(tokens_per_second: float | None) -> str:
    """`28.1 k tokens/s`; "" when that is not known."""
    return f"{tokens_per_second / 1e3:.1f} k tokens/s" if tokens_per_second else ""


def training_words(metrics: Mapping[str, Any]) -> str:
    """`loss 3.214 · 28.1 k tokens/s`, of a point of a curve."""
    loss, speed = number(metrics.get("train_loss")), number(metrics.get("tokens_per_second"))
    return " · ".join(filter(None, (f"loss {loss:.3f}" if loss is not None else "", speed_words(speed))))


def last_speed(experiment: Experiment) -> float | None:
    """Tokens a second of the last run that knows it."""
    own = experiment.on(experiment.machine).runs
    speeds = [number(run.measured.get("tokens_per_second")) for run in reversed(own)]
    return next(filter(None, speeds), None)


def losses(curve: Sequence[Mapping[str, Any]], at: str = "progress") -> list[tuple[float, float]]:
    """(`at`, train_loss) of the points that have both as finite numbers."""
    points = [(number(point.get(at)), number(point.get("train_loss"))) for point in curve]
    return [(place, loss) for place, loss in points if place is not None and loss is not None]


def bar(fraction: float, cells: int = 12) -> str:
    """`▓▓▓▓▓▓▓▓▓░░░`."""
    filled = round(cells * min(1.0, max(0.0, fraction)))
    return "▓" * filled + "░" * (cells - filled)


UNTRUSTED = "untrusted (no sandbox)"


def mistrust(*experiments: Experiment) -> str:
    """`untrusted (no sandbox)` when code of any of them could reach beyond its run; "" otherwise."""
    return "" if all(is_trusted(run) for e in experiments for run in e.runs) else UNTRUSTED


def with_mistrust(words: str, experiments: Sequence[Experiment], comma: str = ", ") -> str:
    """Words, and the mark of what is untrusted behind them."""
    return comma.join(filter(None, (words, mistrust(*experiments))))


def score_line(experiment: Experiment) -> str:
    """`val_bpb 1.4312 ± 0.0014 (mean of 2 runs)`, `claimed 0.4012, refused by the audit`; "" without a score.

    Runs that were made after the decision are another figure: `(mean of its 4 runs so far 1.4330 ± 0.0010)`.
    """
    if experiment.val_bpb is None:
        is_refused = experiment.status is Status.REJECTED and experiment.claimed_bpb is not None
        return f"claimed {bpb(experiment.claimed_bpb)}, refused by the audit" if is_refused else ""
    words = f"val_bpb {with_its_error(experiment.val_bpb, experiment.standard_error)}"
    note = "; ".join(_means(experiment))
    return with_mistrust(f"{words} ({note})" if note else words, [experiment])


def _means(experiment: Experiment) -> list[str]:
    """`mean of 2 runs`; and what later runs say, which is another figure: `mean of its 4 runs so far 1.4330 ± ...`."""
    judged, runs = len(experiment.judged_runs), len(experiment.scores)
    means = [f"mean of {judged} runs"] if judged > 1 else []
    if judged and judged < runs:
        mean = with_its_error(experiment.mean_bpb, experiment.mean_standard_error)
        means.append(f"mean of its {runs} runs so far {mean}")
    return means


def with_its_error(score: float | None, error: float | None) -> str:
    """`1.4312 ± 0.0014`."""
    return f"{bpb(score)} ± {error:.4f}" if error else bpb(score)


def status_line(experiment: Experiment, facts: dict[str, Any]) -> str:
    """The line under a notebook's title: status, score, difference, budget, hardware, date."""
    parts = [
        f"**{experiment.status}**" if experiment.status else "running",
        score_and_difference(experiment),
        f"{facts['time_budget_seconds']:g} s on {facts['hardware']['device_name']}",
        clock(experiment.decided_at) if experiment.decided_at else "",
    ]
    return " · ".join(filter(None, parts))


def verdict(experiment: Experiment, run: Run, facts: dict[str, Any]) -> str:
    """The last cell of an experiment's notebook, as Markdown: what was decided and on what grounds."""
    rows = [("decision", f"**{experiment.status}**: {experiment.reason}"), *grounds(experiment, run, facts)]
    lines = ["## Verdict", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {inert(value)} |" for name, value in rows if value]
    return "\n".join(lines) + "\n"


def _run_words(run: Run) -> str:
    """`1.4312 (seed 101)`, with the kind of machine where it is not the study's own."""
    return f"{bpb(run.val_bpb)} (seed {run.seed}{f', on {run.machine}' if run.machine else ''})"


def grounds(experiment: Experiment, run: Run, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What a decision rests on, name and value; "" where there is nothing to say."""
    corpus, commit = facts["corpus"], f", commit {experiment.commit[:10]}" if experiment.commit else ""
    sizes = f"vocabulary {corpus['vocab_size']}, context {corpus['sequence_length']}"
    return [
        ("score", score_line(experiment)),
        ("each run", ", ".join(_run_words(r) for r in experiment.runs if r.val_bpb is not None)),
        ("seeds", str(experiment.details.get("seeds") or "")),
        ("compared", comparison(experiment)),
        ("duel", _duel(run)),
        ("scored", _scored(run, facts)),
        ("audit", audits_words(experiment)),
        ("training", _training(run)),
        ("machine", _machine(run)),
        ("sandbox", UNTRUSTED if not is_trusted(run) else run.sandbox or ""),
        ("seconds", _seconds(run)),
        ("corpus", f"{corpus['corpus']}, content {corpus['content_sha256'][:12]}, {sizes}"),
        ("code", f"train.py sha256 {experiment.train_sha256[:12]}{commit}"),
    ]


def _duel(run: Run) -> str:
    """With which run it took turns on the machine; "" for a run alone."""
    if run.duel is None:
        return ""
    number, index = run.duel
    stopped = run.measured.get("stopped_seconds")
    words = f"in turns with run {index + 1} of experiment {number:04d}, whose curve is in the same picture"
    return words + (f"; it was stopped for {stopped:.1f} s of it" if stopped else "")


def _scored(run: Run, facts: dict[str, Any]) -> str:
    scored = run.measured.get("scored", {})
    if run.val_bpb is None and run.claimed_bpb is None:
        return f"not scored: {run.reason}" if run.reason else "not scored"
    return (
        f"in a process of its own, {facts['scoring']['dtype']} on {facts['scoring']['device']}: "
        f"{thousands(scored['num_tokens'])} tokens, {thousands(scored['num_bytes'])} bytes of held-out text"
        if scored
        else ""
    )


def audit_words(run: Run) -> str:
    """What the audit said of a run's claim, and by how much it corrected it; "" where none was made."""
    if run.audit is None:
        return ""
    audit, claim = run.audit, f"claimed {bpb(run.claimed_bpb)}"
    if not audit.accepted:
        places = f"{thousands(audit.num_mismatches)} of {count(audit.num_cuts, 'place')} say something else"
        return f"refused ({claim})" + (f": {places} when what follows is hidden" if audit.num_mismatches else "")
    if audit.correction_bpb == 0:
        return f"accepted: {count(audit.num_cuts, 'place')} say the same when what follows is hidden"
    return (
        f"accepted: {claim}, corrected by {signed(audit.correction_bpb, 5)} ± {audit.standard_error:.5f} "
        f"from {count(audit.num_cuts, 'place')} where what follows is hidden"
    )


def audits_words(experiment: Experiment) -> str:
    """What audits said of its runs, each with its number where there are several; "" where none was made."""
    runs = [run for run in experiment.runs if run.audit is not None]
    if len(experiment.runs) == 1:
        return audit_words(runs[0]) if runs else ""
    return "; ".join(f"run {run.index + 1} {audit_words(run)}" for run in runs)


def _training(run: Run) -> str:
    m = run.measured
    parts = [
        f"{thousands(m['num_steps'])} steps" if m.get("num_steps") else "",
        f"{m['num_tokens'] / 1e6:.2f} M tokens" if m.get("num_tokens") else "",
        speed_words(m.get("tokens_per_second")),
        f"{m['num_params'] / 1e6:.2f} M parameters" if m.get("num_params") else "",
        f"{peak:.0f} MB at most" if (peak := peak_memory_mb(run)) else "",
        f"MFU {m['mfu_percent']:.1f} %" if m.get("mfu_percent") else "",
        f"dev {bpb(m['dev_bpb'])} bpb" if m.get("dev_bpb") else "",
    ]
    return " · ".join(filter(None, parts))


def _machine(run: Run) -> str:
    """What a reader must know of the machine to trust the run; "" when there was nothing."""
    speed = number(run.measured.get("relative_speed"))
    parts = [f"an earlier training did not count: {plain(reason)}" for reason in run.interruptions]
    if speed is not None and abs(speed - 1) > STEADY:
        parts.append(f"{speed:.2f} × as fast as the incumbent's runs")
    return " · ".join(parts)


SECONDS = (
    ("start_up_seconds", "start-up"),
    ("training_seconds", "training"),
    ("evaluation_seconds", "dev score and hand-over"),
    ("shutdown_seconds", "shutdown"),
    ("scoring_seconds", "scoring"),
    ("audit_seconds", "audit"),
)


def _seconds(run: Run) -> str:
    """All seconds of a run accounted for; "in all" is the run's own clock plus the scorers'."""
    measured = run.measured | ({"audit_seconds": run.audit.seconds} if run.audit else {})
    parts = [f"{name} {measured[key]:.1f}" for key, name in SECONDS if measured.get(key) is not None]
    total = sum(measured.get(key) or 0.0 for key in ("total_seconds", "scoring_seconds", "audit_seconds"))
    return " · ".join([*parts, f"in all {total:.1f}"]) if total else ""


def outcome_line(experiment: Experiment) -> str:
    """One experiment in the terminal: number, status, score, difference, idea."""
    score = bpb(experiment.val_bpb) if experiment.val_bpb is not None else "–"
    compared = experiment.compared
    against = f"against {bpb(compared.theirs)}  {compared.words}" if compared else ""
    why = f"   [{plain(experiment.reason)}]" if experiment.val_bpb is None else ""
    word = "baseline" if is_kept_baseline(experiment) else experiment.status or ""
    status = f"{experiment.number:04d} {sign(experiment):<1} {word:<11}"
    return with_mistrust(f"{status} {score:>7}  {against:<42} {idea(experiment)}{why}", [experiment], " · ")


SPARKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 40, low: float | None = None, high: float | None = None) -> str:
    """Values as a row of blocks, high is high; the last `width` of them, from `low` to `high` or their own extremes."""
    values = values[-width:]
    if not values:
        return ""
    low = min(values) if low is None else low
    span = ((max(values) if high is None else high) - low) or 1.0
    shares = [min(1.0, max(0.0, (value - low) / span)) for value in values]
    return "".join(SPARKS[round(share * (len(SPARKS) - 1))] for share in shares)


def is_ended_early(experiment: Experiment) -> bool:
    """Whether it was discarded without a score because its curve had no hope."""
    return experiment.status is Status.DISCARD and experiment.val_bpb is None


def is_kept_baseline(experiment: Experiment) -> bool:
    """Whether it is the baseline, in use: the record says `keep` of it, and there was nothing to keep it against."""
    return experiment.parent is None and experiment.status is Status.KEEP


def status_word(experiment: Experiment) -> str:
    """`keep`, `discard`, `ended early`, `baseline`, `not decided`: how it ended, in a person's words."""
    if is_kept_baseline(experiment):
        return "baseline"
    return "ended early" if is_ended_early(experiment) else str(experiment.status or "not decided")


def sign(experiment: Experiment) -> str:
    """`●` for a keep, `◆` for the baseline, as they are drawn; "" for the others."""
    if is_kept_baseline(experiment):
        return "◆"
    return "●" if experiment.status is Status.KEEP else ""


def curve_words(curve: list[dict[str, Any]]) -> str:
    """What the picture of a curve shows, for readers without pictures."""
    losses = [point["train_loss"] for point in curve if point.get("train_loss") is not None]
    if not losses:
        return "No training step was recorded."
    return f"Train loss {losses[0]:.3f} at the first of {len(losses)} points, {losses[-1]:.3f} at the last."
