"""Each figure that the real code of a page writes has its mark, and says what the history says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.state import replay
from autoresearch_kernel.share.bundle import Bundle, read_bundle
from autoresearch_kernel.share.check import check_bundle
from autoresearch_kernel.share.command import share_study
from autoresearch_kernel.share.figures import fits, known, read_page
from autoresearch_kernel.share.layout import mark_in
from autoresearch_kernel.share.manifest import PAGE
from autoresearch_kernel.share.material import Material, read_material
from autoresearch_kernel.share.recorded import Recorded
from autoresearch_kernel.share.story import spent_html, story
from tests.shared_night import Night, make_night


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    night = make_night(tmp_path_factory.mktemp("night") / "project")
    night.writer.history.close()
    return read_material(night.study, has_prompts=False)


def figures_in(bundle: Bundle, path: str = PAGE) -> dict[str, str]:
    return dict(read_page(bundle.text(path) or "").figures)


def problems_in(bundle: Bundle) -> list[str]:
    rows = {row.name: row for row in check_bundle(bundle, is_whole=False)}
    return [str(finding) for finding in rows["figures"].findings]


def shared(night: Night, path: Path) -> Bundle:
    bundle = read_bundle(share_study(night.study, path, decide=list)[0])
    night.writer.history.close()
    return bundle


# --- what a language model used

CALL = {"event": "called", "experiment": 1, "model": "m", "tokens_in": 30_000, "tokens_out": 431, "seconds": 1.0}
NO_LIMIT = {"event": "limits", "max_tokens": None, "max_cost": None, "max_calls": None}
LIMITS: list[dict[str, Any]] = [{}, {"max_tokens": 2_000_000}, {"max_cost": 5.0}, {"max_calls": 40}]
LIMITS += [{"max_tokens": 2_000_000, "max_cost": 5.0, "max_calls": 40}]


def with_events(material: Material, more: Sequence[dict[str, Any]]) -> Material:
    last = material.events[-1]
    added = [{"seq": last["seq"] + n, "time": last["time"], **event} for n, event in enumerate(more, 1)]
    events = (*material.events, *added)
    return replace(material, events=events, state=replay(events))


@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: "-".join(limits) or "none")
@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ([0.0], "0.00"), ([0.05], "0.0500"), ([12.5], "12.50"), ([None, 12.5, None], "12.50"), ([None, 0.05], "0.0500"),
        ([None], None),
    ],
)  # fmt: skip
def test_tokens_and_cost_are_marked_whatever_their_price_and_limits(
    material: Material, costs: list[float | None], words: str | None, limits: dict[str, Any]
) -> None:
    made = with_events(material, [NO_LIMIT | limits, *(CALL | {"cost": cost} for cost in costs)])
    recorded = Recorded()
    for event in made.events:
        recorded.add(event)
    figures = dict(read_page(spent_html(made)).figures)
    assert (figures["tokens"], figures.get("cost")) == (f"{30.431 * len(costs):.1f} k", words)
    assert all(fits(text, known(name, recorded)) for name, text in figures.items())
    assert (known("cost", recorded) is None) == (words is None)


def test_the_story_tells_how_long_the_experiments_took_whatever_came_days_later(material: Material) -> None:
    """Sessions are added up, without the time between them; `finish` and `attribute` try nothing new."""
    at_once = story(material)[0]
    assert " made in 10 min with " in at_once
    later = {"time": "2027-03-01T08:00:00.000Z"}
    assert story(with_events(material, [{"event": "opened", **later}, {"event": "note", **later}]))[0] == at_once
    hour = {"time": "2027-03-01T09:00:00.000Z"}
    fresh = {"event": "started", "experiment": 1, "run": 1, "seed": 9, **hour}  # a run of what was decided
    without = [{"event": "opened", **later}, fresh, {"event": "note", **hour}]
    assert story(with_events(material, without))[0] == at_once
    (open_one,) = material.state.in_work
    again = {"event": "started", "experiment": open_one.number, "run": 0, "seed": 1}
    more = [*without, {"event": "opened", **hour}, again | {"time": "2027-03-01T09:20:00.000Z"}]
    assert " made in 30 min with " in story(with_events(material, more))[0]


# --- a whole page


@pytest.mark.parametrize("num_looks", [1, 2])
def test_the_page_marks_how_often_the_test_split_was_opened_and_what_was_paid(tmp_path: Path, num_looks: int) -> None:
    night = make_night(tmp_path / "project")
    for number, level in ((0, 1.5), (1, 1.46)):
        night.writer.append("tested", experiment=number, run=0, champion=1, test_bpb=level)
    night.writer.append(
        "result", champion=1, baseline_test_bpb=1.5, champion_test_bpb=1.46, test_difference=-0.04,
        test_standard_error=0.0007, val_difference=-0.04, val_standard_error=0.001, judged_difference=-0.04,
        num_baseline_runs=1, num_champion_runs=1, num_looks=num_looks,
    )  # fmt: skip
    night.writer.append("called", **{name: value for name, value in CALL.items() if name != "event"}, cost=0.42)
    bundle = shared(night, tmp_path / "nov23.zip")
    figures = figures_in(bundle)
    assert figures.get("result-looks") == (None if num_looks == 1 else "2") and figures["cost"] == "0.42"
    assert problems_in(bundle) == []


def test_the_page_of_an_experiment_marks_all_figures_below_its_title(tmp_path: Path) -> None:
    """The baseline's error, the runs that a mean is of, and what runs after a decision say."""
    night = make_night(tmp_path / "project")
    source = night.study.train_source(1)
    for run, score in ((1, 1.462), (2, 1.47)):
        night.train(1, source, run)
        night.writer.score(1, score, run)
    night.train(2, source)
    night.writer.score(2, 1.2)
    night.writer.append(
        "audited", experiment=2, run=0, accepted=False, correction_bpb=0.0, standard_error=0.0, num_cuts=256,
        num_mismatches=99, reason="99 of 256 answers differ", seconds=0.1,
    )  # fmt: skip
    bundle = shared(night, tmp_path / "nov23.zip")
    of = [figures_in(bundle, f"experiments/{number:04d}/{PAGE}") for number in range(3)]
    assert (of[0]["error-0"], of[0]["judged-runs-0"]) == ("0.0010", "3")
    assert [of[1][f"{name}-so-far-1"] for name in ("runs", "bpb", "error")] == ["3", "1.4640", "0.0012"]
    assert of[2] == {"claimed-2": "1.2000", "status-2": "rejected"}
    assert problems_in(bundle) == []
    assert all('data-figure="kept">1<' in part for part in (bundle.text(PAGE) or "").split("legend")[-1:])


def test_words_without_the_figure_are_shown_without_its_mark() -> None:
    """Then the check reports that the mark is missing; nothing ends `share`."""
    assert mark_in("1.5 < 2 for $3", ("two", "", "2"), ("cost", " · $", "3")) == (
        '1.5 &lt; <span data-figure="two">2</span> for $3'
    )
    assert mark_in("a 1 b 2", ("none", "c ", "7"), ("two", "b ", "2")) == 'a 1 b <span data-figure="two">2</span>'
