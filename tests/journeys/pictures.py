"""`make pictures`: the pictures of the README, from the recorded study and from a real JupyterLab, in 5 minutes.

Each picture carries what it shows as a text chunk of its PNG; tests/test_pictures.py compares that with the project.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import sync_playwright

from autoresearch_kernel import __version__
from autoresearch_kernel.control.actions import read_state, stop
from autoresearch_kernel.lab.jupyter import CONTROL
from autoresearch_kernel.lab.pictures import figure_of
from autoresearch_kernel.record.paths import MY_NOTEBOOKS
from autoresearch_kernel.record.study import open_study, sha256
from autoresearch_kernel.share.command import share_study
from autoresearch_kernel.share.material import study_to_share

from ..conftest import PROJECT, git
from ..recorded_night import FOLDER, HISTORY, LAST, STATE, STUDY
from .conftest import FLAGS, Browser, Lab, browser_path

DOCS = PROJECT / "docs"
SIZE = {"width": 1360, "height": 1080}
SHOWN_CELLS = (6, 7)  # of step.ipynb: the run with its curve, the verdict


def stamp(name: str, study: str = "", experiments: int | None = None, history_sha256: str = "") -> None:
    """Write into docs/NAME.png what it shows."""
    path = DOCS / f"{name}.png"
    shows = {"version": __version__, "study": study, "experiments": experiments, "history_sha256": history_sha256}
    info = PngInfo()
    info.add_text("autoresearch", json.dumps(shows))
    with Image.open(path) as picture:
        picture.save(path, pnginfo=info, optimize=True)
    print(path.name, flush=True)


def stamp_example(name: str) -> None:
    stamp(name, STUDY.name, LAST, sha256(HISTORY.read_bytes()))


def main() -> None:
    figure_of(STUDY.name, STATE).save(DOCS / "progress.png")
    stamp_example("progress")
    folder = Path(tempfile.mkdtemp(prefix="pictures-"))
    place = folder / "project"
    git(folder, "clone", "-q", str(PROJECT), str(place))
    lab = Lab(place, folder, is_quiet=False)
    try:
        with sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=browser_path(), args=FLAGS)
            page = chromium.new_page(viewport=SIZE)
            page.set_default_timeout(60_000)
            browser = Browser(page, DOCS)
            at_rest(browser, lab)
            in_the_middle(browser, lab, place)
            after_a_night(browser, lab, place)
            bundle(browser, folder)
            step_by_step(browser, lab)
            chromium.close()
    finally:
        lab.stop()
        shutil.rmtree(folder)


def show_panel(browser: Browser, lab: Lab) -> None:
    browser.open(lab, CONTROL)
    browser.choose("View", "Appearance", "Show Left Sidebar")
    browser.run(0)
    browser.page.locator(".ar-panel").wait_for()
    browser.page.wait_for_timeout(2_000)


def at_rest(browser: Browser, lab: Lab) -> None:
    show_panel(browser, lab)
    browser.shot("panel-rest")
    stamp("panel-rest")


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
    stop(open_study("first", place), now=True)
    stamp("panel-running", "first", len(read_state(open_study("first", place)).decided) - 1)


def after_a_night(browser: Browser, lab: Lab, place: Path) -> None:
    """The recorded night that comes with the project."""
    shutil.copytree(FOLDER, place / "studies" / STUDY.name)
    browser.replace(0, f'from autoresearch_kernel import panel\n\nlab = panel("{STUDY.name}")\nlab')
    browser.run(0)
    browser.page.wait_for_timeout(2_000)
    best = read_state(open_study(STUDY.name, place)).incumbent
    assert best is not None
    browser.page.locator(f'.ar-rows tr[data-number="{best.number}"]').click()
    browser.page.wait_for_timeout(2_000)
    browser.page.locator(".jp-WindowedPanel-outer").first.evaluate("notebook => notebook.scrollTo(0, 0)")
    browser.page.wait_for_timeout(500)
    browser.shot("panel-night")
    stamp_example("panel-night")


def bundle(browser: Browser, folder: Path) -> None:
    """The first page of the recorded night's bundle."""
    path, _ = share_study(study_to_share(FOLDER), folder / f"{STUDY.name}.zip", decide=list)
    with zipfile.ZipFile(path) as opened:
        opened.extractall(folder)
    browser.page.goto((folder / STUDY.name / "index.html").as_uri())
    browser.page.wait_for_timeout(1_000)
    browser.shot("bundle")
    stamp_example("bundle")


def step_by_step(browser: Browser, lab: Lab) -> None:
    browser.open(lab, f"{MY_NOTEBOOKS}/step.ipynb")
    num_cells = browser.page.locator(".jp-Notebook .jp-CodeCell").count()
    for number in range(min(num_cells, SHOWN_CELLS[1])):
        browser.run(number)
    browser.cell(SHOWN_CELLS[0] - 1).scroll_into_view_if_needed()
    browser.page.wait_for_timeout(1_000)
    browser.shot("step")
    stamp("step")


if __name__ == "__main__":
    main()
