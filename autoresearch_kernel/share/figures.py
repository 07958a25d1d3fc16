"""The figures of a bundle's page that the check recomputes from the history. Pure.

The page marks each with `data-figure="NAME"`; the element's whole text is the figure, as in
`<b data-figure="kept">7</b>`. Both checks, in Python and in verify.js, read the text as a number and compare it with
the value to as many decimals as the text has. The names are those of FIGURES, and of OF_EXPERIMENT with the number of
an experiment, as `bpb-12`; a status is compared as a word. `missing` names the figures that a page must have, so that
one cannot be changed by taking its mark away; pages of earlier versions had fewer of them.

The page of an experiment marks all figures in the line below its title: score, difference, errors, how many runs a mean
is of, what later runs say, and what a refused score claimed. Some figures have no mark: times and durations, limits and
the calls that count towards them, calls without a price, how busy the machine was, how far an attribution is, how often
something was removed and how many notebooks there are, what study.json says of the machine and the corpus, figures in
reasons, titles and pictures, and all others on the pages of experiments, as in grounds, notebooks and curves. The
command makes the pages again, and so checks these too (`remade.py`). A figure that stands several times on a page needs
one mark; every mark is checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from html.parser import HTMLParser
from typing import Any

from ..core.attribution import Effect
from ..core.comparison import Comparison
from ..core.contrast import found_by
from ..core.drift import STEADY, machine_speeds
from ..core.format import MINUS, THIN_SPACE
from ..core.state import from_event
from ..core.types import FAILED, Result
from ..show.attribution_words import VERDICTS
from .recorded import UNFIT, Recorded

Value = float | int | str | None
ROUNDING = 1e-9  # of a value that lies half-way between two figures
UNITS = {"": 1.0, " k": 1e3, " M": 1e6}  # of numbers of tokens

FIGURES: dict[str, Callable[[Recorded], Value]] = {
    "experiments": lambda recorded: sum(number > 0 for number in recorded.decided),  # without the baseline
    "kept": lambda recorded: sum(number > 0 for number in recorded.kept),
    "discarded": lambda recorded: _count(recorded, "discard"),
    "failed": lambda recorded: _count(recorded, *(str(status) for status in FAILED)),
    "refused": lambda recorded: _count(recorded, "rejected"),
    "champion": lambda recorded: recorded.incumbent,
    "baseline-bpb": lambda recorded: _of(recorded.decided.get(0), "val_bpb"),
    "baseline-error": lambda recorded: _of(recorded.decided.get(0), "standard_error"),
    "champion-bpb": lambda recorded: _of(recorded.decided.get(recorded.incumbent or 0), "val_bpb"),
    "result-difference": lambda recorded: _of(recorded.result, "test_difference"),
    "result-error": lambda recorded: _of(recorded.result, "test_standard_error"),
    "result-low": lambda recorded: _end(recorded, 0),
    "result-high": lambda recorded: _end(recorded, 1),
    "result-val-difference": lambda recorded: _of(recorded.result, "val_difference"),
    "result-val-error": lambda recorded: _of(recorded.result, "val_standard_error"),
    "result-judged-difference": lambda recorded: _of(recorded.result, "judged_difference"),
    "result-judged-error": lambda recorded: _of(recorded.result, "judged_standard_error"),
    "result-baseline-bpb": lambda recorded: _of(recorded.result, "baseline_test_bpb"),
    "result-champion-bpb": lambda recorded: _of(recorded.result, "champion_test_bpb"),
}
SINCE_0_13: dict[str, Callable[[Recorded], Value]] = {  # None where the page does not show it
    "sigma": lambda recorded: recorded.state.sigma,
    "sigma-degrees": lambda recorded: recorded.state.noise.degrees_of_freedom or None,
    "repeated-runs": lambda recorded: _repeated_runs(recorded) if recorded.state.sigma is not None else None,
    "champion-difference": lambda recorded: _between_decisions(recorded).get("difference"),
    "champion-error": lambda recorded: _between_decisions(recorded).get("error"),
    "end-champion-bpb": lambda recorded: _at_end(recorded).get("champion_bpb"),
    "end-baseline-bpb": lambda recorded: _at_end(recorded).get("baseline_bpb"),
    "end-difference": lambda recorded: _at_end(recorded).get("difference"),
    "end-error": lambda recorded: _at_end(recorded).get("difference_standard_error"),
    "baseline-runs": lambda recorded: _baseline_runs(recorded),
    "budget": lambda recorded: recorded.state.study.get("time_budget_seconds"),
    "result-champion-runs": lambda recorded: _of(recorded.result, "num_champion_runs"),
    "result-baseline-runs": lambda recorded: _of(recorded.result, "num_baseline_runs"),
    "result-looks": lambda recorded: _looks(recorded),
    "result-failed": lambda recorded: _of(recorded.result, "num_failed_runs") or None,
    "given-back": lambda recorded: len(recorded.state.refusals) or None,
    "tokens": lambda recorded: recorded.state.spent.tokens if recorded.state.spent.calls else None,
    "cost": lambda recorded: _cost(recorded),
    "attribution-seeds": lambda recorded: _num_seeds(recorded),
    "speed-low": lambda recorded: min(_speeds(recorded), default=None),
    "speed-high": lambda recorded: max(_speeds(recorded), default=None),
}
FIGURES |= SINCE_0_13
OF_EXPERIMENT: dict[str, Callable[[Mapping[str, Any]], Value]] = {  # of its decision
    "bpb": lambda decided: decided.get("val_bpb"),
    "error": lambda decided: decided.get("standard_error"),
    "incumbent-bpb": lambda decided: decided.get("incumbent_bpb"),
    "difference": lambda decided: decided["val_bpb"] - decided["incumbent_bpb"],
    "difference-error": lambda decided: error_of(decided),
    "sigmas": lambda decided: _sigmas(decided),
    "status": lambda decided: decided["status"],
}
OF_RUNS: dict[str, Callable[[Recorded, int], Value]] = {  # of an experiment's runs
    "runs": lambda recorded, number: len(recorded.runs[number]),
    "judged-runs": lambda recorded, number: _judged_runs(recorded, number),
    "runs-so-far": lambda recorded, number: len(_scores(recorded, number)),
    "bpb-so-far": lambda recorded, number: _mean(_scores(recorded, number)),
    "error-so-far": lambda recorded, number: _error_so_far(recorded, number),
    "claimed": lambda recorded, number: _mean(_claims(recorded, number)),
}
OF_CHANGE: dict[str, Callable[[Effect], Value]] = {  # of what a kept change is worth, by an attribution
    "part": lambda effect: VERDICTS[effect.part][0],
    "without-bpb": lambda effect: effect.without_bpb,
    "with-bpb": lambda effect: effect.with_bpb,
    "gain": lambda effect: effect.gain,
    "gain-error": lambda effect: effect.error,
    "gain-low": lambda effect: effect.low,
    "gain-high": lambda effect: effect.high,
    "gain-seeds": lambda effect: None if effect.gain is None else effect.num_seeds,
}
OF_STATE = frozenset(  # figures that rest on all that the program makes of the events
    {
        "sigma", "sigma-degrees", "repeated-runs", "budget", "given-back", "tokens", "cost", "speed-low", "speed-high",
        "attribution-seeds",
    }
)  # fmt: skip
OF_AN_EXPERIMENT = re.compile(r"(.+)-(\d+)", flags=re.ASCII)


def value_of(name: str, recorded: Recorded) -> Value:
    """The value of a figure. Raises KeyError for a name that is not known, or an experiment that is not decided."""
    if name in FIGURES:
        return FIGURES[name](recorded)
    found = OF_AN_EXPERIMENT.fullmatch(name)
    if found is None:
        raise KeyError(name)
    kind, number = found[1], int(found[2])
    if kind in OF_CHANGE:
        return OF_CHANGE[kind](recorded.effects[number])
    return OF_RUNS[kind](recorded, number) if kind in OF_RUNS else OF_EXPERIMENT[kind](recorded.decided[number])


def known(name: str, recorded: Recorded) -> Value:
    """The value of a figure; None where the history has none."""
    try:
        return value_of(name, recorded)
    except UNFIT:
        return None


def needs_state(name: str) -> bool:
    """Whether a figure can only be computed where the program can read all events."""
    found = OF_AN_EXPERIMENT.fullmatch(name)
    return name in OF_STATE or (found is not None and found[1] in OF_CHANGE)


def fits(text: str, value: Value) -> bool:
    """Whether a figure's text says this value, as far as its decimals go."""
    if isinstance(value, str):
        return text.strip() == value
    said = number_in(text)
    return said is not None and value is not None and abs(said[0] - value) <= 0.5 * said[1] + ROUNDING


def number_in(text: str) -> tuple[float, float] | None:
    """The number that a figure's text says, and what its last digit stands for; None for a text that is no number."""
    plain = text.strip().replace(MINUS, "-").replace(THIN_SPACE, "")
    found = re.fullmatch(r"([+-]?\d+(?:\.(\d+))?)( k| M)?", plain, flags=re.ASCII)
    if found is None:
        return None
    unit = UNITS[found[3] or ""]
    return float(found[1]) * unit, 10.0 ** -len(found[2] or "") * unit


class Page(HTMLParser):
    """Reads a bundle's page: `figures` has name and text of each figure, `data` the text of the script `bundle`."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[tuple[str, str]] = []
        self.data: str | None = None  # None where the page has none
        self._tag = ""  # of the figure that is being read; "" outside of one
        self._is_data = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = dict(attributes)
        if tag == "script" and known.get("id") == "bundle":
            self.data, self._is_data = "", True
        elif (name := known.get("data-figure")) is not None:
            self.figures.append((name, ""))
            self._tag = tag

    def handle_data(self, data: str) -> None:
        if self._is_data:
            self.data = (self.data or "") + data
        elif self._tag:
            name, text = self.figures[-1]
            self.figures[-1] = name, text + data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._is_data = False
        elif tag == self._tag:
            self._tag = ""


@lru_cache(maxsize=40)  # the tests check one bundle hundreds of times; this keeps as many whole pages in memory
def read_page(html: str) -> Page:
    """The page of a text. All callers get the same object, so none may change it."""
    page = Page()
    page.feed(html)
    page.close()
    return page


def missing(page: Page, recorded: Recorded, version: Any) -> Iterator[str]:
    """The names of the figures that a page of this history must have and has not.

    Args:
        version: of the program that made the bundle, as its manifest names it; None where it is not known.
    """
    yield from _without(page, _needed(recorded, _numbers(version)))


def missing_of(page: Page, number: int, recorded: Recorded, version: Any) -> Iterator[str]:
    """The same of the page of an experiment, which has marks since 0.13."""
    numbers = _numbers(version)
    if numbers >= (0, 13, 0) and number in recorded.decided:
        yield from _without(page, (*_needed_of(number, recorded, numbers), *_needed_at_top(number, recorded)))


def _without(page: Page, needed: Iterable[str]) -> Iterator[str]:
    has = {name for name, _ in page.figures}
    yield from (name for name in dict.fromkeys(needed) if name not in has)


def _needed(recorded: Recorded, version: tuple[float, ...]) -> Iterator[str]:
    yield from ("experiments", "kept")
    if recorded.result is not None:
        yield from ("result-difference", "result-error", "result-baseline-bpb", "result-champion-bpb")
    is_new, is_latest = version >= (0, 12, 0), version >= (0, 13, 0)
    if is_new:
        yield from (name for name in ("discarded", "failed", "refused") if FIGURES[name](recorded))
        names = ["result-low", "result-high", "result-val-difference", "result-val-error"]
        names += ["result-judged-difference", "result-judged-error"]
        if FIGURES["baseline-bpb"](recorded) is not None:
            names += ["baseline-bpb", "baseline-error"]
            names += ["champion-bpb"] if recorded.incumbent else []
        names += SINCE_0_13 if is_latest else []
        names += [f"{kind}-{change}" for change in _changes(recorded) for kind in OF_CHANGE] if is_latest else []
        yield from (name for name in names if known(name, recorded) is not None)
    yield from (f"runs-{number}" for number in sorted(recorded.runs) if is_latest)
    for number in sorted(recorded.decided):
        yield from _needed_of(number, recorded, version)


def _needed_of(number: int, recorded: Recorded, version: tuple[float, ...]) -> Iterator[str]:
    """The figures of a decided experiment."""
    decided = recorded.decided[number]
    has_score, status = decided.get("val_bpb") is not None, decided["status"]
    is_compared = has_score and decided.get("incumbent_bpb") is not None
    is_new, is_latest = version >= (0, 12, 0), version >= (0, 13, 0)
    yield from [f"bpb-{number}"] if has_score else []
    yield from [f"incumbent-bpb-{number}", f"difference-{number}"] if is_compared else []
    yield from [f"difference-error-{number}"] if is_new and is_compared and error_of(decided) is not None else []
    yield from [f"sigmas-{number}"] if is_latest and is_compared and _sigmas(decided) is not None else []
    is_baseline, is_ended_early = recorded.parents[number] is None, status == "discard" and not has_score
    has_other_word = is_ended_early or (is_baseline and status == "keep")  # which the page has for it
    yield from [f"status-{number}"] if is_new and not has_other_word else []


def _needed_at_top(number: int, recorded: Recorded) -> Iterator[str]:
    """What the page of an experiment marks beside them, as `score_and_difference` in show/words.py has it."""
    decided, judged = recorded.decided[number], _judged_runs(recorded, number)
    if decided.get("val_bpb") is None:
        yield from [f"claimed-{number}"] if decided["status"] == "rejected" and _claims(recorded, number) else []
        return
    if decided.get("incumbent_bpb") is None and decided.get("standard_error"):
        yield f"error-{number}"
    yield from [f"judged-runs-{number}"] if judged > 1 else []
    if 0 < judged < len(_scores(recorded, number)):
        yield from (f"runs-so-far-{number}", f"bpb-so-far-{number}")
        yield from [f"error-so-far-{number}"] if _error_so_far(recorded, number) else []


def _numbers(version: Any) -> tuple[float, ...]:
    """Of a version, for comparison; one that cannot be read is taken for a new one, and none for an old one."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version, flags=re.ASCII) if isinstance(version, str) else None
    return tuple(map(int, found.groups())) if found else () if version is None else (math.inf,)


def _count(recorded: Recorded, *statuses: str) -> int:
    return sum(number > 0 and decided["status"] in statuses for number, decided in recorded.decided.items())


def error_of(decided: Mapping[str, Any]) -> float | None:
    """Of the difference that a decision rests on: that of a duel, else of two independent means."""
    known = decided.get("difference_error")
    if known is not None:
        return float(known)
    mine, theirs = decided.get("standard_error"), decided.get("incumbent_standard_error")
    return None if mine is None or theirs is None else math.hypot(mine, theirs)


def _sigmas(decided: Mapping[str, Any]) -> float | None:
    """The difference in sigma, as it was known at the decision; None where it was not."""
    mine, theirs = decided["val_bpb"], decided["incumbent_bpb"]
    if (error := decided.get("difference_error")) is not None:  # of a duel
        return Comparison(mine, theirs, sigma=error).sigmas
    errors = decided.get("standard_error"), decided.get("incumbent_standard_error")
    sigma, degrees = decided.get("sigma"), decided.get("degrees_of_freedom")
    return Comparison(mine, theirs, *errors, sigma, degrees_of_freedom=degrees).sigmas


def _between_decisions(recorded: Recorded) -> dict[str, float | None]:
    """Difference of the champion from the baseline, each as it was decided, and its error; empty without both."""
    mine, theirs = (recorded.decided.get(number or 0, {}) for number in (recorded.incumbent, 0))
    scores = mine.get("val_bpb"), theirs.get("val_bpb")
    if not recorded.incumbent or scores[0] is None or scores[1] is None:
        return {}
    errors = mine.get("standard_error"), theirs.get("standard_error")
    error = None if errors[0] is None or errors[1] is None else math.hypot(errors[0], errors[1])
    return {"difference": scores[0] - scores[1], "error": error}


def _at_end(recorded: Recorded) -> dict[str, Any]:
    """What the last session measured of the champion and of the baseline; empty where it did not."""
    found = next((event for event in reversed(recorded.events) if event["event"] == "finished"), {})
    has_champion = bool(_between_decisions(recorded))
    if not (has_champion and found.get("champion") == recorded.incumbent and found.get("baseline_bpb")):
        return {}
    return {**found, "difference": found["champion_bpb"] - found["baseline_bpb"]}


def _baseline_runs(recorded: Recorded) -> int | None:
    """How many runs the baseline's score is the mean of; None where it has no score."""
    if _of(recorded.decided.get(0), "val_bpb") is None:
        return None
    return _judged_runs(recorded, 0)


def _judged_runs(recorded: Recorded, number: int) -> int:
    """How many scored runs of an experiment began before its decision."""
    return sum(run["val_bpb"] is not None and run["decided"] is None for run in recorded.runs[number].values())


def _in_order(recorded: Recorded, number: int) -> list[dict[str, Any]]:
    """The runs of an experiment; one whose number is none is named elsewhere."""
    runs = recorded.runs[number]
    return [runs[index] for index in sorted(index for index in runs if isinstance(index, int))]


def _scores(recorded: Recorded, number: int) -> list[float]:
    """Of all runs of an experiment so far, on the kind of machine of its first score."""
    scored = [run for run in _in_order(recorded, number) if run["val_bpb"] is not None]
    return [run["val_bpb"] for run in scored if run["machine"] == scored[0]["machine"]]


def _claims(recorded: Recorded, number: int) -> list[float]:
    """What the scorer said of each run, before the audit."""
    runs = _in_order(recorded, number)
    claims = [run["val_bpb"] if run["claimed"] is None else run["claimed"] for run in runs]
    return [claim for claim in claims if claim is not None]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _error_so_far(recorded: Recorded, number: int) -> float | None:
    """Of the mean of all runs so far, with the sigma of the decision."""
    sigma, scores = recorded.decided[number].get("sigma"), _scores(recorded, number)
    return sigma / math.sqrt(len(scores)) if sigma is not None and scores else None


def _repeated_runs(recorded: Recorded) -> int:
    """Runs of code that had run before, on the kind of machine of its first score."""
    return sum(max(0, len(experiment.scores) - 1) for experiment in recorded.state.experiments)


def _looks(recorded: Recorded) -> int | None:
    """How many champions the test split was opened for; None for one."""
    looks = recorded.result["num_looks"] if recorded.result else 0
    return looks if looks > 1 else None


def _num_seeds(recorded: Recorded) -> int | None:
    """Of each variant at most; None where the champion's changes were not taken out."""
    return recorded.state.attribution.num_seeds if recorded.effects and recorded.state.attribution else None


def _changes(recorded: Recorded) -> tuple[int, ...]:
    """The kept changes whose worth an attribution says."""
    return tuple(recorded.effects) if recorded.is_fit else ()


def _cost(recorded: Recorded) -> float | None:
    """US dollars of the calls whose price is known; None without one."""
    spent = recorded.state.spent
    return spent.cost if spent.unpriced_calls < spent.calls else None


def _speeds(recorded: Recorded) -> list[float]:
    """The machine's speeds relative to the start; none of a steady machine."""
    speeds = [speed for _, speed in machine_speeds(recorded.state.experiments)]
    return speeds if any(abs(speed - 1) > STEADY for speed in speeds) else []


def _end(recorded: Recorded, which: int) -> Value:
    """The low or the high end of the result's interval."""
    result = recorded.result
    if result is None:
        return None
    scores = (list(recorded.test_scores(number).values()) for number in (0, result["champion"]))
    interval = found_by(from_event(result, Result), *scores).gain.interval
    return None if interval is None else interval[which]


def _of(event: Mapping[str, Any] | None, name: str) -> Value:
    return None if event is None else event.get(name)
