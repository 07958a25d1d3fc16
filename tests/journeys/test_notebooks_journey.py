"""The lesson and train.py itself, as notebooks in the browser, with the real train.py."""

from __future__ import annotations

from pathlib import Path

from autoresearch_kernel.record.experiment import Status
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.state import replay
from autoresearch_kernel.record.study import open_study

from ..conftest import PROJECT, git
from .conftest import Browser, Lab

ERROR = '.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]'
TRAIN_SOURCE = (PROJECT / "train.py").read_text(encoding="utf-8")


def test_the_lesson_runs_from_top_to_bottom(lab: Lab, browser: Browser, place: Path) -> None:
    browser.open(lab, "notebooks/step.ipynb")
    browser.replace(0, 'NAME = "lesson"\nBUDGET = 2')
    num_cells = browser.page.locator(".jp-Notebook .jp-CodeCell").count()
    for number in range(num_cells):
        browser.run(number)
        cell = browser.cell(number)
        assert not cell.locator(ERROR).count(), cell.inner_text()
        if number in (3, 5, 9):
            browser.shot(f"step-{number}")
    study = open_study("lesson", place)
    events = read_events(study.paths.history)
    state = replay(events)
    assert len(state.decided) == 3 and state.finished  # the baseline, the one by hand and the night's
    by_hand = state.decided[1]
    assert by_hand.status in (Status.KEEP, Status.DISCARD) and set(by_hand.changes) >= {"MATRIX_LR"}
    shown = browser.page.locator(".jp-Notebook").inner_text()
    assert "0001" in shown and f"{state.decided[0].val_bpb:.4f}" in shown
    assert browser.cell(num_cells - 3).locator("img").evaluate("image => image.naturalWidth") > 500


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


def test_the_browser_has_nothing_to_complain_of(browser: Browser) -> None:
    assert not browser.complaints
