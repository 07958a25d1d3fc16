"""The pictures of README and docs are of this version, and show the recorded study that ships with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from autoresearch_kernel import __version__
from autoresearch_kernel.record.history import read_state
from autoresearch_kernel.record.study import sha256
from tests.recorded_night import HISTORY

DOCS = Path(__file__).parents[1] / "docs"
MADE_OTHERWISE = {"decisions.png"}  # by benchmarks/decisions.py


def shown(name: str) -> dict[str, Any]:
    """What `make pictures` wrote into the picture."""
    with Image.open(DOCS / name) as picture:
        found = json.loads(picture.info["autoresearch"])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("path", sorted(path.name for path in DOCS.glob("*.png") if path.name not in MADE_OTHERWISE))
def test_pictures_are_of_this_version(path: str) -> None:
    assert shown(path)["version"] == __version__, f"docs/{path} is of another version: make pictures"


@pytest.mark.parametrize("path", ["progress.png", "panel-night.png", "bundle.png"])
def test_pictures_of_the_recorded_study_show_all_of_its_experiments(path: str) -> None:
    shows = shown(path)
    assert shows["experiments"] == len(read_state(HISTORY).decided) - 1
    assert shows["history_sha256"] == sha256(HISTORY.read_bytes())


def test_every_picture_of_the_readme_is_made_by_a_command() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"docs/([\w-]+\.png)", readme))
    assert named and all(name in MADE_OTHERWISE or shown(name) for name in named)
