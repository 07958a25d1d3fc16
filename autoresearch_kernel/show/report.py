"""The words around an experiment and a study: title, heading, verdict, what it found, how it stands. Pure text.

Numbers have one form everywhere: bits per byte with four decimals, thousands apart, a real minus. What an agent or
a training wrote is shown without control characters, so that it cannot play with the reader's terminal.
"""

from __future__ import annotations

import html
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..judge.decide import NUM_BASELINE_RUNS, best
from ..judge.drift import STEADY
from ..record.experiment import Experiment, Run, Status
from ..record.history import peak_memory_mb
from ..record.state import StudyState

if TYPE_CHECKING:
    from .live import Snapshot

THIN_SPACE = "\u2009"
MINUS = "\u2212"


def plain(text: str) -> str:
    """One line without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def number(value: Any) -> float | None:
    """A finite number of sensible size; None for anything else that may stand in a curve."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and -1e15 < value < 1e15
    return float(value) if is_number else None


def last_number(curve: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The latest usable value of a quantity in a curve."""
    return next((value for point in reversed(curve) if (value := number(point.get(name))) is not None), None)


def bpb(value: float | None) -> str:
    """`1.4312`, or a dash when there is none."""
    return "–" if value is None else f"{value:.4f}"


def signed(value: float, decimals: int = 4) -> str:
    """`+0.0021` or `−0.0124`."""
    return f"{value:+.{decimals}f}".replace("-", MINUS)


def thousands(value: float) -> str:
    """`131 072`, with thin spaces."""
    return f"{value:,.0f}".replace(",", THIN_SPACE)


def percent(share: float) -> str:
    """`62 %`."""
    return f"{share:.0%}".replace("%", " %")


def count(number: int, noun: str) -> str:
    """`1 experiment`, `2 experiments`, `2 processes`."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{thousands(number)} {noun}{'' if number == 1 else plural}"


def idea(experiment: Experiment) -> str:
    """What was tried, in a few words: `MATRIX_LR 0.04 → 0.055`, else the first line of the hypothesis."""
    previous, changes = experiment.details.get("previous"), experiment.changes
    if changes and isinstance(previous, Mapping) and set(changes) <= set(previous):
        return ", ".join(f"{name} {_literal(previous[name])} → {_literal(new)}" for name, new in changes.items())
    if changes:
        return ", ".join(f"{name} = {_literal(new)}" for name, new in changes.items())
    lines = experiment.hypothesis.strip().splitlines()
    return (plain(lines[0]).rstrip(".") if lines else "") or "no hypothesis given"


def _literal(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def title(experiment: Experiment) -> str:
    """`0010 · Halve the batch: 4096 → 2048 tokens a step`."""
    return f"{experiment.number:04d} · {idea(experiment)}"


def difference(experiment: Experiment) -> str:
    """Against the incumbent it was judged against: `−0.0124 (−5.8 σ)`; "" without one."""
    delta = experiment.delta_bpb
    if delta is None:
        return ""
    return signed(delta) + (f" ({signed(delta / experiment.sigma, 1)} σ)" if experiment.sigma else "")


def score_line(experiment: Experiment) -> str:
    """`val_bpb 1.4312 ± 0.0014 (mean of 2 runs)`; "" without a score."""
    if experiment.val_bpb is None:
        return ""
    error = f" ± {experiment.standard_error:.4f}" if experiment.standard_error else ""
    runs = len([run for run in experiment.runs if run.val_bpb is not None])
    return f"val_bpb {bpb(experiment.val_bpb)}{error}" + (f" (mean of {runs} runs)" if runs > 1 else "")


def status_line(experiment: Experiment, facts: dict[str, Any]) -> str:
    """The line under a notebook's title: status, score, difference, budget, hardware, date."""
    against = f"{difference(experiment)} against {experiment.parent:04d}" if experiment.delta_bpb is not None else ""
    parts = [
        f"**{experiment.status}**" if experiment.status else "running",
        score_line(experiment),
        against,
        f"{facts['time_budget_seconds']:g} s on {facts['hardware']['device_name']}",
        experiment.decided_at.replace("T", " ")[:16] + " UTC" if experiment.decided_at else "",
    ]
    return " · ".join(part for part in parts if part)


def verdict(experiment: Experiment, run: Run, facts: dict[str, Any]) -> str:
    """The last cell of an experiment's notebook, as Markdown: what was decided and on what grounds."""
    rows = [
        ("decision", f"**{experiment.status}**: {experiment.reason}"),
        ("score", score_line(experiment)),
        ("each run", ", ".join(f"{bpb(r.val_bpb)} (seed {r.seed})" for r in experiment.runs if r.val_bpb is not None)),
        ("difference", difference(experiment)),
        ("scored", _scored(run, facts)),
        ("training", _training(run)),
        ("machine", _machine(run)),
        ("seconds", _seconds(run)),
        ("corpus", _corpus(facts)),
        ("code", _code(experiment)),
    ]
    lines = ["## Verdict", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in rows if value]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text in a table of Markdown. An agent's words are in it: no HTML, no picture from elsewhere, no new column."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return escaped.replace("&gt;", ">").replace("![", "!\\[").replace("|", "\\|")


def _scored(run: Run, facts: dict[str, Any]) -> str:
    scored = run.measured.get("scored", {})
    if run.val_bpb is None:
        return f"not scored: {run.reason}" if run.reason else "not scored"
    return (
        f"in a process of its own, {facts['scoring']['dtype']} on {facts['scoring']['device']}: "
        f"{thousands(scored['num_tokens'])} tokens, {thousands(scored['num_bytes'])} bytes of held-out text"
        if scored
        else ""
    )


def _training(run: Run) -> str:
    m = run.measured
    parts = [
        f"{thousands(m['num_steps'])} steps" if m.get("num_steps") else "",
        f"{m['num_tokens'] / 1e6:.2f} M tokens" if m.get("num_tokens") else "",
        f"{m['tokens_per_second'] / 1e3:.1f} k tokens/s" if m.get("tokens_per_second") else "",
        f"{m['num_params'] / 1e6:.2f} M parameters" if m.get("num_params") else "",
        f"{peak:.0f} MB at most" if (peak := peak_memory_mb(run)) else "",
        f"MFU {m['mfu_percent']:.1f} %" if m.get("mfu_percent") else "",
        f"dev {bpb(m['dev_bpb'])} bpb" if m.get("dev_bpb") else "",
    ]
    return " · ".join(part for part in parts if part)


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
)


def _seconds(run: Run) -> str:
    """All seconds of a run accounted for; "in all" is the run's own clock plus the scorer's."""
    parts = [f"{name} {run.measured[key]:.1f}" for key, name in SECONDS if run.measured.get(key) is not None]
    total = sum(run.measured.get(key) or 0.0 for key in ("total_seconds", "scoring_seconds"))
    return " · ".join([*parts, f"in all {total:.1f}"]) if total else ""


def _corpus(facts: dict[str, Any]) -> str:
    corpus = facts["corpus"]
    return (
        f"{corpus['corpus']}, content {corpus['content_sha256'][:12]}, vocabulary {corpus['vocab_size']}, "
        f"context {corpus['sequence_length']}"
    )


def _code(experiment: Experiment) -> str:
    commit = f", commit {experiment.commit[:10]}" if experiment.commit else ""
    return f"train.py sha256 {experiment.train_sha256[:12]}{commit}"


def outcome_line(experiment: Experiment) -> str:
    """One experiment in the terminal: number, status, score, difference, idea."""
    score = bpb(experiment.val_bpb) if experiment.val_bpb is not None else "–"
    against = difference(experiment)
    mark = "●" if experiment.status is Status.KEEP else " "
    why = f"   [{experiment.reason}]" if experiment.val_bpb is None else ""
    status = f"{experiment.number:04d} {mark} {experiment.status or '':<11}"
    return f"{status} {score:>7}  {against:<18} {idea(experiment)}{why}"


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


def running_best(experiments: Sequence[Experiment]) -> list[float]:
    """The incumbent's recorded score after each decided experiment, in bits per byte."""
    best: list[float] = []
    for experiment in experiments:
        if experiment.status is Status.KEEP and experiment.val_bpb is not None:
            best.append(experiment.val_bpb)
        elif experiment.status is not None and best:
            best.append(best[-1])
    return best


def is_ended_early(experiment: Experiment) -> bool:
    """Whether it was discarded without a score because its curve had no hope."""
    return experiment.status is Status.DISCARD and experiment.val_bpb is None


def curve_words(curve: list[dict[str, Any]]) -> str:
    """What the picture of a curve shows, for readers without pictures."""
    losses = [point["train_loss"] for point in curve if point.get("train_loss") is not None]
    if not losses:
        return "No training step was recorded."
    return f"Train loss {losses[0]:.3f} at the first of {len(losses)} points, {losses[-1]:.3f} at the last."


def findings(state: StudyState, finished: dict[str, Any] | None) -> str:
    """What a study has found, in a sentence or two; `finished` is its last `finished` event."""
    champion = best(state.experiments)
    if champion is None or champion.val_bpb is None:
        return "The baseline is not measured yet."
    baseline = state.experiments[0]
    if champion.number == 0:
        return f"Nothing has beaten the baseline, {score_line(baseline)}, yet."
    words = f"Best: {title(champion)}\n  {score_line(champion)}, the baseline's {bpb(baseline.val_bpb)}"
    if finished is None or finished.get("champion") != champion.number:
        assert baseline.val_bpb is not None
        return f"{words}: {signed(champion.val_bpb - baseline.val_bpb)} so far."
    error = finished["difference_standard_error"]
    words += f": {signed(finished['difference_bpb'])}" + (f" ± {error:.4f}" if error is not None else "")
    if finished["baseline_test_bpb"] is not None and finished["champion_test_bpb"] is not None:
        gain = finished["champion_test_bpb"] - finished["baseline_test_bpb"]
        words += f".\n  On the sealed test split, one model each: {signed(gain)}"
    return words + "."


# --- how a study stands: for `autoresearch status`

BAR_CELLS, CURVE_CELLS = 12, 40
STEEP = 0.25  # share of what there is of a curve that may leave through the top, so that the rest is drawn to scale
SMOOTH = 0.05  # share of a run over which a loss is averaged before two runs are compared
MOST_NOTES = 3  # notes and commands each
WIDEST = 120  # columns; beyond, the eye loses the row


def status_table(now: Snapshot, last: int = 20, width: int = 80) -> str:
    """A study at this moment: what runs and how far, what to do next, the last experiments, what was found."""
    width = min(width, WIDEST)
    lines = [*_first_lines(now, width), *_running_lines(now), *_wrapped(next_step(now), width)]
    lines += [*_notes(now, width), _best_line(now), *_table(now, last, width)]
    lines += [part for line in findings(now.state, now.finished).splitlines() for part in _wrapped(line, width)]
    return "\n".join(line for line in lines if line)


def _first_lines(now: Snapshot, width: int) -> list[str]:
    """`nov23  ● training 0012  ▓▓▓▓▓▓▓▓▓░░░ 41 s left      3 h 12 min in · 11.4/h`, and what the study is."""
    left = f"{now.study.name}  {'●' if now.is_running else '○'} {_doing(now)}"
    if now.activity == "training":
        left += f"  {bar(now.fraction)} {duration(now.seconds_left or 0)} left"
    facts, experiments = now.study.facts, now.state.experiments
    kept = sum(e.status is Status.KEEP for e in experiments[1:])
    rate, speed = now.experiments_per_hour, now.tokens_per_second
    since = [f"{duration(now.supervisor_seconds)} in", f"{rate:.1f}/h" if rate else ""] if now.is_running else []
    right = " · ".join(part for part in since if part)
    below = [
        f"agent {now.study.agent}",
        f"{count(max(0, len(experiments) - 1), 'experiment')}, {kept} kept",
        f"{facts['corpus']['corpus']}, {facts['time_budget_seconds']:g} s a run",
        f"{speed / 1e3:.1f} k tokens/s" if speed and now.activity else "",
    ]
    gap = width - columns(left) - columns(right)
    if gap < 2:
        below, right, gap = [right, *below], "", 0
    return [left + " " * gap + right if right else left, _fit(" · ".join(part for part in below if part), width)]


def _doing(now: Snapshot) -> str:
    """The phase and what it is about: `training 0012`, `measuring the baseline, run 2 of 3`."""
    if now.experiment is None or not now.activity:
        return now.phase
    step = f": {now.activity}" if now.activity not in (now.phase, "training") else ""
    if now.phase == "measuring the baseline":
        run = now.run.index + 1 if now.run else 1
        return f"{now.phase}, run {run}" + (f" of {NUM_BASELINE_RUNS}" if run <= NUM_BASELINE_RUNS else "") + step
    again = " again" if now.run is not None and now.run.index > 0 and now.experiment.status is None else ""
    return f"{now.phase} {now.experiment.number:04d}{again}{step}"


def bar(fraction: float, cells: int = BAR_CELLS) -> str:
    """`▓▓▓▓▓▓▓▓▓░░░`."""
    filled = round(cells * min(1.0, max(0.0, fraction)))
    return "▓" * filled + "░" * (cells - filled)


def duration(seconds: float) -> str:
    """`41 s`, `12 min`, `3 h 12 min`, `2 d 3 h`."""
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def next_step(now: Snapshot) -> str:
    """Why a study does not go on, since when, and what a person can do; "" while it runs as it should."""
    name, state = now.study.name, now.state
    ago = f"{duration(max(0.0, now.time - _seconds_of(now.last_event_at)))} ago" if now.last_event_at else ""
    if state.paused and now.is_running:
        goes_on = f"`autoresearch resume --name {name}` goes on." if state.paused.startswith("by ") else ""
        return f"Paused{' ' if goes_on else ': '}{plain(state.paused)}. {goes_on}".rstrip()
    if now.phase == "gone":
        during = f", while it was at {now.experiment.number:04d}" if now.experiment is not None else ""
        paused = ", while it was paused" if state.paused else during
        return (
            f"The supervisor is gone since {_clock(now.last_event_at)} ({ago}){paused}. "
            f"`autoresearch run --name {name}` goes on where it ended."
        )
    again = f"`autoresearch run --name {name}`"
    if now.phase == "stopped":
        return f"Stopped {ago}: {plain(state.stopped)}. {again} goes on."
    if now.phase == "finished":
        return f"Finished {ago}: {plain(state.finished or '')}. {again} goes on."
    return f"{again} starts it." if now.phase == "not started" else ""


def _clock(utc: str) -> str:
    return f"{utc.replace('T', ' ')[:16]} UTC"


def _seconds_of(utc: str) -> float:
    return datetime.fromisoformat(utc).timestamp()


def _running_lines(now: Snapshot) -> list[str]:
    """The experiment in words, and its curve above the incumbent's: a cell is the same share of both runs."""
    if now.experiment is None or not now.activity:
        return []
    lines = [_fit(title(now.experiment), 80)]
    if now.rerun_reason:
        lines.append(_fit(f"  once more, because {plain(now.rerun_reason)}", 80))
    reached = min(1.0, max(0.0, last_number(now.curve, "progress") or 0.0))
    mine, theirs = _cells(now.curve, reached), _cells(now.incumbent_curve, reached)
    if not mine:
        return lines
    settled = [loss for row in (mine, theirs) for loss in row[int(STEEP * len(row)) :]]
    scale = min(settled), max(settled)
    lines.append(f"  this run   {sparkline(mine, CURVE_CELLS, *scale):<{CURVE_CELLS}}  {_loss(now.curve, reached)}")
    if theirs and now.incumbent is not None:
        name = "first run" if now.incumbent.number == now.experiment.number else f"{now.incumbent.number:04d}"
        words = f"{_loss(now.incumbent_curve, reached)} at {percent(reached)}"
        lines.append(f"  {name:<9}  {sparkline(theirs, CURVE_CELLS, *scale):<{CURVE_CELLS}}  {words}")
    return lines


def _losses(curve: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """(progress, train_loss) of the points that have both."""
    points = [(number(point.get("progress")), number(point.get("train_loss"))) for point in curve]
    return [(progress, loss) for progress, loss in points if progress is not None and loss is not None]


def _cells(curve: Sequence[Mapping[str, Any]], reached: float) -> list[float]:
    """Mean train_loss in each CURVE_CELLS-th of a run, up to `reached`; an empty one repeats the one before."""
    cells: list[list[float]] = [[] for _ in range(max(1, round(reached * CURVE_CELLS)))]
    for progress, loss in _losses(curve):
        cell = min(CURVE_CELLS - 1, int(max(0.0, progress) * CURVE_CELLS))
        if cell < len(cells):
            cells[cell].append(loss)
    means: list[float] = []
    for losses in cells:
        if losses:
            means.append(sum(losses) / len(losses))
        elif means:
            means.append(means[-1])
    return means


def _loss(curve: Sequence[Mapping[str, Any]], reached: float) -> str:
    """`loss 3.214` around one moment of a run."""
    near = [loss for progress, loss in _losses(curve) if reached - SMOOTH <= progress <= reached]
    return f"loss {sum(near) / len(near):.3f}" if near else ""


def _notes(now: Snapshot, width: int) -> list[str]:
    """What people asked and what the supervisor noted, the last of each."""
    events = sorted([*now.commands[-MOST_NOTES:], *now.notes[-MOST_NOTES:]], key=lambda event: event["seq"])
    words = [plain(event["text"]) if event["event"] == "note" else command_line(event) for event in events]
    return [
        _fit(f"{_ago(event['time'], now.time)} ago: {text}", width) for event, text in zip(events, words, strict=True)
    ]


def command_line(event: Mapping[str, Any]) -> str:
    """A recorded command with its answer: `ann@host: pause → pauses after experiment 0012`."""
    words = f" “{plain(event['text'])}”" if event["text"] else ""
    return f"{plain(event['by'])}: {event['command']}{words} → {plain(event['answer'])}"


def _best_line(now: Snapshot) -> str:
    best_so_far = running_best(now.state.experiments)
    return f"best so far {sparkline(best_so_far)} {bpb(best_so_far[-1])}" if best_so_far else ""


def _table(now: Snapshot, last: int, width: int) -> list[str]:
    """The last experiments. Differences in sigma; a wide terminal has them in bits per byte as well."""
    experiments = now.state.experiments
    if not experiments:
        return []
    delta_width = 17 if width >= 96 else 8
    words_width = width - delta_width - 49
    lines = [
        f"{'#':>4}  {'what changed':<{words_width}}  {'val_bpb':>7}  {'Δ (σ)':>{delta_width}}  {'tokens/s':>8}  "
        f"{'status':<11} {'when':>8}"
    ]
    if len(experiments) > last:
        lines.append(f"      … {count(len(experiments) - last, 'experiment')} before these")
    for experiment in experiments[-last:]:
        words = _pad(_fit(idea(experiment), words_width), words_width)
        delta = difference(experiment) if delta_width > 8 else _sigmas(experiment)
        when = _ago(experiment.decided_at, now.time) if experiment.decided_at else "now" if now.activity else ""
        lines.append(
            f"{experiment.number:>4}  {words}  {bpb(experiment.val_bpb):>7}  {delta:>{delta_width}}  "
            f"{_speed(experiment, now):>8}  {_status(experiment, now):<11} {when:>8}".rstrip()
        )
    return lines


def _sigmas(experiment: Experiment) -> str:
    """`−5.8 σ`, in bits per byte while sigma is not known."""
    delta = experiment.delta_bpb
    if delta is None:
        return ""
    return f"{signed(delta / experiment.sigma, 1)} σ" if experiment.sigma else signed(delta)


def _speed(experiment: Experiment, now: Snapshot) -> str:
    """Tokens a second of the last run that knows it."""
    speeds = [speed for run in experiment.runs if (speed := number(run.measured.get("tokens_per_second")))]
    if now.experiment is not None and now.experiment.number == experiment.number and now.tokens_per_second:
        speeds.append(now.tokens_per_second)
    return f"{speeds[-1] / 1e3:.1f} k" if speeds else "–"


def _status(experiment: Experiment, now: Snapshot) -> str:
    if experiment.status is None:
        return (now.activity or "waits") if now.is_running else "unfinished"
    if is_ended_early(experiment):
        return "ended early"
    return f"{experiment.status}{' ●' if experiment.status is Status.KEEP else ''}"


def _ago(utc: str, now: float) -> str:
    """`3 min`, `2 h`: one number."""
    seconds = max(0.0, now - _seconds_of(utc))
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def columns(text: str) -> int:
    """Columns that a text takes in a terminal: East Asian characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def _fit(text: str, width: int) -> str:
    """The text, shortened to `width` columns."""
    if columns(text) <= width:
        return text
    while columns(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def _pad(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def status_json(now: Snapshot) -> dict[str, Any]:
    """The same for scripts. Keys are only ever added.

    name, phase, activity        see `show/live.py`: Snapshot
    next_step                    what a person can do; "" while it runs as it should
    holder                       pid, host, boot_id, since of the process that runs it; null when none does
    paused, stopped              why; "" when it is not
    finished                     the last `finished` event: champion, difference_bpb ...; null before one
    running                      experiment, run, seed, idea, hypothesis, fraction, seconds_left, tokens_per_second,
                                 curve and incumbent_curve (progress, seconds, train_loss, tokens_per_second a point),
                                 incumbent; null when nothing is in work
    best, best_val_bpb, sigma    number and score of the incumbent, run-to-run standard deviation
    study_seconds, supervisor_seconds, experiments_per_hour, agent
    notes, commands              of this supervisor, oldest first, as recorded
    hints                        all that people said to the agent
    experiments                  every one, with its runs
    study                        study.json
    """
    state = now.state
    best_so_far = running_best(state.experiments)
    return {
        "name": now.study.name,
        "phase": now.phase,
        "activity": now.activity,
        "next_step": next_step(now),
        "holder": now.holder,
        "paused": state.paused,
        "stopped": state.stopped,
        "finished": now.finished,
        "running": _running(now) if now.is_running else None,
        "best": state.incumbent.number if state.incumbent else None,
        "best_val_bpb": best_so_far[-1] if best_so_far else None,
        "sigma": state.sigma,
        "study_seconds": now.study_seconds,
        "supervisor_seconds": now.supervisor_seconds,
        "experiments_per_hour": now.experiments_per_hour,
        "agent": now.study.agent,
        "notes": list(now.notes),
        "commands": list(now.commands),
        "hints": list(state.hints),
        "experiments": [asdict(e) for e in state.experiments],
        "study": now.study.facts,
    }


CURVE_KEYS = ("progress", "seconds", "train_loss", "tokens_per_second")


def _running(now: Snapshot) -> dict[str, Any] | None:
    if now.experiment is None:
        return None
    return {
        "experiment": now.experiment.number,
        "run": now.run.index if now.run else 0,
        "seed": now.run.seed if now.run else None,
        "idea": idea(now.experiment),
        "hypothesis": now.experiment.hypothesis,
        "fraction": now.fraction,
        "seconds_left": now.seconds_left,
        "tokens_per_second": now.tokens_per_second,
        "curve": _plain_curve(now.curve),
        "incumbent": now.incumbent.number if now.incumbent else None,
        "incumbent_curve": _plain_curve(now.incumbent_curve),
    }


def _plain_curve(curve: Sequence[Mapping[str, Any]]) -> list[dict[str, float | None]]:
    """Finite numbers only: a training may write anything, and JSON knows no NaN."""
    return [{key: number(point.get(key)) for key in CURVE_KEYS} for point in curve]
