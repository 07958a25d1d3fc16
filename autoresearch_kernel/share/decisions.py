"""Whether each decision of a history follows from its numbers: `decisions` in verify.js has the same steps. Pure.

An event's field `rule` (`core/grounds.py`) has the numbers. They must be the scores of the runs that it names, the
thresholds and the means must follow from them, and the verdict from both. A decision without a score must be how its
last run ended. Whether sigma and the machine's speed follow from all runs before is more than a page computes;
`decide_again` asks the installed rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations, islice
from typing import Any

from ..core.attribution import effects
from ..core.decide import mean, standard_error
from ..core.grounds import BaselineGrounds, DuelGrounds, Grounds, grounds_of, read_grounds
from ..core.grounds import recorded as as_recorded
from ..core.next_step import Action, grounds_of_rule, next_step
from ..core.state import Event, replay
from ..core.thresholds import RULE_VERSION, Thresholds
from .figures import error_of
from .recorded import UNFIT, Recorded

TOLERANCE = 1e-9  # relative, between numbers that were computed in another order
MEASURED_TOLERANCE = 1e-6  # the same of what rests on logarithms of speeds
RULED = ("keep", "discard")
MOST_CHOICES = 20_000  # of runs, among which those of a result are looked for


@dataclass
class Decided:
    """What the check of the decisions found."""

    checked: int = 0
    unchecked: int = 0  # recorded by a version that did not keep the numbers, or by a rule that is not known here
    problems: list[str] = field(default_factory=list)


def check_decisions(events: Iterable[Event]) -> tuple[Decided, Recorded]:
    """What is wrong with the decisions, and what all events add up to; both end before an event that does not fit."""
    found, recorded = Decided(), Recorded()
    for number, event in enumerate(events, 1):
        try:
            if event["event"] == "decided":
                _count(found, event, _of_decision(event, recorded))
            elif event["event"] == "started" and "rule" in event:
                problem = _of_rule(event["rule"], "confirm", event["experiment"], recorded)
                _count(found, event, f"the confirmation: {problem}" if problem else problem)
            elif event["event"] == "result" and (problem := _of_result(event, recorded)):
                found.problems.append(f"the result: {problem}")
            elif event["event"] == "attribution" and (problem := _of_attribution(event, recorded)):
                found.problems.append(f"the attribution of {event['champion']:04d}: {problem}")
            recorded.add(event)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            found.problems.append(f"line {number} does not fit the lines before it")
            break
    return found, recorded


def _count(found: Decided, event: Event, problem: str | None) -> None:
    if problem is None:
        found.unchecked += 1
        return
    found.checked += 1
    if problem:
        found.problems.append(f"experiment {event['experiment']:04d}: {problem}")


def _of_decision(event: Event, recorded: Recorded) -> str | None:
    """What is wrong with a decision; "" when nothing is, None when it cannot be checked."""
    number, status = event["experiment"], event["status"]
    ended = recorded.last_status(number)
    is_left = ended == "interrupted" and "wave" in event  # a confirmation that was cut off; its other runs count
    if ended is not None and not (is_left and recorded.has_score(number)):
        return "" if ended == status else f"its last run ended as {ended}, and it is decided as {status}"
    if status not in RULED:
        return f"its last run has a score, and it is decided as {status}"
    if "wave" in event:
        return _of_wave(event["wave"], status, recorded)
    rule = event.get("rule")
    if not rule:
        return "it has no numbers, and a decision before it has" if recorded.has_numbers else None
    problem = _of_rule(rule, status, number, recorded)
    if problem != "":
        return problem
    if not _are_means(event, rule):
        return "its scores in the decision are not the means of its numbers"
    return "" if _are_errors(event, rule) else "its errors in the decision do not follow from its numbers"


def _of_wave(wave: Any, status: str, recorded: Recorded) -> str:
    """A discard because of other experiments of its wave, on several slots; nothing is kept in this way."""
    if status != "discard":
        return f"it is decided as {status} because of its wave, which only discards"
    is_known = isinstance(wave, list) and wave and all(type(n) is int and n in recorded.runs for n in wave)
    return "" if is_known else "the experiments of its wave are not in the record"


def _of_rule(rule: Mapping[str, Any], status: str, number: int, recorded: Recorded) -> str | None:
    if rule.get("version") != RULE_VERSION:
        return None
    try:
        grounds = read_grounds(rule)
    except ValueError as error:
        return f"its numbers cannot be read: {error}"
    mine = recorded.runs[number]
    if not _are_scores(mine, grounds.runs, grounds.scores):
        return "its numbers are not the scores of its runs"
    if isinstance(grounds, BaselineGrounds):
        if number != 0 or recorded.decided:
            return "its numbers are those of a baseline, and it is none"
        verdict = grounds.verdict()
        return "" if verdict == status else f"it is decided as {status}, and its numbers say {verdict}"
    is_parent = grounds.incumbent == recorded.parents[number] and grounds.incumbent in recorded.kept
    if grounds.incumbent != recorded.incumbent and not (is_parent and status != "keep"):
        return f"it is compared with experiment {grounds.incumbent:04d}, which was not the incumbent"
    theirs = recorded.runs[grounds.incumbent]
    if not _are_of_incumbent(grounds, mine, theirs):
        return "the incumbent's numbers are not the scores of its runs"
    if (
        isinstance(grounds, Grounds)
        and len(_machines(mine, grounds.runs) | _machines(theirs, grounds.incumbent_runs)) > 1
    ):
        return "its numbers are of several kinds of machine"
    limits = Thresholds(rule.get("keep_below"), rule.get("confirm_below"))
    decision = grounds.decision()
    if not _is_near(limits.keep_below, decision.thresholds.keep_below) or not _is_near(
        limits.confirm_below, decision.thresholds.confirm_below
    ):
        return "its thresholds do not follow from its numbers"
    verdict = limits.verdict(decision.val_bpb)
    return "" if verdict == status else f"it is decided as {status}, and its numbers say {verdict}"


def _machines(runs: Mapping[int, Mapping[str, Any]], indices: Sequence[int]) -> set[str]:
    return {runs[index]["machine"] for index in indices}


def _are_scores(runs: Mapping[int, Mapping[str, Any]], indices: Sequence[int], scores: Sequence[float]) -> bool:
    known = [runs[index]["val_bpb"] if index in runs else None for index in indices]
    return len(set(indices)) == len(known) == len(scores) and all(
        k is not None and k == s for k, s in zip(known, scores, strict=True)
    )


def _are_of_incumbent(
    grounds: Grounds | DuelGrounds, mine: Mapping[int, Mapping[str, Any]], theirs: Mapping[int, Mapping[str, Any]]
) -> bool:
    if isinstance(grounds, Grounds):
        return _are_scores(theirs, grounds.incumbent_runs, grounds.incumbent_scores)
    if len(grounds.duels) != len(grounds.pairs):
        return False
    sides = (mine, [d[0] for d in grounds.duels], [p[0] for p in grounds.pairs]), (
        theirs, [d[1] for d in grounds.duels], [p[1] for p in grounds.pairs],
    )  # fmt: skip
    return all(_are_scores(*side) for side in sides)


def _are_means(event: Event, rule: Mapping[str, Any]) -> bool:
    grounds = read_grounds(rule)
    if isinstance(grounds, BaselineGrounds):  # which is compared with nothing
        return _is_near(event.get("val_bpb"), mean(grounds.scores))
    decision = grounds.decision()
    pairs = ((event.get("val_bpb"), decision.val_bpb), (event.get("incumbent_bpb"), decision.incumbent_bpb))
    return all(_is_near(one, other) for one, other in pairs)


def _are_errors(event: Event, rule: Mapping[str, Any]) -> bool:
    """Whether sigma and the errors of a decision are those of its numbers; a claim is tested against them later."""
    grounds = read_grounds(rule)
    if isinstance(grounds, DuelGrounds):
        return _is_near(event.get("difference_error"), grounds.decision().difference_error)
    if isinstance(grounds, BaselineGrounds):
        own = standard_error(len(grounds.scores), event.get("sigma"))
        return _is_near(event.get("standard_error"), own)
    own = standard_error(len(grounds.scores), grounds.sigma)
    pairs = (
        (event.get("sigma"), grounds.sigma),
        (event.get("degrees_of_freedom"), grounds.degrees_of_freedom),
        (event.get("standard_error"), own),
        (event.get("incumbent_standard_error"), grounds.level_error),
    )
    return all(_is_near(one, other) for one, other in pairs)


def _of_result(event: Event, recorded: Recorded) -> str:
    """What is wrong with the figures of a result; "" when nothing is."""
    means = event["baseline_test_bpb"], event["champion_test_bpb"]
    if not _is_near(event["test_difference"], means[1] - means[0]):
        return "its difference is not that of its two means"
    counts, numbers = (event["num_baseline_runs"], event["num_champion_runs"]), (0, event["champion"])
    on_test, on_val = [], []
    for number, count, found in zip(numbers, counts, means, strict=True):
        scores = recorded.test_scores(number)
        if not 0 < count <= len(scores):
            return f"it counts {count} scores of experiment {number:04d} on the test split, and the record has others"
        runs = _runs_of_mean(scores, count, found)
        if runs is None:
            return f"its mean of experiment {number:04d} does not follow from the scores on the test split"
        on_test.append([scores[run] for run in runs])
        on_val.append([recorded.runs[number][run]["val_bpb"] for run in runs])
    judged, judged_error = _judged(event["champion"], recorded)
    levels = [mean(scores) for scores in on_val]
    must = {
        "test_standard_error": _error_of_seeds(on_test),
        "val_difference": levels[1] - levels[0],
        "val_standard_error": _error_of_seeds(on_val),
        "judged_difference": judged,
        "num_looks": len(recorded.looks),
    }
    may = {  # records of earlier versions lack them
        "judged_standard_error": judged_error,
        "baseline_val_bpb": levels[0],
        "champion_val_bpb": levels[1],
        "num_failed_runs": recorded.num_failed(event["champion"]),
    }
    known = must | {name: value for name, value in may.items() if event.get(name) is not None}
    wrong = [name for name, value in known.items() if not _is_near(event[name], value)]
    return f"its {wrong[0]} does not follow from the record" if wrong else ""


def _runs_of_mean(scores: Mapping[int, float], count: int, found: float) -> tuple[int, ...] | None:
    """The runs whose scores have this mean; None where no runs have.

    They are mostly the last ones. Where the machine's speed changed between two calls of `finish`, others were taken.
    """
    choices = islice(combinations(sorted(scores, reverse=True), count), MOST_CHOICES)
    return next((runs for runs in choices if _is_near(found, mean([scores[run] for run in runs]))), None)


def _error_of_seeds(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard error of the difference of the means of two groups; None where a group is of one run alone."""
    if min(map(len, groups)) < 2:
        return None
    variance = 0.0
    for scores in groups:
        distances = [score - mean(scores) for score in scores]
        variance += sum(d * d for d in distances) / (len(scores) - 1) / len(scores)
    return math.sqrt(variance)


def _judged(champion: int, recorded: Recorded) -> tuple[float, float | None]:
    """The sum of the differences of the decisions that led to a champion, and its error, as `core/contrast.py` has it.

    Raises ValueError where the parents of an experiment do not lead to the baseline.
    """
    difference, errors, number = 0.0, list[float | None](), champion
    while number > 0:
        decided, parent = recorded.decided[number], recorded.parents[number]
        is_known = None not in (decided.get("val_bpb"), decided.get("incumbent_bpb"))
        difference += decided["val_bpb"] - decided["incumbent_bpb"] if is_known else 0.0
        errors.append(error_of(decided) if is_known else None)
        if parent is None or not 0 <= parent < number:
            raise ValueError(f"the parent of experiment {number} is none before it")
        number = parent
    known = [error for error in errors if error is not None]
    return difference, math.hypot(*known) if len(known) == len(errors) else None


def _is_near(one: float | None, other: float | None, tolerance: float = TOLERANCE) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)


def _of_attribution(event: Event, recorded: Recorded) -> str:
    """What is wrong with the effects that an attribution ended with; "" also for records without them."""
    if event["what"] != "ended" or not event.get("effects"):
        return ""
    try:
        state = replay(recorded.events)
    except UNFIT:  # the check of the figures names an event that cannot be read
        return ""
    one = next((a for a in state.attributions if a.champion == event["champion"]), None)
    if one is None:
        return "it ends without a beginning"
    found = effects(replace(one, is_ended=False, settled=()), state.noise)
    is_same = _is_same(event["effects"], [asdict(effect) for effect in found])
    return "" if is_same else "its effects do not follow from its trainings"


# --- by the installed rule


def decide_again(events: Sequence[Event]) -> Decided:
    """Whether the installed rule gets the same numbers from all runs before, and asked for each further run."""
    found = Decided()
    has_numbers = any(event.get("rule") for event in events if event["event"] == "decided")
    for place, event in enumerate(events):
        if event["event"] not in ("decided", "started"):
            continue
        rule = event.get("rule")
        if rule and rule.get("version") == RULE_VERSION:
            state = replay(events[:place])
            experiment = state.experiments[event["experiment"]]
            of = grounds_of_rule if event["event"] == "decided" else grounds_of
            grounds = of(experiment, state)
            is_same = grounds is not None and _is_same(rule, as_recorded(grounds))
            if isinstance(grounds, BaselineGrounds):  # the numbers of others hold sigma
                is_same = is_same and _is_same(event.get("sigma"), state.sigma)
            _count(found, event, "" if is_same else "the installed rule gets other numbers from the runs before it")
        elif has_numbers and (problem := _of_run(event, events[:place])):
            found.problems.append(f"experiment {event['experiment']:04d}: {problem}")
    return found


def _is_without_numbers(rule: Any) -> bool:
    """Whether a run says by no rule that ever was why it began."""
    return not rule or not isinstance(rule.get("version"), int) or rule["version"] < 1


def _of_run(event: Event, before: Sequence[Event]) -> str:
    """What is wrong with a run that names no numbers that asked for it; "" also where that cannot be told."""
    if event["event"] != "started" or event["experiment"] == 0 or not _is_without_numbers(event.get("rule")):
        return ""
    number, run, state = event["experiment"], event["run"], replay(before)
    is_decided = state.experiments[number].status is not None  # so this is a further run of an incumbent
    if is_decided or state.slots or state.study.get("agent") == "rerun":  # an order of several slots; by no rule
        return ""
    step = next_step(state)  # a run whose files are lost when it is to be scored or audited trains again
    is_due = step.action in (Action.TRAIN, Action.SCORE, Action.AUDIT) and (step.experiment, step.run) == (number, run)
    return "" if is_due else f"its run {run + 1} was not asked for by the rule"


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same, numbers but for rounding."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, float) and isinstance(other, float | int):
        return _is_near(one, float(other), MEASURED_TOLERANCE)
    return bool(one == other)
