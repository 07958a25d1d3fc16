"""Figures side by side agree: each line shows the two scores that were compared, and the difference of exactly these.

The lines of every view are parsed, over the recorded study of the documentation and over made-up nights on a machine
whose speed jumps, where later runs, other sigmas and means over other runs make many figures that could be mixed up.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator

import pytest

from autoresearch_kernel.agents.history_text import Detail, experiment_lines, in_full
from autoresearch_kernel.core.decide import mean
from autoresearch_kernel.core.state import StudyState, replay
from autoresearch_kernel.core.types import Archive, Audit, Experiment
from autoresearch_kernel.lab.analysis.load import analyse
from autoresearch_kernel.lab.panel.chart import history_data, table_data
from autoresearch_kernel.show import html
from autoresearch_kernel.show.follow import look
from autoresearch_kernel.show.plot_progress import _summary
from autoresearch_kernel.show.plot_scale import points_of
from autoresearch_kernel.show.status import status_table
from autoresearch_kernel.show.study_words import findings
from autoresearch_kernel.show.words import outcome_line, score_and_difference, status_line, verdict
from tests import recorded_night
from tests.event_writer import Writer

SCORE, SIGNED = r"(\d\.\d{4})(?: ± (\d\.\d{4}))?", r"([+−-]\d\.\d{4})(?!\d)(?: ?± ?(\d\.\d{4}))?"
FORMS = (  # mine first
    rf"{SCORE}  against {SCORE}  {SIGNED}",
    rf"{SCORE} (?:against|vs)(?: the incumbent's)? {SCORE}: {SIGNED}",
    rf"{SCORE}, the baseline's {SCORE}; (?:no clear difference:|difference) {SIGNED}",
    rf"{SCORE} +{SCORE} +{SIGNED}",  # columns of a table
)
BACKWARDS = (  # theirs first
    rf"{SCORE} (?:→|to) {SCORE}(?: bits per byte)?, (?:no clear difference: |difference )?{SIGNED}",
)
ADDED_UP = r"add up to [+−]\d\.\d{4}"  # of several decisions, and said to be
INTERVAL = r" \(95 %: [+−]\d\.\d{4} to [+−]\d\.\d{4}\)"  # the ends of an interval are no differences of two scores


def night(writer: Writer, seed: int) -> Writer:
    """A study whose decisions were made with means and sigmas of their moments; kept changes run again later."""
    rng = random.Random(seed)
    writer.says_what_it_does = False
    writer.open()
    level, sigma, num_runs = 1.5, 0.01, 3
    incumbent: int | None = None
    for number in range(12):
        writer.propose(number, f"Set ALPHA to 0.{number}.", parent=incumbent)
        runs = 3 if number == 0 else rng.choice((1, 1, 2))
        truth = 1.5 if number == 0 else level + rng.gauss(0, 0.02)
        scores = [round(truth + rng.gauss(0, sigma), 6) for _ in range(runs)]
        for run, score in enumerate(scores):
            writer.run(number, score, run)
        is_kept = number == 0 or mean(scores) < level
        own = None if number == 0 else level
        writer.append(
            "decided", experiment=number, status="keep" if is_kept else "discard", reason="the rule says so",
            val_bpb=mean(scores), standard_error=sigma / math.sqrt(runs), incumbent_bpb=own, sigma=sigma,
            incumbent_standard_error=None if own is None else sigma / math.sqrt(num_runs),
        )  # fmt: skip
        if is_kept:
            incumbent, num_runs = number, runs
        assert incumbent is not None
        for run in range(num_runs, num_runs + rng.choice((0, 0, 1, 2))):  # again, on a machine of another speed
            writer.run(incumbent, round(level + rng.gauss(0, 0.05), 6), run)
            num_runs = run + 1
        sigma = rng.choice((0.003, 0.01, 0.07))
        level = replay(writer.history.events).incumbent_bpb or level
    return writer


def finished(state: StudyState) -> dict[str, object]:
    """The event at the end of a study: means over all runs so far."""
    champion, baseline = state.incumbent, state.experiments[0]
    assert champion is not None
    compared = champion.so_far_against(baseline, state.sigma)
    assert compared is not None
    return {
        "champion": champion.number, "champion_bpb": compared.mine, "baseline_bpb": compared.theirs,
        "difference_bpb": compared.difference, "difference_standard_error": compared.error,
    }  # fmt: skip


def text_of(page: str) -> str:
    """The words of HTML, a line for each row."""
    return re.sub(r" +", " ", re.sub(r"<[^>]+>", " ", page.replace("</tr>", "\n").replace("\u00a0", " ")))


def of_an_experiment(e: Experiment, facts: dict) -> Iterator[tuple[str, str]]:
    """Each view of one experiment, by name."""
    yield "terminal", outcome_line(e)
    yield "head of a notebook", status_line(e, facts)
    yield "card", score_and_difference(e)
    yield "verdict", verdict(e, e.runs[-1], facts)
    yield "prompt, a line", "\n".join(experiment_lines([e], Detail(80, None, 9, 900, 9)))
    yield "prompt, in full", in_full(e, "", Archive())


def views(state: StudyState, facts: dict) -> Iterator[tuple[str, str]]:
    """Each view in words, by name, that has differences of experiments or of a study."""
    for e in state.decided:
        if e.runs:
            yield from of_an_experiment(e, facts)
    yield "findings", findings(state, None)
    yield "findings at the end", findings(state, finished(state))
    yield "table of a page", text_of(html.experiments_table(state.decided))
    yield "picture", _summary(state.decided, points_of(state.decided), "bits per byte")
    data = history_data(state.decided, state.sigma)
    yield "chart of the panel", "\n".join([data["summary"], *(point["words"] for point in data["points"])])
    rows = table_data(state.decided)["rows"]
    told = [r for r in rows if r["delta"] is not None]
    yield "table of the panel", "\n".join(f"{r['val_bpb']:.4f} {r['against']:.4f} {r['delta']:+.4f}" for r in told)


def check(name: str, text: str) -> int:
    """Each difference in a text is that of the two scores beside it, and has their errors; how many there are."""
    text = re.sub(
        f"{ADDED_UP}|{INTERVAL}", "", re.sub(r"^(hypothesis|decision|\| decision).*$", "", text, flags=re.MULTILINE)
    )
    found = 0
    for form in (*FORMS, *BACKWARDS):
        for match in re.finditer(form, text):
            mine, my_error, theirs, their_error, difference, error = match.groups()
            sign = -1 if form in BACKWARDS else 1
            shown = float(difference.replace("−", "-"))
            assert abs(sign * (float(mine) - float(theirs)) - shown) < 1.01e-4, (name, match[0])
            if my_error and their_error and error:
                assert abs(math.hypot(float(my_error), float(their_error)) - float(error)) < 2e-4, (name, match[0])
            found += 1
    assert found == len(re.findall(SIGNED, text)), (name, text)  # none stands without what it is the difference of
    return found


def test_in_the_recorded_study_every_difference_is_that_of_the_scores_beside_it() -> None:
    state = recorded_night.STATE
    assert sum(check(name, text) for name, text in views(state, state.study)) > 300


@pytest.mark.parametrize("seed", range(6))
def test_in_made_up_nights_every_difference_is_that_of_the_scores_beside_it(writer: Writer, seed: int) -> None:
    night(writer, seed)
    state = replay(writer.history.events)
    assert any(len(e.scores) > len(e.judged_runs) for e in state.decided), "later runs make other figures"
    found = [check(name, text) for name, text in views(state, state.study)]
    now = look(writer.study)
    tables = [status_table(now, width=width) for width in (80, 120)]
    found += [check("status", re.sub(r"\n  (?=\S)", " ", table)) for table in tables]  # without the breaks of lines
    assert sum(found) > 60


def test_the_tables_of_an_analysis_agree_with_themselves(writer: Writer) -> None:
    night(writer, 1)
    found = analyse(writer.study)
    for finding in (found.attribution(), found.drift(), found.themes(), found.near_misses()):
        matches = list(re.finditer(FORMS[-1], repr(finding)))
        assert matches, finding.title
        for match in matches:
            mine, _, theirs, _, difference, _ = match.groups()
            assert abs(float(mine) - float(theirs) - float(difference.replace("−", "-"))) < 1.01e-4, match[0]


def test_a_decision_keeps_its_sigma_when_more_is_known(writer: Writer) -> None:
    """A gain of -5.0 sigma stays one, whatever sigma later runs show."""
    writer.open().baseline().settle(1, "keep", 1.49)
    before = outcome_line(replay(writer.history.events).experiments[1])
    writer.run(1, 1.6, run=1)
    assert replay(writer.history.events).sigma == pytest.approx(0.002), "the run awaits its audit"
    writer.append("audited", experiment=1, run=1, **vars(Audit(True, 0.0, 0.0, 256, 0, "", 0.1)))
    state = replay(writer.history.events)
    assert state.sigma is not None and state.sigma > 0.03
    assert outcome_line(state.experiments[1]) == before and "(−5.0 σ)" in before
    (row,) = analyse(writer.study).attribution().rows
    assert row["sigmas"] == pytest.approx(5.0)
