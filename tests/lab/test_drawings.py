"""What `panel.js` draws, in a real browser on a bare page: marks, legend, words beside the marks, keys of the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autoresearch_kernel.core.types import Experiment, Run, Status
from autoresearch_kernel.lab.panel import panel
from autoresearch_kernel.lab.panel.chart import history_data, table_data
from tests import recorded_night
from tests.journeys.conftest import FLAGS, browser_path
from tests.show.test_plots import SIGMA, experiment, night, run_again

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(panel.__file__).parent
REACH = 60  # pixels from a mark to its words
LONG = (
    "The value residual helps every head. "
    + "It was measured on two seeds and never hurt. " * 12
    + "So gate it per head."
)

# Gives the drawing what anywidget gives it: an element and a model; returns nothing that Python would have to hold.
RENDER = """async ([source, kind, data, width]) => {
    const module = URL.createObjectURL(new Blob([source], {type: 'text/javascript'}));
    window.front = window.front || (await import(module)).default;
    const el = document.createElement('div');
    const frame = document.createElement('div');
    frame.className = 'ar-panel';
    frame.style.width = `${width}px`;
    frame.append(el);
    document.body.replaceChildren(frame);
    const values = {kind, data, selected: -1}, heard = {};
    window.model = {
        get: (name) => values[name],
        set: (name, value) => { values[name] = value; (heard[`change:${name}`] || []).forEach((call) => call()); },
        on: (name, call) => (heard[name] = [...(heard[name] || []), call]), off: () => {}, save_changes: () => {},
    };
    window.front.render({model: window.model, el});
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""

# For each label: its box, how far it is from its mark, whether a line joins them, and what it covers.
LABELS = """() => {
    const picture = document.querySelector('svg.ar-chart'), corner = picture.getBoundingClientRect();
    const boxOf = (node) => {
        const b = node.getBoundingClientRect();
        return [b.left - corner.left, b.top - corner.top, b.right - corner.left, b.bottom - corner.top];
    };
    const meet = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
    const centre = (b) => [(b[0] + b[2]) / 2, (b[1] + b[3]) / 2];
    const marks = [...document.querySelectorAll('svg.ar-chart .ar-mark')].map((node) => ({node, box: boxOf(node)}));
    const path = document.querySelector('.ar-incumbent');
    const corners = [];
    for (const [, kind, first, second] of path.getAttribute('d').matchAll(/([MHV])([\\d.]+) ?([\\d.]+)?/g)) {
        const [x, y] = corners[corners.length - 1] || [];
        corners.push(kind === 'M' ? [+first, +second] : kind === 'H' ? [+first, y] : [x, +first]);
    }
    const line = corners.slice(1).map(([x, y], i) => {
        const [u, v] = corners[i];
        return [Math.min(x, u), Math.min(y, v), Math.max(x, u) + 0.1, Math.max(y, v) + 0.1];
    });
    const dot = (box) => [centre(box)[0] - 1, centre(box)[1] - 1, centre(box)[0] + 1, centre(box)[1] + 1];
    const labels = [...document.querySelectorAll('svg.ar-chart .ar-label')];
    return labels.map((label) => {
        const box = boxOf(label), number = label.dataset.number;
        const inner = [box[0] + 1, box[1] + 2, box[2] - 1, box[3] - 2];
        const kinds = ['keep', 'baseline'];
        const own = marks.filter(({node: {dataset}}) => dataset.number === number && kinds.includes(dataset.mark));
        const gaps = own.map((mark) => {
            const [x, y] = centre(mark.box);
            return Math.hypot(Math.max(box[0] - x, x - box[2], 0), Math.max(box[1] - y, y - box[3], 0));
        });
        const other = labels.filter((one) => one !== label && meet(boxOf(one), box)).length;
        return {
            number: Number(number), gap: Math.min(...gaps), other,
            leader: !!document.querySelector(`.ar-leader[data-number="${number}"]`),
            marks: marks.filter((mark) => meet(inner, dot(mark.box))).length,
            line: line.filter((part) => meet(inner, part)).length,
            inside: box[0] >= 0 && box[1] >= 0 && box[2] <= corner.width && box[3] <= corner.height,
        };
    });
}"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    path = browser_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1100, "height": 900})
        page.set_default_timeout(10_000)
        page.set_content(f"<!doctype html><style>{(FOLDER / 'panel.css').read_text()}</style><body></body>")
        yield page
        chromium.close()


@pytest.fixture
def show(page: Page) -> Callable[..., None]:
    """Draw `kind` from its numbers, `width` pixels wide."""

    def draw(kind: str, numbers: dict[str, Any], width: int = 600) -> None:
        page.evaluate(RENDER, [(FOLDER / "panel.js").read_text(), kind, json.dumps(numbers), width])

    return draw


def example() -> tuple[list[Experiment], float | None]:
    return list(recorded_night.STATE.experiments), recorded_night.STATE.sigma


def marks_of(page: Page, mark: str) -> list[tuple[float, float]]:
    boxes = page.locator(f'svg.ar-chart .ar-mark[data-mark="{mark}"]').evaluate_all(
        """nodes => nodes.map((node) => node.getBoundingClientRect())
               .map((b) => [b.left + b.width / 2, b.top + b.height / 2])"""
    )
    return [(x, y) for x, y in boxes]


def with_every_mark() -> list[Experiment]:
    study = [*night(20), experiment(20, Status.REJECTED, 1.5), experiment(21, Status.DISCARD, None)]
    study += [experiment(22, Status.CRASH, None), experiment(23, Status.KEEP, 1.5, 1.499, 1.501)]
    study += [experiment(24, Status.DISCARD, 1.52, 1.53, 1.51), experiment(25, None, 1.51)]
    study[23] = run_again(study[23], (24, 1.505))
    return study


@pytest.mark.parametrize("width", [480, 940])
@pytest.mark.parametrize("count", [5, 30, 100, 300, 1000])
def test_words_stand_beside_their_mark_and_cover_nothing(
    page: Page, show: Callable[..., None], count: int, width: int
) -> None:
    """A hundred stands for the recorded night; where it is crowded, fewer words are shown."""
    study, sigma = example() if count == 100 else (night(count), SIGMA)
    show("history", history_data(study, sigma), width)
    labels = page.evaluate(LABELS)
    assert (1 if count == 5 else 2) <= len(labels) <= 12
    for label in labels:
        assert label["gap"] <= REACH and label["inside"], label
        assert (label["marks"], label["line"], label["other"]) == (0, 0, 0), label
        assert label["leader"] or label["gap"] < 16, label


def test_the_legend_names_the_marks_that_occur_and_stands_below_the_drawing(
    page: Page, show: Callable[..., None]
) -> None:
    def legend() -> list[str]:
        return page.locator(".ar-legend li").all_inner_texts()

    show("history", history_data(with_every_mark(), SIGMA), 480)
    assert legend() == [
        "keep", "discard", "ended early, no score", "failed", "refused by the audit", "not decided yet", "baseline run",
        "confirmation run", "incumbent again", "incumbent", "noise, ± 1 sd of a run",
    ]  # fmt: skip
    drawing, words = (page.locator(name).bounding_box() for name in (".ar-canvas", ".ar-legend"))
    assert drawing and words and words["y"] >= drawing["y"] + drawing["height"]
    assert words["x"] + words["width"] <= drawing["x"] + drawing["width"]
    show("history", history_data([experiment(0, Status.KEEP, 1.5), experiment(1, Status.CRASH, None)], None), 480)
    assert legend() == ["failed", "baseline run", "incumbent"]
    show("history", history_data([], None), 480)
    assert legend() == [] and not page.locator(".ar-legend").is_visible()


def test_marks_differ_by_shape_and_the_legend_shows_the_same_shapes(page: Page, show: Callable[..., None]) -> None:
    show("history", history_data(with_every_mark(), SIGMA), 600)
    shape_of = """(nodes) => Object.fromEntries(nodes.map((node) => [node.dataset.mark, [
        node.tagName, node.getAttribute('fill') === 'none' ? 'hollow' : '',
        (node.getAttribute('d') || '').replace(/[^A-Z]/g, '')].join(' ').trim()]))"""
    drawn = page.locator("svg.ar-chart .ar-mark").evaluate_all(shape_of)
    assert drawn == {
        "keep": "circle", "discard": "circle hollow", "ended": "circle hollow", "failed": "path  MLML",
        "rejected": "path  MLHZ", "pending": "g", "baseline": "path  MLLLZ", "confirmation": "path  MH",
        "again": "path hollow MHLZ",
    }  # fmt: skip
    assert page.locator(".ar-legend .ar-mark").evaluate_all(shape_of) == drawn


@pytest.mark.parametrize("scores", [(1.549, 1.552, 1.549), (1.55, 1.55, 1.55)])
def test_the_baseline_s_three_runs_are_three_marks(
    page: Page, show: Callable[..., None], scores: tuple[float, ...]
) -> None:
    show("history", history_data([experiment(0, Status.KEEP, 1.55, *scores), *night(100)[1:]], SIGMA), 480)
    runs = marks_of(page, "baseline")
    assert len(runs) == 3 and not any(p == "0" for p in page.locator('[data-mark="keep"]').evaluate_all(
        "nodes => nodes.map((node) => node.dataset.number)"))  # fmt: skip
    columns = sorted(x for x, _ in runs)
    assert all(after - before >= 7 for before, after in pairwise(columns))
    page.mouse.move(*runs[1])
    assert f"baseline run 2 of 3: {scores[1]:.4f}" in page.locator(".ar-hint").inner_text()


def test_the_line_is_the_incumbent_s_and_is_never_called_best(page: Page, show: Callable[..., None]) -> None:
    study = [experiment(0, Status.KEEP, 1.55), *(experiment(i, Status.DISCARD, 1.59) for i in range(1, 10))]
    study += [experiment(10, Status.KEEP, 1.56), experiment(11, Status.DISCARD, 1.57)]  # the line rises
    show("history", history_data(study, SIGMA), 600)
    corner = page.locator("svg.ar-chart").bounding_box()
    path = page.locator(".ar-incumbent").get_attribute("d")
    assert corner and path
    (x, y), end = (float(v) for v in path[1:].split("H")[0].split()), float(path.split("H")[1].split("V")[0])
    page.mouse.move(corner["x"] + x + 0.5 * (end - x), corner["y"] + y)
    hint = page.locator(".ar-hint").inner_text()
    assert "0000 · the incumbent until experiment 10" in hint and "1.5500" in hint
    summary = page.locator("svg.ar-chart").get_attribute("aria-label") or ""
    assert summary.endswith("the incumbent's val_bpb went from 1.5500 to 1.5600, difference +0.0100 ± 0.0042")
    beside = page.locator("svg.ar-chart text").evaluate_all("nodes => nodes.map((node) => node.textContent)")
    assert "incumbent" in beside and "1.5600" in beside
    assert "best" not in page.locator("body").evaluate("body => body.textContent").lower() + hint + summary.lower()


def test_a_later_run_of_the_last_experiment_stays_within_the_drawing(page: Page, show: Callable[..., None]) -> None:
    study = night(30)
    study[29] = run_again(experiment(29, Status.KEEP, 1.5), (34, 1.51))
    show("history", history_data(study, SIGMA), 480)
    ((x, _),) = marks_of(page, "again")
    axis = page.locator(".ar-incumbent").bounding_box()
    assert axis and x <= axis["x"] + axis["width"]


def test_a_baseline_that_runs_beside_a_later_incumbent_is_no_incumbent_again(
    page: Page, show: Callable[..., None]
) -> None:
    study = [experiment(0, Status.KEEP, 1.5), *(experiment(i, Status.DISCARD, 1.51) for i in range(1, 10))]
    study[5] = run_again(experiment(5, Status.KEEP, 1.49), (10, 1.492))
    study[0] = run_again(study[0], (3, 1.502), (10, 1.503))
    show("history", history_data(study, SIGMA), 600)
    assert (len(marks_of(page, "baseline")), len(marks_of(page, "again"))) == (2, 2)
    page.mouse.move(*max(marks_of(page, "baseline")))
    assert page.locator(".ar-hint").inner_text().endswith("baseline run, after experiment 0009: 1.5030")


# --- the table


def table_of(*hypotheses: str) -> dict[str, Any]:
    study = [experiment(0, Status.KEEP, 1.5)]
    for number, words in enumerate(hypotheses, 1):
        study.append(replace(experiment(number, Status.DISCARD, 1.51), hypothesis=words))
    return table_data(study)


def focused(page: Page) -> str:
    return str(page.evaluate("() => document.activeElement.dataset.number ?? document.activeElement.type ?? ''"))


def test_arrows_go_between_filter_and_rows_and_escape_clears_the_filter(page: Page, show: Callable[..., None]) -> None:
    show("table", table_of("Halve the batch.", "Widen the MLP.", "Halve the depth."))
    field = page.get_by_role("searchbox")
    field.click()
    page.keyboard.type("halve")
    rows = page.locator(".ar-rows tbody tr")
    assert rows.count() == 2
    page.keyboard.press("ArrowDown")
    assert focused(page) == "3"
    page.keyboard.press("ArrowDown")
    assert focused(page) == "1"
    outline = rows.last.evaluate("row => [getComputedStyle(row).outlineStyle, getComputedStyle(row).outlineWidth]")
    assert outline == ["solid", "2px"]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert focused(page) == "search" and field.input_value() == "halve"
    assert field.evaluate("field => getComputedStyle(field).outlineStyle") == "solid"
    page.keyboard.press("Escape")
    assert focused(page) == "search" and field.input_value() == "" and rows.count() == 4
    page.keyboard.type("nothing like it")
    page.keyboard.press("ArrowDown")
    assert focused(page) == "search" and rows.count() == 0


def test_a_row_that_is_reached_by_keys_is_not_hidden_under_the_heads(page: Page, show: Callable[..., None]) -> None:
    show("table", table_of(*(f"Idea {i}." for i in range(60))))
    page.get_by_role("searchbox").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    for _ in range(30):
        page.keyboard.press("ArrowUp")
    head = page.locator(".ar-rows th").first.bounding_box()
    row = page.locator(".ar-rows tr:focus").bounding_box()
    box = page.locator(".ar-rows").bounding_box()
    assert head and row and box
    assert row["y"] >= head["y"] + head["height"] - 1 and row["y"] + row["height"] <= box["y"] + box["height"] + 1


def test_a_long_hypothesis_is_folded_in_its_row_and_unfolded_by_mouse_and_keys(
    page: Page, show: Callable[..., None]
) -> None:
    assert 580 < len(LONG) < 660
    show("table", table_of("Short.", LONG), 480)
    row = page.locator('.ar-rows tr[data-number="2"]')
    line = row.locator(".ar-line")
    before = row.bounding_box()
    assert before and before["height"] < 30 and len(line.inner_text()) < 160
    assert page.locator('.ar-rows tr[data-number="1"] .ar-line button').count() == 0
    line.get_by_role("button", name="more of the hypothesis of experiment 2").click()
    assert LONG in line.inner_text() and line.inner_text().count("The value residual") == 1
    assert page.evaluate("() => window.model.get('selected')") == -1, "to unfold is not to select"
    assert page.locator(".ar-rows").evaluate("box => box.scrollWidth <= box.clientWidth")
    row.focus()
    page.keyboard.press("ArrowLeft")
    assert LONG not in line.inner_text() and focused(page) == "2"
    page.keyboard.press("ArrowRight")
    assert LONG in line.inner_text()
    page.get_by_role("searchbox").fill("gate it per head")  # words that are folded are found too
    assert page.locator(".ar-rows tbody tr").count() == 1


def test_no_run_is_drawn_twice(page: Page, show: Callable[..., None]) -> None:
    """Marks are one a run for the baseline, else one an experiment, one a confirmation, one a later run."""
    study = with_every_mark()
    show("history", history_data(study, SIGMA), 600)
    kept = [e for e in study if e.status is Status.KEEP and e.number > 0]
    confirmed = [run for e in study[1:] for run in own_runs(e)[1:]]
    counts = {mark: len(marks_of(page, mark)) for mark in ("keep", "baseline", "confirmation", "again")}
    assert counts == {"keep": len(kept), "baseline": 3, "confirmation": len(confirmed), "again": 1}


def own_runs(e: Experiment) -> list[Run]:
    return [run for run in e.runs if run.val_bpb is not None and run.num_decided <= e.number]
