"""How a study stands, for `autoresearch status`: a table, the same for scripts, and what to do next. Pure text."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..core.attribution import effects
from ..core.decide import MOST_BASELINE_RUNS, NUM_BASELINE_RUNS, NUM_FRESH_RUNS, mean
from ..core.format import bpb, clock, duration, last_number, number, percent, plain, with_error
from ..core.next_step import late_scores
from ..core.state import Review, StudyState
from ..core.types import Experiment
from ..record.study import Study
from ..system.files import seconds_of
from ..system.shell import shell_command
from .attribution_words import attribution_lines, progress_words
from .cost import spent_words
from .snapshot import WAITING_FOR_MACHINE, WAITING_FOR_QUIET, Snapshot
from .study_words import (
    count_with_baseline,
    counts,
    findings,
    incumbent_scores,
    machine_words,
    quiet_words,
    sealed_words,
    waiting_words,
)
from .words import (
    UNTRUSTED,
    audits_words,
    bar,
    difference,
    idea,
    last_speed,
    losses,
    mistrust,
    sign,
    sparkline,
    speed_words,
    status_word,
    title,
)  # fmt: skip

CURVE_CELLS = 40
STEEP = 0.25  # share of what there is of a curve that may leave through the top, so that the rest is drawn to scale
SMOOTH = 0.05  # share of a run over which a loss is averaged before two runs are compared
MOST_NOTES = 3  # notes and commands each
MOST_WRITTEN = 7  # lines with what the agent writes now
WIDE, WIDEST = 110, 120  # columns: where sigma, speed and age have room; beyond which the eye loses the row


def status_table(now: Snapshot, last: int = 20, width: int = 80) -> str:
    """A study at this moment: what runs and how far, what to do next, the last experiments, what was found."""
    width = min(width, WIDEST)
    result = sealed_words(now.state)  # first: all that follows are validation figures
    lines = [*_first_lines(now, width), *_wrapped(result, width)]
    lines += [_fit(line, width) for line in slot_lines(now)]
    lines += [*_running_lines(now), *writing_lines(now.agent_writes, width)]
    lines += [*_wrapped(next_step(now), width), *_wrapped(_mistrust(now), width)]
    scores = incumbent_scores(now.state.experiments)
    lines += [*_notes(now, width), f"incumbent {sparkline(scores)} {bpb(scores[-1])}" if scores else ""]
    lines += [*_table(now, last, width), *_audits(now, last, width)]
    lines += _wrapped(findings(now.state, now.finished, name=now.study.name).removeprefix(result).lstrip(), width)
    lines += _wrapped("\n".join(attribution_lines(now.state)), width)
    lines += _wrapped(machine_words(now.state), width)
    return "\n".join(filter(None, lines))


def _mistrust(now: Snapshot) -> str:
    """What ran without a sandbox, in a sentence; "" when nothing did."""
    found = [e for e in now.state.experiments if mistrust(e)]
    if not found:
        return ""
    without = f"{count_with_baseline(found)} ran without a sandbox, where code can reach all that you can"
    return f"{UNTRUSTED.capitalize()}: {without}. `{shell_command('doctor')}` says what is missing."


def _audits(now: Snapshot, last: int, width: int) -> list[str]:
    """What the audit refused or corrected of the experiments in the table, a line each."""
    found = [e for e in now.state.experiments[-last:] if e.refusal is not None or e.correction_bpb]
    return _wrapped("\n".join(f"{e.number:04d}, audit: {audits_words(e)}" for e in found[-MOST_NOTES:]), width)


def _first_lines(now: Snapshot, width: int) -> list[str]:
    """`nov23  ● training 0012  ▓▓▓▓▓▓▓▓▓░░░ 41 s left      3 h 12 min in · 11.4/h`, and what the study is."""
    left = f"{now.study.name}  {'●' if now.is_running else '○'} {doing(now)}"
    if now.activity == "training" and now.experiment is not None:
        left += f"  {bar(now.fraction)} {duration(now.seconds_left or 0)} left"
    since = [f"{duration(now.supervisor_seconds)} in", rate_words(now, "/h")] if now.is_running else []
    right = " · ".join(filter(None, since))
    agent, spent = f"agent {agent_words(now)}", spent_words(now.state.spent, now.state.limits)
    below = ["" if spent else agent, *figures(now)]
    gap = width - columns(left) - columns(right)
    if gap < 2:
        below, right, gap = [right, *below], "", 0
    lines = [left + " " * gap + right if right else left, " · ".join(filter(None, below))]
    return [_fit(line, width) for line in (*lines, f"{agent} · {spent}" if spent else "")]


def figures(now: Snapshot) -> list[str]:
    """How many experiments there are, on what they train, and how fast the present one does."""
    corpus = f"{now.study.facts['corpus']['corpus']}, {now.study.time_budget_seconds:g} s a run"
    return [counts(now.state.experiments), corpus, speed_words(now.tokens_per_second) if now.activity else ""]


def rate_words(now: Snapshot, unit: str) -> str:
    """`11.4/h`, with several slots `21.3/h, one slot 11.4`; "" where it is not known yet."""
    rate, alone = now.experiments_per_hour, now.one_slot_per_hour
    if not rate:
        return ""
    return f"{rate:.1f}{unit}" + (f", one slot {alone:.1f}" if alone else "")


def slot_lines(now: Snapshot) -> list[str]:
    """`core 0   training 0012, run 2  ▓▓▓▓▓▓▓▓▓░░░ 41 s left  1.2 h at work`, for each slot.

    [] for a machine that is not divided.
    """
    width = max((columns(str(slot["slot"])) for slot in now.slots), default=0)
    lines = []
    for slot in now.slots:
        doing = slot["phase"] or "waits"
        if slot["phase"]:
            doing += f" {slot['experiment']:04d}" + (f", run {slot['run'] + 1}" if slot["run"] else "")
        if slot["phase"] == "training":
            done = trained_share(slot, now)
            doing += f"  {bar(done)} {duration((1.0 - done) * now.study.time_budget_seconds)} left"
        hours = now.state.slot_seconds.get(slot["slot"], 0.0) / 3600
        lines.append(
            f"  {plain(str(slot['slot'])):<{width}}  {doing}" + (f"  {hours:.1f} h at work" if hours >= 0.05 else "")
        )
    return lines


def trained_share(slot: Mapping[str, Any], now: Snapshot) -> float:
    """How far the training of a slot is by the clock, 0..1; 0.0 in every other phase."""
    if slot["phase"] != "training":
        return 0.0
    return min(1.0, max(0.0, now.time - seconds_of(slot["since"])) / now.study.time_budget_seconds)


def agent_words(now: Snapshot) -> str:
    """`hybrid, local/qwen`."""
    asked = next((e.details["model"] for e in reversed(now.state.experiments) if e.details.get("model")), None)
    model = asked or (now.study.facts.get("agent_options") or {}).get("model")
    return now.study.agent + (f", {plain(str(model))}" if model else "")


def doing(now: Snapshot) -> str:
    """The phase and what it is about: `training 0012`, `measuring the baseline, run 2 of 3 to 8`."""
    if now.phase == "finishing":
        return _finishing(now)
    if now.phase == "attributing" and now.state.attribution is not None:
        return f"attributing, {progress_words(now.state.attribution)}"
    if now.experiment is None or not now.activity:
        return now.phase
    if now.phase in (WAITING_FOR_MACHINE, WAITING_FOR_QUIET):
        return f"{now.phase} to train {now.experiment.number:04d}"
    step = f": {now.activity}" if now.activity not in (now.phase, "training") else ""
    if now.phase == "measuring the baseline":
        run = now.run.index + 1 if now.run else 1
        of = f" of {NUM_BASELINE_RUNS} to {MOST_BASELINE_RUNS}" if run <= MOST_BASELINE_RUNS else ""
        return f"{now.phase}, run {run}{of}{step}"
    if now.run is not None and now.run.duel is not None and now.activity == "training":
        both = 2 * now.study.time_budget_seconds
        done = f"{both * min(1.0, now.fraction):.0f} of {both:g} s"
        return f"duel: {now.experiment.number:04d} against {now.run.duel[0]:04d}, {done}"
    again = " again" if now.run is not None and now.run.index > 0 and now.experiment.status is None else ""
    return f"{now.phase} {now.experiment.number:04d}{again}{step}"


def _finishing(now: Snapshot) -> str:
    """`finishing, fresh run 5 of 6 (0012): scoring`."""
    both = filter(None, (now.state.experiments[0], now.state.incumbent))
    done = sum(min(NUM_FRESH_RUNS, len(late_scores(e, now.state))) for e in both)
    if done == 2 * NUM_FRESH_RUNS:
        return "finishing: scoring on the sealed test split"
    which = f" ({now.experiment.number:04d})" if now.experiment is not None else ""
    step = f": {now.activity}" if now.activity not in ("training", "") else ""
    return f"finishing, fresh run {done + 1} of {2 * NUM_FRESH_RUNS}{which}{step}"


def next_step(now: Snapshot) -> str:
    """Why a study does not go on, since when, and what a person can do; "" while it runs as it should."""
    name, state = now.study.name, now.state
    if now.damage:
        return standing(now)
    if state.review is not None and now.is_running:
        return wanted(now.study, state.review)
    why, again = standing(now), f"`{shell_command(f'run --name {name}')}`"
    if now.is_finishing and not now.is_running:
        return f"{why} `{shell_command(f'finish --name {name}')}` goes on measuring the result."
    if now.is_attributing and not now.is_running:
        return f"{why} `{shell_command(f'attribute {name}')}` goes on taking out kept changes."
    if now.activity in ("waiting", "quiet"):
        return why
    if state.paused and now.is_running:
        goes_on = f" `{shell_command(f'resume --name {name}')}` goes on."
        return why + (goes_on if state.is_paused_by_person else "")
    if now.phase == "gone":
        return f"{why} {again} goes on where it ended."
    if now.phase in ("stopped", "finished"):
        return f"{why} {again} goes on."
    return f"{again} starts it." if now.phase == "not started" else ""


def standing(now: Snapshot) -> str:
    """Why a study does not go on, and since when, in a sentence; "" while it runs as it should."""
    state = now.state
    if now.damage:
        return now.damage
    ago = f"{duration(max(0.0, now.time - seconds_of(now.last_event_at)))} ago" if now.last_event_at else ""
    if state.review is not None and now.is_running:
        whose = "is yours to write" if state.review.is_draft else "waits for your approval"
        return f"Experiment {state.review.experiment:04d} {whose}."
    if state.paused and now.is_running:
        return f"Paused{' ' if state.is_paused_by_person else ': '}{plain(state.paused)}."
    if now.activity == "waiting" and state.waiting is not None:
        return waiting_words(state.waiting)
    if (busy := state.quiet_wait) is not None and now.activity == "quiet" and now.experiment is not None:
        left = state.quiet_wait_limit - (now.time - seconds_of(busy.time))
        return quiet_words(busy, now.experiment.number, left)
    if now.phase == "gone":
        during = f", while it was at {now.experiment.number:04d}" if now.experiment is not None else ""
        paused = ", while it was paused" if state.paused else during
        return f"The supervisor is gone since {clock(now.last_event_at)} ({ago}){paused}."
    if now.phase == "stopped":
        return f"Stopped {ago}: {plain(state.stopped).rstrip('.')}."
    return f"Finished {ago}: {plain(state.finished or '').rstrip('.')}." if now.phase == "finished" else ""


def wanted(study: Study, review: Review) -> str:
    """What a user should do about the train.py under review."""
    file, approve = study.paths.review, shell_command(f"approve --name {study.name}")
    if review.is_draft:
        return f'Experiment {review.experiment:04d} is yours: edit {file}, then `{approve} --why "your idea"`.'
    return (
        f"Experiment {review.experiment:04d} waits for your approval: {plain(review.hypothesis)} "
        f"`{approve}` lets it train as it lies in {file}, edited or not; "
        f'`{shell_command(f"reject --name {study.name}")} --why "..."` gives it back.'
    )


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


def writing_lines(words: str, width: int, most: int = MOST_WRITTEN) -> list[str]:
    """What the agent writes now: a heading and its last lines, with a bar before each, so that none looks like ours."""
    lines = [_fit(f"  ┃ {plain(line, width)}", width) for line in words.splitlines()[1 - most :]]
    return ["  the agent writes:", *lines] if lines else []


def _cells(curve: Sequence[Mapping[str, Any]], reached: float) -> list[float]:
    """Mean train_loss in each CURVE_CELLS-th of a run, up to `reached`; an empty one repeats the one before."""
    cells: list[list[float]] = [[] for _ in range(max(1, round(reached * CURVE_CELLS)))]
    for progress, loss in losses(curve):
        cell = min(CURVE_CELLS - 1, int(max(0.0, progress) * CURVE_CELLS))
        if cell < len(cells):
            cells[cell].append(loss)
    means: list[float] = []
    for in_cell in cells:
        means += [mean(in_cell)] if in_cell else means[-1:]
    return means


def _loss(curve: Sequence[Mapping[str, Any]], reached: float) -> str:
    """`loss 3.214` around one moment of a run."""
    near = [loss for progress, loss in losses(curve) if reached - SMOOTH <= progress <= reached]
    return f"loss {mean(near):.3f}" if near else ""


def _notes(now: Snapshot, width: int) -> list[str]:
    """What people asked and what the supervisor noted, the last of each."""
    events = sorted([*now.commands[-MOST_NOTES:], *now.notes[-MOST_NOTES:]], key=lambda event: event["seq"])
    words = [plain(event["text"]) if event["event"] == "note" else command_line(event) for event in events]
    lines = [f"{_ago(event['time'], now.time)} ago: {text}" for event, text in zip(events, words, strict=True)]
    if now.state.review is not None and lines:  # why a person's train.py was not taken is wanted whole
        return [*(_fit(line, width) for line in lines[:-1]), *_wrapped(lines[-1], width)]
    return [_fit(line, width) for line in lines]


def command_line(event: Mapping[str, Any]) -> str:
    """A recorded command with its answer: `ann@host: pause → pauses after experiment 0012`."""
    words = f" “{plain(event['text'])}”" if event["text"] else ""
    return f"{plain(event['by'])}: {event['command']}{words} → {plain(event['answer'])}"


def _table(now: Snapshot, last: int, width: int) -> list[str]:
    """The last experiments, each with the two scores that were compared; a wide terminal has more columns."""
    experiments = now.state.experiments
    if not experiments:
        return []
    is_wide = width >= WIDE
    words_width = width - (83 if is_wide else 55)

    def line(number: object, words: str, *cells: str) -> str:
        score, against, delta, speed, status, when = cells
        padded = _fit(words, words_width)
        padded += " " * (words_width - columns(padded))
        start = f"{number:>4}  {padded}  {score:>7}  {against:>7}  "
        if not is_wide:
            return f"{start}{delta:>16}  {status:<11}".rstrip()
        return f"{start}{delta:>25}  {speed:>8}  {status:<11} {when:>8}".rstrip()

    lines = [line("#", "what changed", "val_bpb", "against", "Δ (σ)" if is_wide else "Δ", "tokens/s", "status", "when")]
    if len(experiments) > last:
        lines.append(f"      … {count_with_baseline(experiments[:-last])} before these")
    for experiment in experiments[-last:]:
        compared = experiment.compared
        delta = with_error(compared.difference, compared.error) if compared else ""
        cells = [bpb(compared.theirs) if compared else "", difference(experiment) if is_wide else delta]
        cells += [_speed(experiment, now), _status(experiment, now), _when(experiment, now)]
        lines.append(line(experiment.number, idea(experiment), bpb(experiment.val_bpb), *cells))
    return lines


def _when(experiment: Experiment, now: Snapshot) -> str:
    return _ago(experiment.decided_at, now.time) if experiment.decided_at else "now" if now.activity else ""


def _speed(experiment: Experiment, now: Snapshot) -> str:
    is_in_work = now.experiment is not None and now.experiment.number == experiment.number
    speed = (now.tokens_per_second if is_in_work else None) or last_speed(experiment)
    return f"{speed / 1e3:.1f} k" if speed else "–"


def _status(experiment: Experiment, now: Snapshot) -> str:
    if experiment.status is None:
        return now.doing(experiment.number)
    return f"{status_word(experiment)} {sign(experiment)}".rstrip()


def _ago(utc: str, now: float) -> str:
    """`3 min`, `2 h`: one number."""
    seconds = max(0.0, now - seconds_of(utc))
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def columns(text: str) -> int:
    """Columns that a text takes in a terminal: East Asian characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def cut(text: str, width: int) -> str:
    """The beginning of the text that fits into `width` columns."""
    text = text[:width]
    while columns(text) > width:
        text = text[:-1]
    return text


def _fit(text: str, width: int) -> str:
    """The text, shortened to `width` columns."""
    if columns(text) <= width:
        return text
    while columns(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def _wrapped(text: str, width: int) -> list[str]:
    wrapper = textwrap.TextWrapper(width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [part for line in text.splitlines() for part in wrapper.wrap(line)]


def status_json(now: Snapshot) -> dict[str, Any]:
    """The same for scripts. Keys are only ever added. What is not known or does not apply is null.

    name, phase, activity: see `show/snapshot.py`; next_step: what a user can do, "" while the study runs as it should;
    holder: pid, host, boot_id, since of the supervisor; paused, stopped: why, "" when it is not;
    agent_writes: the last lines of what the agent writes now, "" while it writes nothing;
    slots: slot, phase, purpose, experiment, run and since of each, [] where the machine is not divided;
    slot_seconds: that each slot was in work, by its name;
    waiting: study, pid, since of the training that holds this machine, and waiting_since;
    busy: moments at which other processes kept the machine busy: time, why, cores, num_cores, who;
    quiet_wait: the moment since which the study waits for a quieter machine; quiet_seconds: waited so in all;
    damage: what of the history is left out here, "" when nothing is;
    finished: the last `finished` event, as champion, difference_bpb;
    result: test_difference ± test_standard_error in bits per byte, and what it shrank from;
    attribution: the champion without each kept change: champion, num_seeds, is_ended, effects: `core/attribution.py`;
    untrusted: numbers of experiments that ran without a sandbox;
    running: the experiment in work, with curves of progress, seconds, train_loss, tokens_per_second;
    best, best_val_bpb, sigma: the incumbent's number, its score at its decision, run-to-run standard deviation;
    study_seconds, supervisor_seconds, experiments_per_hour, agent; one_slot_per_hour: what one of several slots does;
    notes, commands: of this supervisor, oldest first, as recorded; hints: all that users said to the agent;
    spent, limits: calls, tokens and US dollars of the model so far, and the most they may be;
    review: the experiment whose train.py waits for a user; agent_notes: what the agent has learned, in its words;
    refusals: proposals that were given back, with experiment, objection, why, hypothesis;
    experiments: each with its runs; val_bpb, incumbent_bpb, delta_bpb and their standard errors are those of the
    decision, mean_bpb is over all runs so far; study: study.json.
    """
    state = now.state
    scores = incumbent_scores(state.experiments)
    waiting = asdict(state.waiting) | {"waiting_since": state.waiting_since} if state.waiting else None
    return {
        "name": now.study.name,
        "phase": now.phase,
        "activity": now.activity,
        "next_step": next_step(now),
        "holder": now.holder,
        "agent_writes": now.agent_writes,
        "slots": list(now.slots),
        "slot_seconds": dict(state.slot_seconds),
        "paused": state.paused,
        "stopped": state.stopped,
        "damage": now.damage,
        "waiting": waiting if now.activity == "waiting" else None,
        "busy": [asdict(busy) for busy in state.busy],
        "quiet_wait": asdict(state.quiet_wait) if state.quiet_wait and now.activity == "quiet" else None,
        "quiet_seconds": state.quiet_seconds,
        "finished": now.finished,
        "result": asdict(state.result) if state.result else None,
        "attribution": _attribution(state),
        "untrusted": [e.number for e in state.experiments if mistrust(e)],
        "running": _running(now) if now.is_running else None,
        "best": state.incumbent.number if state.incumbent else None,
        "best_val_bpb": scores[-1] if scores else None,
        "sigma": state.sigma,
        "study_seconds": now.study_seconds,
        "supervisor_seconds": now.supervisor_seconds,
        "experiments_per_hour": now.experiments_per_hour,
        "one_slot_per_hour": now.one_slot_per_hour,
        "agent": now.study.agent,
        "notes": list(now.notes),
        "commands": list(now.commands),
        "hints": list(state.hints),
        "spent": asdict(state.spent),
        "limits": asdict(state.limits),
        "review": asdict(state.review) if state.review else None,
        "agent_notes": state.notes,
        "refusals": [asdict(refusal) for refusal in state.refusals],
        "experiments": [asdict(e) | {name: getattr(e, name) for name in DERIVED} for e in state.experiments],
        "study": now.study.facts,
    }


DERIVED = ("delta_bpb", "delta_standard_error", "mean_bpb", "mean_standard_error")  # of an experiment
CURVE_KEYS = ("progress", "seconds", "train_loss", "tokens_per_second")


def _attribution(state: StudyState) -> dict[str, Any] | None:
    found = state.attribution
    if found is None:
        return None
    told = {"champion": found.champion, "num_seeds": found.num_seeds, "is_ended": found.is_ended}
    return told | {"effects": [asdict(effect) for effect in effects(found, state.noise)]}


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
