"""The bundles that the tests of the check, of verify.js and of reruns share; making one takes some seconds."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.bundles import Files, files_of, make_bundle_of_night


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    """The zip of a night of this version, whose decisions have their numbers; unpacked beside it in nov23/."""
    folder = tmp_path_factory.mktemp("night")
    path = make_bundle_of_night(folder, small_corpus)
    with zipfile.ZipFile(path) as opened:
        opened.extractall(folder)
    return path


@pytest.fixture(scope="session")
def duels(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    """The same of a short night whose confirmations are duels."""
    return make_bundle_of_night(tmp_path_factory.mktemp("duels"), small_corpus, is_duel=True)


@pytest.fixture(scope="session")
def files(night: Path) -> Files:
    """The files of `night`."""
    return files_of(night)
