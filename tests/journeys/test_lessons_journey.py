"""Lessons in the browser, as a learner opens them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.lab.lessons.build import sources
from autoresearch_kernel.lab.lessons.course import exercises_of
from autoresearch_kernel.lab.lessons.learned import PROGRESS_FILE
from autoresearch_kernel.record.paths import LESSONS, MY_NOTEBOOKS

from ..conftest import PROJECT
from .conftest import Browser, Lab

OUTPUT = ".jp-OutputArea-output"
SOURCES = list(sources(PROJECT))
WIDTHS = (1280, 800)  # pixels of a laptop, and of half of its screen


@pytest.fixture(scope="module", autouse=True)
def own_progress(patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The progress of these tests alone; it is set before the server starts, which hands it to its kernels."""
    patch.setenv(PROGRESS_FILE, str(tmp_path_factory.mktemp("progress") / "lessons.json"))


@pytest.fixture(scope="module")
def lessons(own_progress: None, lab: Lab) -> Lab:
    return lab


@pytest.mark.parametrize("pair", SOURCES, ids=lambda pair: pair[1].stem)
def test_a_lesson_opens_with_everything_folded_and_nothing_too_wide(
    lessons: Lab, browser: Browser, pair: tuple[Any, Path]
) -> None:
    lesson, source = pair
    browser.page.set_viewport_size({"width": WIDTHS[0], "height": 1200})  # a narrow one hides what the kernel does
    browser.open(lessons, f"{MY_NOTEBOOKS}/{LESSONS}/{source.stem}.ipynb")
    page = browser.page
    page.locator(".jp-RenderedMarkdown h1", has_text=lesson.title).first.wait_for()
    num_exercises = len(exercises_of(lesson.number))
    folded = page.locator(".jp-MarkdownCell details:not([open])")
    browser.until(lambda: folded.count() == 3 * num_exercises, 30)
    assert page.locator(".jp-MarkdownCell details pre code").count() >= num_exercises  # the solutions, as code
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1200})
        page.wait_for_timeout(300)
        too_wide = "cells => cells.filter(c => c.scrollWidth > c.clientWidth + 1).length"
        assert page.locator(".jp-MarkdownCell .jp-RenderedMarkdown").evaluate_all(too_wide) == 0
        browser.shot(f"lesson-{lesson.number}-{width}")


def test_a_learner_is_told_what_is_wrong_and_then_what_is_right(lessons: Lab, browser: Browser) -> None:
    browser.page.set_viewport_size({"width": WIDTHS[0], "height": 1200})
    browser.open(lessons, f"{MY_NOTEBOOKS}/{LESSONS}/{SOURCES[0][1].stem}.ipynb")
    imports, prediction, answer, check = range(4)
    browser.run(imports)
    browser.replace(prediction, 'predict("surprise", 4)')
    browser.run(prediction)
    browser.run(answer)
    browser.run(check)
    assert "Write your answer here" in browser.cell(check).locator(OUTPUT).last.inner_text()
    browser.replace(answer, "def surprise(p):\n    return math.log2(p)")
    browser.run(answer)
    browser.run(check)
    said = browser.cell(check).locator(OUTPUT).last.inner_text()
    assert "The logarithm needs a minus" in said and "Traceback" not in said
    browser.replace(answer, "def surprise(p):\n    return -math.log2(p)")
    browser.run(answer)
    browser.run(check)
    said = browser.cell(check).inner_text()
    assert "Right." in said and "Your prediction was: 4" in said
    browser.shot("lesson-1-solved")


def test_the_browser_has_nothing_to_complain_of(browser: Browser) -> None:
    assert not browser.complaints
