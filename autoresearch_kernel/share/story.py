"""The night in a paragraph, made from the record, with each figure marked so that `Verify` can check it. Pure.

`layout.figure` marks a figure with its name; `figures.py` has the names, and how their values follow from the history.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..core.comparison import Comparison
from ..core.contrast import CONFIDENCE, Interval, interval_on_test
from ..core.decide import best
from ..core.drift import STEADY, machine_speeds
from ..core.format import bpb, clock, count, duration, percent, plain, signed, thousands
from ..core.playback import Timeline
from ..core.types import FAILED, Experiment, Status
from ..show.cost import money, spent_words, tokens
from ..show.html import text
from ..show.study_words import (
    against_baseline,
    compared_at_end,
    failed_words,
    findings,
    gain_words,
    machine_words,
    unclear_words,
)
from ..show.words import UNTRUSTED, mistrust, title
from ..system.files import seconds_of
from .layout import figure, mark_in
from .material import Material


def story(material: Material) -> list[str]:
    """Sentences as HTML: who proposed what on which machine, what was kept, what it gained and how sure that is."""
    return [
        *_running(material),
        *_beginning(material),
        *_baseline(material),
        *_decisions(material),
        *_champion(material),
        *_trust(material),
    ]


def result_html(material: Material) -> list[str]:
    """The result on the sealed test split with its error, or that there is none."""
    result = material.state.result
    if result is None:
        return [
            "There is no result on the sealed test split: <code>autoresearch finish</code> measures it once. "
            "All scores on this page are of the validation split, by which the changes were chosen, so a part of the "
            "gain may be luck."
        ]
    interval = interval_on_test(material.state)
    seeds = (
        f"{figure('result-champion-runs', str(result.num_champion_runs))} fresh seeds of the champion and "
        f"{figure('result-baseline-runs', str(result.num_baseline_runs))} of the baseline"
    )
    sentences = [
        f"On text that decided nothing, the sealed test split, the champion scores "
        f"{figure('result-champion-bpb', bpb(result.champion_test_bpb))} and the baseline "
        f"{figure('result-baseline-bpb', bpb(result.baseline_test_bpb))} bits per byte: "
        f"{_of_result('', result.test_difference, result.test_standard_error)}{_interval(interval)}, "
        f"over {seeds}.",
        f"On validation the same models differ by "
        f"{_of_result('val-', result.val_difference, result.val_standard_error)}; the differences of the decisions "
        f"that led there add up to "
        f"{_of_result('judged-', result.judged_difference, result.judged_standard_error)}.",
        text(unclear_words(result.test_difference, result.test_standard_error, interval)),
        mark_in(failed_words(result), ("result-failed", "", thousands(result.num_failed_runs))),
    ]
    if result.num_looks > 1:
        looks = figure("result-looks", str(result.num_looks))
        sentences.append(f"The test split was opened for {looks} champions; each look wears it out.")
    return list(filter(None, sentences))


def marked(difference: float, error: float | None, name: str, of_error: str) -> str:
    """As `with_error` has it, with the names of both figures."""
    words = figure(name, signed(difference))
    return words if error is None else f"{words} ± {figure(of_error, f'{error:.4f}')}"


def marked_gain(compared: Comparison, name: str, of_error: str) -> str:
    """As `gain_words` has it, with the names of both figures."""
    words = gain_words(compared.difference, compared.error)
    figures = [(name, "", signed(compared.difference))]
    figures += [(of_error, " ± ", f"{compared.error:.4f}")] if compared.error is not None else []
    return mark_in(words, *figures)


def spent_html(material: Material) -> str:
    """As `spent_words` has it."""
    spent, words = material.state.spent, spent_words(material.state.spent, material.state.limits)
    figures = [("tokens", "", tokens(spent.tokens))] if spent.calls else []
    figures += [("cost", " · $", money(spent).partition(" ")[0][1:])] if spent.unpriced_calls < spent.calls else []
    return mark_in(words, *figures)


def _of_result(of: str, difference: float, error: float | None) -> str:
    return marked(difference, error, f"result-{of}difference", f"result-{of}error")


def _interval(interval: Interval | None) -> str:
    """As `interval_words` has it."""
    if interval is None:
        return ""
    low, high = (figure(f"result-{name}", signed(end)) for name, end in zip(("low", "high"), interval, strict=True))
    return f" ({text(percent(CONFIDENCE))}: {low} to {high})"


def tried(material: Material) -> tuple[Experiment, ...]:
    """The decided experiments without the baseline."""
    return tuple(e for e in material.state.decided if e.number > 0)


def speed_html(material: Material) -> str:
    """How the machine's speed changed; "" for a steady one."""
    speeds = [speed for _, speed in machine_speeds(material.state.experiments)]
    if not speeds or max(abs(speed - 1) for speed in speeds) <= STEADY:
        return ""
    low, high = figure("speed-low", f"{min(speeds):.2f}"), figure("speed-high", f"{max(speeds):.2f}")
    return f"The machine ran at {low} to {high} times its speed at the start."


def _running(material: Material) -> Iterator[str]:
    if material.is_running:
        last = clock(material.events[-1]["time"])
        yield f"<strong>This study was still running when it was shared; the page tells it as of {text(last)}.</strong>"


def _beginning(material: Material) -> Iterator[str]:
    facts, state, events = material.study.facts, material.state, material.events
    seconds = Timeline.of(events, seconds_of).seconds_of_experiments
    options = facts.get("agent_options") or {}
    agent = plain(f"{facts['agent']}{', ' + str(options['model']) if options.get('model') else ''}", 80)
    number = figure("experiments", str(len(tried(material))))
    noun = "experiment was" if len(tried(material)) == 1 else "experiments were"
    yield (
        f"Starting on {text(clock(events[0]['time']))}, {number} {noun} made in {duration(seconds)} with the agent "
        f"{text(agent)}. Each run had a budget of {budget_html(material)} s on "
        f"{text(plain(str(facts['hardware'].get('device_name', '?')), 80))} and the corpus "
        f"{text(plain(str(facts['corpus'].get('corpus', '?')), 40))}."
    )
    if state.spent.calls:
        yield f"The model used {spent_html(material)}."


def budget_html(material: Material) -> str:
    """Seconds of training of a run."""
    return figure("budget", f"{material.study.facts['time_budget_seconds']:g}")


def _baseline(material: Material) -> Iterator[str]:
    baseline, sigma = material.state.experiments[0], material.state.sigma
    if baseline.val_bpb is None:
        yield "The baseline has no score."
        return
    error = baseline.standard_error
    shown = f" ± {figure('baseline-error', f'{error:.4f}')}" if error is not None else ""
    number, noun = count(len(baseline.judged_runs), "run").split(" ")
    runs = f"{figure('baseline-runs', number)} {noun}"
    yield (
        f"The baseline scored {figure('baseline-bpb', bpb(baseline.val_bpb))}{shown} bits per byte (val_bpb; lower "
        f"is better), the mean of {runs}."
    )
    if sigma is not None:
        yield f"Two runs of the same code differ by a standard deviation of σ = {figure('sigma', f'{sigma:.4f}')}."


def _decisions(material: Material) -> Iterator[str]:
    done = tried(material)
    num_kept = sum(e.status is Status.KEEP for e in done)
    kept = f"{figure('kept', str(num_kept))} {'was' if num_kept == 1 else 'were'} kept"
    kinds = [
        ("discarded", "discarded", sum(e.status is Status.DISCARD for e in done)),
        ("failed", "failed", sum(e.status in FAILED for e in done)),
        ("refused", "refused by the audit", sum(e.status is Status.REJECTED for e in done)),
    ]
    others = [f"{figure(name, str(number))} {kind}" for name, kind, number in kinds if number]
    yield f"Of the experiments, {', '.join([kept, *others])}."


def _champion(material: Material) -> Iterator[str]:
    state = material.state
    champion, baseline = best(state.experiments), state.experiments[0]
    if champion is None or champion.number == 0 or baseline.val_bpb is None:
        yield text(findings(state, None).split(" Next:")[0].rstrip(".")) + "."
        return
    compared = champion.against(baseline)
    assert compared is not None, "both have a score"
    yield (
        f"The last change that was kept, {text(title(champion))}, scored "
        f"{figure('champion-bpb', bpb(champion.val_bpb))} against the baseline’s "
        f"{figure('baseline-bpb', bpb(baseline.val_bpb))}, each as it was decided: "
        f"{marked_gain(compared, 'champion-difference', 'champion-error')}."
    )
    finished = material.finished
    if finished is not None and finished.get("champion") == champion.number and finished.get("baseline_bpb"):
        yield f"By comparable runs at the end: {_at_end(compared_at_end(finished))}."


def _at_end(compared: Comparison) -> str:
    """As `against_baseline` has it."""
    words = against_baseline(compared).removesuffix(gain_words(compared.difference, compared.error))
    scores = (("end-champion-bpb", " ", bpb(compared.mine)), ("end-baseline-bpb", " ", bpb(compared.theirs)))
    return mark_in(words, *scores) + marked_gain(compared, "end-difference", "end-error")


def _trust(material: Material) -> Iterator[str]:
    yield from filter(None, (speed_html(material), text(machine_words(material.state))))
    if mistrust(*material.state.experiments):
        yield f"<strong>Some runs are {UNTRUSTED}: their code could have changed any figure.</strong>"
