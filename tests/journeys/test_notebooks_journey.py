"""The lesson and train.py itself, as notebooks in the browser, with the real train.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

from autoresearch_kernel.core.format import bpb
from autoresearch_kernel.core.state import StudyState
from autoresearch_kernel.core.types import Status
from autoresearch_kernel.lab.jupyter import CONTROL
from autoresearch_kernel.lab.working_copies import update_copies
from autoresearch_kernel.record.history import read_state
from autoresearch_kernel.record.paths import MY_NOTEBOOKS
from autoresearch_kernel.record.study import open_study

from ..conftest import PROJECT, git
from ..hostile import Counting, hostile_notebook, server  # noqa: F401  (a fixture)
from ..ready import STDLIB
from .conftest import Browser, Lab

if TYPE_CHECKING:
    from playwright.sync_api import Locator

ERROR = '.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]'
CORPUS = STDLIB  # of the study that the lesson begins
TRAIN_SOURCE = (PROJECT / "train.py").read_text(encoding="utf-8")


def test_lab_opens_your_copy_of_the_control_panel_and_git_stays_clean(lab: Lab, browser: Browser, place: Path) -> None:
    browser.page.goto(lab.url)
    browser.await_kernel()
    assert browser.page.url.endswith(f"/lab/tree/{CONTROL}")
    browser.run(0)
    browser.page.locator(".ar-panel").wait_for()
    assert browser.page.get_by_role("menuitem", name="Nbgrader").count() == 0, "see OTHER_EXTENSIONS"
    browser.save()
    saved = nbformat.read(place / CONTROL, as_version=4)
    assert saved.cells[1].outputs and saved.metadata.autoresearch.copied_from  # which tells the next upgrade
    assert git(place, "status", "--porcelain") == ""
    assert list(update_copies(place)) == []


def test_an_original_that_is_run_and_saved_stays_as_git_has_it(lab: Lab, browser: Browser, place: Path) -> None:
    browser.open(lab, "notebooks/control.ipynb")
    browser.run(0)
    browser.page.locator(".ar-panel").wait_for()
    browser.save()
    assert git(place, "status", "--porcelain") == ""
    assert browser.page.locator(".ar-panel").count()  # and goes on in the browser
    browser.replace(0, "from autoresearch_kernel import panel\n\nlab = panel('mine')\nlab")
    browser.save()
    assert git(place, "status", "--porcelain") == "M notebooks/control.ipynb"  # an edit is an edit
    git(place, "checkout", "--", "notebooks")


def test_the_lesson_runs_from_top_to_bottom(lab: Lab, browser: Browser, place: Path) -> None:
    browser.open(lab, f"{MY_NOTEBOOKS}/step.ipynb")
    browser.replace(0, 'NAME = "lesson"\nBUDGET = 1')
    num_cells = browser.page.locator(".jp-Notebook .jp-CodeCell").count()
    figure, table, night = num_cells - 3, num_cells - 2, num_cells - 1
    for number in range(num_cells):
        browser.run(number)
        cell = browser.cell(number)
        assert not cell.locator(ERROR).count(), cell.inner_text()
        if number in (3, 5, 9):
            browser.shot(f"step-{number}")
        if number == table:  # before the night, which may measure the baseline again
            assert scores_in(cell) == {e.number: bpb(e.val_bpb) for e in state_of(place).decided}
    state = state_of(place)
    assert len(state.decided) == 3 and state.finished  # the baseline, the one by hand and the night's
    by_hand = state.decided[1]
    assert by_hand.status in (Status.KEEP, Status.DISCARD) and set(by_hand.changes) >= {"MATRIX_LR"}
    assert "0002" in browser.cell(night).inner_text()
    assert browser.cell(figure).locator("img").evaluate("image => image.naturalWidth") > 500
    browser.save()
    assert git(place, "status", "--porcelain") == ""


def scores_in(cell: Locator) -> dict[int, str]:
    """The table that a cell shows: number -> val_bpb."""
    read = "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
    return {int(row[0]): row[2] for row in cell.locator("tbody tr").evaluate_all(read) if row[0].isdigit()}


def state_of(place: Path) -> StudyState:
    return read_state(open_study("lesson", place).paths.history)


def test_train_py_is_a_notebook_that_saves_back_one_line(lab: Lab, browser: Browser, place: Path) -> None:
    page = browser.page
    page.goto(f"{lab.url}/lab/workspaces/train")
    browser.await_kernel()
    kernel = page.locator(".jp-KernelName, .jp-Toolbar-kernelName").first
    browser.until(lambda: "autoresearch" in kernel.inner_text())
    browser.await_kernel()
    line = browser.cell(0).locator(".cm-line", has_text="SOFTCAP = 15.0").first
    line.click()
    page.keyboard.press("Home")
    for _ in range(len("SOFTCAP = ")):
        page.keyboard.press("ArrowRight")
    for _ in range(len("15.0")):
        page.keyboard.press("Delete")
    page.keyboard.type("12.0")
    browser.run(0)
    browser.run(1)
    browser.save()
    browser.until(lambda: "SOFTCAP = 12.0" in (place / "train.py").read_text(), 20)
    changed = git(place, "diff", "--numstat", "train.py").split()
    assert changed[:2] == ["1", "1"], git(place, "diff", "train.py")
    browser.shot("train-py")


def test_the_notebook_of_a_hostile_agent_is_inert(
    lab: Lab,
    browser: Browser,
    place: Path,
    server: tuple[type[Counting], str],  # noqa: F811
) -> None:
    handler, address = server
    hostile_notebook(place / "studies" / "hostile.ipynb", address)
    page = browser.page
    page.goto(f"{lab.url}/lab/tree/studies/hostile.ipynb?reset")
    page.locator(".jp-Notebook .jp-RenderedMarkdown h2", has_text="Verdict").wait_for()
    page.wait_for_timeout(2_000)
    assert page.locator(".jp-Notebook .jp-MarkdownCell").count() > 40 and handler.asked == []
    assert page.locator(".jp-Notebook mjx-container, .jp-Notebook .jp-RenderedMermaid").count() == 0
    links = page.locator(".jp-MarkdownCell .jp-RenderedMarkdown :is([href], [src])")  # Lab links addresses in output
    assert {link[:1] for link in links.evaluate_all("ns => ns.map(n => n.getAttribute('href') || n.src)")} == {"#"}


def test_the_browser_has_nothing_to_complain_of(browser: Browser) -> None:
    assert not browser.complaints
