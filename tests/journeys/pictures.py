"""`make pictures`: the screenshots of the README, from real runs in a real JupyterLab. About five minutes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from autoresearch_kernel.cli import CONTROL
from autoresearch_kernel.control import read_state, stop
from autoresearch_kernel.record.paths import MY_NOTEBOOKS
from autoresearch_kernel.record.study import open_study

from ..conftest import PROJECT, git
from .conftest import FLAGS, Browser, Lab, browser_path

DOCS = PROJECT / "docs"
SIZE = {"width": 1360, "height": 1080}
SHOWN_CELLS = (6, 7)  # of step.ipynb: the run with its curve, the verdict


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="pictures-"))
    place = folder / "project"
    git(folder, "clone", "-q", str(PROJECT), str(place))
    lab = Lab(place, folder)
    try:
        with sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=browser_path(), args=FLAGS)
            page = chromium.new_page(viewport=SIZE)
            page.set_default_timeout(60_000)
            browser = Browser(page, DOCS)
            at_rest(browser, lab)
            in_the_middle(browser, lab, place)
            after_a_night(browser, lab, place)
            step_by_step(browser, lab)
            chromium.close()
    finally:
        lab.stop()
        shutil.rmtree(folder)


def show_panel(browser: Browser, lab: Lab) -> None:
    browser.open(lab, CONTROL)
    browser.page.get_by_role("menuitem", name="View", exact=True).click()
    browser.page.get_by_text("Appearance", exact=True).hover()
    browser.page.get_by_text("Show Left Sidebar", exact=True).click()
    browser.page.keyboard.press("Escape")
    browser.run(0)
    browser.page.locator(".ar-panel").wait_for()
    browser.page.wait_for_timeout(2_000)


def at_rest(browser: Browser, lab: Lab) -> None:
    show_panel(browser, lab)
    browser.shot("panel-rest")
    print("panel-rest.png")


def in_the_middle(browser: Browser, lab: Lab, place: Path) -> None:
    """The fourth experiment is half way through its training."""
    browser.page.get_by_role("textbox", name="Name").fill("first")
    browser.page.get_by_role("textbox", name="Seconds a run").fill("15")
    browser.page.get_by_role("textbox", name="Experiments").fill("20")
    browser.page.keyboard.press("Tab")
    browser.page.get_by_role("button", name="Start", exact=True).click()
    gauge = browser.page.locator(".ar-panel [role=progressbar]")

    def is_half_way() -> bool:
        if not gauge.count() or "training 0004" not in browser.page.locator(".ar-panel").inner_text():
            return False
        return int(gauge.get_attribute("aria-valuenow") or 0) >= 50

    browser.until(is_half_way, 900)
    browser.shot("panel-running")
    print("panel-running.png")
    stop(open_study("first", place), now=True)
    state = read_state(open_study("first", place))
    print(f"  {len(state.decided)} decided")


def after_a_night(browser: Browser, lab: Lab, place: Path) -> None:
    """The recorded study that ships with the project."""
    shutil.copytree(DOCS / "example", place / "studies" / "example")
    browser.replace(0, 'from autoresearch_kernel import panel\n\nlab = panel("example")\nlab')
    browser.run(0)
    browser.page.wait_for_timeout(2_000)
    best = read_state(open_study("example", place)).incumbent
    assert best is not None
    browser.page.locator(f'.ar-rows tr[data-number="{best.number}"]').click()
    browser.page.wait_for_timeout(2_000)
    browser.shot("panel-night")
    print("panel-night.png")


def step_by_step(browser: Browser, lab: Lab) -> None:
    browser.open(lab, f"{MY_NOTEBOOKS}/step.ipynb")
    num_cells = browser.page.locator(".jp-Notebook .jp-CodeCell").count()
    for number in range(min(num_cells, SHOWN_CELLS[1])):
        browser.run(number)
    browser.cell(SHOWN_CELLS[0] - 1).scroll_into_view_if_needed()
    browser.page.wait_for_timeout(1_000)
    browser.shot("step")
    print("step.png")


if __name__ == "__main__":
    main()
