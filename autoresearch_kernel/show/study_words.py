"""What a study has found, in words: how many were kept, the difference to the baseline and its error, the result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.comparison import Comparison
from ..core.contrast import CONFIDENCE, Interval, interval_on_test
from ..core.decide import best
from ..core.format import bpb, clock, count, duration, percent, plain, signed, thousands, with_error
from ..core.state import StudyState
from ..core.types import Busy, Experiment, MachineHolder, Result, Status
from ..system.shell import shell_command
from .words import mistrust, score_line, title, with_its_error, with_mistrust

MANY_EXPERIMENTS = 20  # after fewer, a study that kept nothing is no surprise
UNSTEADY_WORDS = (
    "The machine changed its speed so often that no three runs of the baseline are alike: small differences cannot be "
    "judged on it."
)
LEAST_LEFT = 0.5  # of the processors that a training gets beside others, in an estimate: the system shares them out
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


def taken_words(busy: Busy) -> str:
    """`140 % of 200 % processor time (python train.py (process 3012) 87 %)`."""
    who = f" ({plain(busy.who)})" if busy.who else ""
    return f"{percent(busy.cores)} of {percent(busy.num_cores)} processor time{who}"


def busy_words(busy: Busy, worth: float | None = None) -> str:
    """That the machine is busy, what this does to a study and what a user can do, in a line.

    `worth`: bits per byte for a factor of e in speed; None where that is not known.
    """
    left = max(LEAST_LEFT, 1 - busy.cores / busy.num_cores)  # of the processors, for a training
    by = f", by about {-worth * math.log(left):.2g} bits per byte," if worth else ""
    return (
        f"This machine is busy: other processes take {taken_words(busy)}. A training beside them is slower, so its "
        f"score is worse{by} and differs more from run to run. End what is named, or let `run --wait-for-quiet` wait "
        "for a quieter machine; the study goes on all the same."
    )


def quiet_words(busy: Busy, experiment: int, left_seconds: float) -> str:
    """Why a study waits for a quieter machine, and for how long at most."""
    return (
        f"Experiment {experiment:04d} waits for a quieter machine, for {duration(max(0.0, left_seconds))} more at "
        f"most: other processes take {taken_words(busy)}."
    )


def drift_words(is_moved: bool, speed: float) -> str:
    """That the machine has left its speed at the start of the study, or is back at it."""
    if not is_moved:
        return f"The machine is back at {speed:.2f} times its speed at the start."
    return (
        f"The machine now runs at {speed:.2f} times its speed at the start. The study goes on and compares only runs "
        "of nearly equal speed."
    )


def machine_words(state: StudyState) -> str:
    """How unsteady and how busy the machine was, and how long the study waited; "" for a quiet one."""
    return " ".join(filter(None, (UNSTEADY_WORDS if state.is_unsteady else "", _busy_summary(state))))


def _busy_summary(state: StudyState) -> str:
    if not state.busy:
        return ""
    most = max(state.busy, key=lambda busy: busy.cores)
    moments = "when the supervisor looked" if len(state.busy) == 1 else f"at {len(state.busy)} looks of the supervisor"
    waited = f" The study waited {duration(state.quiet_seconds)} for quiet." if state.quiet_seconds else ""
    return f"The machine was busy {moments}: other processes took up to {taken_words(most)}.{waited}"


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


def is_clear(difference: float, error: float | None) -> bool:
    """Whether a difference, better or worse, is larger than twice its standard error."""
    return error is not None and abs(difference) >= CLEAR_ERRORS * error and difference != 0


def gain_words(difference: float, error: float | None) -> str:
    """`difference −0.0124 ± 0.0030`, or `no clear difference: −0.0084 ± 0.0196`."""
    if error is None:
        return f"difference {signed(difference)}, its error is not known"
    words = with_error(difference, error)
    return f"difference {words}" if is_clear(difference, error) else f"no clear difference: {words}"


def findings(state: StudyState, finished: dict[str, Any] | None, finish: str = "", name: str = "") -> str:
    """What a study has found, in a sentence or two.

    Only what `autoresearch finish` measured on the sealed test split is called the result.

    Args:
        finished: the last `finished` event of the study.
        finish: the call or command that measures the result, for where the reader is; "" for the terminal.
        name: of the study in commands, as its folder has it; "" for the name that it began with.
    """
    champion = best(state.experiments)
    if champion is None or champion.val_bpb is None:
        return "The baseline is not measured yet."
    baseline = state.experiments[0]
    if champion.number == 0:
        return _nothing_kept(state)
    if baseline.val_bpb is None:
        return f"Incumbent: {title(champion)}\n  {score_line(champion)}; the record of the baseline is lost."
    compared, start = champion.against(baseline), f"Incumbent: {title(champion)}\n  "
    assert compared is not None, "both have a score"
    as_decided = with_mistrust(f"{start}{against_baseline(compared)}, as each was decided", [champion]) + "."
    if len(champion.judged_runs) < len(champion.scores):
        mean = with_its_error(champion.mean_bpb, champion.mean_standard_error)
        as_decided += f" The mean of its {len(champion.scores)} runs so far: {mean}."
    if state.result is not None:
        return f"{sealed_words(state)}\n{as_decided}"
    if finished is None or finished.get("champion") != champion.number:
        return as_decided
    at_end = compared_at_end(finished)
    means = with_mistrust(f"{start}{against_baseline(at_end)} (means of comparable runs)", [champion])
    unclear = unclear_words(at_end.difference, at_end.error)
    finish = finish or shell_command(f"finish{_named(state, name)}")
    no_result = f"No result yet: `{finish}` measures it on the sealed test split."
    return "\n  ".join(filter(None, (f"{means}.", unclear, no_result)))


def compared_at_end(finished: Mapping[str, Any]) -> Comparison:
    """Champion and baseline at the end of a study, means over comparable runs; from its `finished` event."""
    error = finished.get("difference_standard_error")
    return Comparison(finished["champion_bpb"], finished["baseline_bpb"], known_error=error)


def against_baseline(compared: Comparison, metric: str = "val_bpb") -> str:
    """`val_bpb 1.4900 ± 0.0010, the baseline's 1.5000 ± 0.0010; difference −0.0100 ± 0.0014`."""
    mine = with_its_error(compared.mine, compared.my_error)
    theirs = with_its_error(compared.theirs, compared.their_error)
    return f"{metric} {mine}, the baseline's {theirs}; {gain_words(compared.difference, compared.error)}"


def unclear_words(difference: float, error: float | None, interval: Interval | None = None) -> str:
    """A warning about a difference from the baseline, in bits per byte, that is no clear gain; "" for one that is.

    Args:
        interval: of the difference, where it is known; it tells more than twice the error of a few runs.
    """
    if interval is not None:
        if interval[1] < 0:
            return ""
        if interval[0] > 0:
            return "This is worse than the baseline: do not promote it."
        return "This is no clear difference: its interval contains zero, so it may be luck."
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
        result = state.result
        return not unclear_words(result.test_difference, result.test_standard_error, interval_on_test(state))
    if finished is None or finished.get("champion") != champion.number:
        return True
    at_end = compared_at_end(finished)
    return not unclear_words(at_end.difference, at_end.error)


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
    score = f"val_bpb {bpb(baseline.val_bpb)}"
    scatter = f"repeated runs of the same code scatter by ±{state.sigma:.4f}"
    beaten = with_mistrust(f"Nothing has beaten the baseline, {score}", [baseline])
    return f"{beaten}, by more than the noise: {scatter}."


def advice(state: StudyState, name: str = "", where: str = "") -> str:
    """What a person can do after a study that ran for a while and kept nothing; "" otherwise. `name` as above.

    `where` are the options of `run` that say where trainings run.
    """
    champion, tried = best(state.experiments), [e for e in state.decided if e.number > 0]
    if champion is None or champion.number > 0 or not tried:
        return ""
    name, budget = str(name or state.study.get("name")), float(state.study.get("time_budget_seconds") or 0.0)
    if all(e.status is not Status.DISCARD for e in tried):
        return (
            f"Every experiment failed. `{shell_command(f'status --name {name}')}` says how; "
            "each experiment's notebook and runner.log say where."
        )
    num_tried = count(len(tried), "experiment")
    usual = f"To keep nothing is usual after {num_tried} of {budget:g} s"
    usual = usual if len(tried) < MANY_EXPERIMENTS else f"{num_tried} of {budget:g} s have shown no gain"
    more = shell_command(f"run --name {name}{where} --experiments {MANY_EXPERIMENTS}")
    larger = f"{max(1.0, 3 * budget):.0f}"
    options = f"--name {name}-{larger}s{where} --budget {larger} --experiments {MANY_EXPERIMENTS}"
    longer = shell_command(f"run {options}")
    return (
        f"{usual}: most ideas do not help, and a short training hides small gains.\n"
        f"  `{more}` tries more ideas;\n"
        f"  `{longer}` starts a study with a larger budget."
    )


def sealed_words(state: StudyState) -> str:
    """The study's result, on the test split that decided nothing; "" before it is measured."""
    if state.result is None:
        return ""
    mark = mistrust(state.experiments[0], state.experiments[state.result.champion])
    return result_words(state.result, interval_on_test(state), mark)


def interval_words(interval: Interval | None) -> str:
    """` (95 %: −0.0249 to −0.0133)`, to follow a difference; "" for an interval that is not known."""
    return f" ({percent(CONFIDENCE)}: {signed(interval[0])} to {signed(interval[1])})" if interval else ""


def _named(state: StudyState, name: str) -> str:
    known = name or state.study.get("name")
    return f" --name {known}" if known else ""


def _on_validation(result: Result) -> str:
    difference = with_error(result.val_difference, result.val_standard_error)
    if result.baseline_val_bpb is None or result.champion_val_bpb is None:
        return f"differ by {difference}"
    return f"score {bpb(result.baseline_val_bpb)} → {bpb(result.champion_val_bpb)}, {difference}"


def failed_words(result: Result) -> str:
    """What a reader must know where trainings of the champion failed on fresh seeds; "" where none did."""
    if not result.num_failed_runs:
        return ""
    return (
        f"{count(result.num_failed_runs, 'training')} of the champion failed on fresh seeds: the means are of the "
        "seeds on which it did not fail."
    )


def result_words(result: Result, interval: Interval | None = None, mark: str = "") -> str:
    """The result, and the gains on validation rows that it shrank from.

    `Result: test bpb 1.5021 → 1.4830, −0.0191 ± 0.0021 (95 %: −0.0249 to −0.0133) over 3 fresh seeds each.`
    """
    of_baseline, of_champion = result.num_baseline_runs, result.num_champion_runs
    seeds = f"{of_champion} fresh seeds" + (
        " each" if of_baseline == of_champion else f", the baseline's {of_baseline}"
    )
    added_up = with_error(result.judged_difference, result.judged_standard_error)
    lines = [
        f"Result: test bpb {bpb(result.baseline_test_bpb)} → {bpb(result.champion_test_bpb)}, "
        f"{signed(result.test_difference)} ± {result.test_standard_error:.4f}{interval_words(interval)} over {seeds}"
        + (f", {mark}." if mark else "."),
        f"  On validation the same models {_on_validation(result)}; the differences of the decisions that led there "
        f"add up to {added_up}.",
    ]
    if unclear := unclear_words(result.test_difference, result.test_standard_error, interval):
        lines.insert(1, f"  {unclear}")
    if failed := failed_words(result):
        lines.append(f"  {failed}")
    if result.num_looks > 1:
        lines.append(
            f"  The test split was opened for {result.num_looks} champions of this study: each look wears it out."
        )
    return "\n".join(lines)
