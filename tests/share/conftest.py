"""The bundles that the tests of the check, of verify.js and of reruns share; making one takes some seconds."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bundles import Files, files_of, make_bundle_of_night
from tests.journeys.conftest import FLAGS, browser_path
from tests.ready import made_once

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    """The zip of a night of this version, whose decisions have their numbers; unpacked beside it in nov23/."""
    made = made_once(tmp_path_factory, "night", lambda new: make_bundle_of_night(new, small_corpus))
    path = Path(shutil.copy(made / "nov23.zip", tmp_path_factory.mktemp("night")))
    with zipfile.ZipFile(path) as opened:
        opened.extractall(path.parent)
    return path


@pytest.fixture(scope="session")
def duels(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    """The same of a short night whose confirmations are duels."""
    made = made_once(tmp_path_factory, "duels", lambda new: make_bundle_of_night(new, small_corpus, is_duel=True))
    return Path(shutil.copy(made / "nov23.zip", tmp_path_factory.mktemp("duels")))


@pytest.fixture(scope="session")
def slots(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    """The same night on two slots."""
    return make_bundle_of_night(tmp_path_factory.mktemp("slots"), small_corpus, num_slots=2)


@pytest.fixture(scope="session")
def files(night: Path) -> Files:
    """The files of `night`."""
    return files_of(night)


@pytest.fixture(scope="module")
def driven() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path(), args=FLAGS)
        yield browser
        browser.close()
