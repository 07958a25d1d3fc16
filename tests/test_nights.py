"""The recorded nights in docs/nights: whole, honest, small, and without a trace of the machine that made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Status
from autoresearch_kernel.record.bundle import NIGHTS, night_path, unpacked_study
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.share.bundle import read_bundle
from autoresearch_kernel.share.check import check_bundle
from tests.conftest import PROJECT

BUNDLES = sorted((PROJECT / NIGHTS).glob("*.zip"))
MOST_BYTES = 12_000_000  # of all of them
FEWEST_EXPERIMENTS, LEAST_SECONDS = 60, 30.0
PLACE = re.compile(r"(?<![\w.~/-])/(?:root|home|tmp|Users|usr|work|var|opt)/\w")


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_a_recorded_night_verifies_and_has_a_result_and_its_noise(path: Path) -> None:
    bundle = read_bundle(path)
    rows = {row.name: row for row in check_bundle(bundle)}
    assert [row.findings for row in rows.values() if row.findings] == [] and not bundle.broken
    assert not rows["remade"].unchecked, "its pages are not those of this program: share it again"
    study = unpacked_study(path)
    state = replay(read_events(study.paths.history))
    assert len(state.decided) > FEWEST_EXPERIMENTS and study.time_budget_seconds >= LEAST_SECONDS
    assert state.sigma and state.result is not None
    assert {run.sandbox for e in state.decided for run in e.runs if run.val_bpb is not None} <= {"bubblewrap"}
    for experiment in state.decided:
        for run in experiment.runs:
            if run.val_bpb is not None:
                assert study.experiment(experiment.number).notebook(run.index).is_file()


def test_the_first_night_shows_a_gain_beyond_its_noise() -> None:
    state = replay(read_events(unpacked_study(night_path()).paths.history))
    assert sum(e.status is Status.KEEP for e in state.decided) > 3
    result = state.result
    assert result is not None and result.test_difference < -3 * result.test_standard_error


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_a_recorded_night_names_no_machine(path: Path) -> None:
    bundle = read_bundle(path)
    for name in bundle.files:
        found = PLACE.search(bundle.text(name) or "")
        assert found is None, (name, found)
    events = read_events(unpacked_study(path).paths.history)
    assert not any(event.get("host") or event.get("user") for event in events)


def test_the_nights_are_small() -> None:
    assert BUNDLES and sum(path.stat().st_size for path in BUNDLES) < MOST_BYTES


def test_a_night_that_was_removed_is_named() -> None:
    with pytest.raises(StudyError, match=r"docs/nights/none\.zip is missing\. Install the program"):
        night_path("none")
