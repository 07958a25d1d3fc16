"""What a study has found, in words: how many were kept, the difference to the baseline and its error, the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..core.decide import best
from ..core.format import bpb, clock, count, plain, signed, thousands, with_error
from ..core.state import StudyState
from ..core.types import Experiment, MachineHolder, Result, Status, error_of_difference
from ..system.shell import shell_command
from .words import mistrust, score_line, title, with_mistrust

MANY_EXPERIMENTS = 20  # after fewer, a study that kept nothing is no surprise
CLEAR_ERRORS = 2.0  # standard errors: a smaller difference may be luck


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
    """The study and process whose training this study waits for, since when, and what happens then."""
    study = f"study {plain(holder.study)}" if holder.study else ""
    process = f"process {holder.pid}" if holder.pid is not None else ""
    who = f" ({', '.join(filter(None, (study, process)))})" if study or process else ""
    since = f" since {clock(holder.since)}" if holder.since else ""
    return f"Another training{who} runs on this machine{since}; this study trains when it has ended."


def correction_words(experiments: Iterable[Experiment]) -> str:
    """`1 corrected by the audit, by +0.00272 bpb at most`; "" where no claim was."""
    found = [e.correction_bpb for e in experiments if e.correction_bpb]
    if not found:
        return ""
    return f"{thousands(len(found))} corrected by the audit, by {signed(max(found, key=abs), 5)} bpb at most"


def incumbent_scores(experiments: Sequence[Experiment]) -> list[float]:
    """The incumbent's score after each decided experiment, as it was decided on, in bits per byte. It can rise."""
    scores: list[float] = []
    for experiment in experiments:
        if experiment.status is Status.KEEP and experiment.val_bpb is not None:
            scores.append(experiment.val_bpb)
        elif experiment.status is not None and scores:
            scores.append(scores[-1])
    return scores


def difference_to(baseline: Experiment, champion: Experiment) -> tuple[float, float | None]:
    """The champion's score less the baseline's, both as they were decided on, and the standard error of that."""
    assert champion.val_bpb is not None and baseline.val_bpb is not None
    error = error_of_difference(champion.standard_error, baseline.standard_error)
    return champion.val_bpb - baseline.val_bpb, error


def is_clear(difference: float, error: float | None) -> bool:
    """Whether a difference, better or worse, is larger than twice its standard error."""
    return error is not None and abs(difference) >= CLEAR_ERRORS * error and difference != 0


def gain_words(difference: float, error: float | None) -> str:
    """`difference −0.0124 ± 0.0030`, or `no clear difference: −0.0084 ± 0.0196`."""
    if error is None:
        return f"difference {signed(difference)}, its error is not known"
    words = with_error(difference, error)
    return f"difference {words}" if is_clear(difference, error) else f"no clear difference: {words}"


def findings(state: StudyState, finished: dict[str, Any] | None, finish: str = "") -> str:
    """What a study has found, in a sentence or two.

    Only what `autoresearch finish` measured on the sealed test split is called the result.

    Args:
        finished: the last `finished` event of the study.
        finish: the call or command that measures the result, for where the reader is; "" for the terminal.
    """
    champion = best(state.experiments)
    if champion is None or champion.val_bpb is None:
        return "The baseline is not measured yet."
    baseline = state.experiments[0]
    if champion.number == 0:
        return _nothing_kept(state)
    was = (
        f"{bpb(baseline.val_bpb)} ± {baseline.standard_error:.4f}" if baseline.standard_error else bpb(baseline.val_bpb)
    )
    words = f"Incumbent: {title(champion)}\n  {score_line(champion)}, the baseline's {was}"
    if state.result is not None:
        return f"{sealed_words(state)}\n{words}."
    if finished is None or finished.get("champion") != champion.number:
        return f"{words}; {gain_words(*difference_to(baseline, champion))} so far."
    error = finished["difference_standard_error"]
    compared = f"val_bpb {bpb(finished['champion_bpb'])}, the baseline's {bpb(finished['baseline_bpb'])}"
    gain = with_error(finished["difference_bpb"], error)
    words = with_mistrust(f"Incumbent: {title(champion)}\n  {compared} (means of comparable runs): {gain}", [champion])
    finish = finish or shell_command(f"finish{_named(state)}")
    unclear = unclear_words(finished["difference_bpb"], error)
    words = f"{words}.\n  {unclear}" if unclear else f"{words}."
    return f"{words}\n  No result yet: `{finish}` measures it on the sealed test split."


def unclear_words(difference: float, error: float | None) -> str:
    """A warning about a difference from the baseline, in bits per byte, that is no clear gain; "" for one that is."""
    if error is None or difference <= -CLEAR_ERRORS * error:
        return ""
    if is_clear(difference, error):
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
    """Why nothing has beaten the baseline, as far as that is known."""
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
