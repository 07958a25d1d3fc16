"""The words around an experiment and a study: title, heading, verdict, what it found. Pure text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.decide import best
from ..core.drift import STEADY
from ..core.format import bpb, clock, count, number, plain, signed, thousands
from ..core.state import StudyState
from ..core.types import Experiment, MachineHolder, Result, Run, Status, is_trusted
from ..record.history import peak_memory_mb
from ..system.shell import shell_command

MANY_EXPERIMENTS = 20  # after fewer, a study that kept nothing is no surprise
CLEAR_ERRORS = 2.0  # standard errors: a smaller difference may be luck
HEAD_CHARACTERS = 140  # of a hypothesis that are shown before the rest is unfolded
SENTENCE_END = re.compile(r"[.!?](?=\s)")


def counts(experiments: Sequence[Experiment]) -> str:
    """`23 experiments, 5 kept`: of decided ones, and the baseline is neither an experiment nor kept."""
    tried = [e for e in experiments if e.number > 0 and e.status is not None]
    return f"{count(len(tried), 'experiment')}, {thousands(sum(e.status is Status.KEEP for e in tried))} kept"


def count_with_baseline(experiments: Sequence[Experiment]) -> str:
    """`3 experiments and the baseline`, for a sentence that means the baseline too where it is among them."""
    tried = sum(e.number > 0 for e in experiments)
    parts = [count(tried, "experiment")] if tried else []
    return " and ".join([*parts, *(["the baseline"] if tried < len(experiments) else [])])


def waiting_words(holder: MachineHolder) -> str:
    """Whose training a study waits for, since when that one holds the machine, and what happens then."""
    study = f"study {plain(holder.study)}" if holder.study else ""
    process = f"process {holder.pid}" if holder.pid is not None else ""
    who = f" ({', '.join(part for part in (study, process) if part)})" if study or process else ""
    since = f" since {clock(holder.since)}" if holder.since else ""
    return f"Another training{who} runs on this machine{since}; this study trains when it has ended."


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


def head_and_rest(words: str, most: int = HEAD_CHARACTERS) -> tuple[str, str]:
    """What of a text is shown at once, and what is folded: whole sentences of `most` characters, else whole words.

    Example:
        >>> head_and_rest("Halve the batch. It is noisy.", most=20)
        ('Halve the batch.', 'It is noisy.')
    """
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
    parts = [
        experiment.hypothesis,
        f"Expected: {experiment.expected}" if experiment.expected else "",
        f"Refuted by: {experiment.refutation}" if experiment.refutation else "",
    ]
    return "\n\n".join(part for part in parts if part)


def difference(experiment: Experiment) -> str:
    """Against the incumbent it was judged against: `−0.0124 (−5.8 σ)`; "" without one."""
    delta = experiment.delta_bpb
    if delta is None:
        return ""
    return signed(delta) + (f" ({signed(delta / experiment.sigma, 1)} σ)" if experiment.sigma else "")


UNTRUSTED = "untrusted (no sandbox)"


def mistrust(*experiments: Experiment) -> str:
    """`untrusted (no sandbox)` when code of any of them could reach beyond its run; "" otherwise."""
    return "" if all(is_trusted(run) for e in experiments for run in e.runs) else UNTRUSTED


def with_mistrust(words: str, experiments: Sequence[Experiment], comma: str = ", ") -> str:
    """Words, and the mark of what is untrusted behind them."""
    return comma.join(part for part in (words, mistrust(*experiments)) if part)


def score_line(experiment: Experiment) -> str:
    """`val_bpb 1.4312 ± 0.0014 (mean of 2 runs)`, `claimed 0.4012, refused by the audit`; "" without a score."""
    if experiment.val_bpb is None:
        is_refused = experiment.status is Status.REJECTED and experiment.claimed_bpb is not None
        return f"claimed {bpb(experiment.claimed_bpb)}, refused by the audit" if is_refused else ""
    error = f" ± {experiment.standard_error:.4f}" if experiment.standard_error else ""
    runs = len([run for run in experiment.runs if run.val_bpb is not None])
    words = f"val_bpb {bpb(experiment.val_bpb)}{error}" + (f" (mean of {runs} runs)" if runs > 1 else "")
    return with_mistrust(words, [experiment])


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
    rows = [("decision", f"**{experiment.status}**: {experiment.reason}"), *grounds(experiment, run, facts)]
    lines = ["## Verdict", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in rows if value]
    return "\n".join(lines) + "\n"


def grounds(experiment: Experiment, run: Run, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What a decision rests on, name and value; "" where there is nothing to say."""
    return [
        ("score", score_line(experiment)),
        ("each run", ", ".join(f"{bpb(r.val_bpb)} (seed {r.seed})" for r in experiment.runs if r.val_bpb is not None)),
        ("difference", difference(experiment)),
        ("scored", _scored(run, facts)),
        ("audit", audits_words(experiment)),
        ("training", _training(run)),
        ("machine", _machine(run)),
        ("sandbox", UNTRUSTED if not is_trusted(run) else run.sandbox or ""),
        ("seconds", _seconds(run)),
        ("corpus", _corpus(facts)),
        ("code", _code(experiment)),
    ]


def _cell(text: str) -> str:
    """Text in a table of Markdown. An agent's words are in it: no HTML, no picture from elsewhere, no new column."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return escaped.replace("&gt;", ">").replace("![", "!\\[").replace("|", "\\|")


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


def correction_words(experiments: Iterable[Experiment]) -> str:
    """`1 corrected by the audit, by +0.00272 bpb at most`; "" where no claim was."""
    found = [e.correction_bpb for e in experiments if e.correction_bpb]
    if not found:
        return ""
    return f"{thousands(len(found))} corrected by the audit, by {signed(max(found, key=abs), 5)} bpb at most"


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
    ("audit_seconds", "audit"),
)


def _seconds(run: Run) -> str:
    """All seconds of a run accounted for; "in all" is the run's own clock plus the scorers'."""
    measured = run.measured | ({"audit_seconds": run.audit.seconds} if run.audit else {})
    parts = [f"{name} {measured[key]:.1f}" for key, name in SECONDS if measured.get(key) is not None]
    total = sum(measured.get(key) or 0.0 for key in ("total_seconds", "scoring_seconds", "audit_seconds"))
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
    why = f"   [{plain(experiment.reason)}]" if experiment.val_bpb is None else ""
    word = "baseline" if is_kept_baseline(experiment) else experiment.status or ""
    status = f"{experiment.number:04d} {sign(experiment):<1} {word:<11}"
    return with_mistrust(f"{status} {score:>7}  {against:<18} {idea(experiment)}{why}", [experiment], " · ")


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


def incumbent_scores(experiments: Sequence[Experiment]) -> list[float]:
    """The incumbent's recorded score after each decided experiment, in bits per byte. It can rise: see `best`."""
    scores: list[float] = []
    for experiment in experiments:
        if experiment.status is Status.KEEP and experiment.val_bpb is not None:
            scores.append(experiment.val_bpb)
        elif experiment.status is not None and scores:
            scores.append(scores[-1])
    return scores


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


def findings(state: StudyState, finished: dict[str, Any] | None) -> str:
    """What a study has found, in a sentence or two; `finished` is its last `finished` event.

    Only what `autoresearch finish` measured on the sealed test split is called the result.
    """
    champion = best(state.experiments)
    if champion is None or champion.val_bpb is None:
        return "The baseline is not measured yet."
    baseline = state.experiments[0]
    if champion.number == 0:
        return _nothing_kept(state)
    words = f"Incumbent: {title(champion)}\n  {score_line(champion)}, the baseline's {bpb(baseline.val_bpb)}"
    if state.result is not None:
        return f"{sealed_words(state)}\n{words}."
    if finished is None or finished.get("champion") != champion.number:
        assert baseline.val_bpb is not None
        return f"{words}: {signed(champion.val_bpb - baseline.val_bpb)} so far."
    error = finished["difference_standard_error"]
    compared = f"val_bpb {bpb(finished['champion_bpb'])}, the baseline's {bpb(finished['baseline_bpb'])}"
    gain = signed(finished["difference_bpb"]) + (f" ± {error:.4f}" if error is not None else "")
    words = with_mistrust(f"Best: {title(champion)}\n  {compared} (means of comparable runs): {gain}", [champion])
    finish = shell_command(f"finish{_named(state)}")
    unclear = unclear_words(finished["difference_bpb"], error)
    words = f"{words}.\n  {unclear}" if unclear else f"{words}."
    return f"{words}\n  No result yet: `{finish}` measures it on the sealed test split."


def unclear_words(difference: float, error: float | None) -> str:
    """What to think of a difference from the baseline, in bits per byte, that is no clear gain; "" for one that is."""
    if error is None or difference <= -CLEAR_ERRORS * error:
        return ""
    if difference >= CLEAR_ERRORS * error:
        return "This is worse than the baseline: do not promote it."
    return "This is no clear difference: it is smaller than twice its error, so it may be luck."


def is_worth_promoting(state: StudyState, finished: dict[str, Any] | None) -> bool:
    """Whether something beside the baseline was kept, and its last measurement shows a clear gain, if there was one."""
    champion = best(state.experiments)
    if champion is None or champion.number == 0:
        return False
    if state.result is not None and state.result.champion == champion.number:
        return not unclear_words(state.result.test_difference, state.result.test_standard_error)
    if finished is None or finished.get("champion") != champion.number:
        return True
    return not unclear_words(finished["difference_bpb"], finished["difference_standard_error"])


def _nothing_kept(state: StudyState) -> str:
    """What it means that only the baseline stands."""
    baseline, tried = state.experiments[0], [e for e in state.decided if e.number > 0]
    sentence = f"Nothing has beaten the baseline, {score_line(baseline)}"
    if not tried:
        return f"{sentence}, yet."
    if all(e.status is not Status.DISCARD for e in tried):
        return f"{sentence}: of {count(len(tried), 'experiment')} none ended with a score that counts."
    if not state.sigma:
        return f"{sentence}."
    return f"{sentence}, by more than the noise: repeated runs of the same code scatter by ±{state.sigma:.4f}."


def advice(state: StudyState) -> str:
    """What a person can do after a study that ran for a while and kept nothing; "" otherwise."""
    champion, tried = best(state.experiments), [e for e in state.decided if e.number > 0]
    if champion is None or champion.number > 0 or not tried:
        return ""
    name, budget = state.study.get("name"), float(state.study.get("time_budget_seconds") or 0.0)
    if all(e.status is not Status.DISCARD for e in tried):
        return (
            f"Every experiment failed. `{shell_command(f'status --name {name}')}` says how; "
            "each experiment's notebook and runner.log say where."
        )
    num_tried = count(len(tried), "experiment")
    usual = f"To keep nothing is usual after {num_tried} of {budget:g} s"
    usual = usual if len(tried) < MANY_EXPERIMENTS else f"{num_tried} of {budget:g} s have shown no gain"
    more = shell_command(f"run --name {name} --experiments {MANY_EXPERIMENTS}")
    larger = f"{max(1.0, 3 * budget):.0f}"
    longer = shell_command(f"run --name {name}-{larger}s --budget {larger} --experiments {MANY_EXPERIMENTS}")
    return (
        f"{usual}: most ideas do not help, and a short training hides small gains.\n"
        f"  `{more}` tries more ideas;\n"
        f"  `{longer}` starts a study with a larger budget."
    )


def sealed_words(state: StudyState) -> str:
    """The study's result, on the test split that decided nothing; "" before it is measured."""
    if state.result is None:
        return ""
    return result_words(state.result, mistrust(state.experiments[0], state.experiments[state.result.champion]))


def _named(state: StudyState) -> str:
    return f" --name {state.study['name']}" if state.study.get("name") else ""


def result_words(result: Result, mark: str = "") -> str:
    """The result, and the gains on validation rows that it shrank from.

    `Result: test bpb 1.5021 → 1.4830, −0.0191 ± 0.0021 over 3 fresh seeds each.`
    """
    of_baseline, of_champion = result.num_baseline_runs, result.num_champion_runs
    seeds = f"{of_champion} fresh seeds" + (
        " each" if of_baseline == of_champion else f", the baseline's {of_baseline}"
    )
    lines = [
        f"Result: test bpb {bpb(result.baseline_test_bpb)} → {bpb(result.champion_test_bpb)}, "
        f"{signed(result.test_difference)} ± {result.test_standard_error:.4f} over {seeds}"
        + (f", {mark}." if mark else "."),
        f"  On validation the same models differ by {signed(result.val_difference)} ± "
        f"{result.val_standard_error:.4f}; the scores it was chosen by said {signed(result.judged_difference)}.",
    ]
    if unclear := unclear_words(result.test_difference, result.test_standard_error):
        lines.insert(1, f"  {unclear}")
    if result.num_looks > 1:
        lines.append(
            f"  The test split was opened for {result.num_looks} champions of this study: each look wears it out."
        )
    return "\n".join(lines)
